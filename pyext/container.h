/* container.h: _bursar.Container, the header of a safetensors file, read; _bursar.Unsealed, a sealed file; _bursar.Saving, a file that is there whole or not
 * at all; and the header that goes before tensors.  What is read and written between is Python's.
 *
 * GIL, any interpreter; files are read and written without it.  Class N. */
#ifndef BURSAR_PYEXT_CONTAINER_H
#define BURSAR_PYEXT_CONTAINER_H

#include "compat.h"

/* Adds the types and the function.  0, or -1 with an exception. */
int bursar_container_add(PyObject *module);

#endif
