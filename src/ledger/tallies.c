#include "ledger/tallies.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define SANE_COUNT (1ull << 56)
#define SANE_ESTIMATE 0x1p110 /* a variance is a square of bytes */

static bool sane_lane(const struct bursar_thread_lane *lane) {
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const int64_t parts[] = {lane->high[domain], lane->synced[domain], lane->at_high[domain]};
    if (lane->allocs[domain] > SANE_COUNT || lane->frees[domain] > SANE_COUNT ||
        lane->alloc_bytes[domain] > SANE_COUNT || lane->free_bytes[domain] > SANE_COUNT)
      return false;
    for (unsigned i = 0; i < 3; i++)
      if (parts[i] > (int64_t)SANE_COUNT || parts[i] < -(int64_t)SANE_COUNT)
        return false;
  }
  const int64_t totals[] = {lane->total, lane->total_high, lane->total_synced};
  for (unsigned i = 0; i < 3; i++)
    if (totals[i] > (int64_t)SANE_COUNT || totals[i] < -(int64_t)SANE_COUNT)
      return false;
  return true;
}

bool bursar_tallies_sum(const struct bursar_thread_lane *lanes, struct bursar_tally sum[BURSAR_DOMAIN_COUNT]) {
  memset(sum, 0, BURSAR_DOMAIN_COUNT * sizeof *sum);
  for (unsigned i = 0; i < BURSAR_LANES; i++)
    if (!sane_lane(&lanes[i]))
      return false;
  for (unsigned i = 0; i < BURSAR_LANES; i++)
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      sum[domain].alloc_bytes += lanes[i].alloc_bytes[domain];
      sum[domain].allocs += lanes[i].allocs[domain];
      sum[domain].free_bytes += lanes[i].free_bytes[domain];
      sum[domain].frees += lanes[i].frees[domain];
    }
  return true;
}

uint32_t bursar_tallies_check(struct bursar_estimate *estimates, uint32_t count) {
  uint32_t damaged = 0;
  for (uint32_t i = 0; i < count; i++) {
    double *figures = &estimates[i].live_blocks;
    bool sane = true;
    for (unsigned k = 0; k < offsetof(struct bursar_estimate, peak_epoch) / sizeof(double); k++) {
      sane = sane && isfinite(figures[k]) && figures[k] > -SANE_ESTIMATE && figures[k] < SANE_ESTIMATE;
      if (figures[k] < 0) /* what was rounded */
        figures[k] = 0;
    }
    if (sane)
      continue;
    damaged++;
    estimates[i] = (struct bursar_estimate){0};
  }
  return damaged;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

uint64_t bursar_tallies_peaks(const struct bursar_thread_lane *lanes, struct bursar_books *books) {
  int64_t total = 0, by_domain[BURSAR_DOMAIN_COUNT] = {0};
  uint64_t apart = 0, largest = 0;
  for (unsigned i = 0; i < BURSAR_LANES; i++) {
    uint64_t moved = 0;
    total += lanes[i].total_synced;
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      by_domain[domain] += lanes[i].synced[domain];
      moved += lanes[i].alloc_bytes[domain] + lanes[i].free_bytes[domain];
    }
    moved = moved > BURSAR_TALLIES_APART ? BURSAR_TALLIES_APART : moved;
    apart += moved;
    largest = moved > largest ? moved : largest;
  }
  for (unsigned i = 0; i < BURSAR_LANES; i++) {
    const struct bursar_thread_lane *lane = &lanes[i];
    int64_t peak = total - lane->total_synced + most(lane->total_high, lane->total);
    if (peak > (int64_t)books->peak) {
      books->peak = (uint64_t)peak;
      for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
        int64_t now = (int64_t)(lane->alloc_bytes[domain] - lane->free_bytes[domain]);
        int64_t part = lane->total > lane->total_high ? now : lane->at_high[domain];
        books->peak_free_bytes[domain] = (uint64_t)most(by_domain[domain] - lane->synced[domain] + part, 0);
      }
    }
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      int64_t now = (int64_t)(lane->alloc_bytes[domain] - lane->free_bytes[domain]);
      int64_t high = by_domain[domain] - lane->synced[domain] + most(lane->high[domain], now);
      if (high > (int64_t)books->domain_peak[domain])
        books->domain_peak[domain] = (uint64_t)high;
    }
  }
  return apart - largest; /* one thread by itself is never apart */
}
