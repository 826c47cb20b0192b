#include "account/count.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "account/account.h"
#include "account/answer.h"
#include "account/journal.h"
#include "ledger/tallies.h"
#include "prim/prim.h"

#define LEAF_BYTES (1u << (BURSAR_COUNT_LEAF - BURSAR_COUNT_GRANULE))

unsigned char *bursar_count_granules[1u << (47 - BURSAR_COUNT_LEAF)] = {0};

/* Under the lock: what all lanes held when they were last brought together. */
static bool locked;
static int64_t total, by_domain[BURSAR_DOMAIN_COUNT];

static void lock(void) {
  while (__atomic_exchange_n(&locked, true, __ATOMIC_ACQUIRE))
    sched_yield();
}
static void unlock(void) { __atomic_store_n(&locked, false, __ATOMIC_RELEASE); }

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

void bursar_count_unmark(const void *p, size_t bytes) {
  uintptr_t granule = (uintptr_t)1 << BURSAR_COUNT_GRANULE;
  for (uintptr_t at = (uintptr_t)p & ~(granule - 1); at < (uintptr_t)p + bytes; at += granule) {
    unsigned char *leaf = __atomic_load_n(&bursar_count_granules[at >> BURSAR_COUNT_LEAF & 0x7fff], __ATOMIC_ACQUIRE);
    if (leaf && leaf[(uint32_t)at >> BURSAR_COUNT_GRANULE] == BURSAR_COUNT_POOL)
      leaf[(uint32_t)at >> BURSAR_COUNT_GRANULE] = BURSAR_COUNT_BEFORE;
  }
}

/* --- lanes -------------------------------------------------------------------------------------------------------------- */

static int64_t held(const struct bursar_thread_lane *lane, unsigned domain) {
  return (int64_t)(lane->alloc_bytes[domain] - lane->free_bytes[domain]);
}

void bursar_count_high(struct bursar_thread_lane *lane) {
  lane->total_high = lane->total;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    lane->at_high[domain] = held(lane, domain);
}

static void raise_peaks(const struct bursar_thread_lane *lane) {
  struct bursar_books *books = BURSAR_BOOKS;
  int64_t peak = total - lane->total_synced + lane->total_high;
  if (peak > (int64_t)books->peak) {
    books->peak_ns = bursar_prim_now_coarse() - bursar_account.started_ns;
    if ((int64_t)books->peak_ns < 0)
      books->peak_ns = 0;
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      int64_t part = by_domain[domain] - lane->synced[domain] + lane->at_high[domain];
      books->peak_free_bytes[domain] = part > 0 ? (uint64_t)part : 0;
    }
    books->peak = (uint64_t)peak;
  }
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    int64_t high = by_domain[domain] - lane->synced[domain] + lane->high[domain];
    if (high > (int64_t)books->domain_peak[domain])
      books->domain_peak[domain] = (uint64_t)high;
  }
}

bool bursar_count_together(struct bursar_thread_lane *lane) {
  if (lane->total > lane->total_high)
    bursar_count_high(lane);
  lock();
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (held(lane, domain) > lane->high[domain])
      lane->high[domain] = held(lane, domain);
  raise_peaks(lane);
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    int64_t now = held(lane, domain);
    by_domain[domain] += now - lane->synced[domain];
    lane->synced[domain] = lane->high[domain] = lane->at_high[domain] = now;
  }
  total += lane->total - lane->total_synced;
  lane->total_synced = lane->total_high = lane->total;
  lane->above = lane->total + BURSAR_TALLIES_APART;
  lane->below = lane->total - BURSAR_TALLIES_APART;
  unlock();
  return bursar_account.active;
}

static bool add(struct bursar_thread_lane *lane, size_t usable, unsigned domain, bool ends) {
  if (ends) {
    if (held(lane, domain) > lane->high[domain])
      lane->high[domain] = held(lane, domain);
    if (lane->total > lane->total_high)
      bursar_count_high(lane);
    lane->free_bytes[domain] += usable;
    lane->frees[domain]++;
    lane->total -= (int64_t)usable;
  } else {
    lane->alloc_bytes[domain] += usable;
    lane->allocs[domain]++;
    lane->total += (int64_t)usable;
  }
  return (lane->total > lane->above || lane->total < lane->below) && bursar_count_together(lane);
}

bool bursar_count_add_slowly(size_t usable, unsigned domain, bool ends) {
  struct bursar_thread_lane *lane = bursar_lanes_take();
  if (lane)
    return add(lane, usable, domain, ends);
  bool due = add(bursar_lanes_share(), usable, domain, ends);
  bursar_lanes_unshare();
  return due;
}

int64_t bursar_count_live(void) {
  int64_t live = 0;
  for (unsigned i = 0; i < BURSAR_LANES; i++)
    live += __atomic_load_n(&bursar_lanes_pages.lane[i].total, __ATOMIC_RELAXED);
  return live > 0 ? live : 0;
}

void bursar_count_settle(void) {
  struct bursar_thread_lane *lane = bursar_lanes_mine.lane;
  if (bursar_account.mode == BURSAR_MODE_COUNT && bursar_account.active && lane)
    (void)bursar_count_together(lane);
}

void bursar_count_look(void) {
  static uint64_t last;
  struct bursar_books *books = BURSAR_BOOKS;
  uint64_t now = bursar_prim_now_coarse();
  if (!bursar_account.active || now == last)
    return;
  last = now;
  lock();
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    books->gil[domain].alloc_bytes = by_domain[domain] > 0 ? (uint64_t)by_domain[domain] : 0;
  books->live = total > 0 ? (uint64_t)total : 0;
  unlock();
  bursar_journal_look();
  bursar_answer_if_asked();
}

void bursar_count_start(void) {
  total = 0;
  memset(by_domain, 0, sizeof by_domain);
  for (size_t i = 0; i < sizeof bursar_count_granules / sizeof *bursar_count_granules; i++)
    if (bursar_count_granules[i])
      bursar_prim_discard(bursar_count_granules[i], LEAF_BYTES);
}

void bursar_count_after_fork(void) { unlock(); }
