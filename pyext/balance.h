/* balance.h: bursar.balance(): this process's resident memory, explained. */
#ifndef BURSAR_PYEXT_BALANCE_H
#define BURSAR_PYEXT_BALANCE_H

#include "compat.h"

/* A method of the module, without arguments: a dict of the facts, as `bursar balance --format json` has them, and "text". */
PyObject *bursar_balance_here(PyObject *module, PyObject *unused);

#endif
