/* verdict.h: does a scope leak?  What its ended entries still hold, looked at every few calls, and what is made of that.
 *
 * Glossary
 *   kept     an entry that has ended and still holds something; a name's are chained in the order in which they ended
 *   point    what all kept entries of a name held when one had just ended, in full and capped (ledger/leaks.h judges series).  Where
 *            several run at once the last few do not count: what callers still have in their hands is no leak
 *   ripe     it grew for long enough: now garbage has to be ruled out, by one collection while no scope is open
 *   survey   what survived of which stacks; by whoever can walk the table of blocks, or has kept stacks (bursar_verdict_tracing)
 *
 * Between points an entry's end costs two compares and a link.  Main GIL or the lock, as is said.  errno kept. */
#ifndef BURSAR_ACCOUNT_VERDICT_H
#define BURSAR_ACCOUNT_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger/layout.h"

/* What of the process is noted beside what is held. */
struct bursar_verdict_around {
  int32_t descriptors, threads; /* below 0: not known */
};

/* With the books' start and stop.  Class F. */
void bursar_verdict_start(void);
void bursar_verdict_stop(void);

/* Bytes a call from which on growth is a leak, and calls before which nothing is said: of names that are not judged yet, and of
 * the others too if `begun`.  They become what was set before. */
void bursar_verdict_set(uint32_t *threshold, uint32_t *warmup, bool begun);

/* Asked for where a point is due, and before the lock is taken: system calls.  Any thread. */
struct bursar_verdict_around bursar_verdict_look_around(uint32_t name);
/* scopes.c, under the lock: an entry begins; one has ended, `keeps`: and is the outermost of its name; its slot is given up, or its
 * name's from now on. */
void bursar_verdict_begun(void);
void bursar_verdict_ended(uint32_t name, uint32_t slot, bool keeps, struct bursar_verdict_around around);
void bursar_verdict_gone(uint32_t slot);

/* Something waits for bursar_verdict_next.  Read by any thread. */
extern bool bursar_verdict_due;
/* Work that is due, to be asked for again until there is none.  Main GIL. */
enum bursar_verdict_work {
  BURSAR_VERDICT_NOTHING,
  BURSAR_VERDICT_COLLECT,   /* a full collection while no scope is open, then bursar_verdict_collected */
  BURSAR_VERDICT_COLLECTED, /* that, since one has run by itself */
  BURSAR_VERDICT_SWEEP,     /* a full collection too: what is garbage is not to be named */
  BURSAR_VERDICT_SURVEY     /* bursar_verdict_survey */
};
/* `full`: collections of all that have run in this process, or always the same where that is not known. */
enum bursar_verdict_work bursar_verdict_next(uint64_t full, uint32_t *which);
/* `ran`: the collector did; else nothing is known of garbage. */
void bursar_verdict_collected(uint32_t which, bool ran);

struct bursar_verdict_table;
/* Adds a block of an entry, which has its slot still; or not: what is not of the entries that are looked at. */
void bursar_verdict_add(struct bursar_verdict_table *table, uint32_t number, uint32_t slot, uint64_t bytes);
/* Calls `each` to add all blocks that are known, and writes what that comes to: sites with survivors of many calls first.  NULL:
 * mode exact's table of live blocks.  Main GIL.  Class N. */
void bursar_verdict_survey(uint32_t which, void (*each)(struct bursar_verdict_table *table));

/* Is one still to come, of some name? */
bool bursar_verdict_surveys(void);

/* Modes sample and count: after an alarm whole stacks are kept of what begins in the name's entries.  Any thread. */
extern bool bursar_verdict_tracing; /* of some name */
bool bursar_verdict_traces(uint32_t slot);

#endif
