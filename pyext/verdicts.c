#include "verdicts.h"

#include "account/account.h"
#include "anywhere.h"
#include "report/view_verdict.h"
#include "tracing.h"

#define JSON_MAX (1u << 24)

/* A finalizer may end a scope, in the collection. */
static bool busy;

static bool sweep(void) {
  bool runs = PyGC_IsEnabled(); /* whoever switched it off wants none */
  if (runs)
    (void)PyGC_Collect();
  return runs;
}

static void collect(uint32_t which) {
  bool ran = sweep();
  if (bursar_account.active)
    bursar_verdict_collected(which, ran);
}

/* Of gc.get_stats().  Where the oldest are collected in parts (3.14.0 to 3.14.4), those that somebody asked for. */
static uint64_t full_collections(void) {
  PyObject *gc, *all = NULL, *oldest, *count;
  uint64_t found = 0;
  if ((gc = PyImport_ImportModule("gc")) && (all = PyObject_CallMethod(gc, "get_stats", NULL)) && PyList_Check(all) &&
      PyList_GET_SIZE(all) == 3 && PyDict_Check(oldest = PyList_GET_ITEM(all, 2)) &&
      (count = PyDict_GetItemString(oldest, "collections")))
    found = PyLong_AsUnsignedLongLongMask(count);
  Py_XDECREF(all);
  Py_XDECREF(gc);
  PyErr_Clear();
  return found;
}

static void survey(uint32_t which) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_verdict_survey(which, bursar_account.mode == BURSAR_MODE_EXACT ? NULL : bursar_tracing_survivors);
  if (!bursar_verdict_surveys())
    bursar_tracing_drop();
  bursar_anywhere_inside = was;
}

void bursar_verdicts_attend(void) {
  enum bursar_verdict_work work;
  uint32_t which;
  PyObject *type, *value, *traceback;
  if (busy || PyInterpreterState_Get() != PyInterpreterState_Main())
    return;
  busy = true;
  PyErr_Fetch(&type, &value, &traceback);
  while ((work = bursar_verdict_next(full_collections(), &which)) != BURSAR_VERDICT_NOTHING)
    if (work == BURSAR_VERDICT_COLLECT)
      collect(which);
    else if (work == BURSAR_VERDICT_SWEEP)
      (void)sweep();
    else if (work == BURSAR_VERDICT_COLLECTED)
      bursar_verdict_collected(which, true);
    else
      survey(which);
  PyErr_Restore(type, value, traceback);
  busy = false;
}

/* --- for python/bursar/_verdict.py ------------------------------------------------------------------------------------------- */

static PyObject *attend(PyObject *module, PyObject *unused) {
  bursar_verdicts_attend();
  Py_RETURN_NONE;
}

static PyObject *set(PyObject *module, PyObject *args) {
  unsigned int threshold, warmup;
  int begun;
  if (!PyArg_ParseTuple(args, "IIp:verdict_set", &threshold, &warmup, &begun))
    return NULL;
  bursar_verdict_set(&threshold, &warmup, begun != 0);
  return Py_BuildValue("II", threshold, warmup);
}

/* None: there is no scope of that name. */
static PyObject *of(PyObject *module, PyObject *args) {
  PyObject *path = NULL, *result = NULL;
  const char *scope;
  struct bursar_reader *reader = NULL;
  struct bursar_error error = {0};
  if (!PyArg_ParseTuple(args, "O&s:verdict_of", PyUnicode_FSConverter, &path, &scope))
    return NULL;
  int status = bursar_reader_open(PyBytes_AS_STRING(path), &reader, &error);
  Py_DECREF(path);
  if (status != 0)
    return PyErr_Format(PyExc_RuntimeError, "%s", error.text);
  uint32_t name = bursar_view_verdict_find(reader, scope);
  if (name) {
    struct bursar_buffer out;
    struct bursar_view_verdict verdict = bursar_view_verdict_of(reader, name);
    bursar_buffer_init(&out, JSON_MAX);
    bursar_buffer_char(&out, '{');
    bursar_view_verdict_json(&verdict, reader, &out);
    bursar_buffer_char(&out, '}');
    result = bursar_buffer_finish(&out) == 0 ? PyUnicode_DecodeUTF8(out.data, (Py_ssize_t)out.used, "replace")
                                             : PyErr_NoMemory();
    bursar_buffer_free(&out);
  }
  bursar_reader_free(reader);
  if (!result && !PyErr_Occurred())
    Py_RETURN_NONE;
  return result;
}

static PyMethodDef functions[] = {
    {"verdict_attend", attend, METH_NOARGS, "Collects or surveys, where a verdict waits for that."},
    {"verdict_set", set, METH_VARARGS, "Bytes a call that are a leak, and calls before a verdict."},
    {"verdict_of", of, METH_VARARGS, "What a ledger says of a scope, as JSON; None where there is none."},
    {NULL, NULL, 0, NULL}};

int bursar_verdicts_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
