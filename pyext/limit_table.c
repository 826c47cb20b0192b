#include "limit_table.h"

#include <errno.h>

#include "account/account.h"
#include "policy/budget.h"
#include "policy/limits.h"
#include "prim/smaps.h"
#include "refusing.h"
#include "sizes.h"

static const char *const words[BURSAR_LIMIT_KINDS] = {"hard", "soft", "sum"};

static int kind_of(const char *word) {
  for (int kind = 0; kind < BURSAR_LIMIT_KINDS; kind++)
    if (strcmp(words[kind], word) == 0)
      return kind;
  PyErr_Format(PyExc_ValueError, "a limit is hard, soft or sum, not %s", word);
  return -1;
}

static PyObject *refuse(int result, const char *name) {
  const char *whose = name ? name : "the process";
  if (result == -EPERM)
    return PyErr_Format(PyExc_PermissionError, "the limit of %s was set at the start: it can only be made tighter",
                        whose);
  if (result == -ENAMETOOLONG)
    return PyErr_Format(PyExc_ValueError, "a name with limits has at most %u bytes", BURSAR_LIMITS_NAME_MAX);
  if (result == -ENOSPC)
    return PyErr_Format(PyExc_ValueError, "at most %u names may have limits", BURSAR_LIMITS_NAMES);
  return PyErr_Format(PyExc_ValueError, "a limit is 0 or more bytes");
}

static PyObject *limit_set(PyObject *module, PyObject *args) {
  const char *name, *word;
  Py_ssize_t bytes;
  long long limit;
  int live, kind;
  if (!PyArg_ParseTuple(args, "z#sLp:limit_set", &name, &bytes, &word, &limit, &live))
    return NULL;
  if (name && (kind = kind_of(word)) < 0)
    return NULL;
  int result = !name  ? (live ? bursar_limits_change_process : bursar_limits_set_process)(limit)
               : live ? bursar_limits_change(name, (size_t)bytes, (enum bursar_limit)kind, limit)
                      : bursar_limits_set(name, (size_t)bytes, (enum bursar_limit)kind, limit);
  if (result < 0)
    return refuse(result, name);
  if (!name)
    bursar_refusing_follow_process();
  Py_RETURN_NONE;
}

static PyObject *limit_of(PyObject *module, PyObject *args) {
  const char *name, *word;
  Py_ssize_t bytes;
  int kind;
  if (!PyArg_ParseTuple(args, "z#s:limit_of", &name, &bytes, &word))
    return NULL;
  if (!name)
    return PyLong_FromLongLong(bursar_limits_process());
  if ((kind = kind_of(word)) < 0)
    return NULL;
  const struct bursar_limits *found = bursar_limits_find(name, (size_t)bytes);
  return PyLong_FromLongLong(found ? found->now[kind] : 0);
}

static PyObject *limit_read(PyObject *module, PyObject *args) {
  PyObject *given;
  const char *argument, *text;
  int64_t bytes;
  if (!PyArg_ParseTuple(args, "Os:limit_read", &given, &argument))
    return NULL;
  bool share = PyUnicode_Check(given) && (text = PyUnicode_AsUTF8(given)) && strchr(text, '%');
  if (PyErr_Occurred() || (!share && bursar_sizes_read(given, argument, &bytes) != 0))
    return NULL;
  if (share && bursar_limits_parse(text, &bytes) != 0)
    return PyErr_Format(PyExc_ValueError, "%s=%R is no share: write 1%% to 100%%", argument, given);
  return PyLong_FromLongLong(bytes);
}

static PyObject *budget_held(PyObject *module, PyObject *args) {
  const char *name;
  Py_ssize_t bytes;
  if (!PyArg_ParseTuple(args, "z#:budget_held", &name, &bytes))
    return NULL;
  const struct bursar_limits *found = name ? bursar_limits_find(name, (size_t)bytes) : NULL;
  if (!bursar_account.active || (name && !found))
    Py_RETURN_NONE;
  uint64_t resident;
  if (!name && bursar_smaps_resident(0, &resident) == 0)
    bursar_budget_seen(resident);
  return PyLong_FromLongLong(name ? bursar_budget_sum(found) : bursar_budget_held());
}

static int add(PyObject *list, const char *name, size_t bytes, const char *kind, int64_t now, int64_t first) {
  PyObject *one = Py_BuildValue("s#sLL", name, (Py_ssize_t)bytes, kind, (long long)now, (long long)first);
  int status = one ? PyList_Append(list, one) : -1;
  Py_XDECREF(one);
  return status;
}

static PyObject *limits(PyObject *module, PyObject *unused) {
  const struct bursar_limits *at;
  int64_t process = bursar_limits_process(), first = bursar_limits_process_first();
  PyObject *list = PyList_New(0);
  if (list && (process || first) && add(list, "", 0, "", process, first) != 0)
    Py_CLEAR(list);
  for (uint32_t i = 0; list && (at = bursar_limits_at(i)); i++)
    for (int kind = 0; list && kind < BURSAR_LIMIT_KINDS; kind++)
      if ((at->now[kind] || at->first[kind]) &&
          add(list, at->name, at->bytes, words[kind], at->now[kind], at->first[kind]) != 0)
        Py_CLEAR(list);
  return list;
}

static PyMethodDef functions[] = {
    {"limit_set", limit_set, METH_VARARGS, "(name or None: the process, kind, bytes, live)"},
    {"limit_of", limit_of, METH_VARARGS, "(name or None, kind): bytes; 0: none"},
    {"limit_read", limit_read, METH_VARARGS,
     "Bytes, of a size or a share such as 80%; the argument's name is for errors."},
    {"budget_held", budget_held, METH_VARARGS,
     "Bytes held by the entries of a name that has limits, or (None) by the process."},
    {"limits", limits, METH_NOARGS,
     "All of them: (name, kind, bytes, bytes at the start); the process's have neither."},
    {NULL, NULL, 0, NULL},
};

int bursar_limit_table_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
