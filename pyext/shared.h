/* shared.h: for bursar.isolated(): a child makes its large arrays in files in memory, and its parent maps them.
 *
 * shared_arrays() replaces the functions of NumPy's default handler (numpy.h), in a child that is made for one call alone, and
 * where no books hold them: what is large is a file of its own from then on.  A fork ends that: a file that is mapped shared
 * would be the forked process's too, so each becomes plain memory first, where it lies.
 * Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_SHARED_H
#define BURSAR_PYEXT_SHARED_H

#include "compat.h"

/* Adds the type Shared, and the functions.  0, or -1 with an exception. */
int bursar_shared_add(PyObject *module);

#endif
