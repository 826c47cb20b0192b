/* no_core.h: undumpable: bursar.no_core(), and what `bursar run --no-core` asked for.
 *
 * Any interpreter.  Class N. */
#ifndef BURSAR_PYEXT_NO_CORE_H
#define BURSAR_PYEXT_NO_CORE_H

#include "compat.h"

/* False with an OSError where the system refuses. */
bool bursar_no_core_set(void);
PyObject *bursar_no_core(PyObject *module, PyObject *unused);

#endif
