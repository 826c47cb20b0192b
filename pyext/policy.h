/* policy.h: a policy file, in the process that it binds: read by src/policy/rules.h, and put where each rule is obeyed.
 *
 * Main interpreter, under the GIL.  Class N. */
#ifndef BURSAR_PYEXT_POLICY_H
#define BURSAR_PYEXT_POLICY_H

#include "compat.h"

#include "base/error.h"
#include "ledger/boot.h"

/* Reads a file, for what follows.  A negative enum bursar_status with an error: it cannot be read, or there are mistakes in it. */
int bursar_policy_load(const char *path, struct bursar_error *error) __attribute__((warn_unused_result));
/* What its table [run] says of the books. */
void bursar_policy_fill(struct bursar_boot *boot);
/* Limits, verdicts, what is left open; and an event.  Where a policy binds already nothing becomes weaker by another one, which a
 * warning says.  The governor is Python's: policy_governor().  -1 with an exception. */
int bursar_policy_apply(void) __attribute__((warn_unused_result));
/* Was one applied? */
bool bursar_policy_binds(void);

/* policy_*, for python/bursar. */
int bursar_policy_add(PyObject *module);

#endif
