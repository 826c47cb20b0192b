#include "scope.h"

#include <string.h>

#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "anywhere.h"
#include "charging.h"
#include "frames.h"
#include "hooks.h"

enum state { NEW, OPEN, ENDED };

typedef struct scope {
  PyObject_HEAD PyObject *name;
  PyObject *token;      /* takes the variable back; NULL while it is not set */
  struct scope *around; /* the scope that it was entered in, or NULL */
  enum state state;
  bool events;
  uint32_t slot;                 /* 0: counts nothing */
  uint32_t books;                /* of which start of the books that slot is */
  uint32_t base;                 /* in_c.base before it was entered */
  struct bursar_scope_facts end; /* as it ended */
} Scope;

bool bursar_scope_used;
static PyObject *current; /* the context variable */
static PyTypeObject *scope_type;
static uint32_t books_started;
static PyObject *names;        /* name: its index in some books */
static uint32_t names_started; /* which */

void bursar_scope_start(void) { books_started++; }

/* --- where the thread is --------------------------------------------------------------------------------------------------- */

static bool counts(const Scope *scope) {
  return scope->state == OPEN && scope->slot && scope->books == books_started && bursar_account.active;
}

/* Scopes that C code began in this thread, the innermost last; those below `base` are outside the scope of Python's that was
 * entered last. */
#define C_DEPTH 64u
static __thread struct {
  uint64_t handle[C_DEPTH], before[C_DEPTH]; /* bursar_anywhere_scope, when it began */
  uint32_t depth, base;
} in_c __attribute__((tls_model("initial-exec")));

static uint32_t slot_in_c(void) {
  for (uint32_t i = in_c.depth; i-- > in_c.base;) {
    uint32_t slot = bursar_scopes_slot(in_c.handle[i]);
    if (slot)
      return slot;
  }
  return 0;
}

/* What was begun in a scope may go on after its end (an executor's task): then it is the business of those around it. */
static uint32_t slot_of(const Scope *scope) {
  while (scope && !counts(scope))
    scope = scope->around;
  return scope ? scope->slot : 0;
}

static Scope *scope_here(void) {
  PyObject *found = NULL;
  if (!current || PyContextVar_Get(current, NULL, &found) != 0 || !found)
    return NULL;
  Py_DECREF(found); /* the context keeps it */
  return Py_IS_TYPE(found, scope_type) || PyType_IsSubtype(Py_TYPE(found), scope_type) ? (Scope *)found : NULL;
}

void bursar_scope_follow(void) {
  uint32_t slot = slot_in_c();
  const PyThreadState *thread = bursar_thread();
  if (!slot)
    slot = slot_of(scope_here());
  if (bursar_account.mode == BURSAR_MODE_EXACT)
    bursar_account_scope_gil(slot, thread->context_ver);
  else
    bursar_charges_are_here(thread, thread->context_ver, slot);
  bursar_anywhere_scope = bursar_scopes_handle(slot);
}

/* At once, and not at the thread's next allocation under the GIL: the one after this may be without. */
static void follow_now(void) {
  if (!bursar_account.active)
    return;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  if (bursar_account.mode != BURSAR_MODE_EXACT || bursar_frames_at_hand->thread == bursar_thread() ||
      bursar_frames_tag(BURSAR_DOMAIN_OBJ))
    bursar_scope_follow();
  bursar_anywhere_inside = was;
}

/* --- the type ---------------------------------------------------------------------------------------------------------------- */

static PyObject *scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"name", "events", NULL};
  PyObject *name;
  int events = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$p:scope", keywords, &name, &events))
    return NULL;
  if (PyUnicode_GET_LENGTH(name) == 0) {
    PyErr_SetString(PyExc_ValueError, "a scope needs a name");
    return NULL;
  }
  Scope *self = (Scope *)type->tp_alloc(type, 0);
  if (self) {
    self->name = Py_NewRef(name);
    self->events = events != 0;
  }
  return (PyObject *)self;
}

static int index_of(PyObject *name, uint32_t *index) {
  if (names_started != books_started)
    Py_CLEAR(names);
  names_started = books_started;
  if (!names && !(names = PyDict_New()))
    return -1;
  PyObject *known = PyDict_GetItemWithError(names, name);
  if (known) {
    *index = (uint32_t)PyLong_AsUnsignedLong(known);
    return 0;
  }
  Py_ssize_t bytes;
  const char *text = PyErr_Occurred() ? NULL : PyUnicode_AsUTF8AndSize(name, &bytes);
  if (!text)
    return -1;
  *index = bursar_scopes_name(text, (size_t)bytes);
  PyObject *number = *index ? PyLong_FromUnsignedLong(*index) : NULL;
  if (number && PyDict_Size(names) < 4096)
    (void)PyDict_SetItem(names, name, number);
  Py_XDECREF(number);
  return PyErr_Occurred() ? -1 : 0;
}

static void use(void) {
  bursar_scope_used = true;
  if (bursar_account.mode == BURSAR_MODE_EXACT)
    bursar_hooks_expect_scopes();
  else
    bursar_charging_expect();
}

/* Makes it the scope of the running context. */
static int set(Scope *self) {
  if (!current && !(current = PyContextVar_New("bursar_scope", NULL)))
    return -1;
  self->token = PyContextVar_Set(current, (PyObject *)self);
  if (!self->token)
    return -1;
  self->base = in_c.base;
  in_c.base = in_c.depth;
  use();
  follow_now();
  return 0;
}

static int unset(Scope *self) {
  if (!self->token || PyContextVar_Reset(current, self->token) != 0) {
    if (PyErr_Occurred() && (PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_RuntimeError))) {
      PyErr_Clear();
      PyErr_Format(PyExc_RuntimeError, "scope '%U' was entered in another thread or task: leave it there", self->name);
    }
    return -1;
  }
  Py_CLEAR(self->token);
  in_c.base = self->base;
  follow_now();
  return 0;
}

static PyObject *scope_enter(Scope *self, PyObject *unused) {
  if (self->state != NEW) {
    PyErr_Format(PyExc_RuntimeError, "scope '%U' was entered before: make a new one for each entry", self->name);
    return NULL;
  }
  uint32_t name = 0;
  if (PyInterpreterState_Get() != PyInterpreterState_Main())
    return Py_NewRef(self); /* the books are the main interpreter's */
  if (bursar_account.active && index_of(self->name, &name) != 0)
    return NULL;
  Scope *around = scope_here();
  self->around = (Scope *)Py_XNewRef((PyObject *)around);
  self->books = books_started;
  uint32_t outer = slot_in_c();
  self->slot = bursar_account.active ? bursar_scopes_enter(name, outer ? outer : slot_of(around)) : 0;
  self->state = OPEN;
  if (set(self) != 0) {
    (void)bursar_scopes_end(self->slot);
    self->state = ENDED;
    return NULL;
  }
  if (self->events && counts(self))
    bursar_scopes_event(BURSAR_EVENT_SCOPE_BEGAN, self->slot, 0);
  return Py_NewRef(self);
}

static void end(Scope *self) {
  if (counts(self)) {
    if (self->events)
      bursar_scopes_event(BURSAR_EVENT_SCOPE_ENDED, self->slot, 0);
    self->end = bursar_scopes_end(self->slot);
    bursar_scopes_look_again(self->slot);
  }
  self->state = ENDED;
}

static PyObject *scope_exit(Scope *self, PyObject *args) {
  if (self->state == NEW) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
      Py_RETURN_FALSE;
    PyErr_Format(PyExc_RuntimeError, "scope '%U' was not entered: use it in a with statement", self->name);
    return NULL;
  }
  if (self->state == ENDED) {
    PyErr_Format(PyExc_RuntimeError, "scope '%U' has ended already", self->name);
    return NULL;
  }
  if (self->token && unset(self) != 0)
    return NULL;
  end(self);
  Py_RETURN_FALSE;
}

/* For generators: while one is suspended, its caller is not in its scope. */
static PyObject *scope_suspend(Scope *self, PyObject *unused) {
  if (self->state == OPEN && self->token && unset(self) != 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *scope_resume(Scope *self, PyObject *unused) {
  if (self->state == OPEN && !self->token && set(self) != 0)
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *scope_note(Scope *self, PyObject *text) {
  Py_ssize_t bytes;
  const char *utf8 = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &bytes) : NULL;
  if (!utf8) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "note() takes a string");
    return NULL;
  }
  if (counts(self)) {
    bursar_lock_take();
    uint32_t string = bursar_stacks_string(utf8, (size_t)bytes);
    bursar_lock_give();
    bursar_scopes_event(BURSAR_EVENT_NOTE, self->slot, string);
  }
  Py_RETURN_NONE;
}

/* What its blocks hold after its end is known while its slot is its own. */
static struct bursar_scope_facts facts_of(const Scope *self) {
  if (counts(self))
    return bursar_scopes_read(self->slot);
  struct bursar_scope_facts facts = self->end;
  facts.live_bytes = 0;
  if (self->state == ENDED && self->slot && self->books == books_started && bursar_account.active &&
      facts.serial == bursar_scopes_read(self->slot).serial)
    facts.live_bytes = bursar_scopes_read(self->slot).live_bytes;
  return facts;
}

enum figure { LIVE, PEAK, ALLOCATED, ALLOCATIONS, RETAINED, SECONDS };

static PyObject *scope_figure(Scope *self, void *which) {
  if (self->state == NEW || !self->slot || self->books != books_started)
    Py_RETURN_NONE; /* nothing is known: the books were closed */
  struct bursar_scope_facts facts = facts_of(self);
  switch ((enum figure)(uintptr_t)which) {
    case LIVE: return PyLong_FromLongLong(facts.live_bytes);
    case PEAK: return PyLong_FromUnsignedLongLong(facts.peak_bytes);
    case ALLOCATED: return PyLong_FromUnsignedLongLong(facts.allocated_bytes);
    case ALLOCATIONS: return PyLong_FromUnsignedLongLong(facts.allocations);
    case RETAINED:
      if (self->state != ENDED)
        Py_RETURN_NONE;
      return PyLong_FromLongLong(facts.live_bytes);
    default: return PyFloat_FromDouble((double)facts.time_ns / 1e9);
  }
}

static PyObject *scope_name(Scope *self, void *unused) { return Py_NewRef(self->name); }

static PyObject *scope_events(Scope *self, void *unused) { return PyBool_FromLong(self->events); }

static int scope_traverse(Scope *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->name);
  Py_VISIT(self->token);
  Py_VISIT((PyObject *)self->around);
  return 0;
}

static int scope_clear(Scope *self) {
  Py_CLEAR(self->token);
  Py_CLEAR(self->around);
  return 0;
}

/* One that was never left: a generator that was not finished. */
static void scope_dealloc(Scope *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (self->state == OPEN)
    end(self);
  (void)scope_clear(self);
  Py_CLEAR(self->name);
  type->tp_free(self);
  Py_DECREF(type);
}

/* --- for C --------------------------------------------------------------------------------------------------------------------- */

/* Who holds the GIL changes its hooks; a thread without it does not need to. */
uint64_t bursar_scope_begin(const char *name, size_t bytes) {
  if (bursar_anywhere_inside || !bursar_account.active || in_c.depth == C_DEPTH)
    return 0;
  bursar_anywhere_inside = true;
  bool gil = bursar_holds_main_gil();
  if (gil)
    use();
  if (gil)
    follow_now();
  uint32_t parent = slot_in_c();
  if (!parent)
    parent = bursar_scopes_slot(bursar_anywhere_scope);
  uint32_t slot = gil ? bursar_scopes_enter(bursar_scopes_name(name, bytes), parent)
                      : bursar_scopes_enter_free(bursar_scopes_name(name, bytes), parent);
  uint64_t handle = bursar_scopes_handle(slot);
  if (handle) {
    in_c.before[in_c.depth] = bursar_anywhere_scope;
    in_c.handle[in_c.depth++] = handle;
    bursar_anywhere_scope = handle;
  }
  if (gil)
    follow_now();
  bursar_anywhere_inside = false;
  return handle;
}

void bursar_scope_end(uint64_t handle) {
  uint32_t at = in_c.depth;
  while (at > in_c.base && in_c.handle[at - 1] != handle)
    at--;
  if (!handle || at == in_c.base || bursar_anywhere_inside)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_account.active && bursar_holds_main_gil();
  while (in_c.depth >= at) {
    uint32_t slot = bursar_scopes_slot(in_c.handle[--in_c.depth]);
    (void)bursar_scopes_end(slot);
    if (gil && slot)
      bursar_scopes_look_again(slot);
  }
  bursar_anywhere_scope = in_c.before[in_c.depth];
  if (gil)
    follow_now();
  bursar_anywhere_inside = false;
}

static PyMethodDef methods[] = {
    {"__enter__", (PyCFunction)scope_enter, METH_NOARGS, "Begins an entry of the scope, and returns it."},
    {"__exit__", (PyCFunction)scope_exit, METH_VARARGS, "Ends the entry."},
    {"_suspend", (PyCFunction)scope_suspend, METH_NOARGS, "What follows is outside, until _resume."},
    {"_resume", (PyCFunction)scope_resume, METH_NOARGS, "What follows is inside again."},
    {"note", (PyCFunction)scope_note, METH_O, "Notes a text as an event, with the bytes held now."},
    {NULL, NULL, 0, NULL},
};

#define FIGURE(name, which, doc) {name, (getter)scope_figure, NULL, doc, (void *)(uintptr_t)(which)}
static PyGetSetDef figures[] = {
    {"name", (getter)scope_name, NULL, "The name.", NULL},
    {"events", (getter)scope_events, NULL, "Whether its beginning and its end are noted as events.", NULL},
    FIGURE("live", LIVE, "Bytes that its blocks hold now, those of scopes within it included."),
    FIGURE("peak", PEAK, "The most that live was, in bytes."),
    FIGURE("allocated", ALLOCATED, "Bytes allocated in it."),
    FIGURE("allocations", ALLOCATIONS, "Allocations made in it."),
    FIGURE("retained", RETAINED, "Bytes that outlived it and are still there; None until it has ended."),
    FIGURE("seconds", SECONDS, "How long it lasted, so far."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot type_slots[] = {{Py_tp_new, scope_new},
                                   {Py_tp_dealloc, scope_dealloc},
                                   {Py_tp_traverse, scope_traverse},
                                   {Py_tp_clear, scope_clear},
                                   {Py_tp_methods, methods},
                                   {Py_tp_getset, figures},
                                   {0, NULL}};
static PyType_Spec type_spec = {.name = "bursar._bursar.Scope",
                                .basicsize = sizeof(Scope),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                .slots = type_slots};

/* A program that embeds Python may end an interpreter and begin another: what is kept of the one before is gone. */
static int forget_ended_interpreter(void) {
  PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Main()); /* borrowed */
  if (!dict || PyDict_GetItemString(dict, "bursar"))
    return 0;
  current = names = NULL;
  return PyDict_SetItemString(dict, "bursar", Py_None);
}

int bursar_scope_add_type(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &type_spec, NULL);
  if (!type)
    return -1;
  int status = 0;
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
    status = forget_ended_interpreter();
    scope_type = (PyTypeObject *)type; /* kept by the module, which stays */
  }
  if (status == 0)
    status = PyModule_AddObjectRef(module, "Scope", type);
  Py_DECREF(type);
  return status;
}
