#include "uses.h"

#include <string.h>

#include "prim/prim.h"

#define MOST 16384u /* modules; what is beyond is not known */
#define PLACES (4 * MOST)

enum { RAN = 1, READ = 2, UNKNOWN = 4 };

struct use {
  const PyObject *module, *globals;
  unsigned char found;
};

/* A mapping of bursar's own: nothing here may count as the program's. */
static struct table {
  struct use uses[MOST];
  uint16_t by_module[PLACES], by_globals[PLACES]; /* index + 1 */
} *table;
static uint32_t count;

static PyObject *begin, *end, *load, *disable; /* Python's functions; importlib's; sys.monitoring.DISABLE */
static PyObject *importlib;                    /* its globals */
static getattrofunc read_under;

static bool in_main(void) { return table && PyInterpreterState_Get() == PyInterpreterState_Main(); }

/* --- the table: two open hashes over one list --------------------------------------------------------------------------- */

static uint32_t place_of(const PyObject *key) { return (uint32_t)(((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15u >> 48); }

static struct use *find(const uint16_t *index, const PyObject *key, bool by_globals, uint32_t *place) {
  uint32_t at = place_of(key) % PLACES;
  for (; index[at]; at = (at + 1) % PLACES) {
    struct use *use = &table->uses[index[at] - 1];
    if ((by_globals ? use->globals : use->module) == key)
      break;
  }
  if (place)
    *place = at;
  return index[at] ? &table->uses[index[at] - 1] : NULL;
}

/* --- code ---------------------------------------------------------------------------------------------------------------- */

static void note_run(PyObject *globals) {
  struct use *use = in_main() ? find(table->by_globals, globals, true, NULL) : NULL;
  if (use)
    use->found |= RAN;
}

/* Is a module with these globals being imported?  It will be watched then, and what runs later must be heard of. */
static bool is_beginning(PyObject *globals) {
  PyObject *spec = PyDict_GetItemString(globals, "__spec__");
  PyObject *is = spec && spec != Py_None ? PyObject_GetAttrString(spec, "_initializing") : NULL;
  bool beginning = is == Py_True;
  Py_XDECREF(is);
  PyErr_Clear();
  return beginning;
}

/* sys.monitoring's event of a frame's beginning, once for each code object. */
static PyObject *started(PyObject *module, PyObject *args) {
  const bursar_frame *frame = bursar_frame_top(bursar_thread());
  PyObject *globals = frame && bursar_frame_code(frame) ? bursar_frame_globals(frame) : NULL;
  if (!globals)
    Py_RETURN_NONE;
  note_run(globals);
  return Py_NewRef(is_beginning(globals) ? Py_None : disable);
}

/* --- attributes ---------------------------------------------------------------------------------------------------------- */

/* What importing, and looking at what a module is, reads of any. */
static bool tells_nothing(PyObject *name) {
  static const char *const names[] = {"__spec__",    "__path__",  "__name__",           "__file__", "__loader__",
                                      "__package__", "__class__", "__cached__",         "__all__",  "__builtins__",
                                      "__getattr__", "__dir__",   "__warningregistry__"};
  const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
  if (!text)
    PyErr_Clear();
  if (!text || strncmp(text, "__", 2) != 0)
    return false;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(text, names[i]) == 0)
      return true;
  return false;
}

static bool is_named(const PyCodeObject *code, const char *name) {
  return PyUnicode_CompareWithASCIIString(code->co_name, name) == 0;
}

/* What a `from` import takes.  A function of the module's own is heard of when it runs; a module is no part of another. */
static unsigned taken(const struct use *use, PyObject *value) {
  if (PyModule_Check(value) || (PyFunction_Check(value) && PyFunction_GET_GLOBALS(value) == use->globals))
    return 0;
  return UNKNOWN;
}

static void note_read(PyObject *module, PyObject *name, PyObject *value) {
  struct use *use = find(table->by_module, module, false, NULL);
  if (!use || use->found & (READ | RAN) || tells_nothing(name))
    return;
  const bursar_frame *frame = bursar_frame_top(bursar_thread());
  while (frame && !bursar_frame_code(frame))
    frame = bursar_frame_caller(frame);
  /* importlib looks whether a package has what is taken from it; what an extension reads while it is loaded is a use. */
  if (frame && bursar_frame_globals(frame) == importlib && is_named(bursar_frame_code(frame), "_handle_fromlist"))
    return;
  int opcode = frame ? bursar_frame_opcode(frame) : -1;
  if (opcode == IMPORT_FROM || opcode == BURSAR_OPCODE_STAR)
    use->found |= PyUnicode_CompareWithASCIIString(name, "__dict__") == 0 ? 0 : taken(use, value);
  else if (PyUnicode_CompareWithASCIIString(name, "__dict__") == 0)
    use->found |= UNKNOWN;         /* all of it, unseen */
  else if (!PyModule_Check(value)) /* a module is reached through its package: that is its own use */
    use->found |= READ;
}

/* Since 3.13 a message is made for an attribute that is missing, by code of importlib's, where one would not be made without
 * this slot: that is in no trace of the program's. */
static bool is_missing(PyObject *module, PyObject *name) {
  PyObject *globals = PyModule_CheckExact(module) && PyUnicode_Check(name) ? PyModule_GetDict(module) : NULL;
  return globals && !PyDict_GetItemWithError(globals, name) && !PyErr_Occurred() &&
         !PyDict_GetItemString(globals, "__getattr__");
}

static PyObject *read_attribute(PyObject *module, PyObject *name) {
  PyThreadState *thread = in_main() && is_missing(module, name) ? bursar_thread() : NULL;
  if (thread)
    bursar_tracing_pause(thread);
  PyObject *value = read_under(module, name);
  if (thread)
    bursar_tracing_go_on(thread);
  if (value && in_main() && PyUnicode_Check(name))
    note_read(module, name, value);
  return value;
}

/* A dict that once had another key keeps the kind of table that the interpreter's shortcuts do not go through. */
static int forgo_shortcuts(PyObject *globals) {
  PyObject *key = PyLong_FromLong(0);
  int result = key && PyDict_GetItem(globals, key) == NULL ? PyDict_SetItem(globals, key, Py_None) : -1;
  if (result == 0)
    result = PyDict_DelItem(globals, key);
  Py_XDECREF(key);
  return result;
}

/* --- the functions -------------------------------------------------------------------------------------------------------- */

static PyObject *call(PyObject *function, PyObject *first, PyObject *second, PyObject *third) {
  PyThreadState *thread = bursar_thread();
  bursar_tracing_pause(thread);
  PyObject *result = PyObject_CallFunctionObjArgs(function, first, second, third, NULL);
  bursar_tracing_go_on(thread);
  return result;
}

/* An exception in our own: true, where it is one of the program's, such as a signal handler's.  Others are forgotten: the stack
 * was as deep as it may be, or there was no memory. */
static bool is_the_programs(void) {
  if (!PyErr_ExceptionMatches(PyExc_RecursionError) && !PyErr_ExceptionMatches(PyExc_MemoryError))
    return true;
  PyErr_Clear();
  return false;
}

/* importlib's _find_and_load: in C, so that it stands in no traceback. */
static PyObject *imports_load(PyObject *module, PyObject *const *args, Py_ssize_t n) {
  PyObject *token = n > 0 ? call(begin, args[0], NULL, NULL) : NULL;
  PyObject *type, *value, *traceback;
  if (!token && PyErr_Occurred() && is_the_programs())
    return NULL;
  PyObject *result = PyObject_Vectorcall(load, args, (size_t)n, NULL);
  if (!token || token == Py_None) {
    Py_XDECREF(token);
    return result;
  }
  PyErr_Fetch(&type, &value, &traceback);
  PyObject *done = call(end, token, args[0], result ? Py_True : Py_False);
  Py_DECREF(token);
  if (done || !is_the_programs()) {
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
    return result;
  }
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  Py_XDECREF(result);
  return NULL;
}

static PyObject *imports_untraced(PyObject *module, PyObject *function) { return call(function, NULL, NULL, NULL); }

static PyObject *imports_follow(PyObject *module, PyObject *args) {
  PyObject *given[5];
  if (!PyArg_ParseTuple(args, "OOOO!O", &given[0], &given[1], &given[2], &PyDict_Type, &given[3], &given[4]))
    return NULL;
  if (table || PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(PyExc_RuntimeError, "imports are followed once, in the main interpreter");
    return NULL;
  }
  table = bursar_prim_reserve(sizeof *table, true);
  if (!table)
    return PyErr_NoMemory();
  begin = Py_NewRef(given[0]);
  end = Py_NewRef(given[1]);
  load = Py_NewRef(given[2]);
  importlib = Py_NewRef(given[3]);
  disable = Py_NewRef(given[4]);
  read_under = PyModule_Type.tp_getattro;
  PyModule_Type.tp_getattro = read_attribute;
  PyType_Modified(&PyModule_Type);
  return PyBool_FromLong(bursar_calls_follow(note_run));
}

/* From here on: its number, or None where it cannot be watched. */
static PyObject *imports_watch(PyObject *self, PyObject *module) {
  PyObject *globals = PyModule_CheckExact(module) ? PyModule_GetDict(module) : NULL;
  uint32_t at_module, at_globals;
  if (!globals || !table || count == MOST || forgo_shortcuts(globals) != 0) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  (void)find(table->by_module, module, false, &at_module);
  (void)find(table->by_globals, globals, true, &at_globals);
  table->uses[count] = (struct use){.module = module, .globals = globals};
  table->by_module[at_module] = table->by_globals[at_globals] = (uint16_t)(count + 1);
  return PyLong_FromUnsignedLong(count++);
}

/* True: code ran, or an attribute was read; None: not known; False: neither. */
static PyObject *imports_used(PyObject *self, PyObject *number) {
  unsigned long at = PyLong_AsUnsignedLong(number);
  if (PyErr_Occurred())
    return NULL;
  unsigned found = at < count ? table->uses[at].found : UNKNOWN;
  if (found & (RAN | READ))
    Py_RETURN_TRUE;
  if (found & UNKNOWN || !bursar_calls_followed())
    Py_RETURN_NONE;
  Py_RETURN_FALSE;
}

static PyMethodDef functions[] = {
    {"imports_follow", imports_follow, METH_VARARGS,
     "Begins: functions at an import's begin and end, importlib's own."},
    {"imports_load", (PyCFunction)(void (*)(void))imports_load, METH_FASTCALL,
     "Stands for importlib's _find_and_load."},
    {"imports_untraced", imports_untraced, METH_O, "Calls a function, in no trace or profile."},
    {"imports_started", started, METH_VARARGS, "sys.monitoring's PY_START."},
    {"imports_watch", imports_watch, METH_O, "Watches a module that has been imported."},
    {"imports_used", imports_used, METH_O, "Whether it was used since."},
    {NULL, NULL, 0, NULL},
};

int bursar_uses_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
