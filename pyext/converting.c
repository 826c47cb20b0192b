#include "converting.h"

#include <stdlib.h>

#include "model/convert.h"

static PyObject *refused_of(const struct bursar_refusals *refused) {
  PyObject *list = PyList_New((Py_ssize_t)refused->kept);
  for (size_t i = 0; list && i < refused->kept; i++) {
    PyObject *one = Py_BuildValue("(Ks)", (unsigned long long)refused->list[i].at, refused->list[i].name);
    if (one)
      PyList_SET_ITEM(list, (Py_ssize_t)i, one);
    else
      Py_CLEAR(list);
  }
  return list;
}

static PyObject *facts_of(const struct bursar_converted *result, const struct bursar_error *error) {
  PyObject *refused = refused_of(&result->refused);
  return refused ? Py_BuildValue("(zzOIKONn)", error->status ? error->text : NULL, result->format,
                                 result->hdf5 ? Py_True : Py_False, result->tensors, (unsigned long long)result->bytes,
                                 result->described ? Py_True : Py_False, refused, (Py_ssize_t)result->refused.count)
                 : NULL;
}

/* The names stay the strings'. */
static const char **names_of(PyObject *allow) {
  Py_ssize_t count = PyList_GET_SIZE(allow);
  const char **names = calloc((size_t)count + 1, sizeof *names);
  if (!names)
    PyErr_NoMemory();
  for (Py_ssize_t i = 0; names && i < count; i++)
    if (!(names[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(allow, i)))) {
      free(names);
      return NULL;
    }
  return names;
}

static PyObject *convert(PyObject *module, PyObject *args) {
  PyObject *in = NULL, *out = NULL, *allow, *facts = NULL;
  struct bursar_error error = {0};
  struct bursar_converted result;
  int record;
  if (!PyArg_ParseTuple(args, "O&O&O!p:convert", PyUnicode_FSConverter, &in, PyUnicode_FSConverter, &out, &PyList_Type,
                        &allow, &record)) {
    Py_XDECREF(in);
    return NULL;
  }
  const char **names = names_of(allow);
  if (names) {
    struct bursar_allowed_more more = {names, (size_t)PyList_GET_SIZE(allow)};
    Py_BEGIN_ALLOW_THREADS(void) !bursar_convert(PyBytes_AS_STRING(in), PyBytes_AS_STRING(out), more, record != 0,
                                                 &result, &error);
    Py_END_ALLOW_THREADS facts = facts_of(&result, &error);
    bursar_convert_end(&result);
  }
  free(names);
  Py_DECREF(in);
  Py_DECREF(out);
  return facts;
}

static PyMethodDef methods[] = {{"convert", convert, METH_VARARGS,
                                 "(path, out, names that are allowed, with a record): what became of it: the error or "
                                 "None, the "
                                 "format, whether it is HDF5, tensors, "
                                 "bytes, whether there is a description, names that were refused with their places, "
                                 "and how many."},
                                {NULL, NULL, 0, NULL}};

int bursar_converting_add(PyObject *module) { return PyModule_AddFunctions(module, methods); }
