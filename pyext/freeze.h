/* freeze.h: _bursar.Sealed: sealed memory (secret/seal.h) as an object that exports it for reading alone, and what happens
 * when C code writes to it: one line and the stacks on stderr, then whatever a fault did before.
 *
 * The handler stands since the first of them was made; what is no write to frozen memory goes on to the one that was there.
 * Any interpreter.  Class N, but for the handler. */
#ifndef BURSAR_PYEXT_FREEZE_H
#define BURSAR_PYEXT_FREEZE_H

#include "compat.h"

/* Adds the type.  0, or -1 with an exception. */
int bursar_freeze_add(PyObject *module);

#endif
