/* owners.h: which objects' memory an address lies in, for bursar.residue(), and who holds an
 * object, for bursar.release() and bursar.unload(). */
#ifndef BURSAR_PYEXT_OWNERS_H
#define BURSAR_PYEXT_OWNERS_H

#include "compat.h"

/* A function of the module: ranges of addresses, in order, as (from, to).  A list of (index of the range, object, local,
 * container): local is (name, function, file) where a running frame has it, container one that the garbage collector does not
 * know; else None.  Runs no code of the program's. */
PyObject *bursar_owners_of(PyObject *module, PyObject *ranges);
/* Another: the running frames, of any thread, that have an object in a local variable of their own: a list of (name, function,
 * file, line).  A cell that holds it is an object of its own. */
PyObject *bursar_owners_locals(PyObject *module, PyObject *object);
/* Another: what refers to an object, as gc.get_referrers() knows it, and dicts and tuples that the collector does not know. */
PyObject *bursar_owners_referrers(PyObject *module, PyObject *object);
/* Another: the bytes of all blocks that malloc has handed out, in all of its arenas; -1 where it does not tell. */
PyObject *bursar_owners_malloc(PyObject *module, PyObject *unused);

#endif
