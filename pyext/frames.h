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
  const bursar_frame *frame; /* [0]: NULL, where every chain ends */
  bursar_position position;
};

struct bursar_frames {
  const PyThreadState *thread;
  const struct bursar_frame_seen *top;
  uint32_t tags[BURSAR_DOMAIN_COUNT]; /* of the top; 0: not looked up yet */
};

extern struct bursar_frames *bursar_frames_at_hand;

/* The tag of the stack that runs now; 0: call bursar_frames_tag. */
static inline uint32_t bursar_frames_tag_seen(unsigned domain) {
  const PyThreadState *thread = bursar_thread();
  const struct bursar_frames *frames = bursar_frames_at_hand;
  if (BURSAR_UNLIKELY(frames->thread != thread))
    return 0;
  const bursar_frame *frame = bursar_frame_top(thread);
  const struct bursar_frame_seen *seen = frames->top;
  if (BURSAR_UNLIKELY(seen->frame != frame))
    return 0;
  while (frame) {
    if (BURSAR_UNLIKELY(bursar_frame_position(frame) != seen->position))
      return 0;
    frame = bursar_frame_caller(frame);
    seen--;
    if (BURSAR_UNLIKELY(seen->frame != frame))
      return 0;
  }
  return frames->tags[domain];
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
