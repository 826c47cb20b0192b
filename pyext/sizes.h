/* sizes.h: an amount of bytes as Python's callers give it: an int above 0, or a size as text (base/size.h).
 *
 * Under the GIL.  Class N. */
#ifndef BURSAR_PYEXT_SIZES_H
#define BURSAR_PYEXT_SIZES_H

#include "compat.h"

/* 0, or -1 with a TypeError or ValueError that names the argument. */
int bursar_sizes_read(PyObject *given, const char *argument, int64_t *out);
/* Python's size_of(given, argument). */
PyObject *bursar_sizes_of(PyObject *module, PyObject *args);

#endif
