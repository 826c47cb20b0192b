/* refusals.h: names in a model that are on no list, and where they stand.
 *
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine).  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_MODEL_REFUSALS_H
#define BURSAR_MODEL_REFUSALS_H

#include <stddef.h>
#include <stdint.h>

#include "base/escape.h"

#define BURSAR_REFUSALS_KEPT 100u /* that are kept; the others are counted */

struct bursar_refusal {
  uint64_t at;    /* of the operation */
  char name[160]; /* printable, cut where it is longer */
};

struct bursar_refusals {
  struct bursar_refusal *list; /* NULL while there is none, or no memory */
  size_t kept, count;
};

void bursar_refusals_add(struct bursar_refusals *refusals, uint64_t at, struct bursar_text name);
void bursar_refusals_end(struct bursar_refusals *refusals);

#endif
