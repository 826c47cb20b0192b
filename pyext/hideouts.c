#include "hideouts.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "secret/burn.h"
#include "secret/environment.h"
#include "secret/stdio.h"
#include "secret/wipe.h"

/* Each handler has a bit, so that a test can leave it out and see what it was good for. */
enum {
  FREE_LISTS = 1,
  DATA_STACK = 2,
  TYPE_CACHE = 4,
  ENDED_THREADS = 8, /* their stacks */
  STACK = 16,
  REGISTERS = 32,
  STDIO = 64,
  ALL = 127,
  END_OF_SCOPE = ALL & ~STDIO,
};

/* --- the interpreter's ---------------------------------------------------------------------------------------------------- */

#define KEPT 128 /* at least as many as a free list of floats (100) or of integers (100) holds */

/* Takes all that the list has, which writes over what they were, and gives them back. */
static void fill(PyObject *(*make)(void), int count) {
  PyObject *held[KEPT];
  int made = 0;
  while (made < count && (held[made] = make()))
    made++;
  if (made < count)
    PyErr_Clear();
  while (made > 0)
    Py_DECREF(held[--made]);
}

static PyObject *make_float(void) { return PyFloat_FromDouble(0.0); }
static PyObject *make_integer(void) { return PyLong_FromLong(1L << 20); }
static PyObject *make_table(void) {
  PyObject *table = PyDict_New();
  if (table && PyDict_SetItem(table, Py_None, Py_None) != 0)
    Py_CLEAR(table);
  return table;
}

static void fill_free_lists(void) {
  fill(make_float, KEPT);
  fill(make_integer, KEPT);
  fill(make_table, BURSAR_KEPT_TABLES);
}

static void wipe_data_stack(void) {
  void *from;
  size_t bytes = bursar_datastack_rest(PyThreadState_Get(), &from);
  if (bytes)
    bursar_wipe(from, bytes);
}

/* --- all ------------------------------------------------------------------------------------------------------------------ */

/* glibc tells whether this process has ever begun a thread; who does not know may have. */
extern char __libc_single_threaded __attribute__((weak));

static void empty(int handlers, bool all_sizes) {
  if (handlers & FREE_LISTS)
    fill_free_lists();
  if (handlers & TYPE_CACHE)
    PyType_ClearCache();
  if (handlers & DATA_STACK)
    wipe_data_stack();
  if (handlers & STDIO)
    bursar_stdio_wipe();
  if (handlers & ENDED_THREADS && !(&__libc_single_threaded && __libc_single_threaded))
    bursar_burn_ended(all_sizes);
  if (handlers & STACK) /* after all that uses it */
    bursar_burn_stack();
  if (handlers & REGISTERS)
    bursar_burn_registers();
}

void bursar_hideouts_end_of_scope(void) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  empty(END_OF_SCOPE & ~STACK & ~REGISTERS, false);
  PyErr_Restore(type, value, trace);
  empty(STACK | REGISTERS, false);
}

static PyObject *hideouts(PyObject *module, PyObject *args) {
  int handlers = ALL;
  if (!PyArg_ParseTuple(args, "|i:hideouts", &handlers))
    return NULL;
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(PyExc_RuntimeError, "bursar wipes the main interpreter's caches: call it there");
    return NULL;
  }
  empty(handlers, true);
  Py_RETURN_NONE;
}

/* --- streams -------------------------------------------------------------------------------------------------------------- */

/* What io.BufferedReader and its kin are, in each version so far.  Nothing tells so but the size, which they say themselves. */
struct buffered {
  PyObject ob_base;
  PyObject *raw;
  int ok, detached, readable, writable;
  char finalizing;
  int fast_closed_checks;
  int64_t abs_pos;
  char *buffer;
  int64_t pos, raw_pos, read_end, write_pos, write_end;
  PyThread_type_lock lock;
  volatile unsigned long owner;
  Py_ssize_t buffer_size, buffer_mask;
};

static bool looks_right(const struct buffered *stream, Py_ssize_t size) {
  return stream->buffer && stream->buffer_size == size && stream->ok == 1 &&
         (stream->readable | stream->writable) == 1 && stream->pos >= 0 && stream->pos <= size &&
         stream->read_end >= -1 && stream->read_end <= size && stream->write_pos >= 0 && stream->write_pos <= size &&
         stream->write_end >= -1 && stream->write_end <= size;
}

/* Zeroes what neither waits to be read nor to be written.  `back`: the stream may go back to what was read. */
static void wipe_buffered(PyObject *object, Py_ssize_t size, bool back) {
  struct buffered *stream = (struct buffered *)object;
  if (Py_TYPE(object)->tp_basicsize < (Py_ssize_t)sizeof *stream || !looks_right(stream, size))
    return;
  if (!PyThread_acquire_lock(stream->lock, NOWAIT_LOCK)) /* somebody is reading into it, without the GIL */
    return;
  int64_t from = size, until = 0;
  if (stream->readable && stream->read_end != -1 && (back || stream->pos < stream->read_end)) {
    from = back ? 0 : stream->pos;
    until = stream->read_end;
  }
  if (stream->writable && stream->write_end != -1) {
    from = stream->write_pos < from ? stream->write_pos : from;
    until = stream->write_end > until ? stream->write_end : until;
  }
  if (from >= until) {
    bursar_wipe(stream->buffer, (size_t)size);
  } else {
    bursar_wipe(stream->buffer, (size_t)from);
    bursar_wipe(stream->buffer + until, (size_t)(size - until));
  }
  PyThread_release_lock(stream->lock);
}

struct parts {
  PyObject *text;     /* str: what the last read was decoded to; */
  Py_ssize_t *taken;  /* how many characters of it were read */
  PyObject *snapshot; /* (flags, bytes): what it was decoded from, for tell() */
  PyObject **begin, **end;
};

/* The text that stands before a number that fits it: the decoded characters and how many of them are taken. */
static int visit(PyObject *object, void *given) {
  struct parts *parts = given;
  if (PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 2 && PyBytes_CheckExact(PyTuple_GET_ITEM(object, 1)))
    parts->snapshot = object;
  if (!PyUnicode_CheckExact(object))
    return 0;
  for (PyObject **at = parts->begin; at + 1 < parts->end; at++) {
    Py_ssize_t taken = (Py_ssize_t)at[1];
    if (*at == object && taken > 0 && taken <= PyUnicode_GET_LENGTH(object)) {
      parts->text = object;
      parts->taken = (Py_ssize_t *)(void *)(at + 1);
    }
  }
  return 0;
}

static void wipe_text(PyObject *object, bool back) {
  PyTypeObject *type = Py_TYPE(object);
  struct parts parts = {.begin = (PyObject **)(void *)(object + 1),
                        .end = (PyObject **)(void *)((char *)object + type->tp_basicsize)};
  type->tp_traverse(object, visit, &parts);
  if (parts.text && Py_REFCNT(parts.text) == 1)
    bursar_wipe(PyUnicode_DATA(parts.text), (size_t)*parts.taken * PyUnicode_KIND(parts.text));
  PyObject *bytes = parts.snapshot && !back ? PyTuple_GET_ITEM(parts.snapshot, 1) : NULL;
  if (bytes && Py_REFCNT(bytes) == 1 && PyBytes_GET_SIZE(bytes) > 1)
    bursar_wipe(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

/* wipe_stream(stream, size, back): of an io.TextIOWrapper where size is -1, else of a buffer of so many bytes. */
static PyObject *wipe_stream(PyObject *module, PyObject *args) {
  PyObject *object;
  Py_ssize_t size;
  int back;
  if (!PyArg_ParseTuple(args, "Onp:wipe_stream", &object, &size, &back))
    return NULL;
  if (size < 0)
    wipe_text(object, back != 0);
  else
    wipe_buffered(object, size, back != 0);
  Py_RETURN_NONE;
}

static PyObject *wipe_environment(PyObject *module, PyObject *arg) {
  const char *name = PyBytes_AsString(arg);
  return name ? PyLong_FromLong(bursar_environment_wipe(name)) : NULL;
}

static void wipe_wide(wchar_t *text) { bursar_wipe(text, wcslen(text) * sizeof *text); }

/* wipe_argument(number, count, all): the one of sys.argv's `count`, the last of `all` that the program has.  Where it was. */
static PyObject *wipe_argument(PyObject *module, PyObject *args) {
  unsigned number, count, all;
  if (!PyArg_ParseTuple(args, "III:wipe_argument", &number, &count, &all))
    return NULL;
  /* Not in every version for extensions to link. */
  void *symbol = dlsym(RTLD_DEFAULT, "_Py_GetConfig");
  const PyConfig *config = symbol ? ((const PyConfig *(*)(void))symbol)() : NULL;
  unsigned at = all - count + number;
  int original_count;
  wchar_t **original;
  Py_GetArgcArgv(&original_count, &original);
  if (!config || config->argv.length != (Py_ssize_t)count || config->orig_argv.length != (Py_ssize_t)all ||
      original_count != (int)all || bursar_environment_wipe_argument(all, at) != 0)
    Py_RETURN_FALSE;
  wipe_wide(config->argv.items[number]);
  wipe_wide(config->orig_argv.items[at]);
  wipe_wide(original[at]);
  Py_RETURN_TRUE;
}

/* --- libraries' own -------------------------------------------------------------------------------------------------------- */

struct wanted {
  const char *prefix;
  char path[4096];
};

static int matches(struct dl_phdr_info *module, size_t size, void *given) {
  struct wanted *wanted = given;
  const char *name = strrchr(module->dlpi_name, '/');
  if (!name || strncmp(name + 1, wanted->prefix, strlen(wanted->prefix)) != 0 ||
      strlen(module->dlpi_name) >= sizeof wanted->path)
    return 0;
  memcpy(wanted->path, module->dlpi_name, strlen(module->dlpi_name) + 1);
  return 1;
}

/* empty_library(prefix, symbol): calls a loaded library's function that frees what the library keeps for itself, and takes no
 * arguments.  Loads nothing; the library may be known by no name to anybody but who loaded it. */
static PyObject *empty_library(PyObject *module, PyObject *args) {
  struct wanted wanted = {0};
  const char *symbol;
  if (!PyArg_ParseTuple(args, "ss:empty_library", &wanted.prefix, &symbol))
    return NULL;
  void *library = dl_iterate_phdr(matches, &wanted) ? dlopen(wanted.path, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  void *function = library ? dlsym(library, symbol) : NULL;
  if (function)
    ((void (*)(void))function)();
  if (library)
    dlclose(library);
  return PyBool_FromLong(function != NULL);
}

static PyMethodDef functions[] = {
    {"hideouts", hideouts, METH_VARARGS, "Empties what the interpreter and the C library keep of what has ended."},
    {"wipe_stream", wipe_stream, METH_VARARGS, "Zeroes what a stream keeps of what was read or written."},
    {"wipe_environment", wipe_environment, METH_O, "Zeroes a variable's value where it stands; how many places."},
    {"wipe_argument", wipe_argument, METH_VARARGS, "Zeroes an argument of the program where it stands."},
    {"empty_library", empty_library, METH_VARARGS, "Calls what frees a library's own buffers; whether there is such."},
    {NULL, NULL, 0, NULL},
};

static const struct {
  const char *name;
  int bit;
} handlers[] = {{"FREE_LISTS", FREE_LISTS}, {"DATA_STACK", DATA_STACK},
                {"TYPE_CACHE", TYPE_CACHE}, {"ENDED_THREADS", ENDED_THREADS},
                {"STACK", STACK},           {"REGISTERS", REGISTERS},
                {"STDIO", STDIO},           {"ALL", ALL}};

int bursar_hideouts_add(PyObject *module) {
  char name[32];
  if (PyModule_AddFunctions(module, functions) != 0)
    return -1;
  for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
    snprintf(name, sizeof name, "HIDEOUTS_%s", handlers[i].name);
    if (PyModule_AddIntConstant(module, name, handlers[i].bit) != 0)
      return -1;
  }
  return 0;
}
