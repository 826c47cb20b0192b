/* leaks.h: does what is held grow with each call, how much, and how sure is that: the statistic of the verdict.
 *
 * It knows nothing but a series of points (calls, what was held after so many), so that the process that keeps the books and
 * whoever reads them come to one verdict.  docs/verdict.md says why it is made so, and of which papers.
 *
 * Ownership: the caller's.  Threads: any.  No memory, no system call, no errno: class H, but not for each block. */
#ifndef BURSAR_LEDGER_LEAKS_H
#define BURSAR_LEDGER_LEAKS_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger/layout.h"

#define BURSAR_LEAKS_THRESHOLD 64u        /* bytes a call */
#define BURSAR_LEAKS_WARMUP 500u          /* calls */
#define BURSAR_LEAKS_CAP 3u               /* thresholds: of a call no more counts where calls are capped */
#define BURSAR_LEAKS_COUNTED (1.0 / 64.0) /* descriptors or threads a call */
#define BURSAR_LEAKS_ERROR 0.004          /* of all bounds of a series together, however often one looks */

enum bursar_leaks_what {
  BURSAR_LEAKS_OF_BYTES,
  BURSAR_LEAKS_OF_DESCRIPTORS,
  BURSAR_LEAKS_OF_THREADS,
  BURSAR_LEAKS_OF_CAPPED, /* bytes, of each call at most its cap: what few calls hold for a time cannot hide what all leave */
  BURSAR_LEAKS_WHATS
};

struct bursar_leaks_found {
  bool known;          /* there are points enough to say something */
  double rate;         /* a call, over the later half */
  double lower, upper; /* its bound; without limit (infinite) while nothing is sure */
  uint64_t from, to;   /* the later half, in calls */
  bool goes_on;        /* it grows all through, not ever slower, and beyond what was held before */
  bool grows;          /* so it does, and by more than the threshold for sure */
  bool stands;         /* by less than the threshold, for sure */
  bool stopped;        /* so it does in the last quarter: what grew does no longer */
};

double bursar_leaks_of(const struct bursar_leaks_point *point, enum bursar_leaks_what what);

/* `bounds`: lower and upper are wanted; else they are not looked for, which is the most of the work. */
void bursar_leaks_judge(const struct bursar_leaks_point *points, uint32_t count, enum bursar_leaks_what what,
                        double threshold, uint64_t warmup, bool bounds, struct bursar_leaks_found *out);

/* Makes room where all points are taken: each second one goes. */
uint32_t bursar_leaks_thin(struct bursar_leaks_point *points, uint32_t count);

#endif
