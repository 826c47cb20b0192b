/* trim.h: giving malloc's free pages back to the system, at a cost that is known before.
 *
 * malloc_trim(0) takes the lock of one arena after the other, and whoever allocates there waits.  So it is asked first what
 * would come back (memory/look.h), and what that takes, from what earlier ones took.
 * Any thread, one at a time.  No GIL needed.  Class N. */
#ifndef BURSAR_POLICY_TRIM_H
#define BURSAR_POLICY_TRIM_H

#include <stdbool.h>
#include <stdint.h>

#define BURSAR_TRIM_LEAST (1u << 20) /* fewer bytes are not worth their page faults */
#define BURSAR_TRIM_UNKNOWN UINT64_MAX

/* Bytes that a trim would give back now; unknown: the memory may not be read, or malloc is not the C library's.  Takes
 * milliseconds a gigabyte (2.3 for half of one). */
uint64_t bursar_trim_returnable(void);
/* What giving so many bytes back takes, in ns. */
uint64_t bursar_trim_cost(uint64_t bytes);
/* Gives back.  What it took, in ns; `bytes`: what was foretold, from which the cost is learned. */
uint64_t bursar_trim_run(uint64_t bytes);

#endif
