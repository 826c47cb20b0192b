/* converting.h: _bursar.convert, which makes a model's file of what people have.
 *
 * GIL, any interpreter; files are read and written without it.  Class N. */
#ifndef BURSAR_PYEXT_CONVERTING_H
#define BURSAR_PYEXT_CONVERTING_H

#include "compat.h"

/* Adds the function.  0, or -1 with an exception. */
int bursar_converting_add(PyObject *module);

#endif
