/* count.h: live and peak bytes by domain, and nothing else: mode count.
 *
 * Sizes are the allocators' own (usable bytes), handed in by whoever knows the allocator.  Each thread adds to its lane; where
 * a lane's total has moved by BURSAR_TALLIES_APART it is brought together with the others, and the peaks are worked out:
 * exactly as long as one thread allocates, within that much a thread otherwise.
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

enum { BURSAR_COUNT_BEFORE = 0, BURSAR_COUNT_POOL = 1, BURSAR_COUNT_MALLOC = 2 };

#define BURSAR_COUNT_GRANULE 14 /* log2 */
#define BURSAR_COUNT_LEAF 32
extern unsigned char *bursar_count_granules[1u << (47 - BURSAR_COUNT_LEAF)];

static inline unsigned bursar_count_owner(const void *p) {
  uintptr_t address = (uintptr_t)p;
  const unsigned char *leaf =
      __atomic_load_n(&bursar_count_granules[address >> BURSAR_COUNT_LEAF & 0x7fff], __ATOMIC_ACQUIRE);
  return leaf ? leaf[(uint32_t)address >> BURSAR_COUNT_GRANULE] : BURSAR_COUNT_BEFORE;
}
/* False: no memory to note it; then the block is not to be counted. */
bool bursar_count_mark(const void *p, unsigned owner);
/* The range belongs to nobody any more. */
void bursar_count_unmark(const void *p, size_t bytes);

/* At the start of books, main GIL, class N. */
void bursar_count_start(void);
void bursar_count_after_fork(void);
/* What all threads hold, and what they held at most as far as this one knows: its own part of that is told first. */
int64_t bursar_count_live(void);
void bursar_count_settle(void);
/* A thread has been brought together with the others: makes a tick if one is due.  Main GIL. */
void bursar_count_look(void);

/* The rare half of the two below.  True as they. */
bool bursar_count_add_slowly(size_t usable, unsigned domain, bool ends);
bool bursar_count_together(struct bursar_thread_lane *lane);
void bursar_count_high(struct bursar_thread_lane *lane);

/* A block began.  True: a moment to look at the clock. */
static inline __attribute__((always_inline)) bool bursar_count_begin(size_t usable, unsigned domain) {
  struct bursar_thread_lane *lane = bursar_lanes_mine.lane;
  if (__builtin_expect(!lane, 0))
    return bursar_count_add_slowly(usable, domain, false);
  lane->alloc_bytes[domain] += usable;
  lane->allocs[domain]++;
  if (__builtin_expect((lane->total += (int64_t)usable) > lane->above, 0))
    return bursar_count_together(lane);
  return false;
}

/* It ends.  Where there was more before than ever, that is noted first. */
static inline __attribute__((always_inline)) bool bursar_count_end(size_t usable, unsigned domain) {
  struct bursar_thread_lane *lane = bursar_lanes_mine.lane;
  if (__builtin_expect(!lane, 0))
    return bursar_count_add_slowly(usable, domain, true);
  int64_t held = (int64_t)(lane->alloc_bytes[domain] - lane->free_bytes[domain]);
  if (held > lane->high[domain])
    lane->high[domain] = held;
  if (lane->total > lane->total_high)
    bursar_count_high(lane);
  lane->free_bytes[domain] += usable;
  lane->frees[domain]++;
  if (__builtin_expect((lane->total -= (int64_t)usable) < lane->below, 0))
    return bursar_count_together(lane);
  return false;
}

#endif
