/* natives.h: names for a model's native frames, where symbols.h finds them.
 *
 * One frame of a ledger becomes as many as functions were inlined there.  A frame without a name is called by its module and
 * address, `libz.so.1+0x1234`, and counts as unresolved.  What could not be looked up, and why, is added to the ledger's notes.
 * Ownership: what it finds belongs to the model, which frees it.  Threads: one at a time.  Class N: it opens files. */
#ifndef BURSAR_REPORT_NATIVES_H
#define BURSAR_REPORT_NATIVES_H

#include "report/model.h"

/* Once, before anybody looks at the model's nodes.  Nothing where there are no native frames. */
int bursar_natives_resolve(struct bursar_model *model, struct bursar_error *error) __attribute__((warn_unused_result));

#endif
