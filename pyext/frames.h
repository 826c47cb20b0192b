/* frames.h: which stack allocates: the interpreter's frames compared with those met last time.
 *
 * For each thread state an array keeps the frames and positions of its last known stack, outermost first.  The fast half
 * goes down the live chain and compares: nothing changed, the tag is known.  The slow half finds the deepest frame that
 * did change and looks up the nodes from there.  Only frames that the live chain confirms are ever read.
 * Main GIL.  Class H. */
#ifndef BURSAR_PYEXT_FRAMES_H
#define BURSAR_PYEXT_FRAMES_H

#include "account/account.h"
#include "account/hot.h"
#include "compat.h"

struct bursar_frame_seen {
  const bursar_frame *frame; /* [0]: no frame's address, so that a comparison which gets there ends */
  bursar_position position;
};

struct bursar_frames {
  const PyThreadState *thread;
  struct bursar_frame_seen *top;
  const struct bursar_frame_seen *bottom; /* [0], where every chain ends */
  bool confirmed; /* the fast half has just found all of it unchanged, the place in the innermost frame perhaps not */
  uint32_t *node;                     /* the top's */
  uint32_t parent;                    /* the node below it */
  uint32_t tags[BURSAR_DOMAIN_COUNT]; /* of the top's node; 0: not looked up yet */
};

/* Where a step from a caller's node leads: a direct-mapped cache of the trie, by place in the code. */
struct bursar_step {
  uintptr_t place; /* 0: empty */
  uint32_t parent;
  uint32_t node;
  uint32_t tags[BURSAR_DOMAIN_COUNT];
  uint32_t reserved;
};
#define BURSAR_STEPS 1024u

extern struct bursar_frames *bursar_frames_at_hand;
extern struct bursar_step bursar_frames_steps[BURSAR_STEPS];

static inline struct bursar_step *bursar_frames_step(uintptr_t place, uint32_t parent) {
  return &bursar_frames_steps[(place ^ (uintptr_t)parent << 40) * 0x9E3779B97F4A7C15ull >>
                              54]; /* BURSAR_STEPS is 2^10 */
}

/* Is the frame, which its callee has just named, where it was?  Then *caller is the next one. */
static inline bool bursar_frame_confirmed(const struct bursar_frame_seen *seen, const bursar_frame **caller) {
  const bursar_frame *frame = seen->frame;
  __asm__("" : "+r"(frame)); /* equal to *caller, and yet not to be taken from it */
  *caller = bursar_frame_caller(frame);
  return bursar_frame_position(frame) == seen->position;
}

/* The tag of the stack that runs now; 0: call bursar_frames_tag.
 *
 * Usually nothing has changed but the place in the innermost frame, and that place is known.  The addresses come from what
 * was seen and not from the chain, which only confirms them: so the processor need not wait for one frame to find the
 * next.  A frame is read after its callee has named it, never before. */
static inline __attribute__((always_inline)) uint32_t bursar_frames_tag_seen(unsigned domain) {
  const PyThreadState *thread = bursar_thread();
  struct bursar_frames *frames = bursar_frames_at_hand;
  if (BURSAR_UNLIKELY(frames->thread != thread))
    return 0;
  struct bursar_frame_seen *seen = frames->top;
  const bursar_frame *frame = seen->frame;
  if (BURSAR_UNLIKELY(frame != bursar_frame_top(thread)))
    return 0;
  const bursar_position position = bursar_frame_position(frame);
  const bursar_frame *caller = bursar_frame_caller(frame);
  for (;; seen -= 2) { /* two frames at a time: the compiler unrolls no loop that has branches */
    if (caller != seen[-1].frame) {
      seen -= 1;
      break;
    }
    if (BURSAR_UNLIKELY(!bursar_frame_confirmed(&seen[-1], &caller)))
      return 0;
    if (caller != seen[-2].frame) {
      seen -= 2;
      break;
    }
    if (BURSAR_UNLIKELY(!bursar_frame_confirmed(&seen[-2], &caller)))
      return 0;
  }
  if (BURSAR_UNLIKELY(caller) || BURSAR_UNLIKELY(seen != frames->bottom))
    return 0;
  uint32_t tag;
  if (position == frames->top->position) {
    tag = frames->tags[domain];
    if (BURSAR_UNLIKELY(!tag))
      frames->confirmed = true;
    return tag;
  }
  uintptr_t place = bursar_frame_place(frames->top->frame);
  const struct bursar_step *step = bursar_frames_step(place, frames->parent);
  if (BURSAR_UNLIKELY(step->place != place) || BURSAR_UNLIKELY(step->parent != frames->parent)) {
    frames->confirmed = true;
    return 0;
  }
  frames->top->position = position;
  *frames->node = step->node;
  memcpy(frames->tags, step->tags, sizeof frames->tags);
  tag = step->tags[domain];
  if (BURSAR_UNLIKELY(!tag))
    frames->confirmed = true;
  return tag;
}

/* The same, looked up.  0: this thread is not of the main GIL, its allocations belong to lane FREE. */
uint32_t bursar_frames_tag(unsigned domain);

/* At the start of books: `main_thread` is the state that runs __main__, or NULL where it is not known. */
void bursar_frames_start(const PyThreadState *main_thread, const PyObject *main_globals);
/* Every stack must be looked up again. */
void bursar_frames_moved(void);
/* A watched block ended: the memory of a code object goes with it. */
void bursar_frames_block_ended(const void *p);

#endif
