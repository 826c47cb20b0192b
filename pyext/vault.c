/* vault.c: a SecretBytes is a slot of the vault.  It hands out its bytes to nobody but its openings, whose views are exports
 * of it: the slot is open as long as one of them lives, wherever it went. */
#include "vault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prim/prim.h"
#include "secret/environment.h"
#include "secret/terminal.h"
#include "secret/vault.h"
#include "secret/wipe.h"

#define FIRST_READ 4096u
#define READ_MAX (16u << 20) /* of what does not say how long it is */

struct secret {
  PyObject_HEAD struct bursar_vault_slot slot;
  uint32_t exports;
  bool granting, grant_write; /* the next export, which an opening asks for */
  bool damaged;               /* the canary was dead when a view ended, which cannot raise */
};

struct opening {
  PyObject_HEAD struct secret *secret;
  PyObject *view; /* NULL outside */
  bool write;
};

static PyObject *raise(PyObject *failed, const struct bursar_error *error) {
  PyErr_SetString(error->status == BURSAR_MISUSE ? PyExc_ValueError : failed, error->text);
  return NULL;
}

/* --- making and ending ------------------------------------------------------------------------------------------------- */

static bool registered;

static void wipe_at_exit(void) {
  registered = false;
  bursar_vault_wipe();
}

/* After all of the interpreter's own ending, during which secrets may still be used. */
static void register_wipe(void) {
  if (!registered)
    registered = Py_AtExit(wipe_at_exit) == 0 || atexit(wipe_at_exit) == 0;
}

static int take(size_t bytes, struct bursar_vault_slot *slot) {
  struct bursar_error error = {0};
  register_wipe();
  if (bursar_vault_take(bytes, slot, &error) == 0)
    return 0;
  raise(PyExc_MemoryError, &error);
  return -1;
}

static PyObject *new_secret(PyTypeObject *type, size_t bytes) {
  struct secret *self = (struct secret *)type->tp_alloc(type, 0);
  if (self && take(bytes, &self->slot) != 0)
    Py_CLEAR(self);
  return (PyObject *)self;
}

static PyObject *secret_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"size", NULL};
  PyObject *size = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:SecretBytes", names, &size))
    return NULL;
  if (!PyIndex_Check(size))
    return PyErr_Format(PyExc_TypeError,
                        "SecretBytes takes a number of bytes, to be written within `with secret.open(write=True) as "
                        "view`, no %s: "
                        "that is a copy which stays (from_file, from_fd, from_env, from_getpass make none)",
                        Py_TYPE(size)->tp_name);
  Py_ssize_t bytes = PyNumber_AsSsize_t(size, PyExc_OverflowError);
  if (bytes == -1 && PyErr_Occurred())
    return NULL;
  if (bytes < 1)
    return PyErr_Format(PyExc_ValueError, "a secret has at least one byte, not %zd", bytes);
  return new_secret(type, (size_t)bytes);
}

static void secret_dealloc(struct secret *self) {
  struct bursar_error error = {0};
  PyTypeObject *type = Py_TYPE(self);
  if (bursar_vault_return(&self->slot, &error) != 0) {
    PyObject *kind, *value, *trace; /* an exception may be on its way */
    PyErr_Fetch(&kind, &value, &trace);
    raise(PyExc_RuntimeError, &error);
    PyErr_WriteUnraisable((PyObject *)type);
    PyErr_Restore(kind, value, trace);
  }
  type->tp_free(self);
  Py_DECREF(type);
}

static int raise_damage(struct secret *self) {
  if (!self->damaged)
    return 0;
  self->damaged = false;
  PyErr_SetString(PyExc_RuntimeError,
                  "something wrote before the first byte of a secret: look for it in the code that had its view");
  return -1;
}

static PyObject *secret_close(struct secret *self, PyObject *unused) {
  struct bursar_error error = {0};
  if (self->exports)
    return PyErr_Format(PyExc_BufferError, "this secret is open: %u of its views are in use: leave their blocks first",
                        self->exports);
  if (raise_damage(self) != 0) {
    (void)!bursar_vault_return(&self->slot, NULL);
    return NULL;
  }
  if (bursar_vault_return(&self->slot, &error) != 0)
    return raise(PyExc_RuntimeError, &error);
  Py_RETURN_NONE;
}

/* --- views ------------------------------------------------------------------------------------------------------------- */

static int secret_getbuffer(struct secret *self, Py_buffer *view, int flags) {
  struct bursar_error error = {0};
  bool write = self->grant_write, granted = self->granting;
  self->granting = self->grant_write = false;
  view->obj = NULL;
  if (!granted) {
    PyErr_Format(PyExc_TypeError,
                 "%s gives no buffer of itself, lest it be copied: pass on the view of `with secret.open() as view`",
                 Py_TYPE(self)->tp_name);
    return -1;
  }
  if (bursar_vault_open(&self->slot, write, &error) != 0) {
    raise(PyExc_OSError, &error);
    return -1;
  }
  if (PyBuffer_FillInfo(view, (PyObject *)self, self->slot.data, (Py_ssize_t)self->slot.bytes, !write, flags) != 0) {
    (void)!bursar_vault_close(&self->slot, write, NULL);
    return -1;
  }
  self->exports++;
  return 0;
}

static void secret_releasebuffer(struct secret *self, Py_buffer *view) {
  self->exports--;
  if (bursar_vault_close(&self->slot, !view->readonly, NULL) != 0)
    self->damaged = true;
}

static void opening_dealloc(struct opening *self) {
  PyTypeObject *type = Py_TYPE(self);
  Py_XDECREF(self->view); /* the slot closes when this was the last of it */
  Py_XDECREF(self->secret);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *opening_enter(struct opening *self, PyObject *unused) {
  if (self->view) {
    PyErr_SetString(PyExc_RuntimeError, "this opening is entered already: call open() again for another");
    return NULL;
  }
  if (raise_damage(self->secret) != 0)
    return NULL;
  self->secret->granting = true;
  self->secret->grant_write = self->write;
  self->view = PyMemoryView_FromObject((PyObject *)self->secret);
  self->secret->granting = self->secret->grant_write = false;
  return Py_XNewRef(self->view);
}

/* Lets go of our view; does another, made from it, keep the slot open?  -1: an exception. */
static int leave(struct opening *self) {
  PyMemoryViewObject *view = (PyMemoryViewObject *)self->view;
  self->view = NULL;
  PyObject *done = PyObject_CallMethod((PyObject *)view, "release", NULL);
  int kept = done ? !(view->mbuf->flags & _Py_MANAGED_BUFFER_RELEASED) : 1;
  if (!done && !PyErr_ExceptionMatches(PyExc_BufferError))
    kept = -1;
  else if (!done)
    PyErr_Clear();
  Py_XDECREF(done);
  Py_DECREF(view);
  return kept;
}

static PyObject *opening_exit(struct opening *self, PyObject *const *args, Py_ssize_t count) {
  bool passing = count > 0 && args[0] != Py_None; /* an exception, which ours would hide */
  int kept = self->view ? leave(self) : 0;
  if (kept < 0 || raise_damage(self->secret) != 0)
    return NULL;
  if (kept && !passing) {
    PyErr_SetString(PyExc_BufferError,
                    "views of this secret outlive their block: it stays open until they are released (del, or "
                    "release())");
    return NULL;
  }
  Py_RETURN_FALSE;
}

/* --- comparing ----------------------------------------------------------------------------------------------------------- */

static bool is_secret(PyObject *object) {
  PyBufferProcs *buffers = Py_TYPE(object)->tp_as_buffer;
  return buffers && buffers->bf_getbuffer == (getbufferproc)secret_getbuffer;
}

/* What can be compared: 1, with *at and *bytes, until it is let go of; 0: nothing that can; -1: an exception. */
static int look(PyObject *object, Py_buffer *view, const char **at, size_t *bytes) {
  struct bursar_error error = {0};
  view->obj = NULL;
  if (is_secret(object)) {
    struct bursar_vault_slot *slot = &((struct secret *)object)->slot;
    if (bursar_vault_open(slot, false, &error) != 0) {
      raise(PyExc_OSError, &error);
      return -1;
    }
    *at = slot->data;
    *bytes = slot->bytes;
    return 1;
  }
  if (PyUnicode_Check(object)) {
    PyErr_SetString(PyExc_TypeError, "a secret is bytes and not text: compare it with bytes");
    return -1;
  }
  if (!PyObject_CheckBuffer(object))
    return 0;
  if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) != 0)
    return -1;
  *at = view->buf;
  *bytes = (size_t)view->len;
  return 1;
}

static void let_go(PyObject *object, Py_buffer *view) {
  if (is_secret(object))
    (void)!bursar_vault_close(&((struct secret *)object)->slot, false, NULL);
  else
    PyBuffer_Release(view);
}

static PyObject *secret_compare(PyObject *self, PyObject *other, int op) {
  Py_buffer views[2];
  const char *at[2];
  size_t bytes[2];
  if (op != Py_EQ && op != Py_NE)
    Py_RETURN_NOTIMPLEMENTED;
  int there = look(other, &views[1], &at[1], &bytes[1]);
  if (there <= 0)
    return there < 0 ? NULL : Py_NewRef(Py_NotImplemented);
  PyObject *result = NULL;
  if (look(self, &views[0], &at[0], &bytes[0]) > 0) {
    bool same = bytes[0] == bytes[1] && bursar_vault_equal(at[0], at[1], bytes[0]);
    result = Py_NewRef(same == (op == Py_EQ) ? Py_True : Py_False);
    let_go(self, &views[0]);
  }
  let_go(other, &views[1]);
  return result;
}

/* --- what is refused ----------------------------------------------------------------------------------------------------- */

static PyObject *refuse(PyObject *self, const char *what) {
  return PyErr_Format(PyExc_TypeError, "%s refuses %s: what is in it is had within `with secret.open() as view` alone",
                      Py_TYPE(self)->tp_name, what);
}
static PyObject *refuse_to_leave(PyObject *self, const char *what) {
  return PyErr_Format(PyExc_TypeError,
                      "%s refuses %s: it never leaves its vault: read the secret again where it is needed",
                      Py_TYPE(self)->tp_name, what);
}

static PyObject *no_repr(PyObject *self) { return refuse(self, "repr()"); }
static PyObject *no_str(PyObject *self) { return refuse(self, "str()"); }
static PyObject *no_iter(PyObject *self) { return refuse(self, "iteration"); }
static PyObject *no_item(PyObject *self, PyObject *key) { return refuse(self, "indexing"); }
static PyObject *no_bytes(PyObject *self, PyObject *unused) { return refuse(self, "bytes()"); }
static PyObject *no_format(PyObject *self, PyObject *unused) { return refuse(self, "format() and f-strings"); }
static PyObject *no_copy(PyObject *self, PyObject *unused) { return refuse_to_leave(self, "copy"); }
static PyObject *no_pickle(PyObject *self, PyObject *unused) { return refuse_to_leave(self, "pickle"); }
static int no_contains(PyObject *self, PyObject *item) {
  refuse(self, "`in`");
  return -1;
}
static Py_hash_t no_hash(PyObject *self) {
  refuse(self, "hash()");
  return -1;
}

/* --- bringing one in ------------------------------------------------------------------------------------------------------ */

/* A slot that is being filled, which no other code has. */
struct filling {
  struct bursar_vault_slot slot;
  size_t got;
};

static int begin_filling(struct filling *to, size_t bytes) {
  struct bursar_error error = {0};
  to->got = 0;
  if (take(bytes, &to->slot) != 0)
    return -1;
  if (bursar_vault_open(&to->slot, true, &error) == 0)
    return 0;
  (void)!bursar_vault_return(&to->slot, NULL);
  raise(PyExc_OSError, &error);
  return -1;
}

static void end_filling(struct filling *of) { (void)!bursar_vault_return(&of->slot, NULL); }

/* Its bytes move into one of another size. */
static int refill(struct filling *from, size_t bytes) {
  struct filling to;
  if (begin_filling(&to, bytes) != 0)
    return -1;
  to.got = from->got < bytes ? from->got : bytes;
  memcpy(to.slot.data, from->slot.data, to.got);
  end_filling(from);
  *from = to;
  return 0;
}

/* Reads until there is no room, no more, or (`line`) an end of line, which is left out.  1: that was all, 0: no room;
 * -1: an exception. */
static int pour(int fd, bool line, struct filling *to) {
  while (to->got < to->slot.bytes) {
    ssize_t n;
    int error;
    Py_BEGIN_ALLOW_THREADS n = read(fd, to->slot.data + to->got, to->slot.bytes - to->got);
    error = errno;
    Py_END_ALLOW_THREADS if (n < 0 && error == EINTR) {
      if (PyErr_CheckSignals() != 0)
        return -1;
      continue;
    }
    if (n < 0) {
      errno = error;
      PyErr_SetFromErrno(PyExc_OSError);
      return -1;
    }
    to->got += (size_t)n;
    if (line && n > 0 && to->slot.data[to->got - 1] == '\n') {
      to->got--;
      return 1;
    }
    if (n == 0)
      return 1;
  }
  return 0;
}

/* All that comes, however much that is. */
static int pour_all(int fd, bool line, struct filling *to) {
  int status;
  if (begin_filling(to, FIRST_READ) != 0)
    return -1;
  while ((status = pour(fd, line, to)) == 0) {
    if (to->slot.bytes >= READ_MAX) {
      PyErr_SetString(PyExc_ValueError, "a secret of more than 16 MiB: give its size");
      status = -1;
      break;
    }
    if ((status = refill(to, to->slot.bytes * 4)) != 0)
      break;
  }
  if (status < 0)
    end_filling(to);
  return status < 0 ? -1 : 0;
}

/* A secret of what was read, which ends the filling. */
static PyObject *filled(PyTypeObject *type, struct filling *from) {
  struct bursar_error error = {0};
  struct secret *self = NULL;
  if (from->got == 0)
    PyErr_SetString(PyExc_ValueError, "an empty secret: nothing was there to be read");
  else if (from->got == from->slot.bytes || refill(from, from->got) == 0)
    self = (struct secret *)type->tp_alloc(type, 0);
  if (self && bursar_vault_close(&from->slot, true, &error) != 0) {
    raise(PyExc_OSError, &error);
    Py_CLEAR(self);
  }
  if (self)
    self->slot = from->slot;
  else
    end_filling(from);
  return (PyObject *)self;
}

static PyObject *secret_read(PyTypeObject *type, PyObject *args) {
  int fd;
  Py_ssize_t size;
  struct filling filling;
  if (!PyArg_ParseTuple(args, "in:_read", &fd, &size))
    return NULL;
  if (size < 0)
    return pour_all(fd, false, &filling) == 0 ? filled(type, &filling) : NULL;
  if (begin_filling(&filling, (size_t)size) != 0)
    return NULL;
  int status = pour(fd, false, &filling);
  if (status > 0)
    PyErr_Format(PyExc_EOFError, "a secret of %zd bytes was asked for, and there were %zu", size, filling.got);
  if (status == 0)
    return filled(type, &filling);
  end_filling(&filling);
  return NULL;
}

static PyObject *secret_ask(PyTypeObject *type, PyObject *arg) {
  struct bursar_error error = {0};
  struct bursar_terminal terminal;
  struct filling filling;
  if (!PyBytes_Check(arg))
    return PyErr_Format(PyExc_TypeError, "_ask() takes bytes");
  if (bursar_terminal_open(&terminal, &error) != 0)
    return raise(PyExc_OSError, &error);
  bursar_prim_say(terminal.fd, PyBytes_AS_STRING(arg), (size_t)PyBytes_GET_SIZE(arg));
  int status = pour_all(terminal.fd, true, &filling);
  bursar_terminal_close(&terminal);
  return status == 0 ? filled(type, &filling) : NULL;
}

static PyObject *secret_from_environment(PyTypeObject *type, PyObject *arg) {
  struct filling filling;
  if (!PyBytes_Check(arg))
    return PyErr_Format(PyExc_TypeError, "_from_environment() takes bytes");
  const char *name = PyBytes_AS_STRING(arg);
  const char *value = strlen(name) == (size_t)PyBytes_GET_SIZE(arg) ? getenv(name) : NULL;
  if (!value) {
    PyErr_SetObject(PyExc_KeyError, arg);
    return NULL;
  }
  size_t bytes = strlen(value);
  if (bytes == 0)
    return PyErr_Format(PyExc_ValueError, "an empty secret: nothing is in the variable");
  if (begin_filling(&filling, bytes) != 0)
    return NULL;
  memcpy(filling.slot.data, value, bytes);
  filling.got = bytes;
  PyObject *self = filled(type, &filling);
  if (self)
    bursar_environment_wipe(name);
  return self;
}

/* The value of a dict, bytes, where the dict alone has it: somebody else's must not change under them. */
static PyObject *wipe_value(PyObject *module, PyObject *args) {
  PyObject *dict, *key;
  if (!PyArg_ParseTuple(args, "O!O:_wipe_value", &PyDict_Type, &dict, &key))
    return NULL;
  PyObject *value = PyDict_GetItemWithError(dict, key);
  if (!value && PyErr_Occurred())
    return NULL;
  bool ours = value && PyBytes_CheckExact(value) && Py_REFCNT(value) == 1 && PyBytes_GET_SIZE(value) > 1;
  if (ours)
    bursar_wipe(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
  return PyBool_FromLong(ours);
}

static PyObject *vault_start(PyObject *module, PyObject *arg) {
  struct bursar_error error = {0};
  int hide = PyObject_IsTrue(arg);
  if (hide < 0)
    return NULL;
  if (bursar_vault_start(hide != 0, &error) != 0)
    return raise(PyExc_RuntimeError, &error);
  Py_RETURN_NONE;
}

/* --- the types -------------------------------------------------------------------------------------------------------------- */

static Py_ssize_t secret_length(struct secret *self) {
  if (self->slot.pool)
    return (Py_ssize_t)self->slot.bytes;
  PyErr_SetString(PyExc_ValueError, "this secret is closed: it was wiped");
  return -1;
}
static int secret_bool(struct secret *self) { return self->slot.pool != 0; }
static PyObject *secret_closed(struct secret *self, void *unused) { return PyBool_FromLong(!self->slot.pool); }
static PyObject *secret_hidden(struct secret *self, void *unused) {
  return PyBool_FromLong(bursar_vault_hidden() == 1);
}

/* `write`, by name or place. */
static int asked_to_write(PyObject *const *args, Py_ssize_t count, PyObject *names) {
  Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
  if (count + named == 0)
    return 0;
  if (count + named > 1 || (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "write") != 0)) {
    PyErr_SetString(PyExc_TypeError, "open() takes write=True, or nothing");
    return -1;
  }
  return PyObject_IsTrue(args[0]);
}

static PyObject *secret_open(struct secret *self, PyTypeObject *here, PyObject *const *args, Py_ssize_t count,
                             PyObject *names) {
  int write = asked_to_write(args, count, names);
  PyTypeObject *type = write < 0 ? NULL : (PyTypeObject *)PyObject_GetAttrString((PyObject *)here, "_Opening");
  struct opening *opening = type ? (struct opening *)type->tp_alloc(type, 0) : NULL;
  if (opening) {
    opening->secret = (struct secret *)Py_NewRef((PyObject *)self);
    opening->write = write > 0;
  }
  Py_XDECREF((PyObject *)type);
  return (PyObject *)opening;
}

static PyMethodDef secret_methods[] = {
    {"open", (PyCFunction)(void (*)(void))secret_open, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "open(write=False): `with secret.open() as view` has its bytes as a memoryview, which ends with the block."},
    {"close", (PyCFunction)(void (*)(void))secret_close, METH_NOARGS,
     "Wipes it and gives its place back.  BufferError while it is open."},
    {"_read", (PyCFunction)(void (*)(void))secret_read, METH_VARARGS | METH_CLASS,
     "All of a descriptor, or so many bytes."},
    {"_ask", (PyCFunction)(void (*)(void))secret_ask, METH_O | METH_CLASS, "A line that is typed after a prompt."},
    {"_from_environment", (PyCFunction)(void (*)(void))secret_from_environment, METH_O | METH_CLASS,
     "A variable's value, which is wiped where the process has it as text."},
    {"__bytes__", no_bytes, METH_NOARGS, "Refused."},
    {"__format__", no_format, METH_O, "Refused."},
    {"__copy__", no_copy, METH_NOARGS, "Refused."},
    {"__deepcopy__", no_copy, METH_O, "Refused."},
    {"__reduce__", no_pickle, METH_NOARGS, "Refused."},
    {"__reduce_ex__", no_pickle, METH_O, "Refused."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef secret_attributes[] = {
    {"closed", (getter)(void (*)(void))secret_closed, NULL, "It was wiped.", NULL},
    {"hidden", (getter)(void (*)(void))secret_hidden, NULL,
     "Its pages are hidden from the kernel's own readers (memfd_secret); else they are locked.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot secret_slots[] = {
    {Py_tp_doc,
     "SecretBytes(size)\n--\n\nBytes in locked memory, which nobody has outside of `with secret.open() as view`."},
    {Py_tp_new, secret_new},
    {Py_tp_dealloc, secret_dealloc},
    {Py_tp_methods, secret_methods},
    {Py_tp_getset, secret_attributes},
    {Py_tp_richcompare, secret_compare},
    {Py_tp_hash, no_hash},
    {Py_tp_repr, no_repr},
    {Py_tp_str, no_str},
    {Py_tp_iter, no_iter},
    {Py_sq_contains, no_contains},
    {Py_mp_length, secret_length},
    {Py_mp_subscript, no_item},
    {Py_nb_bool, secret_bool},
    {Py_bf_getbuffer, secret_getbuffer},
    {Py_bf_releasebuffer, secret_releasebuffer},
    {0, NULL},
};
static PyType_Spec secret_spec = {"bursar._bursar.SecretBytes", sizeof(struct secret), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, secret_slots};

static PyMethodDef opening_methods[] = {
    {"__enter__", (PyCFunction)(void (*)(void))opening_enter, METH_NOARGS, "Opens the secret."},
    {"__exit__", (PyCFunction)(void (*)(void))opening_exit, METH_FASTCALL, "Closes it again."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot opening_slots[] = {
    {Py_tp_doc, "What SecretBytes.open() returns."},
    {Py_tp_dealloc, opening_dealloc},
    {Py_tp_methods, opening_methods},
    {0, NULL},
};
static PyType_Spec opening_spec = {"bursar._bursar.SecretOpening", sizeof(struct opening), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, opening_slots};

static PyMethodDef functions[] = {
    {"_wipe_value", wipe_value, METH_VARARGS, "Wipes a dict's value, bytes, that nothing else has."},
    {"_vault_start", vault_start, METH_O, "Begins the vault, with hidden pages or without: for tests."},
    {NULL, NULL, 0, NULL},
};

int bursar_vault_add(PyObject *module) {
  PyObject *secret = PyType_FromModuleAndSpec(module, &secret_spec, NULL);
  PyObject *opening = PyType_FromModuleAndSpec(module, &opening_spec, NULL);
  int status = secret && opening ? PyObject_SetAttrString(secret, "_Opening", opening) : -1;
  if (status == 0)
    status = PyModule_AddObjectRef(module, "SecretBytes", secret);
  if (status == 0)
    status = PyModule_AddObjectRef(module, "SecretOpening", opening);
  Py_XDECREF(secret);
  Py_XDECREF(opening);
  return status == 0 ? PyModule_AddFunctions(module, functions) : -1;
}
