/* owners.c: all that the garbage collector knows, and what that refers to, beside some addresses.
 *
 * Strings and numbers are met from those that refer to them, and from the local variables of running frames, which no object
 * refers to.  What C code alone refers to is not met. */
#include "owners.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FINDS_MOST 4096
#define DEPTH_MOST 20u

struct range {
  uintptr_t from, to;
};

struct search {
  struct range *ranges;
  Py_ssize_t count;
  PyObject *found;  /* list of the results */
  PyObject *local;  /* borrowed: where the value at hand is; NULL: no frame's */
  PyObject *inside; /* borrowed: the container at hand, which the collector does not know; NULL: it is known */
  unsigned depth;
  PyObject *ignore; /* the list of all objects */
  bool failed;
};

static void find(struct search *search, PyObject *object, const void *at, size_t bytes) {
  uintptr_t from = (uintptr_t)at, to = from + bytes;
  Py_ssize_t low = 0, high = search->count;
  while (low < high) {
    Py_ssize_t middle = (low + high) / 2;
    if (search->ranges[middle].to <= from)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < search->count && search->ranges[low].from < to && !search->failed; low++) {
    if (PyList_GET_SIZE(search->found) >= FINDS_MOST)
      return;
    PyObject *one = Py_BuildValue("(nOOO)", low, object, search->local ? search->local : Py_None,
                                  search->inside ? search->inside : Py_None);
    search->failed = !one || PyList_Append(search->found, one) != 0;
    Py_XDECREF(one);
  }
}

/* Whose buffers may be asked for without running anybody's code. */
static bool has_buffer(PyTypeObject *type) {
  static const char *const names[] = {"numpy.ndarray", "array.array", "mmap.mmap", "memoryview"};
  for (; type && type->tp_as_buffer; type = type->tp_base)
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
      if (strcmp(type->tp_name, names[i]) == 0)
        return true;
  return false;
}

static void look_at(struct search *search, PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  Py_buffer view;
  if (PyUnicode_Check(object)) {
    const PyCompactUnicodeObject *compact = (const PyCompactUnicodeObject *)object;
    find(search, object, PyUnicode_DATA(object), (size_t)(PyUnicode_GET_LENGTH(object) * PyUnicode_KIND(object)));
    if (!PyUnicode_IS_ASCII(object) && compact->utf8 && compact->utf8 != PyUnicode_DATA(object))
      find(search, object, compact->utf8, (size_t)compact->utf8_length);
  } else if (PyBytes_Check(object)) {
    find(search, object, PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
  } else if (PyLong_Check(object)) {
    Py_ssize_t digits;
    const digit *at = bursar_int_digits(object, &digits);
    find(search, object, at, (size_t)digits * sizeof *at);
  } else if (PyByteArray_Check(object)) {
    find(search, object, PyByteArray_AS_STRING(object), (size_t)PyByteArray_GET_SIZE(object));
  } else {
    find(search, object, object, (size_t)type->tp_basicsize);
    if (!has_buffer(type))
      return;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) == 0) {
      if (PyBuffer_IsContiguous(&view, 'A'))
        find(search, object, view.buf, (size_t)view.len);
      PyBuffer_Release(&view);
    }
    PyErr_Clear();
  }
}

static int visit(PyObject *object, void *context);

/* All that an object refers to; of dicts the keys too, which their own visit leaves out where all are strings. */
static void look_inside(struct search *search, PyObject *object) {
  PyObject *outer = search->inside, *key;
  Py_ssize_t at = 0;
  if (Py_TYPE(object)->tp_traverse)
    (void)Py_TYPE(object)->tp_traverse(object, visit, search);
  search->inside = object;
  while (PyDict_Check(object) && PyDict_Next(object, &at, &key, NULL))
    (void)visit(key, search);
  search->inside = outer;
}

/* What the collector does not know itself.  Dicts and tuples of plain values are so, too: they hold no cycle. */
static int visit(PyObject *object, void *context) {
  struct search *search = context;
  if (!object || (PyObject_IS_GC(object) && PyObject_GC_IsTracked(object)))
    return search->failed;
  look_at(search, object);
  if ((PyDict_Check(object) || PyTuple_Check(object)) && search->depth < DEPTH_MOST) {
    PyObject *outer = search->inside;
    search->inside = object;
    search->depth++;
    look_inside(search, object);
    search->depth--;
    search->inside = outer;
  }
  return search->failed;
}

static void look_at_frame(struct search *search, const bursar_frame *frame, PyCodeObject *code) {
  for (Py_ssize_t i = 0; i < bursar_frame_local_count(code) && !search->failed; i++) {
    PyObject *value = bursar_frame_local(frame, i);
    if (value && PyCell_Check(value))
      value = PyCell_GET(value);
    if (!value || value == search->ignore || value == search->found)
      continue;
    PyObject *local = Py_BuildValue("(OOO)", bursar_frame_local_name(code, i), code->co_name, code->co_filename);
    search->local = local;
    search->failed = !local;
    if (local)
      (void)visit(value, search);
    search->local = NULL;
    Py_XDECREF(local);
  }
}

/* Under the GIL the other threads' frames stand still. */
static void look_at_frames(struct search *search) {
  PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
  for (; thread; thread = PyThreadState_Next(thread)) {
    const bursar_frame *inner = NULL;
    for (const bursar_frame *frame = bursar_frame_top(thread); frame; frame = bursar_frame_caller(inner = frame)) {
      PyCodeObject *code = bursar_frame_has_locals(frame, inner) ? bursar_frame_code(frame) : NULL;
      if (code)
        look_at_frame(search, frame, code);
    }
  }
}

static struct range *ranges_of(PyObject *list, Py_ssize_t *count) {
  *count = PyList_Check(list) ? PyList_GET_SIZE(list) : -1;
  struct range *ranges = *count >= 0 ? malloc(sizeof *ranges * (size_t)(*count + 1)) : NULL;
  for (Py_ssize_t i = 0; ranges && i < *count; i++) {
    unsigned long long from, to;
    if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "KK", &from, &to)) {
      free(ranges);
      return NULL;
    }
    ranges[i] = (struct range){(uintptr_t)from, (uintptr_t)to};
  }
  if (!ranges && !PyErr_Occurred())
    PyErr_SetString(PyExc_TypeError, "residue_owners() takes a list of (from, to)");
  return ranges;
}

PyObject *bursar_owners_of(PyObject *module, PyObject *list) {
  struct search search = {.found = PyList_New(0)};
  PyObject *gc = PyImport_ImportModule("gc");
  PyObject *all = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
  search.ranges = all && search.found ? ranges_of(list, &search.count) : NULL;
  search.ignore = all;
  search.failed = !search.ranges;
  for (Py_ssize_t i = 0; !search.failed && i < PyList_GET_SIZE(all); i++) {
    PyObject *object = PyList_GET_ITEM(all, i);
    if (object == search.found || object == list)
      continue;
    look_at(&search, object);
    look_inside(&search, object);
  }
  if (!search.failed)
    look_at_frames(&search);
  free(search.ranges);
  Py_XDECREF(all);
  Py_XDECREF(gc);
  if (search.failed)
    Py_CLEAR(search.found);
  return search.found;
}

/* --- whose local variable an object is ----------------------------------------------------------------------------------- */

static int add_local(PyObject *found, const bursar_frame *frame, PyCodeObject *code, Py_ssize_t i) {
  int line = PyCode_Addr2Line(code, 2 * (int)bursar_code_unit(code, bursar_frame_position(frame)));
  PyObject *one = Py_BuildValue("(OOOi)", bursar_frame_local_name(code, i), code->co_name, code->co_filename, line);
  int status = one ? PyList_Append(found, one) : -1;
  Py_XDECREF(one);
  return status;
}

PyObject *bursar_owners_locals(PyObject *module, PyObject *object) {
  PyObject *found = PyList_New(0);
  PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
  for (; thread && found; thread = PyThreadState_Next(thread)) {
    const bursar_frame *inner = NULL;
    for (const bursar_frame *frame = bursar_frame_top(thread); frame && found;
         frame = bursar_frame_caller(inner = frame)) {
      PyCodeObject *code = bursar_frame_has_locals(frame, inner) ? bursar_frame_code(frame) : NULL;
      for (Py_ssize_t i = 0; code && found && i < bursar_frame_local_count(code); i++)
        if (bursar_frame_local(frame, i) == object && add_local(found, frame, code, i) != 0)
          Py_CLEAR(found);
    }
  }
  return found;
}

/* --- what refers to an object ---------------------------------------------------------------------------------------------- */

struct referrers {
  PyObject *object, *found;
  PyObject *at; /* borrowed: whose references are visited */
  unsigned depth;
};

static int visit_referent(PyObject *object, void *context) {
  struct referrers *search = context;
  PyObject *at = search->at;
  if (object == search->object)
    return PyList_Append(search->found, at);
  /* What the collector does not know: it may hold what it does not know either. */
  if (!object || !(PyDict_Check(object) || PyTuple_Check(object)) || PyObject_GC_IsTracked(object) ||
      search->depth == DEPTH_MOST)
    return 0;
  search->at = object;
  search->depth++;
  int status = Py_TYPE(object)->tp_traverse(object, visit_referent, search);
  search->depth--;
  search->at = at;
  return status;
}

PyObject *bursar_owners_referrers(PyObject *module, PyObject *object) {
  struct referrers search = {.object = object, .found = PyList_New(0)};
  PyObject *gc = PyImport_ImportModule("gc");
  PyObject *all = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
  int status = all && search.found ? 0 : -1;
  for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(all); i++) {
    search.at = PyList_GET_ITEM(all, i);
    if (search.at != search.found && search.at != all && Py_TYPE(search.at)->tp_traverse)
      status = Py_TYPE(search.at)->tp_traverse(search.at, visit_referent, &search);
  }
  Py_XDECREF(all);
  Py_XDECREF(gc);
  if (status != 0)
    Py_CLEAR(search.found);
  return search.found;
}

/* --- what malloc has handed out --------------------------------------------------------------------------------------------- */

PyObject *bursar_owners_malloc(PyObject *module, PyObject *unused) {
  struct info { /* glibc's mallinfo2, since 2.33 */
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
  };
  struct info (*ask)(void);
  *(void **)&ask = dlsym(RTLD_DEFAULT, "mallinfo2");
  if (ask) {
    struct info info = ask();
    return PyLong_FromSize_t(info.uordblks + info.hblkhd);
  }
  return PyLong_FromLong(-1);
}
