#include "governor.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "account/account.h"
#include "account/fold.h"
#include "policy/pins.h"
#include "policy/rest.h"
#include "policy/trim.h"
#include "prim/prim.h"
#include "prim/smaps.h"
#include "residue.h"

#define OLDEST 2
#define MS 1000000u
#define SECOND 1000000000u
#define PATIENCE 4u    /* what takes so long waits until a rest has lasted so many times as long */
#define SHARE 4u       /* a whole collection is due once what it would go through has grown by a quarter */
#define LONG 20u       /* a rest in which everything that was worked on is gone through once, growth or none */
#define RESERVE 16u    /* of a limit: there memory wins */
#define SLOWEST 4u     /* the youngest generation's threshold is lowered to a quarter of the user's in all */
#define LOOK_SHARE 20u /* a look for what a trim would return is followed by so many times its duration without one */

/* Why governor_wait() returns. */
enum { STOPPED = 1, PART = 2, WHOLE = 4, LIMIT = 8, TRIM = 16, TICK = 32 };

static struct {
  /* Settings, under the GIL; read by the waiting thread. */
  uint64_t idle, pause, limit; /* ns, ns, bytes; limit 0: none */
  bool trims, collects;
  /* Of collections. */
  bool ours;   /* the one that comes */
  bool frozen; /* what survived was put out of sight by us */
  bool asked;  /* for a whole one, at the next rest */
  bool thawed; /* for a whole one that somebody else asked for */
  int threshold, threshold_now;
  PyObject *freeze, *unfreeze, *set_threshold, *get_threshold, *revive;
  uint64_t began, whole, grown, pending; /* ns: of the last whole one, of parts since, of younger ones since */
  uint64_t longest, longest_inside, wholes, wholes_inside, parts, heard;
  /* Of the waiting thread. */
  bool stop, waiting;
  uint64_t marked;                                /* RSS from which on memory wins */
  uint64_t counted_whole;                         /* rests, at the last whole collection */
  uint64_t counted, look_from;                    /* rests, at the last look; and when the next may be */
  uint64_t returnable, returned, trim_ns, met_ns; /* of the last trim; of all during which a scope began */
} now;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken;
static PyObject *word_generation;

static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static void store(uint64_t *at, uint64_t value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }
static bool is_on(const bool *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static void turn(bool *at, bool on) { __atomic_store_n(at, on, __ATOMIC_RELAXED); }

/* --- each collection --------------------------------------------------------------------------------------------------- */

static int call(PyObject *function) {
  PyObject *result = function ? PyObject_CallNoArgs(function) : NULL;
  Py_XDECREF(result);
  return result || !function ? 0 : -1;
}

/* A pause of the younger generations is as long as they are large. */
static int pace(uint64_t took) {
  int least = now.threshold / (int)SLOWEST > 0 ? now.threshold / (int)SLOWEST : 1, next = now.threshold_now;
  if (took > now.pause)
    next = next / 2 > least ? next / 2 : least;
  else if (took < now.pause / 4)
    next = next < now.threshold / 2 ? 2 * next : now.threshold;
  if (next == now.threshold_now || !now.threshold)
    return 0;
  PyObject *was = PyObject_CallNoArgs(now.get_threshold), *result = NULL;
  if (was && PyTuple_Check(was) && PyTuple_GET_SIZE(was) == 3 &&
      PyLong_AsLong(PyTuple_GET_ITEM(was, 0)) == now.threshold_now) /* else the user has chosen another meanwhile */
    result = PyObject_CallFunction(now.set_threshold, "iOO", next, PyTuple_GET_ITEM(was, 1), PyTuple_GET_ITEM(was, 2));
  if (result)
    now.threshold_now = next;
  Py_XDECREF(was);
  Py_XDECREF(result);
  return PyErr_Occurred() ? -1 : 0;
}

static int begins(long generation) {
  /* Who asks for a collection of everything gets one: what we put out of sight too. */
  if (generation == OLDEST && !now.ours && now.frozen) {
    now.thawed = true;
    now.frozen = false;
    if (call(now.unfreeze) != 0)
      return -1;
  }
  now.began = bursar_prim_now();
  return 0;
}

static int ended(long generation) {
  uint64_t took = now.began ? bursar_prim_now() - now.began : 0;
  bool inside = bursar_rest_open() != 0;
  now.began = 0;
  now.heard++;
  now.longest = took > now.longest ? took : now.longest;
  now.longest_inside = inside && took > now.longest_inside ? took : now.longest_inside;
  if (generation < OLDEST) {
    if (generation)
      store(&now.pending, now.pending + took);
    return pace(took);
  }
  if (now.frozen) {
    store(&now.grown, now.grown + took);
    now.parts++;
  } else {
    store(&now.whole, took);
    store(&now.counted_whole, inside ? 0 : bursar_rest_count());
    store(&now.grown, 0);
    now.wholes++;
    turn(&now.asked, false);
  }
  now.wholes_inside += inside;
  store(&now.pending, 0);
  bool again = now.thawed;
  now.thawed = false;
  if (again && call(now.freeze) != 0)
    return -1;
  now.frozen = now.frozen || again;
  return 0;
}

static PyObject *heard(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  Py_ssize_t length;
  const char *phase = count == 2 && PyUnicode_Check(args[0]) ? PyUnicode_AsUTF8AndSize(args[0], &length) : NULL;
  PyObject *number = phase && PyDict_Check(args[1]) ? PyDict_GetItemWithError(args[1], word_generation) : NULL;
  long generation = number ? PyLong_AsLong(number) : -1;
  if (generation < 0) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "governor_heard() is one of gc.callbacks");
    return NULL;
  }
  if (PyInterpreterState_Get() != PyInterpreterState_Main())
    Py_RETURN_NONE;
  if (!now.waiting && now.revive && call(now.revive) != 0)
    return NULL;
  if ((phase[2] == 'a' ? begins : ended)(generation) != 0) /* start, stop */
    return NULL;
  Py_RETURN_NONE;
}

/* --- waiting ------------------------------------------------------------------------------------------------------------- */

static uint64_t times(uint64_t ns) { return ns * PATIENCE > load(&now.idle) ? ns * PATIENCE : load(&now.idle); }

/* Of a program that enters no scopes nobody knows when it rests; it collects as it grows then, as it would by itself. */
static bool rests_for(uint64_t ns) { return !bursar_rest_count() ? !bursar_rest_open() : bursar_rest_since() >= ns; }

static int collection_due(void) {
  uint64_t whole = load(&now.whole), grown = load(&now.grown), pending = load(&now.pending);
  if (!is_on(&now.collects) || !rests_for(load(&now.idle)))
    return 0;
  uint64_t all = whole + grown + pending, long_idle = LONG * (all > load(&now.idle) ? all : load(&now.idle));
  bool worked = bursar_rest_count() && bursar_rest_count() != load(&now.counted_whole);
  if (worked && bursar_rest_since() >= long_idle)
    return WHOLE;
  bool much = is_on(&now.asked) || (is_on(&now.frozen) ? grown : pending) > whole / SHARE;
  if (much && rests_for(times(all)))
    return WHOLE;
  return is_on(&now.frozen) && pending > MS && rests_for(times(pending)) ? PART : 0;
}

/* Only what could be collected is reason to collect. */
static bool over_limit(uint64_t *room) {
  uint64_t limit = load(&now.limit), rss;
  if (!limit || !is_on(&now.collects) || bursar_smaps_resident(0, &rss) != 0)
    return false;
  uint64_t least = limit - limit / RESERVE;
  if (rss < least)
    store(&now.marked, least);
  *room = rss < load(&now.marked) ? load(&now.marked) - rss : 0;
  return !*room && load(&now.pending) + load(&now.grown) > 0;
}

/* Looks what would come back, once after each time of work; and gives it back where that takes a small part of the rest. */
static bool trimmed(void) {
  uint64_t count = bursar_rest_count(), from = bursar_prim_now();
  if (!is_on(&now.trims) || count == load(&now.counted) || from < load(&now.look_from) ||
      bursar_rest_since() < times(0) * PATIENCE)
    return false;
  uint64_t bytes = bursar_trim_returnable(), looked = bursar_prim_now();
  store(&now.look_from, looked + (looked - from) * LOOK_SHARE);
  if (bytes == BURSAR_TRIM_UNKNOWN || bytes < BURSAR_TRIM_LEAST) {
    store(&now.counted, count);
    return false;
  }
  if (bursar_rest_since() < times(bursar_trim_cost(bytes)) || bursar_rest_count() != count)
    return false;
  store(&now.counted, count);
  store(&now.returnable, bytes);
  uint64_t before = 0, after = 0;
  (void)bursar_smaps_resident(0, &before);
  store(&now.trim_ns, bursar_trim_run(bytes));
  if (bursar_rest_open() || bursar_rest_count() != count)
    store(&now.met_ns, load(&now.met_ns) + load(&now.trim_ns));
  (void)bursar_smaps_resident(0, &after);
  store(&now.returned, before > after ? before - after : 0);
  return true;
}

/* Sleeps without the GIL.  True: it is over. */
static bool sleep_for(uint64_t ns) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  ns += (uint64_t)until.tv_nsec;
  until.tv_sec += (time_t)(ns / SECOND);
  until.tv_nsec = (long)(ns % SECOND);
  pthread_mutex_lock(&lock);
  while (!now.stop && pthread_cond_timedwait(&woken, &lock, &until) == 0) {}
  bool stop = now.stop;
  pthread_mutex_unlock(&lock);
  return stop;
}

/* How long nothing is missed: a rest, or memory that fills at 4 GB/s. */
static uint64_t step(uint64_t room) {
  bool something = load(&now.pending) || load(&now.grown) || bursar_rest_open() || is_on(&now.asked) ||
                   bursar_rest_count() != load(&now.counted) || bursar_rest_count() != load(&now.counted_whole);
  uint64_t ns = something ? load(&now.idle) / 2 : 250 * MS;
  ns = load(&now.limit) && room / 4 < ns ? room / 4 : ns;
  return ns < 5 * MS ? 5 * MS : ns > 250 * MS ? 250 * MS : ns;
}

static int wait_for(void) {
  uint64_t until = bursar_prim_now() + SECOND;
  for (;;) {
    uint64_t room = UINT64_MAX;
    int why = over_limit(&room) ? LIMIT : collection_due();
    if (!why && trimmed())
      why = TRIM;
    if (!why && bursar_prim_now() > until)
      why = TICK;
    if (why)
      return why;
    if (sleep_for(step(room)) || bursar_prim_waits_for_nobody())
      return STOPPED;
  }
}

static PyObject *governor_wait(PyObject *module, PyObject *unused) {
  int why;
  Py_BEGIN_ALLOW_THREADS;
  bursar_prim_waits(1);
  why = wait_for();
  bursar_prim_waits(-1);
  Py_END_ALLOW_THREADS;
  return PyLong_FromLong(why);
}

static PyObject *governor_stop(PyObject *module, PyObject *unused) {
  pthread_mutex_lock(&lock);
  now.stop = true;
  pthread_cond_broadcast(&woken);
  pthread_mutex_unlock(&lock);
  Py_RETURN_NONE;
}

/* Before a thread begins to wait: at the start, and after a fork, where the lock may have been held by nobody who is here. */
static PyObject *governor_ready(PyObject *module, PyObject *ready) {
  pthread_condattr_t attributes;
  now.waiting = PyObject_IsTrue(ready) == 1;
  if (!now.waiting)
    Py_RETURN_NONE;
  now.stop = false;
  lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&woken, &attributes);
  pthread_condattr_destroy(&attributes);
  Py_RETURN_NONE;
}

/* --- settings and figures ------------------------------------------------------------------------------------------------ */

static void keep(PyObject **at, PyObject *object) {
  PyObject *before = *at;
  *at = object == Py_None ? NULL : Py_XNewRef(object);
  Py_XDECREF(before);
}

static PyObject *governor_set(PyObject *module, PyObject *args) {
  unsigned long long idle, pause, limit;
  int trims, collects;
  PyObject *revive;
  if (!PyArg_ParseTuple(args, "KKKppO:governor_set", &idle, &pause, &limit, &trims, &collects, &revive))
    return NULL;
  if (PyInterpreterState_Get() != PyInterpreterState_Main())
    return PyErr_Format(PyExc_RuntimeError, "the governor is the process's: start it from the main interpreter");
  PyObject *gc = PyImport_ImportModule("gc");
  static const struct {
    const char *name;
    PyObject **at;
  } functions[] = {{"freeze", &now.freeze},
                   {"unfreeze", &now.unfreeze},
                   {"set_threshold", &now.set_threshold},
                   {"get_threshold", &now.get_threshold}};
  for (size_t i = 0; gc && i < sizeof functions / sizeof *functions; i++) {
    PyObject *function = PyObject_GetAttrString(gc, functions[i].name);
    if (!function)
      break;
    keep(functions[i].at, function);
    Py_DECREF(function);
  }
  Py_XDECREF(gc);
  if (PyErr_Occurred())
    return NULL;
  if (limit != now.limit)
    store(&now.marked, limit - limit / RESERVE);
  store(&now.idle, idle);
  store(&now.pause, pause);
  store(&now.limit, limit);
  turn(&now.trims, trims != 0);
  turn(&now.collects, collects != 0);
  keep(&now.revive, revive);
  Py_RETURN_NONE;
}

/* The youngest generation's threshold, as the user has it and as it is lowered now; what is there where neither is given. */
static PyObject *governor_threshold(PyObject *module, PyObject *args) {
  int set = -1;
  if (!PyArg_ParseTuple(args, "|i:governor_threshold", &set))
    return NULL;
  if (set >= 0)
    now.threshold = now.threshold_now = set;
  return Py_BuildValue("(ii)", now.threshold, now.threshold_now);
}

/* What follows is ours; `frozen` is what it leaves behind. */
static PyObject *governor_ours(PyObject *module, PyObject *args) {
  int ours, frozen;
  if (!PyArg_ParseTuple(args, "pp:governor_ours", &ours, &frozen))
    return NULL;
  now.ours = ours != 0;
  turn(&now.frozen, frozen != 0);
  Py_RETURN_NONE;
}

void bursar_governor_ask(void) { turn(&now.asked, true); }

static PyObject *governor_ask(PyObject *module, PyObject *unused) {
  bursar_governor_ask();
  Py_RETURN_NONE;
}

/* After memory won: not again before as much as the reserve has come on top. */
static PyObject *governor_won(PyObject *module, PyObject *unused) {
  uint64_t rss, limit = now.limit, least = limit - limit / RESERVE;
  if (bursar_smaps_resident(0, &rss) == 0)
    store(&now.marked, rss + limit / RESERVE > least ? rss + limit / RESERVE : least);
  Py_RETURN_NONE;
}

static PyObject *governor_figures(PyObject *module, PyObject *reset) {
  PyObject *facts = Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N}", "longest_ns", now.longest,
                                  "longest_inside_ns", now.longest_inside, "wholes", now.wholes, "wholes_inside",
                                  now.wholes_inside, "parts", now.parts, "collections", now.heard, "whole_ns",
                                  now.whole, "returnable", load(&now.returnable), "returned", load(&now.returned),
                                  "trim_ns", load(&now.trim_ns), "pending_ns", now.pending, "met_ns", load(&now.met_ns),
                                  "frozen", PyBool_FromLong(now.frozen));
  if (facts && PyObject_IsTrue(reset) == 1) {
    now.longest = now.longest_inside = now.wholes = now.wholes_inside = now.parts = now.heard = now.whole = 0;
    store(&now.grown, 0);
    store(&now.pending, 0);
    store(&now.met_ns, 0);
    store(&now.counted, 0);
    store(&now.counted_whole, 0);
    turn(&now.asked, false);
  }
  return facts;
}

static PyObject *open_scopes(PyObject *module, PyObject *unused) { return PyLong_FromUnsignedLong(bursar_rest_open()); }

static PyObject *returnable(PyObject *module, PyObject *unused) {
  uint64_t bytes;
  Py_BEGIN_ALLOW_THREADS;
  bytes = bursar_trim_returnable();
  Py_END_ALLOW_THREADS;
  if (bytes == BURSAR_TRIM_UNKNOWN)
    Py_RETURN_NONE;
  return Py_BuildValue("(Kd)", (unsigned long long)bytes, (double)bursar_trim_cost(bytes) / 1e9);
}

static PyObject *trim(PyObject *module, PyObject *bytes) {
  uint64_t ns, foretold = PyLong_AsUnsignedLongLong(bytes);
  if (PyErr_Occurred())
    return NULL;
  Py_BEGIN_ALLOW_THREADS;
  ns = bursar_trim_run(foretold);
  Py_END_ALLOW_THREADS;
  return PyFloat_FromDouble((double)ns / 1e9);
}

/* None where the books do not know each block. */
static PyObject *pins(PyObject *module, PyObject *most) {
  long limit = PyLong_AsLong(most);
  struct bursar_pins found;
  if (limit < 0 && PyErr_Occurred())
    return NULL;
  if (!bursar_account.active || bursar_account.mode != BURSAR_MODE_EXACT ||
      PyInterpreterState_Get() != PyInterpreterState_Main())
    Py_RETURN_NONE;
  int status = bursar_pins_find(&found);
  if (status < 0)
    return PyErr_Format(PyExc_OSError, "the process's memory cannot be looked at: %s", strerror(-status));
  uint32_t generation = bursar_fold_generation;
  PyObject *list = PyList_New(0);
  for (uint32_t i = 0; list && i < found.site_count && i < (unsigned long)limit; i++) {
    const struct bursar_pins_site *site = &found.sites[i];
    bool stays = generation == bursar_fold_generation && bursar_account.active;
    PyObject *stack = stays ? bursar_residue_stack(site->number) : PyList_New(0);
    PyObject *one = Py_BuildValue("(NIKK)", stack, site->arenas, (unsigned long long)site->bytes,
                                  (unsigned long long)site->free_bytes);
    if (!one || PyList_Append(list, one) != 0)
      Py_CLEAR(list);
    Py_XDECREF(one);
  }
  PyObject *facts = Py_BuildValue("(IIKKN)", found.arenas, found.mostly_free, (unsigned long long)found.arena_bytes,
                                  (unsigned long long)found.free_bytes, list);
  bursar_pins_free(&found);
  return facts;
}

static PyMethodDef functions[] = {
    {"governor_heard", (PyCFunction)(void (*)(void))heard, METH_FASTCALL, "One of gc.callbacks."},
    {"governor_wait", governor_wait, METH_NOARGS, "Waits until there is something to do, and says what."},
    {"governor_stop", governor_stop, METH_NOARGS, "Ends the wait."},
    {"governor_ready", governor_ready, METH_O, "A thread is about to wait, or none waits any more."},
    {"governor_set", governor_set, METH_VARARGS, "Settings."},
    {"governor_threshold", governor_threshold, METH_VARARGS, "The youngest generation's: the user's, and now."},
    {"governor_ours", governor_ours, METH_VARARGS, "Who asks for the collection that follows."},
    {"governor_ask", governor_ask, METH_NOARGS, "A whole collection at the next rest."},
    {"governor_won", governor_won, METH_NOARGS, "Memory won: not again at once."},
    {"governor_figures", governor_figures, METH_O, "Figures since the last time that they were reset."},
    {"open_scopes", open_scopes, METH_NOARGS, "Scopes that are open."},
    {"returnable", returnable, METH_NOARGS, "Bytes that a trim would give back, and the seconds it takes, or None."},
    {"pins", pins, METH_O, "Arenas, those mostly free, bytes, free bytes, and so many sites that hold them; or None."},
    {"trim", trim, METH_O, "Gives malloc's free pages back; seconds. Takes what was foretold."},
    {NULL, NULL, 0, NULL},
};

int bursar_governor_add(PyObject *module) {
  static bool registered;
  if (!registered)
    registered = pthread_atfork(NULL, NULL, bursar_rest_after_fork) == 0;
  if (!word_generation && !(word_generation = PyUnicode_InternFromString("generation")))
    return -1;
  static const struct {
    const char *name;
    int value;
  } words[] = {{"GOVERNOR_STOPPED", STOPPED}, {"GOVERNOR_PART", PART}, {"GOVERNOR_WHOLE", WHOLE},
               {"GOVERNOR_LIMIT", LIMIT},     {"GOVERNOR_TRIM", TRIM}, {"GOVERNOR_TICK", TICK}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (PyModule_AddIntConstant(module, words[i].name, words[i].value) != 0)
      return -1;
  return PyModule_AddFunctions(module, functions);
}
