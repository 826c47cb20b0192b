#include "open.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "context.h"
#include "native/descriptors.h"
#include "native/patch.h"
#include "native_books.h"
#include "scope.h"

#define FRAMES_MAX 512u
#define PATH_MAX_READ 1024u

static struct bursar_context_variable variable;
static bool started;        /* the hooks are there */
static uint32_t open_count; /* watching scopes */
static PyObject *defaults;  /* name: action; NULL: none */
static PyObject *begun;     /* _open.begun(kind, object): what is kept of it */

/* --- where a thread is ---------------------------------------------------------------------------------------------------- */

static struct bursar_open *open_here(PyObject **scope) {
  const PyThreadState *thread = bursar_thread_detached();
  PyObject *value = thread ? bursar_context_find(thread, &variable) : NULL;
  return value ? bursar_scope_open(value, scope) : NULL;
}

static uint64_t here(void) {
  PyObject *scope;
  const struct bursar_open *open = open_here(&scope);
  return open ? open->watch : 0;
}

/* Folders of libraries that only lead on: ours, which is not shown at all, and Python's own. */
#define FOLDERS_MAX 8u
static struct {
  char text[PATH_MAX_READ];
  size_t bytes;
} folders[FOLDERS_MAX];
static unsigned folder_count;

static size_t put_utf8(char *out, uint32_t letter) {
  if (letter < 0x80) {
    out[0] = (char)letter;
    return 1;
  }
  size_t more = letter < 0x800 ? 1 : letter < 0x10000 ? 2 : 3;
  static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};
  out[0] = (char)(heads[more] | letter >> 6 * more);
  for (size_t i = 1; i <= more; i++)
    out[i] = (char)(0x80 | (letter >> 6 * (more - i) & 0x3f));
  return more + 1;
}

/* Reads a string as it lies: nothing is allocated, and nobody's GIL is needed, since it does not change. */
static size_t read_path(PyObject *path, char out[PATH_MAX_READ]) {
  size_t bytes = 0;
  Py_ssize_t length = path && PyUnicode_Check(path) ? PyUnicode_GET_LENGTH(path) : 0;
  if (length && PyUnicode_IS_COMPACT_ASCII(path)) {
    bytes = (size_t)length < PATH_MAX_READ ? (size_t)length : PATH_MAX_READ - 1;
    memcpy(out, PyUnicode_1BYTE_DATA(path), bytes);
    length = 0;
  }
  for (Py_ssize_t i = 0; i < length && bytes + 5 < PATH_MAX_READ; i++) {
    uint32_t letter = PyUnicode_READ_CHAR(path, i);
    bytes += put_utf8(out + bytes, letter >= 0xd800 && letter < 0xe000 ? '?' : letter);
  }
  out[bytes] = 0;
  return bytes;
}

static bool is_in(const char *path, unsigned folder) {
  return strncmp(path, folders[folder].text, folders[folder].bytes) == 0 && path[folders[folder].bytes] == '/';
}

static bool is_library(const char *path) {
  static const char *const others[] = {"site-packages/", "dist-packages/"};
  if (path[0] == '<')
    return strncmp(path, "<frozen ", 8) == 0;
  for (unsigned i = 0; i < folder_count; i++) {
    if (!is_in(path, i))
      continue;
    const char *rest = path + folders[i].bytes + 1;
    if (strncmp(rest, others[0], strlen(others[0])) != 0 && strncmp(rest, others[1], strlen(others[1])) != 0)
      return true;
  }
  return false;
}

/* The end of a path says more than its beginning. */
static void keep_end(char *out, size_t room, const char *path, size_t bytes) {
  static const char cut[] = "\xe2\x80\xa6";
  size_t from = bytes < room ? 0 : bytes - (room - sizeof cut), at = from ? sizeof cut - 1 : 0;
  while (from && ((unsigned char)path[from] & 0xc0) == 0x80) /* not in the middle of a letter */
    from++;
  memcpy(out, cut, at);
  memcpy(out + at, path + from, bytes - from + 1);
}

static uint32_t line_of(PyCodeObject *code, const bursar_frame *frame) {
  Py_ssize_t unit = bursar_code_unit(code, bursar_frame_position(frame));
  int line = unit < 0                         ? code->co_firstlineno
             : unit < bursar_code_units(code) ? PyCode_Addr2Line(code, (int)unit * 2)
                                              : 0;
  return line > 0 ? (uint32_t)line : 0;
}

static void where(struct bursar_descriptors_place *out) {
  const PyThreadState *thread = bursar_thread_detached();
  const bursar_frame *frame = thread ? bursar_frame_top(thread) : NULL;
  bool found = false;
  char path[PATH_MAX_READ];
  out->line = out->inner_line = 0;
  out->file[0] = out->inner[0] = 0;
  for (unsigned depth = 0; frame && depth < FRAMES_MAX; frame = bursar_frame_caller(frame), depth++) {
    PyCodeObject *code = bursar_frame_code(frame);
    size_t bytes = code ? read_path(code->co_filename, path) : 0;
    bool library = is_library(path);
    if (!bytes || is_in(path, 0) || (found && library))
      continue;
    uint32_t line = line_of(code, frame);
    if (!found) {
      keep_end(out->inner, sizeof out->inner, path, bytes);
      out->inner_line = line;
    }
    if (!found || !library) {
      keep_end(out->file, sizeof out->file, path, bytes);
      out->line = line;
    }
    found = true;
    if (!library)
      return;
  }
}

static const struct bursar_descriptors_asker asker = {here, where};

/* (file, line, file, line): the program's line, and the one in a library that it led to. */
static PyObject *place_object(const struct bursar_descriptors_place *place) {
  return Py_BuildValue("(NINI)", PyUnicode_DecodeUTF8(place->file, (Py_ssize_t)strlen(place->file), "replace"),
                       (unsigned)place->line,
                       PyUnicode_DecodeUTF8(place->inner, (Py_ssize_t)strlen(place->inner), "replace"),
                       (unsigned)place->inner_line);
}

/* --- objects ------------------------------------------------------------------------------------------------------------- */

/* Keeps (kind, reference, place) of it; whatever goes wrong, the program goes on without. */
static void keep_object(const char *kind, PyObject *object) {
  struct bursar_descriptors_place place;
  PyObject *scope;
  struct bursar_open *open = open_count && begun ? open_here(&scope) : NULL;
  if (!open)
    return;
  where(&place);
  PyObject *at = place_object(&place);
  PyObject *kept = at ? PyObject_CallFunction(begun, "sOO", kind, object, at) : NULL;
  if (kept && !open->objects)
    open->objects = PyList_New(0);
  if (kept && kept != Py_None && open->objects)
    (void)PyList_Append(open->objects, kept);
  Py_XDECREF(at);
  Py_XDECREF(kept);
  PyErr_Clear(); /* none was set before */
}

static int audit(const char *event, PyObject *args, void *unused) {
  if (!open_count || (event[0] != 's' && event[0] != '_') || PyInterpreterState_Get() != PyInterpreterState_Main())
    return 0;
  if (strcmp(event, "subprocess.Popen") == 0)
    keep_object("subprocess", Py_None);
  else if (strcmp(event, "sqlite3.connect/handle") == 0 && PyTuple_GET_SIZE(args) == 1)
    keep_object("database connection", PyTuple_GET_ITEM(args, 0));
  else if ((strcmp(event, "_thread.start_new_thread") == 0 || strcmp(event, "_thread.start_joinable_thread") == 0) &&
           PyTuple_GET_SIZE(args) > 0)
    keep_object("thread", PyTuple_GET_ITEM(args, 0));
  return 0;
}

/* Maps: there is no event once one is there.  The copy that it makes of a file's descriptor is told as the map. */
static newfunc map_new_under;
static PyObject *map_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  bursar_descriptors_quiet++;
  PyObject *map = map_new_under(type, args, kwargs);
  bursar_descriptors_quiet--;
  if (map && open_count && PyInterpreterState_Get() == PyInterpreterState_Main())
    keep_object("memory map", map);
  return map;
}

/* Database connections have no weak references, and must not be kept open by us: so they are known by address, until their type's
 * slot ends them. */
#define CONNECTIONS_MAX 4096u
static struct {
  PyObject *connection;
  unsigned long long number;
} connections[CONNECTIONS_MAX];
static unsigned connection_count;
static unsigned long long connections_met;
static destructor connection_dealloc_under;

static void connection_dealloc(PyObject *self) {
  for (unsigned i = 0; i < connection_count; i++)
    if (connections[i].connection == self)
      connections[i--] = connections[--connection_count];
  connection_dealloc_under(self);
}

/* Its number, and from its first one on the type's slot is ours; 0 where it cannot be known. */
static PyObject *open_connection_met(PyObject *module, PyObject *args) {
  PyObject *connection, *type;
  if (!PyArg_ParseTuple(args, "OO!:open_connection_met", &connection, &PyType_Type, &type))
    return NULL;
  PyTypeObject *base = (PyTypeObject *)type; /* sqlite3.Connection */
  if (!PyObject_TypeCheck(connection, base) || connection_count == CONNECTIONS_MAX)
    return PyLong_FromLong(0);
  if (base->tp_dealloc != connection_dealloc) {
    connection_dealloc_under = base->tp_dealloc;
    base->tp_dealloc = connection_dealloc;
  }
  connections[connection_count].connection = connection;
  connections[connection_count++].number = ++connections_met;
  return PyLong_FromUnsignedLongLong(connections_met);
}

/* The connection, or None where it is gone; known no longer. */
static PyObject *open_connection(PyObject *module, PyObject *arg) {
  unsigned long long number = PyLong_AsUnsignedLongLong(arg);
  for (unsigned i = 0; i < connection_count && !PyErr_Occurred(); i++)
    if (connections[i].number == number) {
      PyObject *connection = connections[i].connection;
      return Py_NewRef(connection);
    }
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *open_connection_done(PyObject *module, PyObject *arg) {
  unsigned long long number = PyLong_AsUnsignedLongLong(arg);
  for (unsigned i = 0; i < connection_count && !PyErr_Occurred(); i++)
    if (connections[i].number == number)
      connections[i--] = connections[--connection_count];
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

/* --- the first one ------------------------------------------------------------------------------------------------------- */

/* From _open.py: folders of libraries, the type of memory maps, and what is called with what has begun. */
static PyObject *open_start(PyObject *module, PyObject *args) {
  PyObject *paths, *map;
  if (!PyArg_ParseTuple(args, "O!O!O:open_start", &PyTuple_Type, &paths, &PyType_Type, &map, &begun))
    return NULL;
  Py_INCREF(begun);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(paths) && folder_count < FOLDERS_MAX; i++) {
    folders[folder_count].bytes = read_path(PyTuple_GET_ITEM(paths, i), folders[folder_count].text);
    folder_count += folders[folder_count].bytes > 0;
  }
  int status = bursar_patch_descriptors(bursar_native_books_modules_came, &asker);
  if (status != 0) {
    errno = -status;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  if (((PyTypeObject *)map)->tp_new != map_new) {
    map_new_under = ((PyTypeObject *)map)->tp_new;
    ((PyTypeObject *)map)->tp_new = map_new;
  }
  if (PySys_AddAuditHook(audit, NULL) != 0)
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
  Py_RETURN_NONE;
}

/* Before the interpreter ends, and with it the states of threads that do not hold the GIL. */
static PyObject *open_finish(PyObject *module, PyObject *unused) {
  bursar_descriptors_leave();
  Py_RETURN_NONE;
}

/* Do we find what Python has put into a context? */
static int check_contexts(void) {
  struct bursar_context_variable probe;
  PyObject *object = PyContextVar_New("bursar_probe", NULL), *token = NULL;
  bool found = false;
  if (object && bursar_context_variable(object, &probe) == 0 && (token = PyContextVar_Set(object, Py_True)) != NULL) {
    found = bursar_context_find(PyThreadState_Get(), &probe) == Py_True;
    (void)PyContextVar_Reset(object, token);
  }
  Py_XDECREF(token);
  Py_XDECREF(object);
  if (!found && !PyErr_Occurred())
    PyErr_SetString(PyExc_RuntimeError, "left_open needs a Python whose contexts bursar knows");
  return PyErr_Occurred() ? -1 : 0;
}

void bursar_open_forget(void) {
  begun = defaults = NULL;
  variable.object = NULL;
  open_count = connection_count = 0;
  started = false;
}

static int start(void) {
  if (started)
    return 0;
  if (check_contexts() != 0)
    return -1;
  PyObject *module = PyImport_ImportModule("bursar._open");
  PyObject *result = module ? PyObject_CallMethod(module, "begin", NULL) : NULL;
  Py_XDECREF(module);
  Py_XDECREF(result);
  started = result != NULL;
  return started ? 0 : -1;
}

/* --- a scope's ------------------------------------------------------------------------------------------------------------ */

static int check_action(PyObject *action) {
  static const char *const actions[] = {"event", "warn", "error"};
  for (unsigned i = 0; PyUnicode_Check(action) && i < sizeof actions / sizeof *actions; i++)
    if (PyUnicode_CompareWithASCIIString(action, actions[i]) == 0)
      return 0;
  PyErr_Format(PyExc_ValueError, "left_open is 'event', 'warn' or 'error', or None: not %R", action);
  return -1;
}

int bursar_open_ask(struct bursar_open *open, PyObject *action, PyObject *name) {
  if (action == Py_None)
    action = NULL;
  if (!action && defaults) {
    action = PyDict_GetItemWithError(defaults, name);
    if (PyErr_Occurred())
      return -1;
  }
  if (action && check_action(action) != 0)
    return -1;
  open->action = Py_XNewRef(action);
  return 0;
}

int bursar_open_begin(struct bursar_open *open, PyObject *current) {
  if (!open->action)
    return 0;
  if (start() != 0 || (variable.object != current && bursar_context_variable(current, &variable) != 0))
    return -1;
  open->watch = bursar_descriptors_begin();
  if (!open->watch) {
    PyErr_SetString(PyExc_RuntimeError, "too many scopes with left_open are open at once");
    return -1;
  }
  open_count++;
  return 0;
}

/* The name of the library whose code that is; None: Python itself, its own extensions, or not known. */
static PyObject *library_of(const void *caller) {
  Dl_info code, python;
  if (!dladdr(caller, &code) || !dladdr((void *)PyObject_Hash, &python) || code.dli_fbase == python.dli_fbase ||
      !code.dli_fname || strstr(code.dli_fname, "/lib-dynload/"))
    Py_RETURN_NONE;
  const char *slash = strrchr(code.dli_fname, '/');
  const char *name = slash ? slash + 1 : code.dli_fname;
  return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

static PyObject *descriptors_left(uint64_t watch) {
  struct bursar_descriptors_noted noted;
  PyObject *all = PyList_New(0);
  for (int fd = 0; all && (fd = bursar_descriptors_next(watch, fd, &noted)) >= 0; fd++) {
    PyObject *one = Py_BuildValue("(siNN)", noted.kind, fd, place_object(&noted.place), library_of(noted.caller));
    if (!one || PyList_Append(all, one) != 0)
      Py_CLEAR(all);
    Py_XDECREF(one);
  }
  return all;
}

static void end_watch(struct bursar_open *open) {
  if (open->watch) {
    bursar_descriptors_end(open->watch);
    open_count--;
  }
  open->watch = 0;
}

int bursar_open_end(struct bursar_open *open, PyObject *scope, PyObject *exit) {
  if (!open->watch)
    return 0;
  bool here_still = bursar_descriptors_lasts(open->watch); /* in a forked child it is its parent's */
  if (!here_still || (!open->objects && !bursar_descriptors_count(open->watch))) {
    end_watch(open);
    return 0;
  }
  PyObject *objects = open->objects, *left = NULL, *result = NULL;
  open->objects = NULL;
  left = descriptors_left(open->watch);
  end_watch(open);
  PyObject *error = exit && PyTuple_GET_SIZE(exit) > 1 ? PyTuple_GET_ITEM(exit, 1) : Py_None;
  PyObject *module = left ? PyImport_ImportModule("bursar._open") : NULL;
  if (module)
    result =
        PyObject_CallMethod(module, "ended", "OOOOO", scope, open->action, left, objects ? objects : Py_None, error);
  Py_XDECREF(module);
  Py_XDECREF(left);
  Py_XDECREF(objects);
  Py_XDECREF(result);
  return result ? 0 : -1;
}

void bursar_open_drop(struct bursar_open *open) {
  end_watch(open);
  Py_CLEAR(open->objects);
  Py_CLEAR(open->action);
}

/* --- for _open.py -------------------------------------------------------------------------------------------------------- */

int bursar_open_default(PyObject *name, PyObject *action) {
  if (action == Py_None)
    return defaults && PyDict_Contains(defaults, name) == 1 ? PyDict_DelItem(defaults, name) : 0;
  return check_action(action) != 0 || (!defaults && !(defaults = PyDict_New()))
             ? -1
             : PyDict_SetItem(defaults, name, action);
}

/* A name alone asks what it is. */
static PyObject *open_default(PyObject *module, PyObject *args) {
  PyObject *name, *action = NULL;
  if (!PyArg_ParseTuple(args, "U|O:open_default", &name, &action))
    return NULL;
  if (!action) {
    PyObject *found = defaults ? PyDict_GetItemWithError(defaults, name) : NULL;
    return PyErr_Occurred() ? NULL : Py_NewRef(found ? found : Py_None);
  }
  return bursar_open_default(name, action) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *open_defaults(PyObject *module, PyObject *unused) {
  return defaults ? PyDict_Copy(defaults) : PyDict_New();
}

/* The innermost scope that watches here, or the next one around the given one; None. */
static PyObject *open_scope(PyObject *module, PyObject *inner) {
  PyObject *scope = NULL;
  if (inner != Py_None)
    scope = bursar_scope_open_around(inner);
  else if (open_count)
    (void)open_here(&scope);
  return Py_NewRef(scope ? scope : Py_None);
}

static PyObject *open_objects(PyObject *module, PyObject *scope) {
  PyObject *same;
  struct bursar_open *open = bursar_scope_open(scope, &same);
  if (!open || same != scope)
    Py_RETURN_NONE;
  if (!open->objects && !(open->objects = PyList_New(0)))
    return NULL;
  return Py_NewRef(open->objects);
}

/* A descriptor goes from one scope to another, or to nobody (None). */
static PyObject *open_hand(PyObject *module, PyObject *args) {
  int fd;
  PyObject *from, *to, *same;
  if (!PyArg_ParseTuple(args, "iOO:open_hand", &fd, &from, &to))
    return NULL;
  struct bursar_open *mine = bursar_scope_open(from, &same);
  struct bursar_open *other = to == Py_None ? NULL : bursar_scope_open(to, &same);
  return PyBool_FromLong(mine && bursar_descriptors_hand(fd, mine->watch, other ? other->watch : 0));
}

/* For versions that have no event of it. */
static PyObject *open_began(PyObject *module, PyObject *args) {
  const char *kind;
  PyObject *object;
  if (!PyArg_ParseTuple(args, "sO:open_began", &kind, &object))
    return NULL;
  keep_object(kind, object);
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"open_start", open_start, METH_VARARGS, "Puts the hooks in."},
    {"open_finish", open_finish, METH_NOARGS, "Nothing more is noted."},
    {"open_default", open_default, METH_VARARGS, "What scopes of a name do about what is left open."},
    {"open_defaults", open_defaults, METH_NOARGS, "Of all names."},
    {"open_scope", open_scope, METH_O, "The scope that watches here, or around that one."},
    {"open_objects", open_objects, METH_O, "What a scope keeps of objects, a list; None where it does not watch."},
    {"open_hand", open_hand, METH_VARARGS, "Hands a descriptor from one scope to another."},
    {"open_began", open_began, METH_VARARGS, "An object was opened."},
    {"open_connection_met", open_connection_met, METH_VARARGS, "The number by which a connection is known."},
    {"open_connection", open_connection, METH_O, "The connection of a number, or None."},
    {"open_connection_done", open_connection_done, METH_O, "A number that nobody asks for any more."},
    {NULL, NULL, 0, NULL},
};

int bursar_open_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
