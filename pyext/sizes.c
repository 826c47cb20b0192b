#include "sizes.h"

#include "base/size.h"

static int of_text(PyObject *given, const char *argument, int64_t *out) {
  uint64_t bytes = 0;
  const char *text = PyUnicode_AsUTF8(given);
  if (!text)
    return -1;
  if (bursar_size_parse(text, &bytes) != 0 || bytes > INT64_MAX || !bytes) {
    PyErr_Format(PyExc_ValueError, "%s=%R is no size: write bytes, or as '300 MiB'", argument, given);
    return -1;
  }
  *out = (int64_t)bytes;
  return 0;
}

int bursar_sizes_read(PyObject *given, const char *argument, int64_t *out) {
  if (PyUnicode_Check(given))
    return of_text(given, argument, out);
  if (!PyLong_Check(given) || PyBool_Check(given)) {
    PyErr_Format(PyExc_TypeError, "%s takes bytes, or a size as '300 MiB', not %s", argument, Py_TYPE(given)->tp_name);
    return -1;
  }
  long long bytes = PyLong_AsLongLong(given);
  if (bytes <= 0) {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s=%R is no size: it must be above 0, and below 8 EiB", argument, given);
    return -1;
  }
  *out = bytes;
  return 0;
}

PyObject *bursar_sizes_of(PyObject *module, PyObject *args) {
  PyObject *given;
  const char *argument;
  int64_t bytes;
  if (!PyArg_ParseTuple(args, "Os:size_of", &given, &argument) || bursar_sizes_read(given, argument, &bytes) != 0)
    return NULL;
  return PyLong_FromLongLong(bytes);
}
