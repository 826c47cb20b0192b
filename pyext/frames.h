/* frames.h: which stack allocates: the interpreter's frames compared with those met last time.
 *
 * For each thread state an array keeps the frames and positions of its last known stack, outermost first.  The fast half
 * goes down the live chain and compares: nothing changed, the tag is known.  The slow half finds the deepest frame that
 * did change and looks up the nodes from there.  Only frames that the live chain confirms are ever read.
 * Main GIL, where nothing else is said.  Class H. */
#ifndef BURSAR_PYEXT_FRAMES_H
#define BURSAR_PYEXT_FRAMES_H

#include "account/account.h"
#include "account/hot.h"
#include "compat.h"

struct bursar_frame_seen {
  const bursar_frame *frame; /* [0]: no frame's address, so that a comparison which gets there ends */
  bursar_position position;
};

#define BURSAR_FINGERS 1024u /* direct-mapped: frame address to place in the array */

/* The stack of one thread state, as it was when the thread last allocated. */
struct bursar_frames {
  const PyThreadState *thread;
  struct bursar_frame_seen *top; /* &seen[depth]; or one that never matches: all of it must be looked up */
  struct bursar_frame_seen *seen;
  uint32_t *nodes;                      /* by place in the stack; [0] is the root */
  uint32_t depth;                       /* index of the top */
  uint32_t depth_max;                   /* length of both */
  uint32_t tags[BURSAR_DOMAINS_PYTHON]; /* of the top's node; 0: not looked up yet */
  uint32_t main_at;                     /* up to there is __main__'s frame; UINT32_MAX: it has not been seen */
  bool confirmed; /* the fast half has just found all of it unchanged, the place in the innermost frame perhaps not */
  uint32_t fingers[BURSAR_FINGERS];
  struct bursar_weave *weave; /* its native stack: weave.c's */
};

/* Where a step from a caller's node leads: a direct-mapped cache of the trie, by place in the code. */
struct bursar_step { /* written under the lock */
  uintptr_t place;   /* 0: empty */
  uint32_t parent;
  uint32_t node;
  uint32_t tags[BURSAR_DOMAINS_PYTHON];
  uint32_t reserved;
};
#define BURSAR_STEPS 1024u

extern struct bursar_frames *bursar_frames_at_hand;
extern const PyObject *bursar_frames_main_globals;
extern struct bursar_step bursar_frames_steps[BURSAR_STEPS];

static inline struct bursar_step *bursar_frames_step(uintptr_t place, uint32_t parent) {
  return &bursar_frames_steps[(place ^ (uintptr_t)parent << 40) * 0x9E3779B97F4A7C15ull >>
                              54]; /* BURSAR_STEPS is 2^10 */
}

/* A module's frame, that is: the functions of __main__ are also called by what comes after it, exit handlers above all. */
static inline bool bursar_frame_is_main(const bursar_frame *frame) {
  const PyCodeObject *code = bursar_frame_code(frame);
  return code && bursar_frame_globals(frame) == bursar_frames_main_globals && !(code->co_flags & CO_OPTIMIZED);
}

static inline uint32_t bursar_frames_finger(const bursar_frame *frame) {
  return (uint32_t)((uintptr_t)frame >> 3) * 0x9E3779B1u >> 22; /* BURSAR_FINGERS is 2^10 */
}

static inline bool bursar_frames_step_is(const struct bursar_step *step, uintptr_t place, uint32_t parent) {
  return BURSAR_LIKELY(step->place == place) && BURSAR_LIKELY(step->parent == parent);
}

/* Is the frame, which its callee has just named, where it was?  Then *caller is the next one. */
static inline bool bursar_frame_confirmed(const struct bursar_frame_seen *seen, const bursar_frame **caller) {
  const bursar_frame *frame = seen->frame;
  __asm__("" : "+r"(frame)); /* equal to *caller, and yet not to be taken from it */
  *caller = bursar_frame_caller(frame);
  return bursar_frame_position(frame) == seen->position;
}

/* Is all that is below a live frame as it was?  The addresses come from what was seen and not from the chain, which only
 * confirms them: so the processor need not wait for one frame to find the next.  A frame is read after its callee has named
 * it, never before. */
static inline __attribute__((always_inline)) bool bursar_frames_same_below(const struct bursar_frames *frames,
                                                                           const struct bursar_frame_seen *seen) {
  const bursar_frame *caller = bursar_frame_caller(seen->frame);
  for (;; seen -= 2) { /* two frames at a time: the compiler unrolls no loop that has branches */
    if (caller != seen[-1].frame) {
      seen -= 1;
      break;
    }
    if (BURSAR_UNLIKELY(!bursar_frame_confirmed(&seen[-1], &caller)))
      return false;
    if (caller != seen[-2].frame) {
      seen -= 2;
      break;
    }
    if (BURSAR_UNLIKELY(!bursar_frame_confirmed(&seen[-2], &caller)))
      return false;
  }
  return BURSAR_LIKELY(!caller) && BURSAR_LIKELY(seen == frames->seen);
}

/* Makes what is at hand the stack that runs now, where that takes no lookup: its node and tags are right then.
 *
 * Usually nothing has changed but the place in the innermost frame, and that place is known. */
static inline __attribute__((always_inline)) bool bursar_frames_follow_in(struct bursar_frames *frames,
                                                                          const PyThreadState *thread) {
  if (BURSAR_UNLIKELY(frames->thread != thread))
    return false;
  struct bursar_frame_seen *top = frames->top;
  if (BURSAR_UNLIKELY(top->frame != bursar_frame_top(thread)))
    return false;
  const bursar_position position = bursar_frame_position(top->frame);
  if (!bursar_frames_same_below(frames, top))
    return false;
  if (position != top->position) {
    uintptr_t place = bursar_frame_place(top->frame);
    uint32_t depth = frames->depth, parent = frames->nodes[depth - 1];
    const struct bursar_step *step = bursar_frames_step(place, parent);
    if (BURSAR_UNLIKELY(!bursar_frames_step_is(step, place, parent))) {
      frames->confirmed = true;
      return false;
    }
    top->position = position;
    frames->nodes[depth] = step->node;
    memcpy(frames->tags, step->tags, sizeof frames->tags);
  }
  return true;
}

static inline __attribute__((always_inline)) bool bursar_frames_follow(void) {
  const PyThreadState *thread = bursar_thread();
  return bursar_frames_follow_in(bursar_frames_at_hand, thread);
}

/* Of the stack at hand, which is followed; 0: not looked up yet. */
static inline __attribute__((always_inline)) uint32_t bursar_frames_tag_at_hand(unsigned domain) {
  struct bursar_frames *frames = bursar_frames_at_hand;
  uint32_t tag = frames->tags[domain];
  if (BURSAR_UNLIKELY(!tag))
    frames->confirmed = true;
  return tag;
}

/* The tag of the stack that runs now; 0: ask bursar_frames_tag_near. */
static inline __attribute__((always_inline)) uint32_t bursar_frames_tag_seen(unsigned domain) {
  return BURSAR_LIKELY(bursar_frames_follow()) ? bursar_frames_tag_at_hand(domain) : 0;
}

/* The same where one frame came, or went, or another took its place, and the frame below it may have moved on.  It changes
 * nothing before it knows all, and calls nothing. */
static inline __attribute__((always_inline)) bool bursar_frames_follow_near_in(struct bursar_frames *frames,
                                                                               const PyThreadState *thread) {
  const bursar_frame *top = bursar_frame_top(thread);
  struct bursar_frame_seen *below = frames->top; /* the frame below the one that came */
  if (frames->thread != thread || frames->confirmed || !frames->depth || !top)
    return false;
  const bursar_frame *caller = bursar_frame_caller(top);
  bool gone = false;
  if (caller != below->frame) {
    gone = top == (--below)->frame;
    if (!gone && caller != below->frame)
      return false;
  }
  uint32_t at = (uint32_t)(below - frames->seen);
  if (at + 1 >= frames->depth_max || !bursar_frames_same_below(frames, below))
    return false;
  /* Whether __main__ goes on: its frame is further down, or here it is. */
  if (at <= frames->main_at && (at < frames->main_at || !bursar_frame_is_main(below->frame)))
    return false;
  const bursar_position position = bursar_frame_position(below->frame);
  uint32_t parent = frames->nodes[at - 1], node = frames->nodes[at];
  const struct bursar_step *step;
  if (gone || position != below->position) {
    uintptr_t place = bursar_frame_place(below->frame);
    step = bursar_frames_step(place, parent);
    if (!bursar_frames_step_is(step, place, parent))
      return false;
    node = step->node;
  }
  if (!gone) {
    uintptr_t place = bursar_frame_place(top);
    step = bursar_frames_step(place, node);
    if (!bursar_frames_step_is(step, place, node))
      return false;
    below[1] = (struct bursar_frame_seen){top, bursar_frame_position(top)};
    frames->nodes[at + 1] = step->node;
    frames->fingers[bursar_frames_finger(top)] = at + 1;
  }
  below->position = position;
  frames->nodes[at] = node;
  frames->depth = at + !gone;
  frames->top = below + !gone;
  memcpy(frames->tags, step->tags, sizeof frames->tags);
  return true;
}

static inline __attribute__((always_inline)) bool bursar_frames_follow_near(void) {
  const PyThreadState *thread = bursar_thread();
  return bursar_frames_follow_near_in(bursar_frames_at_hand, thread);
}

/* ... and its tag; 0: call bursar_frames_tag. */
static inline __attribute__((always_inline)) uint32_t bursar_frames_tag_near(unsigned domain) {
  return bursar_frames_follow_near() ? bursar_frames_tag_at_hand(domain) : 0;
}

/* Of the domains that are not Python's: the tag of the stack that runs now.  The main GIL is held. */
uint32_t bursar_frames_native_tag(unsigned domain);
/* The same, looked up.  0: this thread is not of the main GIL, its allocations belong to lane FREE. */
uint32_t bursar_frames_tag(unsigned domain);

/* Of a thread that does not hold the main GIL: the number of lane FREE's site for the stack that released it, or where none
 * is known, for no stack.  While folding is held off (account/fold.h). */
uint32_t bursar_frames_detached(unsigned domain);
/* The interpreter is about to end, and with it the stacks of threads that do not hold the GIL: from here on none is looked at.
 * Not while folding is held off. */
void bursar_frames_leave_detached(void);

/* At the start of books: `main_thread` is the state that runs __main__, or NULL where it is not known. */
void bursar_frames_start(const PyThreadState *main_thread, const PyObject *main_globals);
/* Every stack must be looked up again. */
void bursar_frames_moved(void);

/* Stacks have native frames too (weave.h).  Set before the start of books, and not while they are open.  Then nothing is ever
 * at hand, so that all fast halves fail and bursar_frames_tag asks weave.h; nodes are not the ledger's but weave.h's paths. */
extern bool bursar_frames_woven;
/* The frames of the thread that runs now; whether they may be others than the last time, but for the place in the innermost.
 * NULL: they are not known; not those of the main GIL's holder, if *ours is false. */
struct bursar_frames *bursar_frames_now(bool *ours, bool *changed);

#endif
