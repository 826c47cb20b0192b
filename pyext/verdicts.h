/* verdicts.h: what a verdict needs of Python: one collection while nothing runs in a scope, and stacks of blocks.
 *
 * Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_VERDICTS_H
#define BURSAR_PYEXT_VERDICTS_H

#include "compat.h"

#include "account/verdict.h"

/* Does what is due (bursar_verdict_due): at the end of a scope.  No error is left behind, nor touched. */
void bursar_verdicts_attend(void);
int bursar_verdicts_add(PyObject *module) __attribute__((warn_unused_result));

#endif
