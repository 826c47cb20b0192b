#include "freeze.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "base/escape.h"
#include "base/tell.h"
#include "prim/prim.h"
#include "secret/seal.h"

#define NAME_MAX_BYTES 160
#define STACK_MAX 64

/* What a part of it is called.  Kept as long as its memory is. */
struct label {
  struct label *next;
  size_t from, bytes;
  char name[NAME_MAX_BYTES];
};

/* A mapping that is looked out for.  Never freed, but used again: a handler may be reading the list. */
struct watched {
  struct watched *next;
  uintptr_t from, end; /* 0: none */
  struct label *labels;
};

struct sealed {
  PyObject_HEAD struct bursar_seal seal;
  struct watched *watched;
};

static struct watched *all; /* written under the lock, read by the handler */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static bool armed;

/* --- a write to it -------------------------------------------------------------------------------------------------------- */

static void say(const char *text, size_t bytes) { bursar_prim_say(2, text, bytes); }

__attribute__((format(printf, 1, 2))) static void sayf(const char *format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (n > 0)
    say(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

#if BURSAR_KNOWS_FRAMES
/* What is not plain text is shown as an escape, and the rest is cut. */
static const char *plain(PyObject *text, char *out, size_t room) {
  size_t at = 0;
  Py_ssize_t length = text && PyUnicode_Check(text) ? PyUnicode_GET_LENGTH(text) : 0;
  for (Py_ssize_t i = 0; i < length && at + 12 < room; i++) {
    Py_UCS4 c = PyUnicode_READ(PyUnicode_KIND(text), PyUnicode_DATA(text), i);
    at += (size_t)(c >= 32 && c < 127 ? snprintf(out + at, room - at, "%c", (char)c)
                                      : snprintf(out + at, room - at, "\\u{%x}", (unsigned)c));
  }
  out[at] = 0;
  return out;
}

/* The frames stand still: this thread is in C code, with the GIL or without. */
static void say_python(void) {
  PyThreadState *thread = PyGILState_GetThisThreadState();
  char file[512], function[160];
  unsigned depth = 0;
  if (!thread)
    return;
  sayf("  Python, most recent call first:\n");
  for (const bursar_frame *frame = bursar_frame_top(thread); frame && depth < STACK_MAX;
       frame = bursar_frame_caller(frame)) {
    PyCodeObject *code = bursar_frame_code(frame);
    if (!code)
      continue;
    Py_ssize_t unit = bursar_code_unit(code, bursar_frame_position(frame));
    sayf("    File \"%s\", line %d in %s\n", plain(code->co_filename, file, sizeof file),
         unit < 0 ? code->co_firstlineno : PyCode_Addr2Line(code, (int)unit * 2),
         plain(code->co_name, function, sizeof function));
    depth++;
  }
}
#else
static void say_python(void) {}
#endif

/* Without the handler's own frame, and the one that led to it. */
static void say_native(void *const *stack, int depth) {
  sayf("  C, most recent call first:\n");
  for (int i = 2; i < depth; i++) {
    Dl_info where;
    if (dladdr(stack[i], &where) == 0 || !where.dli_fname)
      sayf("    %p\n", stack[i]);
    else if (where.dli_sname)
      sayf("    %s (%s+%#zx)\n", where.dli_fname, where.dli_sname,
           (size_t)((char *)stack[i] - (char *)where.dli_saddr));
    else
      sayf("    %s (+%#zx)\n", where.dli_fname, (size_t)((char *)stack[i] - (char *)where.dli_fbase));
  }
}

static bool say_what(uintptr_t address) {
  for (const struct watched *at = __atomic_load_n(&all, __ATOMIC_ACQUIRE); at; at = at->next) {
    uintptr_t from = __atomic_load_n(&at->from, __ATOMIC_ACQUIRE);
    if (!from || address < from || address >= at->end)
      continue;
    if (!bursar_tell_may())
      return true;
    for (const struct label *label = __atomic_load_n(&at->labels, __ATOMIC_ACQUIRE); label; label = label->next)
      if (address - from - label->from < label->bytes) {
        sayf("bursar: a write to frozen memory: byte %zu of the %zu of %s (bursar.thaw() gives writable copies)\n",
             (size_t)(address - from - label->from), label->bytes, label->name);
        return true;
      }
    sayf("bursar: a write to frozen memory, at %#zx (bursar.thaw() gives writable copies)\n", (size_t)address);
    return true;
  }
  return false;
}

/* Somebody else's: as if we were not there. */
static void pass_on(int number, siginfo_t *info, void *context) {
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
  } else {
    (void)sigaction(number, &previous, NULL);
    if (info->si_code <= 0) /* sent, and no fault that comes again */
      (void)raise(number);
  }
}

static void on_fault(int number, siginfo_t *info, void *context) {
  void *stack[STACK_MAX];
  int kept = errno;
  if (info->si_code != SEGV_ACCERR || !say_what((uintptr_t)info->si_addr)) {
    pass_on(number, info, context);
  } else {
    /* First, so that a fault in what follows ends the program as this one will, when the instruction is tried again. */
    (void)sigaction(number, &previous, NULL);
    if (bursar_tell_may()) {
      say_python();
      say_native(stack, backtrace(stack, STACK_MAX));
    }
  }
  errno = kept;
}

/* Under the lock. */
static void arm(void) {
  void *stack[2];
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  if (armed)
    return;
  (void)backtrace(stack, 2); /* loads what it needs, which a handler must not */
  if (!bursar_account.active)
    bursar_tell_remember();
  sigfillset(&action.sa_mask);
  armed = sigaction(SIGSEGV, &action, &previous) == 0;
}

static struct watched *watch(const struct bursar_seal *seal) {
  (void)pthread_mutex_lock(&lock);
  arm();
  struct watched *at = all;
  while (at && at->from)
    at = at->next;
  if (!at && (at = calloc(1, sizeof *at))) {
    at->next = all;
    __atomic_store_n(&all, at, __ATOMIC_RELEASE);
  }
  if (at) {
    at->end = (uintptr_t)seal->at + seal->bytes;
    __atomic_store_n(&at->from, (uintptr_t)seal->at, __ATOMIC_RELEASE);
  }
  (void)pthread_mutex_unlock(&lock);
  return at;
}

static void unwatch(struct watched *at) {
  (void)pthread_mutex_lock(&lock);
  struct label *label = at->labels, *next;
  __atomic_store_n(&at->from, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&at->labels, NULL, __ATOMIC_RELEASE);
  (void)pthread_mutex_unlock(&lock);
  for (; label; label = next) {
    next = label->next;
    free(label);
  }
}

/* --- the type --------------------------------------------------------------------------------------------------------------- */

static void *raise_status(int status) {
  const char *text = status == -EFBIG    ? "the limit on file sizes is lower than what is to be frozen: raise ulimit -f"
                     : status == -ENOENT ? "frozen memory needs /proc: mount it"
                     : status == -EPERM  ? "this memory file is not sealed"
                                         : strerror(-status);
  PyObject *args = Py_BuildValue("(is)", -status, text);
  if (args)
    PyErr_SetObject(PyExc_OSError, args);
  Py_XDECREF(args);
  return NULL;
}

static PyObject *sealed_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *words[] = {"bytes", "fd", NULL};
  Py_ssize_t bytes = -1;
  int fd = -1;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n$i:Sealed", words, &bytes, &fd))
    return NULL;
  if ((bytes < 0) == (fd < 0)) {
    PyErr_SetString(PyExc_ValueError, "Sealed() takes the number of bytes, or a descriptor");
    return NULL;
  }
  struct sealed *self = (struct sealed *)type->tp_alloc(type, 0);
  if (!self)
    return NULL;
  int status = fd < 0 ? bursar_seal_begin(&self->seal, (size_t)bytes) : bursar_seal_attach(&self->seal, fd);
  if (status == 0 && !(self->watched = watch(&self->seal)))
    status = -ENOMEM;
  if (status != 0) {
    Py_DECREF(self);
    return raise_status(status);
  }
  return (PyObject *)self;
}

static void sealed_free(PyObject *object) {
  struct sealed *self = (struct sealed *)object;
  PyTypeObject *type = Py_TYPE(object);
  if (self->watched)
    unwatch(self->watched);
  bursar_seal_end(&self->seal);
  type->tp_free(object);
  Py_DECREF(type);
}

static PyObject *sealed_put(PyObject *object, PyObject *args) {
  struct sealed *self = (struct sealed *)object;
  Py_buffer from;
  const char *name;
  size_t offset = 0;
  if (!PyArg_ParseTuple(args, "y*s:put", &from, &name))
    return NULL;
  struct label *label = calloc(1, sizeof *label);
  int status = label ? 0 : -ENOMEM;
  if (label) {
    Py_BEGIN_ALLOW_THREADS;
    status = bursar_seal_put(&self->seal, from.buf, (size_t)from.len, &offset);
    Py_END_ALLOW_THREADS;
  }
  if (status == 0) {
    label->from = offset;
    label->bytes = (size_t)from.len;
    bursar_escape_terminal_into(label->name, sizeof label->name, name);
    label->next = self->watched->labels;
    __atomic_store_n(&self->watched->labels, label, __ATOMIC_RELEASE);
  } else {
    free(label);
  }
  PyBuffer_Release(&from);
  return status == 0 ? PyLong_FromSize_t(offset) : raise_status(status);
}

/* The rest of a block whose beginning was put. */
static PyObject *sealed_more(PyObject *object, PyObject *arg) {
  struct sealed *self = (struct sealed *)object;
  Py_buffer from;
  int status = self->watched->labels ? 0 : -EPERM;
  if (PyObject_GetBuffer(arg, &from, PyBUF_SIMPLE) != 0)
    return NULL;
  if (status == 0) {
    Py_BEGIN_ALLOW_THREADS;
    status = bursar_seal_more(&self->seal, from.buf, (size_t)from.len);
    Py_END_ALLOW_THREADS;
  }
  if (status == 0)
    self->watched->labels->bytes += (size_t)from.len;
  PyBuffer_Release(&from);
  if (status < 0)
    return raise_status(status);
  Py_RETURN_NONE;
}

/* As put() names what it puts; for what is attached. */
static PyObject *sealed_name(PyObject *object, PyObject *args) {
  struct sealed *self = (struct sealed *)object;
  Py_ssize_t from, bytes;
  const char *name;
  if (!PyArg_ParseTuple(args, "nns:name", &from, &bytes, &name))
    return NULL;
  struct label *label = calloc(1, sizeof *label);
  if (!label)
    return PyErr_NoMemory();
  label->from = (size_t)from;
  label->bytes = (size_t)bytes;
  bursar_escape_terminal_into(label->name, sizeof label->name, name);
  label->next = self->watched->labels;
  __atomic_store_n(&self->watched->labels, label, __ATOMIC_RELEASE);
  Py_RETURN_NONE;
}

static PyObject *sealed_close(PyObject *object, PyObject *unused) {
  int status = bursar_seal_close(&((struct sealed *)object)->seal);
  if (status != 0)
    return raise_status(status);
  Py_RETURN_NONE;
}

static PyObject *sealed_fileno(PyObject *object, PyObject *unused) {
  struct sealed *self = (struct sealed *)object;
  if (bursar_seal_held(&self->seal))
    return PyLong_FromLong(self->seal.fd);
  PyErr_SetString(PyExc_ValueError, "the program has closed the descriptor of this frozen memory");
  return NULL;
}

static int sealed_buffer(PyObject *object, Py_buffer *view, int flags) {
  struct sealed *self = (struct sealed *)object;
  return PyBuffer_FillInfo(view, object, (void *)self->seal.at, (Py_ssize_t)self->seal.bytes, 1, flags);
}

static PyMethodDef methods[] = {
    {"put", sealed_put, METH_VARARGS, "Copies bytes, under a name, behind what is there; returns where they are."},
    {"more", sealed_more, METH_O, "Copies bytes right behind those that were put last."},
    {"name", sealed_name, METH_VARARGS, "Names a part, for who writes to it."},
    {"close", sealed_close, METH_NOARGS, "Seals it: nothing more goes in."},
    {"fileno", sealed_fileno, METH_NOARGS, "Its descriptor, for reading."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, sealed_new},
    {Py_tp_dealloc, sealed_free},
    {Py_tp_methods, methods},
    {Py_bf_getbuffer, sealed_buffer},
    {Py_tp_doc, "Memory that nobody can write to once it is sealed; a buffer for reading."},
    {0, NULL},
};

static PyType_Spec type_spec = {.name = "bursar._bursar.Sealed",
                                .basicsize = sizeof(struct sealed),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                                .slots = type_slots};

int bursar_freeze_add(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &type_spec, NULL);
  int status = type ? PyModule_AddObjectRef(module, "Sealed", type) : -1;
  Py_XDECREF(type);
  return status;
}
