#include "container.h"

#include <stdlib.h>
#include <string.h>

#include "model/archive.h"
#include "model/hashes.h"
#include "model/save.h"
#include "model/unsealed.h"

#define AT_ONCE (64u << 20) /* written before signals are looked for */

static PyObject *raise(const struct bursar_error *error) {
  PyErr_SetString(PyExc_ValueError, error->text);
  return NULL;
}

static PyObject *text_of(struct bursar_text text) {
  return PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, "strict");
}

/* Borrowed from the string. */
static int as_text(PyObject *string, struct bursar_text *out) {
  Py_ssize_t length;
  if (!PyUnicode_Check(string)) {
    PyErr_Format(PyExc_TypeError, "names and metadata are str, not %s", Py_TYPE(string)->tp_name);
    return -1;
  }
  const char *bytes = PyUnicode_AsUTF8AndSize(string, &length);
  if (!bytes || length > (Py_ssize_t)UINT32_MAX) {
    if (bytes)
      PyErr_SetString(PyExc_ValueError, "a name of more than 4 GiB");
    return -1;
  }
  *out = (struct bursar_text){bytes, (uint32_t)length};
  return 0;
}

/* --- a sealed file ------------------------------------------------------------------------------------------------------ */

struct unsealed {
  PyObject_HEAD struct bursar_unsealed file;
  char *path;
};

static int take_identities(PyObject *texts, const char *path, struct bursar_age_keys *keys) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(texts); i++) {
    struct bursar_error error = {0};
    struct bursar_age_identity *more = NULL, *all;
    size_t count = 0;
    Py_buffer view;
    if (PyObject_GetBuffer(PyList_GET_ITEM(texts, i), &view, PyBUF_SIMPLE) != 0)
      return -1;
    int status = bursar_age_identities_parse(view.buf, (size_t)view.len, "the identity", &more, &count, &error);
    PyBuffer_Release(&view);
    if (status < 0) {
      raise(&error);
      return -1;
    }
    all = realloc(keys->identities, (keys->count + count) * sizeof *all);
    if (!all) {
      bursar_age_forget(more, count);
      PyErr_NoMemory();
      return -1;
    }
    memcpy(all + keys->count, more, count * sizeof *all);
    free(more);
    keys->identities = all;
    keys->count += count;
  }
  return 0;
}

/* Into a slot of its own, so that the GIL need not be held meanwhile. */
static int take_passphrase(PyObject *passphrase, struct bursar_vault_slot *slot, struct bursar_age_keys *keys) {
  struct bursar_error error = {0};
  Py_buffer view;
  if (passphrase == Py_None)
    return 0;
  if (PyObject_GetBuffer(passphrase, &view, PyBUF_SIMPLE) != 0)
    return -1;
  int status = bursar_vault_take((size_t)view.len, slot, &error);
  if (status == 0) {
    keys->passphrase = slot;
    status = bursar_vault_open(slot, true, &error);
    if (status == 0) {
      memcpy(slot->data, view.buf, (size_t)view.len);
      status = bursar_vault_close(slot, true, &error);
    }
  }
  PyBuffer_Release(&view);
  if (status < 0)
    raise(&error);
  return status < 0 ? -1 : 0;
}

static PyObject *unsealed_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  int fd;
  const char *path;
  PyObject *identities, *passphrase;
  struct bursar_error error = {0};
  struct bursar_age_keys keys = {NULL};
  struct bursar_vault_slot slot;
  if (!PyArg_ParseTuple(args, "isO!O:Unsealed", &fd, &path, &PyList_Type, &identities, &passphrase))
    return NULL;
  struct unsealed *self = (struct unsealed *)type->tp_alloc(type, 0);
  if (self && !(self->path = strdup(path))) {
    PyErr_NoMemory();
    Py_CLEAR(self);
  }
  if (self && (take_identities(identities, path, &keys) != 0 || take_passphrase(passphrase, &slot, &keys) != 0))
    Py_CLEAR(self);
  if (self) {
    int status;
    Py_BEGIN_ALLOW_THREADS status = bursar_unsealed_begin(fd, self->path, &keys, &self->file, &error);
    Py_END_ALLOW_THREADS if (status < 0) {
      raise(&error);
      Py_CLEAR(self);
    }
  }
  if (keys.passphrase)
    (void)!bursar_vault_return(&slot, NULL);
  bursar_age_forget(keys.identities, keys.count);
  return (PyObject *)self;
}

static void unsealed_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  bursar_unsealed_end(&((struct unsealed *)self)->file);
  free(((struct unsealed *)self)->path);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyType_Slot unsealed_slots[] = {
    {Py_tp_doc, "Unsealed(fd, path, identities, passphrase): a sealed file, decrypted as it is read."},
    {Py_tp_new, unsealed_new},
    {Py_tp_dealloc, unsealed_dealloc},
    {0, NULL}};
static PyType_Spec unsealed_spec = {"bursar._bursar.Unsealed", sizeof(struct unsealed), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, unsealed_slots};

/* --- a container --------------------------------------------------------------------------------------------------------- */

struct container {
  PyObject_HEAD struct bursar_archive archive;
  PyObject *unsealed; /* what it reads from; NULL: a file */
  char *path;
};

static const struct bursar_safetensors *shown_of(PyObject *self) { return ((struct container *)self)->archive.shown; }

static PyObject *container_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  int fd;
  const char *path;
  PyObject *unsealed = Py_None;
  struct bursar_error error = {0};
  struct bursar_source source;
  if (!PyArg_ParseTuple(args, "is|O:Container", &fd, &path, &unsealed))
    return NULL;
  if (unsealed != Py_None && Py_TYPE(unsealed)->tp_dealloc != unsealed_dealloc)
    return PyErr_Format(PyExc_TypeError, "Container() takes an Unsealed");
  struct container *self = (struct container *)type->tp_alloc(type, 0);
  if (!self)
    return NULL;
  if (!(self->path = strdup(path))) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  int status = 0;
  if (unsealed == Py_None) {
    status = bursar_source_of_file(fd, self->path, &source, &error);
  } else {
    self->unsealed = Py_NewRef(unsealed);
    source = bursar_source_of_sealed(&((struct unsealed *)unsealed)->file);
  }
  if (status == 0) {
    Py_BEGIN_ALLOW_THREADS status = bursar_archive_open(source, &self->archive, &error);
    Py_END_ALLOW_THREADS
  }
  if (status == 0)
    return (PyObject *)self;
  Py_DECREF(self);
  return raise(&error);
}

static void container_dealloc(PyObject *self) {
  struct container *container = (struct container *)self;
  PyTypeObject *type = Py_TYPE(self);
  bursar_archive_close(&container->archive);
  Py_XDECREF(container->unsealed);
  free(container->path);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *shape_of(const struct bursar_tensor *tensor) {
  PyObject *shape = PyTuple_New((Py_ssize_t)tensor->rank);
  for (uint32_t i = 0; shape && i < tensor->rank; i++) {
    PyObject *size = PyLong_FromUnsignedLongLong(tensor->shape[i]);
    if (size)
      PyTuple_SET_ITEM(shape, (Py_ssize_t)i, size);
    else
      Py_CLEAR(shape);
  }
  return shape;
}

/* (dtype, shape, from, to) */
static PyObject *facts_of(const struct bursar_tensor *tensor) {
  PyObject *shape = shape_of(tensor);
  return shape ? Py_BuildValue("sNKK", bursar_dtype_facts[tensor->dtype].name, shape, (unsigned long long)tensor->from,
                               (unsigned long long)tensor->to)
               : NULL;
}

static const struct bursar_tensor *find(PyObject *self, PyObject *name) {
  struct bursar_text text;
  if (as_text(name, &text) != 0)
    return NULL;
  const struct bursar_tensor *tensor = bursar_safetensors_find(shown_of(self), text);
  if (!tensor)
    PyErr_SetObject(PyExc_KeyError, name);
  return tensor;
}

static PyObject *container_item(PyObject *self, PyObject *name) {
  const struct bursar_tensor *tensor = find(self, name);
  return tensor ? facts_of(tensor) : NULL;
}

/* Where it lies in the file; None: it has to be decrypted, or unpacked. */
static PyObject *container_place(PyObject *self, PyObject *name) {
  const struct container *container = (const struct container *)self;
  const struct bursar_tensor *tensor = find(self, name);
  bool packed;
  if (!tensor)
    return NULL;
  const struct bursar_tensor *stored = bursar_archive_stored(&container->archive, tensor, &packed);
  if (packed || container->unsealed)
    Py_RETURN_NONE;
  return PyLong_FromUnsignedLongLong(container->archive.stored->data_at + stored->from);
}

static PyObject *container_stored(PyObject *self, PyObject *name) {
  const struct bursar_tensor *tensor = find(self, name);
  bool packed;
  if (!tensor)
    return NULL;
  const struct bursar_tensor *stored = bursar_archive_stored(&((struct container *)self)->archive, tensor, &packed);
  return PyLong_FromUnsignedLongLong(stored->to - stored->from);
}

static PyObject *container_read(PyObject *self, PyObject *args) {
  struct bursar_error error = {0};
  PyObject *name;
  unsigned long long from;
  unsigned threads;
  Py_buffer view;
  if (!PyArg_ParseTuple(args, "OKw*I:read", &name, &from, &view, &threads))
    return NULL;
  const struct bursar_tensor *tensor = find(self, name);
  int status = 0;
  if (tensor && (from > tensor->to - tensor->from || (uint64_t)view.len > tensor->to - tensor->from - from))
    PyErr_Format(PyExc_ValueError, "%R has less bytes", name);
  else if (tensor) {
    Py_BEGIN_ALLOW_THREADS status = bursar_archive_read(&((struct container *)self)->archive, tensor, from, view.buf,
                                                        (size_t)view.len, threads, &error);
    Py_END_ALLOW_THREADS
  }
  PyBuffer_Release(&view);
  if (status < 0)
    raise(&error);
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

struct filling {
  struct bursar_archive_wanted *wanted;
  Py_buffer *views;
  Py_ssize_t count; /* views that are held */
};

static int fill_prepare(PyObject *self, PyObject *names, PyObject *buffers, struct filling *filling) {
  Py_ssize_t count = PyList_GET_SIZE(names);
  if (PyList_GET_SIZE(buffers) != count) {
    PyErr_SetString(PyExc_ValueError, "a buffer for each name");
    return -1;
  }
  filling->wanted = PyMem_Calloc((size_t)count + 1, sizeof *filling->wanted);
  filling->views = PyMem_Calloc((size_t)count + 1, sizeof *filling->views);
  if (!filling->wanted || !filling->views) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    const struct bursar_tensor *tensor = find(self, PyList_GET_ITEM(names, i));
    Py_buffer *view = &filling->views[i];
    if (!tensor || PyObject_GetBuffer(PyList_GET_ITEM(buffers, i), view, PyBUF_WRITABLE) != 0)
      return -1;
    filling->count++;
    if ((uint64_t)view->len != tensor->to - tensor->from || !PyBuffer_IsContiguous(view, 'C')) {
      PyErr_Format(PyExc_ValueError, "the buffer is not as large as %R", PyList_GET_ITEM(names, i));
      return -1;
    }
    filling->wanted[i] = (struct bursar_archive_wanted){tensor, view->buf};
  }
  return 0;
}

static PyObject *container_read_all(PyObject *self, PyObject *args) {
  struct bursar_error error = {0};
  struct filling filling = {NULL};
  PyObject *names, *buffers;
  unsigned threads;
  if (!PyArg_ParseTuple(args, "O!O!I:read_all", &PyList_Type, &names, &PyList_Type, &buffers, &threads))
    return NULL;
  int status = 0;
  if (fill_prepare(self, names, buffers, &filling) == 0) {
    Py_BEGIN_ALLOW_THREADS status = bursar_archive_read_all(&((struct container *)self)->archive, filling.wanted,
                                                            (size_t)filling.count, threads, &error);
    Py_END_ALLOW_THREADS
  }
  for (Py_ssize_t i = 0; i < filling.count; i++)
    PyBuffer_Release(&filling.views[i]);
  PyMem_Free(filling.wanted);
  PyMem_Free(filling.views);
  if (status < 0)
    raise(&error);
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *container_verify(PyObject *self, PyObject *arg) {
  struct bursar_error error = {0};
  unsigned long threads = PyLong_AsUnsignedLong(arg);
  int status;
  if (PyErr_Occurred())
    return NULL;
  Py_BEGIN_ALLOW_THREADS status = bursar_hashes_verify(&((struct container *)self)->archive, (unsigned)threads, &error);
  Py_END_ALLOW_THREADS if (status < 0) return raise(&error);
  Py_RETURN_NONE;
}

static PyObject *container_unchanged(PyObject *self, PyObject *unused) {
  const struct bursar_source *source = &((struct container *)self)->archive.source;
  struct bursar_error error = {0};
  if (bursar_source_unchanged(source->fd, source->path, &source->state, &error) < 0)
    return raise(&error);
  Py_RETURN_NONE;
}

static PyObject *container_load_bytes(PyObject *self, PyObject *arg) {
  unsigned long threads = PyLong_AsUnsignedLong(arg);
  return PyErr_Occurred() ? NULL
                          : PyLong_FromUnsignedLongLong(bursar_archive_load_bytes(&((struct container *)self)->archive,
                                                                                  (unsigned)threads));
}

static Py_ssize_t container_length(PyObject *self) { return (Py_ssize_t)shown_of(self)->count; }

static PyObject *container_names(PyObject *self, PyObject *unused) {
  const struct bursar_safetensors *read = shown_of(self);
  PyObject *names = PyList_New((Py_ssize_t)read->count);
  for (size_t i = 0; names && i < read->count; i++) {
    PyObject *name = text_of(read->tensors[i].name);
    if (name)
      PyList_SET_ITEM(names, (Py_ssize_t)i, name);
    else
      Py_CLEAR(names);
  }
  return names;
}

static PyObject *container_metadata(PyObject *self, void *unused) {
  const struct bursar_safetensors *read = shown_of(self);
  PyObject *metadata = PyDict_New();
  for (size_t i = 0; metadata && i < read->metadata_count; i++) {
    PyObject *key = text_of(read->metadata[i].key), *value = key ? text_of(read->metadata[i].value) : NULL;
    if (!value || PyDict_SetItem(metadata, key, value) != 0)
      Py_CLEAR(metadata);
    Py_XDECREF(key);
    Py_XDECREF(value);
  }
  return metadata;
}

static PyObject *container_data_bytes(PyObject *self, void *unused) {
  return PyLong_FromUnsignedLongLong(shown_of(self)->data_bytes);
}

static PyMethodDef container_methods[] = {
    {"names", container_names, METH_NOARGS, "Of all tensors, in the order of their bytes."},
    {"place", container_place, METH_O,
     "Where a tensor lies in the file; None where it has to be decrypted or unpacked."},
    {"stored", container_stored, METH_O, "The bytes that it has in the file."},
    {"read", container_read, METH_VARARGS, "(name, from, buffer, threads): fills the buffer with bytes of a tensor."},
    {"read_all", container_read_all, METH_VARARGS, "(names, buffers, threads): fills each with a tensor, whole."},
    {"verify", container_verify, METH_O, "(threads): against its own hashes."},
    {"unchanged", container_unchanged, METH_NOARGS, "Raises where the file was written to since it was opened."},
    {"load_bytes", container_load_bytes, METH_O, "(threads): what a load takes at its peak."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef container_gets[] = {{"metadata", container_metadata, NULL, "Texts by name.", NULL},
                                       {"data_bytes", container_data_bytes, NULL, "Of all tensors.", NULL},
                                       {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot container_slots[] = {
    {Py_tp_doc, "Container(fd, path): what a safetensors file holds; [name] is (dtype, shape, from, to)."},
    {Py_tp_new, container_new},
    {Py_tp_dealloc, container_dealloc},
    {Py_tp_methods, container_methods},
    {Py_tp_getset, container_gets},
    {Py_mp_subscript, container_item},
    {Py_mp_length, container_length},
    {0, NULL}};
static PyType_Spec container_spec = {"bursar._bursar.Container", sizeof(struct container), 0,
                                     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, container_slots};

/* --- a header to be written ---------------------------------------------------------------------------------------------- */

struct header {
  struct bursar_tensor *tensors;
  uint64_t *numbers;
  struct bursar_safetensors_pair *pairs;
  Py_ssize_t count, pair_count;
};

/* The names of the tensors stay the strings' of `specs`. */
static int take_spec(struct header *header, PyObject *spec, Py_ssize_t i, size_t *numbers) {
  PyObject *name, *dtype, *shape;
  struct bursar_text type;
  struct bursar_tensor *tensor = &header->tensors[i];
  if (!PyArg_ParseTuple(spec, "OOO!;a tensor is (name, dtype, shape)", &name, &dtype, &PyTuple_Type, &shape) ||
      as_text(name, &tensor->name) != 0 || as_text(dtype, &type) != 0)
    return -1;
  tensor->dtype = bursar_dtype_of(type);
  if (tensor->dtype == BURSAR_DTYPES) {
    PyErr_Format(PyExc_ValueError, "%R is no type of a safetensors file", dtype);
    return -1;
  }
  tensor->rank = (uint32_t)PyTuple_GET_SIZE(shape);
  tensor->shape = header->numbers + *numbers;
  for (uint32_t k = 0; k < tensor->rank; k++) {
    unsigned long long size = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(shape, k));
    if (size == (unsigned long long)-1 && PyErr_Occurred())
      return -1;
    header->numbers[(*numbers)++] = size;
  }
  return 0;
}

static int take(struct header *header, PyObject *specs, PyObject *metadata) {
  PyObject *key, *value;
  Py_ssize_t at = 0;
  size_t numbers = 0;
  header->count = PyList_GET_SIZE(specs);
  for (Py_ssize_t i = 0; i < header->count; i++) {
    PyObject *spec = PyList_GET_ITEM(specs, i);
    if (!PyTuple_Check(spec) || PyTuple_GET_SIZE(spec) != 3 || !PyTuple_Check(PyTuple_GET_ITEM(spec, 2))) {
      PyErr_SetString(PyExc_TypeError, "a tensor is (name, dtype, shape)");
      return -1;
    }
    numbers += (size_t)PyTuple_GET_SIZE(PyTuple_GET_ITEM(spec, 2));
  }
  header->tensors = calloc((size_t)header->count + 1, sizeof *header->tensors);
  header->numbers = calloc(numbers + 1, sizeof *header->numbers);
  header->pairs = calloc((size_t)PyDict_GET_SIZE(metadata) + 1, sizeof *header->pairs);
  if (!header->tensors || !header->numbers || !header->pairs) {
    PyErr_NoMemory();
    return -1;
  }
  numbers = 0;
  for (Py_ssize_t i = 0; i < header->count; i++)
    if (take_spec(header, PyList_GET_ITEM(specs, i), i, &numbers) != 0)
      return -1;
  while (PyDict_Next(metadata, &at, &key, &value)) {
    struct bursar_safetensors_pair *pair = &header->pairs[header->pair_count++];
    if (as_text(key, &pair->key) != 0 || as_text(value, &pair->value) != 0)
      return -1;
  }
  return 0;
}

static PyObject *places_of(const struct header *header) {
  PyObject *places = PyList_New(header->count);
  for (Py_ssize_t i = 0; places && i < header->count; i++) {
    const struct bursar_tensor *tensor = &header->tensors[i];
    PyObject *name = text_of(tensor->name);
    PyObject *place =
        name ? Py_BuildValue("NKK", name, (unsigned long long)tensor->from, (unsigned long long)tensor->to) : NULL;
    if (place)
      PyList_SET_ITEM(places, i, place);
    else
      Py_CLEAR(places);
  }
  return places;
}

static PyObject *make_header(PyObject *module, PyObject *args) {
  PyObject *specs, *metadata, *result = NULL;
  struct bursar_error error = {0};
  struct bursar_buffer out;
  struct header header = {0};
  int in_order;
  Py_ssize_t least;
  if (!PyArg_ParseTuple(args, "O!O!pn:safetensors_header", &PyList_Type, &specs, &PyDict_Type, &metadata, &in_order,
                        &least))
    return NULL;
  bursar_buffer_init(&out, BURSAR_SAFETENSORS_HEADER_MOST + BURSAR_SAFETENSORS_LENGTH);
  if (take(&header, specs, metadata) != 0)
    goto out;
  if (bursar_safetensors_header(header.tensors, (size_t)header.count, in_order != 0, (size_t)(least > 0 ? least : 0),
                                header.pairs, (size_t)header.pair_count, &out, &error) != 0) {
    raise(&error);
    goto out;
  }
  if (bursar_buffer_finish(&out) != 0) {
    PyErr_NoMemory();
    goto out;
  }
  PyObject *places = places_of(&header);
  result = places ? Py_BuildValue("y#N", out.data, (Py_ssize_t)out.used, places) : NULL;
out:
  bursar_buffer_free(&out);
  free(header.tensors);
  free(header.numbers);
  free(header.pairs);
  return result;
}

/* --- a file that is being saved ------------------------------------------------------------------------------------------ */

struct saving {
  PyObject_HEAD struct bursar_save save;
};

static PyObject *failed(const struct bursar_error *error) {
  PyErr_SetString(PyExc_OSError, error->text);
  return NULL;
}

static PyObject *saving_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  PyObject *path;
  struct bursar_error error = {0};
  if (!PyArg_ParseTuple(args, "O&:Saving", PyUnicode_FSConverter, &path))
    return NULL;
  struct saving *self = (struct saving *)type->tp_alloc(type, 0);
  if (self)
    self->save.fd = -1;
  if (self && bursar_save_begin(PyBytes_AS_STRING(path), &self->save, &error) != 0) {
    Py_CLEAR(self);
    failed(&error);
  }
  Py_DECREF(path);
  return (PyObject *)self;
}

static void saving_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  bursar_save_abandon(&((struct saving *)self)->save);
  type->tp_free(self);
  Py_DECREF(type);
}

static struct bursar_save *open_save(PyObject *self) {
  struct bursar_save *save = &((struct saving *)self)->save;
  if (save->fd >= 0)
    return save;
  PyErr_SetString(PyExc_ValueError, "the file was saved or given up already");
  return NULL;
}

static PyObject *saving_expect(PyObject *self, PyObject *arg) {
  struct bursar_save *save = open_save(self);
  struct bursar_error error = {0};
  unsigned long long bytes = save ? PyLong_AsUnsignedLongLong(arg) : 0;
  if (!save || (bytes == (unsigned long long)-1 && PyErr_Occurred()))
    return NULL;
  int status;
  Py_BEGIN_ALLOW_THREADS status = bursar_save_expect(save, bytes, &error);
  Py_END_ALLOW_THREADS if (status < 0) return failed(&error);
  Py_RETURN_NONE;
}

static PyObject *saving_write(PyObject *self, PyObject *arg) {
  struct bursar_save *save = open_save(self);
  struct bursar_error error = {0};
  Py_buffer view;
  if (!save || PyObject_GetBuffer(arg, &view, PyBUF_C_CONTIGUOUS) != 0)
    return NULL;
  int status = 0;
  for (Py_ssize_t at = 0; at < view.len && status == 0 && PyErr_CheckSignals() == 0;) {
    size_t bytes = view.len - at < (Py_ssize_t)AT_ONCE ? (size_t)(view.len - at) : AT_ONCE;
    Py_BEGIN_ALLOW_THREADS status = bursar_save_write(save, (const char *)view.buf + at, bytes, &error);
    Py_END_ALLOW_THREADS at += (Py_ssize_t)bytes;
  }
  PyBuffer_Release(&view);
  if (PyErr_Occurred())
    return NULL;
  if (status < 0)
    return failed(&error);
  Py_RETURN_NONE;
}

static PyObject *saving_overwrite(PyObject *self, PyObject *arg) {
  struct bursar_save *save = open_save(self);
  struct bursar_error error = {0};
  Py_buffer view;
  if (!save || PyObject_GetBuffer(arg, &view, PyBUF_C_CONTIGUOUS) != 0)
    return NULL;
  int status;
  Py_BEGIN_ALLOW_THREADS status = bursar_save_overwrite(save, 0, view.buf, (size_t)view.len, &error);
  Py_END_ALLOW_THREADS PyBuffer_Release(&view);
  if (status < 0)
    return failed(&error);
  Py_RETURN_NONE;
}

static PyObject *saving_fileno(PyObject *self, PyObject *unused) {
  const struct bursar_save *save = open_save(self);
  return save ? PyLong_FromLong(save->fd) : NULL;
}

static PyObject *saving_commit(PyObject *self, PyObject *unused) {
  struct bursar_save *save = open_save(self);
  struct bursar_error error = {0};
  if (!save)
    return NULL;
  int status;
  Py_BEGIN_ALLOW_THREADS status = bursar_save_commit(save, &error);
  Py_END_ALLOW_THREADS if (status < 0) return failed(&error);
  Py_RETURN_NONE;
}

static PyObject *saving_abandon(PyObject *self, PyObject *unused) {
  bursar_save_abandon(&((struct saving *)self)->save);
  Py_RETURN_NONE;
}

static PyObject *saving_enter(PyObject *self, PyObject *unused) { return open_save(self) ? Py_NewRef(self) : NULL; }

/* Without an error the file is in its place; with one nothing has changed. */
static PyObject *saving_exit(PyObject *self, PyObject *args) {
  PyObject *type, *value, *traceback;
  if (!PyArg_ParseTuple(args, "OOO", &type, &value, &traceback))
    return NULL;
  bool ended = ((struct saving *)self)->save.fd < 0;
  return type == Py_None && !ended ? saving_commit(self, NULL) : saving_abandon(self, NULL);
}

static PyMethodDef saving_methods[] = {
    {"expect", saving_expect, METH_O, "So many bytes will be written."},
    {"write", saving_write, METH_O, "All of a buffer."},
    {"overwrite", saving_overwrite, METH_O, "All of a buffer, at the beginning of what was written."},
    {"fileno", saving_fileno, METH_NOARGS, "Of the file, which has no name yet."},
    {"commit", saving_commit, METH_NOARGS, "On the disk, and in its place."},
    {"abandon", saving_abandon, METH_NOARGS, "Nothing is left of it."},
    {"__enter__", saving_enter, METH_NOARGS, NULL},
    {"__exit__", saving_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyType_Slot saving_slots[] = {{Py_tp_doc, "Saving(path): a file that is there whole, or not at all."},
                                     {Py_tp_new, saving_new},
                                     {Py_tp_dealloc, saving_dealloc},
                                     {Py_tp_methods, saving_methods},
                                     {0, NULL}};
static PyType_Spec saving_spec = {"bursar._bursar.Saving", sizeof(struct saving), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, saving_slots};

int bursar_container_add(PyObject *module) {
  static PyMethodDef functions[] = {
      {"safetensors_header", make_header, METH_VARARGS, "(length and header, [(name, from, to)] in their order)."},
      {NULL, NULL, 0, NULL}};
  PyType_Spec *specs[] = {&container_spec, &saving_spec, &unsealed_spec};
  for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
    PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
    int status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    if (status != 0)
      return -1;
  }
  PyObject *dtypes = PyDict_New();
  for (unsigned i = 0; dtypes && i < BURSAR_DTYPES; i++) {
    PyObject *bits = PyLong_FromUnsignedLong(bursar_dtype_facts[i].bits);
    if (!bits || PyDict_SetItemString(dtypes, bursar_dtype_facts[i].name, bits) != 0)
      Py_CLEAR(dtypes);
    Py_XDECREF(bits);
  }
  int status = dtypes ? PyModule_AddObjectRef(module, "DTYPES", dtypes) : -1;
  Py_XDECREF(dtypes);
  return status != 0 ? -1 : PyModule_AddFunctions(module, functions);
}
