#include "ledger/tallies.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define SANE_COUNT (1ull << 56)
#define SANE_ESTIMATE 0x1p110 /* a variance is a square of bytes */

static bool sane_lane(const struct bursar_thread_lane *lane) {
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (lane->allocs[domain] > SANE_COUNT || lane->frees[domain] > SANE_COUNT ||
        lane->alloc_bytes[domain] > SANE_COUNT || lane->free_bytes[domain] > SANE_COUNT)
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

uint64_t bursar_tallies_peaks(const struct bursar_thread_lane *lanes, struct bursar_books *books) {
  int64_t total = 0, held[BURSAR_DOMAIN_COUNT] = {0};
  uint64_t short_of = 0;
  for (unsigned i = 0; i < BURSAR_LANES; i++) {
    uint64_t allocated = 0;
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      held[domain] += (int64_t)(lanes[i].alloc_bytes[domain] - lanes[i].free_bytes[domain]);
      allocated += lanes[i].alloc_bytes[domain];
    }
    short_of += allocated < BURSAR_TALLIES_APART ? allocated : BURSAR_TALLIES_APART;
  }
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    total += held[domain];
    if (held[domain] > (int64_t)books->domain_peak[domain])
      books->domain_peak[domain] = (uint64_t)held[domain];
  }
  if (total > (int64_t)books->peak) {
    books->peak = (uint64_t)total;
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      books->peak_free_bytes[domain] = held[domain] > 0 ? (uint64_t)held[domain] : 0;
  }
  return short_of;
}
