/* holders.h: who held how much, by source line: what a line allocated itself, and all that was allocated below it.
 *
 * Ownership: the caller's, from bursar_holders_find to bursar_holders_free.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_REPORT_HOLDERS_H
#define BURSAR_REPORT_HOLDERS_H

#include "report/model.h"

struct bursar_holder {
  uint32_t node; /* in the model: one of the nodes that are this line */
  struct bursar_held own;
  struct bursar_held all; /* with what its callees held; a line in a stack twice counts once */
  uint32_t caller; /* the program's own line that held most through it; BURSAR_READER_NONE where it is one itself,
                             or where there is none */
};

struct bursar_holders {
  struct bursar_holder *lines; /* largest own first */
  uint32_t count;
};

/* At the model's chosen instant.  Lines that held nothing are left out. */
int bursar_holders_find(const struct bursar_model *model, struct bursar_holders *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* A zeroed one is fine. */
void bursar_holders_free(struct bursar_holders *holders);
/* Is the file the program's own: the main script, or a file in or below its folder that is no installed package? */
bool bursar_holders_is_own(const struct bursar_model *model, struct bursar_text file);

#endif
