/* count.h: live and peak bytes by domain, and nothing else: mode count.
 *
 * Sizes are the allocators' own (usable bytes), handed in by whoever knows the allocator.  Each thread adds to its lane; each
 * time that it has allocated BURSAR_TALLIES_APART it adds all lanes up, and notes where that is more than ever: peaks are short
 * by that much a thread at most.
 *
 * Which granules of 16 KiB hold blocks since the start, and of whom, is in a byte map: asking malloc for the size of a block of
 * Python's own pools is a catastrophe, so that a block is only asked about where its granule is known.  A granule is either
 * all of a pool or none.  A block in one that is not marked was there before.
 * Threads: any, unless said otherwise.  errno kept.  Class H, unless said otherwise. */
#ifndef BURSAR_ACCOUNT_COUNT_H
#define BURSAR_ACCOUNT_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/lanes.h"

enum {
  BURSAR_COUNT_BEFORE = 0,
  BURSAR_COUNT_POOL = 1,
  BURSAR_COUNT_MALLOC = 2,
  /* In an arena from before: whoever marked it knows more (pyext/before.h). */
  BURSAR_COUNT_OLD = 3,
  BURSAR_COUNT_OLD_FULL = 4,
  BURSAR_COUNT_OLD_UNUSED = 5
};

#define BURSAR_COUNT_GRANULE 14 /* log2 */
#define BURSAR_COUNT_LEAF 32
extern unsigned char *bursar_count_granules[1u << (47 - BURSAR_COUNT_LEAF)];

static inline unsigned bursar_count_owner(const void *p) {
  uintptr_t address = (uintptr_t)p;
  const unsigned char *leaf =
      __atomic_load_n(&bursar_count_granules[address >> BURSAR_COUNT_LEAF], __ATOMIC_ACQUIRE); /* 47 bits have one */
  return leaf ? leaf[(uint32_t)address >> BURSAR_COUNT_GRANULE] : BURSAR_COUNT_BEFORE;
}
/* False: no memory to note it. */
bool bursar_count_mark(const void *p, unsigned owner);
/* All granules that lie in the range are a pool's, or will be.  False: no memory to note it; then some are marked. */
bool bursar_count_mark_pools(const void *p, size_t bytes);
/* No granule that begins in the range is a pool's any more. */
void bursar_count_unmark(const void *p, size_t bytes);
/* Nothing is known of any.  Main GIL, before the books open.  Class N. */
void bursar_count_forget(void);

void bursar_count_after_fork(void);
/* What all threads hold. */
int64_t bursar_count_live(void);
/* The peaks are looked at. */
void bursar_count_settle(void);
/* A moment to look at the clock: makes a tick if one is due.  Main GIL. */
void bursar_count_look(void);

/* The rare halves of what follows. */
bool bursar_count_begin_slowly(size_t usable, unsigned domain);
void bursar_count_end_slowly(size_t usable, unsigned domain);

/* Counts a block that begins.  False: nothing is counted yet, bursar_count_begin_slowly is to do it. */
static inline __attribute__((always_inline)) bool bursar_count_begin_fast(size_t usable, unsigned domain) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  if (__builtin_expect((me->step -= (int64_t)usable) < 0, 0))
    return false;
  struct bursar_thread_lane *lane = me->lane;
  lane->alloc_bytes[domain] += usable;
  lane->allocs[domain]++;
  return true;
}

/* The same, whatever has to be done.  True: a moment to look at the clock. */
static inline __attribute__((always_inline)) bool bursar_count_begin(size_t usable, unsigned domain) {
  return !bursar_count_begin_fast(usable, domain) && bursar_count_begin_slowly(usable, domain);
}

/* It ends.  False: nothing is counted yet, bursar_count_end_slowly is to do it. */
static inline __attribute__((always_inline)) bool bursar_count_end_fast(size_t usable, unsigned domain) {
  struct bursar_thread_lane *lane = bursar_lanes_mine.lane;
  if (__builtin_expect(!lane, 0))
    return false;
  lane->free_bytes[domain] += usable;
  lane->frees[domain]++;
  return true;
}

static inline __attribute__((always_inline)) void bursar_count_end(size_t usable, unsigned domain) {
  if (!bursar_count_end_fast(usable, domain))
    bursar_count_end_slowly(usable, domain);
}

#endif
