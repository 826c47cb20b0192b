/* sample.h: about one byte in BURSAR_SAMPLE_INTERVAL is a point, and the blocks that have one are known.
 *
 * Points come as a Poisson process along the bytes that a thread allocates: a block of s bytes has one with the probability
 * p = 1 - exp(-s / interval), whatever came before it.  A block that is chosen stands for 1/p blocks and s/p bytes (Horvitz
 * and Thompson): sums of these over any set of blocks estimate it without bias, and sums of (1 - p)/p^2, and of that times s^2,
 * estimate the variances.  The account books a chosen block as one of s/p bytes, so that peak, journal, folding and
 * reports are those of exact books; blocks and variances are in BURSAR_REGION_ESTIMATES.  All that was allocated is counted
 * exactly beside that, by thread (lanes.h); how many blocks were freed is not known.
 *
 * Which addresses are chosen blocks is asked on each free: a byte for each page that says whether there may be one in it, then
 * a small hash.  Blocks of no bytes are counted, and never chosen.
 * Threads: any, unless said otherwise.  errno kept.  Class H, unless said otherwise. */
#ifndef BURSAR_ACCOUNT_SAMPLE_H
#define BURSAR_ACCOUNT_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/lanes.h"
#include "account/live.h"

#define BURSAR_SAMPLE_INTERVAL (512u << 10)
#define BURSAR_SAMPLE_PAGES (1u << 18) /* 1 GiB of addresses; others share their bytes */

/* By page, how many chosen blocks begin there (255: that many or more have). */
extern unsigned char bursar_sample_pages[BURSAR_SAMPLE_PAGES];

struct bursar_weight {
  uint64_t bytes; /* s/p, rounded at random */
  double blocks;  /* 1/p */
  double variance;
  double blocks_variance;
};

/* `interval` 0: the usual one; `seed` 0: one that nobody knows.  After the account was opened, main GIL, class N.
 * -1 where there is no memory. */
int bursar_sample_start(uint32_t interval, uint64_t seed) __attribute__((warn_unused_result));
/* Forgets all blocks.  Main GIL, class F. */
void bursar_sample_stop(void);
void bursar_sample_after_fork(void);

/* What a block of this size and address stands for, if it is chosen. */
struct bursar_weight bursar_sample_weigh(const void *p, uint64_t size);

/* The slow half of the two below. */
bool bursar_sample_alloc_slowly(size_t size, unsigned domain);

/* Books a chosen block, where no other is any more (bursar_sample_end).  Under the main GIL, with its site's tag; or not, while
 * folding is held off, with the number of a site of lane FREE. */
void bursar_sample_book_gil(const void *p, size_t size, uint32_t tag, unsigned domain);
void bursar_sample_book_free(const void *p, size_t size, uint32_t number, unsigned domain);
/* Books the end of p if it was chosen, before it is freed.  `gil`: whether the main GIL is held. */
void bursar_sample_end(const void *p, bool gil);
/* The same in two halves, for a realloc: the second either ends the block, or puts it back where it was.  False: not chosen. */
bool bursar_sample_lift(const void *p, struct bursar_record *out, bool gil);
void bursar_sample_drop(const void *p, struct bursar_record lifted, bool gil);
void bursar_sample_put_back(const void *p, struct bursar_record lifted, bool gil);

/* Sites were folded: as bursar_live_renumber, and the estimates of one site added to another's. */
void bursar_sample_renumber(const uint32_t *numbers, uint32_t count);
void bursar_sample_merge(uint32_t from, uint32_t into);
/* A new site, by index. */
void bursar_sample_clear(uint32_t index);

static inline bool bursar_sample_may_hold(const void *p) {
  return __atomic_load_n(&bursar_sample_pages[((uintptr_t)p >> 12) & (BURSAR_SAMPLE_PAGES - 1)], __ATOMIC_RELAXED) != 0;
}

/* Counts a block.  True: nothing is counted yet, bursar_sample_alloc_slowly is to do it. */
static inline __attribute__((always_inline)) bool bursar_sample_alloc_fast(size_t size, unsigned domain) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  if (__builtin_expect((me->countdown -= (int64_t)size) < 0, 0))
    return true;
  struct bursar_thread_lane *lane = me->lane;
  lane->alloc_bytes[domain] += size;
  lane->allocs[domain]++;
  return false;
}

/* Counts a block.  True: it is chosen, and to be booked. */
static inline __attribute__((always_inline)) bool bursar_sample_alloc(size_t size, unsigned domain) {
  return bursar_sample_alloc_fast(size, domain) && bursar_sample_alloc_slowly(size, domain);
}

#endif
