/* residue.h: bursar.residue(): copies of a secret in this process, and who holds them. */
#ifndef BURSAR_PYEXT_RESIDUE_H
#define BURSAR_PYEXT_RESIDUE_H

#include "compat.h"

/* Adds residue() and residue_owners().  0, or -1 with an exception. */
int bursar_residue_add(PyObject *module);

/* The stack of a site, innermost frame first: (function, file, line).  The main GIL, the books open, and no site moved
 * (fold.h) since the number was read.  A new list. */
PyObject *bursar_residue_stack(uint32_t number);

#endif
