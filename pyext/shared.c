#include "shared.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "account/account.h"
#include "numpy.h"

#define LARGE ((size_t)1 << 20)
#define FILES_MOST 1024u

struct file {
  char *at;
  size_t bytes;
  int fd;
};
static struct file files[FILES_MOST];
static unsigned count, most;
static bool on;

/* --- the child: arrays in files ------------------------------------------------------------------------------------------ */

static struct file *file_at(const void *p) {
  for (unsigned i = 0; i < count && ((uintptr_t)p & 4095) == 0; i++)
    if (files[i].at == p)
      return &files[i];
  return NULL;
}

/* NULL: plain memory will do. */
static void *make(size_t bytes) {
  int kept = errno;
  if (!on || bytes < LARGE || count >= most)
    return NULL;
  int fd = memfd_create("bursar-array", MFD_CLOEXEC);
  void *at = fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                                         : MAP_FAILED;
  errno = kept;
  if (at == MAP_FAILED) {
    if (fd >= 0)
      close(fd);
    return NULL;
  }
  files[count++] = (struct file){.at = at, .bytes = bytes, .fd = fd};
  return at;
}

static void end(struct file *file) {
  int kept = errno;
  (void)munmap(file->at, file->bytes);
  close(file->fd);
  *file = files[--count];
  errno = kept;
}

static void *shared_malloc(void *ctx, size_t size) {
  void *p = make(size);
  return p ? p : bursar_numpy_under.malloc(ctx, size);
}

static void *shared_calloc(void *ctx, size_t number, size_t size) {
  size_t bytes;
  void *p = __builtin_mul_overflow(number, size, &bytes) ? NULL : make(bytes); /* new files are zero */
  return p ? p : bursar_numpy_under.calloc(ctx, number, size);
}

static void shared_free(void *ctx, void *p, size_t size) {
  struct file *file = file_at(p);
  if (file)
    end(file);
  else
    bursar_numpy_under.free(ctx, p, size);
}

static void *shared_realloc(void *ctx, void *p, size_t size) {
  struct file *file = file_at(p);
  if (!file)
    return bursar_numpy_under.realloc(ctx, p, size); /* its size is not known here, so it stays where it is */
  void *q = shared_malloc(ctx, size);
  if (q) {
    file = file_at(p);
    memcpy(q, p, size < file->bytes ? size : file->bytes);
    end(file);
  }
  return q;
}

/* Before a fork: plain memory at the same address, with the same in it.  Where there is no memory for that, it stays a file. */
static void make_plain(void) {
  on = false;
  for (unsigned i = count; i-- > 0;) {
    struct file *file = &files[i];
    void *copy = mmap(NULL, file->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
      continue;
    memcpy(copy, file->at, file->bytes);
    if (mremap(copy, file->bytes, file->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, file->at) == MAP_FAILED) {
      (void)munmap(copy, file->bytes);
      continue;
    }
    close(file->fd);
    file->fd = -1;
  }
}

/* True: NumPy's large arrays are files from here on. */
static PyObject *shared_arrays(PyObject *module, PyObject *unused) {
  static const struct bursar_numpy_hooks hooks = {shared_malloc, shared_calloc, shared_realloc, shared_free};
  struct rlimit limit;
  if (on || bursar_account.active || getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
      pthread_atfork(make_plain, NULL, NULL) != 0)
    Py_RETURN_FALSE;
  most = limit.rlim_cur / 2 < FILES_MOST ? (unsigned)limit.rlim_cur / 2 : FILES_MOST; /* the rest is the program's */
  bursar_numpy_open(&hooks);
  on = bursar_numpy_under.malloc != NULL;
  return PyBool_FromLong(on);
}

/* Of a buffer: the descriptor of the file that it lies in, where in it it begins, and the file's size; None: in none. */
static PyObject *shared_find(PyObject *module, PyObject *object) {
  Py_buffer view;
  PyObject *found = NULL;
  if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
    return NULL;
  const char *at = view.buf;
  for (unsigned i = 0; i < count && !found && !PyErr_Occurred(); i++)
    if (files[i].fd >= 0 && at >= files[i].at && at + view.len <= files[i].at + files[i].bytes)
      found = Py_BuildValue("inn", files[i].fd, (Py_ssize_t)(at - files[i].at), (Py_ssize_t)files[i].bytes);
  PyBuffer_Release(&view);
  return found || PyErr_Occurred() ? found : Py_NewRef(Py_None);
}

/* --- the parent: a buffer ------------------------------------------------------------------------------------------------- */

struct shared {
  PyObject_HEAD void *at;
  size_t bytes;
};

static PyObject *shared_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  int fd;
  Py_ssize_t bytes;
  if (!PyArg_ParseTuple(args, "in", &fd, &bytes))
    return NULL;
  if (bytes <= 0 || lseek(fd, 0, SEEK_END) < bytes) {
    PyErr_SetString(PyExc_ValueError, "the file is smaller than was said");
    return NULL;
  }
  void *at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    return PyErr_SetFromErrno(PyExc_OSError);
  struct shared *self = (struct shared *)type->tp_alloc(type, 0);
  if (!self) {
    (void)munmap(at, (size_t)bytes);
    return NULL;
  }
  self->at = at;
  self->bytes = (size_t)bytes;
  return (PyObject *)self;
}

static void shared_end(PyObject *object) {
  struct shared *self = (struct shared *)object;
  PyTypeObject *type = Py_TYPE(object);
  (void)munmap(self->at, self->bytes);
  type->tp_free(object);
  Py_DECREF(type);
}

static int shared_buffer(PyObject *object, Py_buffer *view, int flags) {
  struct shared *self = (struct shared *)object;
  return PyBuffer_FillInfo(view, object, self->at, (Py_ssize_t)self->bytes, 0, flags);
}

static PyType_Slot type_slots[] = {{Py_tp_new, shared_new},
                                   {Py_tp_dealloc, shared_end},
                                   {Py_bf_getbuffer, shared_buffer},
                                   {Py_tp_doc, "A file in memory, mapped: a buffer."},
                                   {0, NULL}};

static PyType_Spec type_spec = {.name = "bursar._bursar.Shared",
                                .basicsize = sizeof(struct shared),
                                .flags = Py_TPFLAGS_DEFAULT,
                                .slots = type_slots};

static PyMethodDef functions[] = {
    {"shared_arrays", shared_arrays, METH_NOARGS, "NumPy's large arrays are files in memory from here on."},
    {"shared_find", shared_find, METH_O, "The file that a buffer lies in."},
    {NULL, NULL, 0, NULL},
};

int bursar_shared_add(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &type_spec, NULL);
  int status = type ? PyModule_AddObjectRef(module, "Shared", type) : -1;
  Py_XDECREF(type);
  return status != 0 ? -1 : PyModule_AddFunctions(module, functions);
}
