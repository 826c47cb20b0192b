/* inside.h: what a look found (memory/look.h), as the ledger and the balance have it.
 *
 * Ownership: the caller's.  Threads: any.  Safety class F. */
#ifndef BURSAR_LEDGER_INSIDE_H
#define BURSAR_LEDGER_INSIDE_H

#include "ledger/layout.h"
#include "memory/look.h"

/* After bursar_look_sum.  What only the books know is left as not known. */
void bursar_inside_fill(const struct bursar_look *look, struct bursar_inside *out);

#endif
