/* sketch.h: quantiles of the peaks of a scope's entries, from the counters that its name keeps.
 *
 * Threads: any, for a copy; the main GIL's holder for the open ledger's.  Class H. */
#ifndef BURSAR_LEDGER_SKETCH_H
#define BURSAR_LEDGER_SKETCH_H

#include <stdint.h>

#include "ledger/layout.h"

#define BURSAR_SKETCH_UNKNOWN UINT64_MAX

/* The peak of the nearest rank: so many percent of the calls have it, or less; within a sixteenth of a doubling, and never above
 * the greatest.  Unknown: there were none, or it is more than counters are for. */
uint64_t bursar_sketch_quantile(const struct bursar_scope_name *name, unsigned percent);

#endif
