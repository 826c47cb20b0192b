/* hideouts.h: where copies stay that nobody holds any more, and what empties them.  docs/hideouts.md lists them.
 *
 * Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_HIDEOUTS_H
#define BURSAR_PYEXT_HIDEOUTS_H

#include "compat.h"

/* What a wiping scope does at its end, after all else: microseconds; changes nothing that a program can see.  An exception that
 * is set stays as it is. */
void bursar_hideouts_end_of_scope(void);

/* hideouts(), wipe_stream() and wipe_environment(), for python/bursar/_hideouts.py. */
int bursar_hideouts_add(PyObject *module);

#endif
