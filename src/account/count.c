#include "account/count.h"

#include <errno.h>

#include "account/account.h"
#include "account/answer.h"
#include "account/journal.h"
#include "ledger/tallies.h"
#include "prim/prim.h"

#define LEAF_BYTES (1u << (BURSAR_COUNT_LEAF - BURSAR_COUNT_GRANULE))
#define LOOKS 4 /* at the peaks, for one at the clock */
#define GRANULE ((uintptr_t)1 << BURSAR_COUNT_GRANULE)

unsigned char *bursar_count_granules[1u << (47 - BURSAR_COUNT_LEAF)] = {0};

static bool noting; /* a peak is being noted */

/* --- whose blocks ------------------------------------------------------------------------------------------------------ */

bool bursar_count_mark(const void *p, unsigned owner) {
  uintptr_t address = (uintptr_t)p;
  unsigned char **top = &bursar_count_granules[address >> BURSAR_COUNT_LEAF & 0x7fff], *none = NULL;
  unsigned char *leaf = __atomic_load_n(top, __ATOMIC_ACQUIRE);
  if (!leaf) {
    int kept = errno;
    leaf = bursar_prim_reserve(LEAF_BYTES, true);
    errno = kept;
    if (!leaf)
      return false;
    if (!__atomic_compare_exchange_n(top, &none, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      bursar_prim_release(leaf, LEAF_BYTES);
      leaf = none;
    }
  }
  leaf[(uint32_t)address >> BURSAR_COUNT_GRANULE] = (unsigned char)owner;
  return true;
}

bool bursar_count_mark_pools(const void *p, size_t bytes) {
  uintptr_t end = (uintptr_t)p + bytes;
  for (uintptr_t at = ((uintptr_t)p + GRANULE - 1) & ~(GRANULE - 1); at + GRANULE <= end; at += GRANULE)
    if (!bursar_count_mark((const void *)at, BURSAR_COUNT_POOL))
      return false;
  return true;
}

void bursar_count_unmark(const void *p, size_t bytes) {
  for (uintptr_t at = (uintptr_t)p & ~(GRANULE - 1); at < (uintptr_t)p + bytes; at += GRANULE) {
    unsigned char *leaf = __atomic_load_n(&bursar_count_granules[at >> BURSAR_COUNT_LEAF & 0x7fff], __ATOMIC_ACQUIRE);
    if (leaf && leaf[(uint32_t)at >> BURSAR_COUNT_GRANULE] != BURSAR_COUNT_MALLOC)
      leaf[(uint32_t)at >> BURSAR_COUNT_GRANULE] = BURSAR_COUNT_BEFORE;
  }
}

void bursar_count_forget(void) {
  for (size_t i = 0; i < sizeof bursar_count_granules / sizeof *bursar_count_granules; i++)
    if (bursar_count_granules[i])
      bursar_prim_discard(bursar_count_granules[i], LEAF_BYTES);
}

/* --- peaks ------------------------------------------------------------------------------------------------------------- */

static bool is_higher(const int64_t held[BURSAR_DOMAIN_COUNT], int64_t total) {
  const struct bursar_books *books = BURSAR_BOOKS;
  bool higher = total > (int64_t)__atomic_load_n(&books->peak, __ATOMIC_RELAXED);
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    higher |= held[domain] > (int64_t)__atomic_load_n(&books->domain_peak[domain], __ATOMIC_RELAXED);
  return higher;
}

static void raise_peaks(const int64_t held[BURSAR_DOMAIN_COUNT], int64_t total) {
  struct bursar_books *books = BURSAR_BOOKS;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (held[domain] > (int64_t)books->domain_peak[domain])
      __atomic_store_n(&books->domain_peak[domain], (uint64_t)held[domain], __ATOMIC_RELAXED);
  if (total <= (int64_t)books->peak)
    return;
  uint64_t now = bursar_prim_now_coarse(); /* which may be before the start */
  books->peak_ns = now > bursar_account.started_ns ? now - bursar_account.started_ns : 0;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    books->peak_free_bytes[domain] = held[domain] > 0 ? (uint64_t)held[domain] : 0;
  __atomic_store_n(&books->peak, (uint64_t)total, __ATOMIC_RELAXED);
}

/* Nobody waits: who finds another (or, in a signal handler, himself) at it looks again at the next block.  Lanes are not read
 * at one instant: what went from one to another meanwhile is not there twice when they are read again. */
static bool look_at_peaks(void) {
  int64_t held[BURSAR_DOMAIN_COUNT];
  if (!is_higher(held, bursar_lanes_held(held)))
    return true;
  if (__atomic_exchange_n(&noting, true, __ATOMIC_ACQUIRE))
    return false;
  raise_peaks(held, bursar_lanes_held(held));
  __atomic_store_n(&noting, false, __ATOMIC_RELEASE);
  return true;
}

/* --- lanes ------------------------------------------------------------------------------------------------------------- */

static void add_begun(struct bursar_thread_lane *lane, size_t usable, unsigned domain) {
  lane->alloc_bytes[domain] += usable;
  lane->allocs[domain]++;
}

bool bursar_count_begin_slowly(size_t usable, unsigned domain) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  struct bursar_thread_lane *lane = bursar_lanes_take();
  int64_t *step = lane ? &me->step : &me->shared_countdown;
  if (lane) {
    add_begun(lane, usable, domain);
  } else {
    me->step = -1;
    add_begun(bursar_lanes_share(), usable, domain);
    bursar_lanes_unshare();
    if ((*step -= (int64_t)usable) > 0)
      return false;
  }
  *step = look_at_peaks() ? BURSAR_TALLIES_APART : 0;
  return ++me->looks % LOOKS == 0 && bursar_account.active;
}

void bursar_count_end_slowly(size_t usable, unsigned domain) {
  struct bursar_thread_lane *mine = bursar_lanes_take(), *lane = mine ? mine : bursar_lanes_share();
  lane->free_bytes[domain] += usable;
  lane->frees[domain]++;
  if (!mine)
    bursar_lanes_unshare();
}

int64_t bursar_count_live(void) {
  int64_t held[BURSAR_DOMAIN_COUNT], live = bursar_lanes_held(held);
  return live > 0 ? live : 0;
}

void bursar_count_settle(void) {
  if (bursar_account.mode == BURSAR_MODE_COUNT && bursar_account.active)
    (void)look_at_peaks();
}

void bursar_count_look(void) {
  static uint64_t last;
  struct bursar_books *books = BURSAR_BOOKS;
  uint64_t now = bursar_prim_now_coarse();
  if (!bursar_account.active || now == last)
    return;
  last = now;
  int64_t held[BURSAR_DOMAIN_COUNT], total = bursar_lanes_held(held);
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    books->gil[domain].alloc_bytes = held[domain] > 0 ? (uint64_t)held[domain] : 0;
  books->live = total > 0 ? (uint64_t)total : 0;
  bursar_journal_look();
  bursar_answer_if_asked();
}

void bursar_count_after_fork(void) { __atomic_store_n(&noting, false, __ATOMIC_RELAXED); }
