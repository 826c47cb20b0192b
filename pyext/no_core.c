#include "no_core.h"

#include <errno.h>

#include "prim/prim.h"

bool bursar_no_core_set(void) {
  int status = bursar_prim_no_core();
  if (status != 0) {
    errno = -status;
    PyErr_SetFromErrno(PyExc_OSError);
  }
  return status == 0;
}

PyObject *bursar_no_core(PyObject *module, PyObject *unused) {
  if (!bursar_no_core_set())
    return NULL;
  Py_RETURN_NONE;
}
