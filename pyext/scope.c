#include "scope.h"

#include <string.h>

#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "anywhere.h"
#include "charging.h"
#include "frames.h"
#include "hideouts.h"
#include "hooks.h"
#include "ledger/events.h"
#include "policy/budget.h"
#include "policy/limits.h"
#include "policy/rest.h"
#include "refusing.h"
#include "sizes.h"
#include "verdicts.h"
#include "wiping.h"

enum state { NEW, OPEN, ENDED };

typedef struct scope {
  PyObject_HEAD PyObject *name;
  PyObject *token;      /* takes the variable back; NULL while it is not set */
  struct scope *around; /* the scope that it was entered in, or NULL */
  enum state state;
  bool events;
  bool wipe;
  struct bursar_open open;       /* what is opened in it and left open */
  int64_t hard, soft;            /* limits in bytes; 0: none */
  PyObject *on_soft;             /* called once soft is passed; NULL: nobody */
  struct bursar_budget budget;   /* as it ended */
  PyObject *prove;               /* secrets that nothing may be left of at its end; NULL: none */
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

void bursar_scope_start(void) {
  books_started++;
  bursar_budget_forget();
}

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

/* While the variable changes it may not be asked: what is asked for it then stays in its cache, and is not its value any more
 * after that (a reset allocates in the midst of it). */
static __thread bool changing __attribute__((tls_model("initial-exec")));
static __thread Scope *meanwhile __attribute__((tls_model("initial-exec")));

static Scope *scope_here(void) {
  PyObject *found = NULL;
  if (changing)
    return meanwhile;
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

uint32_t bursar_scope_slot(void) {
  uint32_t slot = slot_in_c();
  return slot ? slot : slot_of(scope_here());
}

PyObject *bursar_scope_with(uint32_t slot) {
  Scope *scope = scope_here();
  while (scope && !(scope->slot == slot && counts(scope)))
    scope = scope->around;
  return (PyObject *)scope;
}

bool bursar_scope_wipes(void) {
  const Scope *scope = scope_here();
  while (scope && !(scope->wipe && scope->state == OPEN))
    scope = scope->around;
  return scope != NULL;
}

struct bursar_open *bursar_scope_open(PyObject *value, PyObject **scope) {
  Scope *at = scope_type && PyType_IsSubtype(Py_TYPE(value), scope_type) ? (Scope *)value : NULL;
  while (at && !(at->open.watch && at->state == OPEN))
    at = at->around;
  *scope = (PyObject *)at;
  return at ? &at->open : NULL;
}

PyObject *bursar_scope_open_around(PyObject *scope) {
  PyObject *found = NULL;
  bool known = PyType_IsSubtype(Py_TYPE(scope), scope_type) && ((Scope *)scope)->around;
  return known && bursar_scope_open((PyObject *)((Scope *)scope)->around, &found) ? found : NULL;
}

/* At once, and not at the thread's next allocation under the GIL: the one after this may be without. */
static void follow_now(void) {
  bursar_wiping_follow();
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

static int limit_of(PyObject *given, const char *argument, int64_t *out) {
  return given == Py_None ? 0 : bursar_sizes_read(given, argument, out);
}

static int limits_of(PyObject *hard, PyObject *soft, PyObject *on_soft, int64_t limits[2]) {
  if (limit_of(hard, "hard", &limits[0]) != 0 || limit_of(soft, "soft", &limits[1]) != 0)
    return -1;
  if (limits[0] && limits[1] > limits[0]) {
    PyErr_Format(PyExc_ValueError, "soft=%R is above hard=%R: nobody would be told before it is refused", soft, hard);
    return -1;
  }
  if (on_soft != Py_None && !(PyCallable_Check(on_soft) && limits[1])) {
    PyErr_SetString(PyExc_ValueError, "on_soft takes something to call, and needs soft=");
    return -1;
  }
  return 0;
}

static PyObject *scope_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *keywords[] = {"name", "hard", "soft", "events", "wipe", "prove", "left_open", "on_soft", NULL};
  PyObject *name, *prove = Py_None, *left_open = NULL, *hard = Py_None, *soft = Py_None, *on_soft = Py_None;
  int64_t limits[2] = {0};
  int events = 0, wipe = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$OOppOOO:scope", keywords, &name, &hard, &soft, &events, &wipe,
                                   &prove, &left_open, &on_soft) ||
      limits_of(hard, soft, on_soft, limits) != 0 || (on_soft != Py_None && bursar_refusing_listen() != 0))
    return NULL;
  if (prove != Py_None && !(wipe && PyList_Check(prove))) {
    PyErr_SetString(PyExc_ValueError, "prove takes a list of secrets, and needs wipe=True");
    return NULL;
  }
  if (PyUnicode_GET_LENGTH(name) == 0) {
    PyErr_SetString(PyExc_ValueError, "a scope needs a name");
    return NULL;
  }
  Scope *self = (Scope *)type->tp_alloc(type, 0);
  if (self) {
    self->name = Py_NewRef(name);
    self->events = events != 0;
    self->wipe = wipe != 0;
    self->prove = prove == Py_None ? NULL : Py_NewRef(prove);
    self->hard = limits[0];
    self->soft = limits[1];
    self->on_soft = on_soft == Py_None ? NULL : Py_NewRef(on_soft);
    if (bursar_open_ask(&self->open, left_open, name) != 0)
      Py_CLEAR(self);
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

static int make_variable(void) {
  if (!current)
    current = PyContextVar_New("bursar_scope", NULL);
  return current ? 0 : -1;
}

/* Makes it the scope of the running context. */
static int set(Scope *self) {
  if (!current && !(current = PyContextVar_New("bursar_scope", NULL)))
    return -1;
  changing = true;
  meanwhile = self->around;
  self->token = PyContextVar_Set(current, (PyObject *)self);
  changing = false;
  if (!self->token)
    return -1;
  self->base = in_c.base;
  in_c.base = in_c.depth;
  use();
  follow_now();
  return 0;
}

static int unset(Scope *self) {
  changing = true;
  meanwhile = self->around;
  int status = self->token ? PyContextVar_Reset(current, self->token) : -1;
  changing = false;
  if (status != 0) {
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

/* What is set for its name from outside, whose place is kept by the name's index. */
static const struct bursar_limits *named(const Scope *self, uint32_t name) {
  static const struct bursar_limits nothing, *known[1024];
  static uint32_t of_changes, of_books;
  if (!bursar_limits_changes)
    return NULL;
  if (of_changes != bursar_limits_changes || of_books != books_started) {
    memset(known, 0, sizeof known);
    of_changes = bursar_limits_changes;
    of_books = books_started;
  }
  const struct bursar_limits **at = name < sizeof known / sizeof *known ? &known[name] : NULL;
  if (at && *at)
    return *at == &nothing ? NULL : *at;
  Py_ssize_t bytes;
  const char *text = PyUnicode_AsUTF8AndSize(self->name, &bytes);
  const struct bursar_limits *found = text ? bursar_limits_find(text, (size_t)bytes) : NULL;
  PyErr_Clear(); /* a name that cannot be encoded has none */
  if (at)
    *at = found ? found : &nothing;
  return found;
}

/* Arrays are not among what the books know, and there are some: said once. */
static int warn_of_arrays(void) {
  static uint32_t turns;
  static bool warned;
  const struct bursar_header *header = (const struct bursar_header *)(void *)bursar_account.writer.head;
  if (warned || header->domains & 1u << BURSAR_DOMAIN_NUMPY || turns++ % 256)
    return 0;
  PyObject *name = PyUnicode_FromString("numpy"), *numpy = name ? PyImport_GetModule(name) : NULL;
  Py_XDECREF(name);
  if (!numpy)
    return PyErr_Occurred() ? -1 : 0;
  Py_DECREF(numpy);
  warned = true;
  return PyErr_WarnEx(PyExc_RuntimeWarning,
                      "budgets do not count NumPy's arrays: keep books of them too, by bursar.start(domains=\"all\") "
                      "or "
                      "bursar run --domains all",
                      1);
}

static int begin_budget(Scope *self, const struct bursar_limits *named) {
  if (!self->slot && !self->hard && !self->soft)
    return 0;
  if (!self->slot) {
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                            "the budget of scope '%U' is not held: no books are kept that know what it holds "
                            "(bursar.start())",
                            self->name);
  }
  if (!bursar_budget_begin(self->slot, self->hard, self->soft, named)) {
    PyErr_NoMemory();
    return -1;
  }
  bursar_refusing_expect();
  return warn_of_arrays();
}

static PyObject *scope_enter(Scope *self, PyObject *unused) {
  if (self->state != NEW) {
    PyErr_Format(PyExc_RuntimeError, "scope '%U' was entered before: make a new one for each entry", self->name);
    return NULL;
  }
  uint32_t name = 0;
  if (PyInterpreterState_Get() != PyInterpreterState_Main())
    return Py_NewRef(self); /* the books are the main interpreter's */
  if (make_variable() != 0 || (bursar_account.active && index_of(self->name, &name) != 0) ||
      bursar_open_begin(&self->open, current) != 0)
    return NULL;
  Scope *around = scope_here();
  self->around = (Scope *)Py_XNewRef((PyObject *)around);
  self->books = books_started;
  uint32_t outer = slot_in_c();
  const char *why = self->wipe ? bursar_wiping_scope_begins() : NULL;
  if (why) {
    PyErr_SetString(PyExc_RuntimeError, why);
    return NULL;
  }
  self->slot = bursar_account.active ? bursar_scopes_enter(name, outer ? outer : slot_of(around)) : 0;
  self->state = OPEN;
  bursar_rest_entered();
  const struct bursar_limits *limits = named(self, name);
  if (set(self) != 0 || ((limits || self->hard || self->soft) && begin_budget(self, limits) != 0)) {
    if (self->token)
      (void)unset(self);
    if (self->slot)
      (void)bursar_budget_end(self->slot);
    (void)bursar_scopes_end(self->slot);
    self->state = ENDED;
    bursar_rest_left();
    if (self->wipe)
      (void)bursar_wiping_scope_ends();
    return NULL;
  }
  if (self->events && counts(self))
    bursar_scopes_event(BURSAR_EVENT_SCOPE_BEGAN, self->slot, 0);
  return Py_NewRef(self);
}

/* NULL, or why it did not do what it was to. */
static const char *end(Scope *self) {
  if (counts(self)) {
    if (self->events)
      bursar_scopes_event(BURSAR_EVENT_SCOPE_ENDED, self->slot, 0);
    if (bursar_budget_open)
      self->budget = bursar_budget_end(self->slot);
    self->end = bursar_scopes_end(self->slot);
    bursar_scopes_look_again(self->slot);
  }
  self->state = ENDED;
  bursar_rest_left();
  return self->wipe ? bursar_wiping_scope_ends() : NULL;
}

/* The scan itself, and what is said of it, are Python's (python/bursar/_proof.py). */
static bool prove(Scope *self) {
  PyObject *module = PyImport_ImportModule("bursar._proof");
  PyObject *result = module ? PyObject_CallMethod(module, "prove", "OO", self, self->prove) : NULL;
  Py_XDECREF(module);
  Py_XDECREF(result);
  return result != NULL;
}

/* Whether the exception came from where the entry was last refused a block: by the code that caught it or by C code, which made
 * another of it. */
static bool is_of_refusal(const Scope *self, PyObject *error) {
  if (PyErr_GivenExceptionMatches(error, PyExc_MemoryError))
    return true;
  if (!PyErr_GivenExceptionMatches(error, PyExc_RuntimeError) && !PyErr_GivenExceptionMatches(error, PyExc_SystemError))
    return false;
  PyTracebackObject *at = (PyTracebackObject *)PyException_GetTraceback(error), *innermost = at;
  bool same = false;
  while (innermost && innermost->tb_next)
    innermost = innermost->tb_next;
  if (innermost) {
    PyCodeObject *code = PyFrame_GetCode(innermost->tb_frame);
    same = (uintptr_t)code == self->budget.code && innermost->tb_lasti / 2 == self->budget.unit;
    Py_DECREF(code);
  }
  Py_XDECREF(at);
  return same;
}

/* The limit was the entry's own, and what it led to leaves it: that becomes BudgetExceeded.  False: an exception is set. */
static bool convert(const Scope *self, PyObject *error) {
  if (error == Py_None || !is_of_refusal(self, error))
    return true;
  bursar_refusing_spares = true; /* who has no room left is told all the same */
  PyObject *module = PyImport_ImportModule("bursar._budget");
  PyObject *type = module ? PyObject_GetAttrString(module, "BudgetExceeded") : NULL;
  int known = type ? PyObject_IsInstance(error, type) : -1;
  static const char *const whose[] = {"entry", "name", "process"};
  PyObject *made = known == 0 ? PyObject_CallFunction(type, "OLLLs", self->name, (long long)self->budget.limit,
                                                      (long long)self->budget.held, (long long)self->budget.asked,
                                                      whose[self->budget.whose])
                              : NULL;
  if (made) {
    PyException_SetCause(made, Py_NewRef(error));
    PyErr_SetObject(type, made);
  }
  bursar_refusing_spares = false;
  Py_XDECREF(made);
  Py_XDECREF(type);
  Py_XDECREF(module);
  return known > 0; /* of a scope within: it says itself whose limit it was */
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
  if (bursar_budget_open && counts(self) && bursar_budget_of(self->slot))
    bursar_thread_calm(PyThreadState_Get(), PyExc_MemoryError);
  const char *why = end(self);
  if (self->wipe)
    bursar_hideouts_end_of_scope();
  if (why) {
    PyErr_SetString(PyExc_RuntimeError, why);
    return NULL;
  }
  if (self->prove && !prove(self))
    return NULL;
  if (bursar_open_end(&self->open, (PyObject *)self, args) != 0)
    return NULL;
  if (self->budget.refused && PyTuple_GET_SIZE(args) == 3 && !convert(self, PyTuple_GET_ITEM(args, 1)))
    return NULL;
  if (bursar_verdict_due)
    bursar_verdicts_attend();
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

static uint32_t string_of(const char *text, Py_ssize_t bytes) {
  bursar_lock_take();
  uint32_t string = bursar_stacks_string(text, (size_t)bytes);
  bursar_lock_give();
  return string;
}

static PyObject *scope_note(Scope *self, PyObject *text) {
  Py_ssize_t bytes;
  const char *utf8 = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &bytes) : NULL;
  if (!utf8) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "note() takes a string");
    return NULL;
  }
  if (counts(self))
    bursar_scopes_event(BURSAR_EVENT_NOTE, self->slot, string_of(utf8, bytes));
  Py_RETURN_NONE;
}

PyObject *bursar_scope_tell(PyObject *module, PyObject *args) {
  const char *kind, *text;
  PyObject *scope;
  long long about;
  Py_ssize_t bytes;
  uint32_t name = 0;
  if (!PyArg_ParseTuple(args, "sOLs#:tell", &kind, &scope, &about, &text, &bytes))
    return NULL;
  uint32_t what = bursar_events_kind(kind);
  if (!what || !(scope == Py_None || PyUnicode_Check(scope)))
    return PyErr_Format(PyExc_ValueError, "tell() takes a kind of event, and a scope's name or None");
  if (!bursar_account.active || PyInterpreterState_Get() != PyInterpreterState_Main())
    Py_RETURN_FALSE;
  if (scope != Py_None && index_of(scope, &name) != 0)
    return NULL;
  bursar_scopes_tell(what, name, about < 0 ? 0 : (uint64_t)about, bytes ? string_of(text, bytes) : 0);
  Py_RETURN_TRUE;
}

PyObject *bursar_scope_history(PyObject *module, PyObject *name) {
  uint32_t index = 0;
  if (!PyUnicode_Check(name))
    return PyErr_Format(PyExc_TypeError, "a scope's name is a string");
  if (!bursar_account.active || PyInterpreterState_Get() != PyInterpreterState_Main())
    Py_RETURN_NONE;
  if (index_of(name, &index) != 0)
    return NULL;
  struct bursar_scope_history of = bursar_scopes_history(index);
  return Py_BuildValue("KKd", of.calls, of.peak, of.calls ? (double)of.time_ns / 1e9 / (double)of.calls : 0.0);
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

static PyObject *scope_limit(Scope *self, void *which) {
  int64_t limit = which ? self->hard : self->soft;
  return limit ? PyLong_FromLongLong(limit) : Py_NewRef(Py_None);
}

static PyObject *scope_on_soft(Scope *self, void *unused) { return Py_NewRef(self->on_soft ? self->on_soft : Py_None); }

static PyObject *scope_prove(Scope *self, void *unused) { return Py_NewRef(self->prove ? self->prove : Py_None); }

static PyObject *scope_left_open(Scope *self, void *unused) {
  return Py_NewRef(self->open.action ? self->open.action : Py_None);
}

static PyObject *scope_keep(Scope *self, PyObject *what) {
  PyObject *module = PyImport_ImportModule("bursar._open");
  PyObject *result = module ? PyObject_CallMethod(module, "keep", "OO", self, what) : NULL;
  Py_XDECREF(module);
  return result;
}

static PyObject *scope_wipe(Scope *self, void *unused) { return PyBool_FromLong(self->wipe); }

static int scope_traverse(Scope *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(self->name);
  Py_VISIT(self->token);
  Py_VISIT(self->prove);
  Py_VISIT(self->open.objects);
  Py_VISIT(self->on_soft);
  Py_VISIT((PyObject *)self->around);
  return 0;
}

static int scope_clear(Scope *self) {
  Py_CLEAR(self->token);
  Py_CLEAR(self->prove);
  Py_CLEAR(self->on_soft);
  Py_CLEAR(self->around);
  return 0;
}

/* One that was never left: a generator that was not finished. */
static void scope_dealloc(Scope *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (self->state == OPEN)
    (void)end(self);
  bursar_open_drop(&self->open);
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
    bursar_rest_entered();
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
    bursar_rest_left();
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
    {"keep", (PyCFunction)scope_keep, METH_O,
     "It is meant to stay open: the business of the scope around from here on, if that watches."},
    {NULL, NULL, 0, NULL},
};

#define FIGURE(name, which, doc) {name, (getter)scope_figure, NULL, doc, (void *)(uintptr_t)(which)}
static PyGetSetDef figures[] = {
    {"name", (getter)scope_name, NULL, "The name.", NULL},
    {"events", (getter)scope_events, NULL, "Whether its beginning and its end are noted as events.", NULL},
    {"left_open", (getter)scope_left_open, NULL, "What is done about resources left open at its end, or None.", NULL},
    {"prove", (getter)scope_prove, NULL, "The secrets that nothing may be left of at its end, or None.", NULL},
    {"hard", (getter)scope_limit, NULL, "Bytes that it may hold, or None.", (void *)1},
    {"soft", (getter)scope_limit, NULL, "Bytes from which on on_soft is called, or None.", NULL},
    {"on_soft", (getter)scope_on_soft, NULL, "What is called then, or None.", NULL},
    {"wipe", (getter)scope_wipe, NULL, "Whether its blocks are zeroed before they are freed.", NULL},
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
  bursar_open_forget();
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
