/* limit_table.h: what Python says of src/policy/limits.h.
 *
 * Under the main GIL.  Class N. */
#ifndef BURSAR_PYEXT_LIMIT_TABLE_H
#define BURSAR_PYEXT_LIMIT_TABLE_H

#include "compat.h"

/* 0, or -1 with an exception. */
int bursar_limit_table_add(PyObject *module);

#endif
