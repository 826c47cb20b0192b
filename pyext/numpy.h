/* numpy.h: NumPy's data: a hook in its default allocator (NEP 49).
 *
 * A handler that is set by NEP 49's call holds for one context alone, and threads begin with a fresh one.  So the functions
 * of the default handler are replaced where they stand: arrays that were made before keep their handler, as the NEP wants,
 * and it still frees what it gave.  A handler that the program itself sets is its own.
 * Main GIL.  Class N, but for bursar_numpy_met. */
#ifndef BURSAR_PYEXT_NUMPY_H
#define BURSAR_PYEXT_NUMPY_H

#include "compat.h"

/* Hooks NumPy, if it is loaded; else as soon as it is. */
void bursar_numpy_open(void);
void bursar_numpy_close(void);
/* A code object was met for the first time: is NumPy on its way?  Class H. */
void bursar_numpy_met(const PyCodeObject *code);

#endif
