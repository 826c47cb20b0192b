/* governor.h: what python/bursar/_governor.py and _reclaim.py need of C: to hear each collection cheaply, and to wait for
 * the moment at which giving back holds nobody up, without the GIL.
 *
 * One governor a process, the main interpreter's.  The callback is in gc.callbacks while it is on. */
#ifndef BURSAR_PYEXT_GOVERNOR_H
#define BURSAR_PYEXT_GOVERNOR_H

#include "compat.h"

/* The next rest is to have a whole collection, and what that frees is given back: where there is a governor.  Any thread. */
void bursar_governor_ask(void);
/* Adds the functions.  0, or -1 with an exception. */
int bursar_governor_add(PyObject *module);

#endif
