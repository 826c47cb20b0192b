/* tallies.h: what the modes sample and count keep beside sites, checked and summed up, for the reader.
 *
 * Nothing is trusted: the bytes are a private copy of the file's.  Threads: any.  Class N. */
#ifndef BURSAR_LEDGER_TALLIES_H
#define BURSAR_LEDGER_TALLIES_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger/layout.h"

/* The sums over all lanes, by domain.  False: they are damaged; then the sums are 0. */
bool bursar_tallies_sum(const struct bursar_thread_lane *lanes, struct bursar_tally sum[BURSAR_DOMAIN_COUNT]);

/* Estimates that cannot be are set to 0.  Returns how many. */
uint32_t bursar_tallies_check(struct bursar_estimate *estimates, uint32_t count);

/* Mode count.  What is held now is a peak where it is more than the books have; returns the bytes that the peaks may be short
 * of, because threads look at them now and then only. */
uint64_t bursar_tallies_peaks(const struct bursar_thread_lane *lanes, struct bursar_books *books);

/* Bytes that a thread allocates between two looks at the peaks. */
#define BURSAR_TALLIES_APART (16 << 10)

#endif
