/* module.c: bursar._bursar: what Python calls, and the process's events that the books must hear of (fork, exit). */
#include "compat.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "account/account.h"
#include "account/count.h"
#include "anywhere.h"
#include "api.h"
#include "balance.h"
#include "base/tell.h"
#include "changing.h"
#include "container.h"
#include "converting.h"
#include "frames.h"
#include "freeze.h"
#include "governor.h"
#include "hideouts.h"
#include "hooks.h"
#include "ledger/boot.h"
#include "ledger/domains.h"
#include "ledger/place.h"
#include "limit_table.h"
#include "modes.h"
#include "native_books.h"
#include "no_core.h"
#include "numpy.h"
#include "open.h"
#include "policy.h"
#include "prim/prim.h"
#include "refusing.h"
#include "report/summary.h"
#include "residue.h"
#include "scope.h"
#include "shared.h"
#include "sizes.h"
#include "uses.h"
#include "vault.h"
#include "verdicts.h"
#include "weave.h"
#include "wiping.h"

/* One set of books a process: whose they are, and how they end. */
static struct {
  pid_t pid;
  bool follow;
  bool quiet;
  bool under_run; /* begun by boot(): ends with a summary */
  bool handlers;  /* the fork handlers are registered */
  bool finishes;  /* what ends the books with this interpreter is registered */
  const char *broken;
  char path[4096];
  struct bursar_boot boot;
} process;

/* --- words to the user ------------------------------------------------------------------------------------------------ */

static void warn(const char *text) {
  process.broken = text;
  bursar_tell(text);
}

/* --- opening and closing ----------------------------------------------------------------------------------------------- */

static bool is_main_thread(void) { return (pid_t)syscall(SYS_gettid) == getpid(); }

/* What is listened to in the end: the domains that were asked for and can be heard. */
static uint32_t heard(uint32_t domains) {
  return bursar_native_books_there() ? domains : domains & ~BURSAR_DOMAINS_NATIVE;
}

/* NULL, or why it cannot be. */
static const char *listen_to(uint32_t mode, uint32_t domains) {
  const struct bursar_modes_hooks *hooks = mode == BURSAR_MODE_SAMPLE  ? &bursar_sampling_hooks
                                           : mode == BURSAR_MODE_COUNT ? &bursar_counting_hooks
                                                                       : NULL;
  const char *refused = NULL;
  if (hooks)
    refused = bursar_modes_install(mode, domains);
  else
    bursar_hooks_install(domains);
  if (refused)
    return refused;
  if (domains >> BURSAR_DOMAIN_NUMPY & 1)
    bursar_numpy_open(hooks ? &hooks->numpy : NULL);
  bursar_native_books_open(domains, hooks ? &hooks->native : NULL);
  return NULL;
}

static void remove_hooks(void) {
  bursar_refusing_remove();
  bursar_hooks_remove();
  bursar_modes_remove();
}

/* The hooks tell when a module goes, whose code another one's would be taken for. */
static bool follow_native(void) {
  bursar_native_books_reach();
  if (bursar_native_books_there() && bursar_weave_start())
    return true;
  bursar_tell("native frames are left out of stacks: that needs x86-64 and glibc 2.35 or later");
  return false;
}

static void close_books(enum bursar_state state) {
  bursar_anywhere_catch_up();
  bursar_native_books_close();
  bursar_numpy_close();
  bursar_account_stop(state);
  remove_hooks();
}

static int open_books(const char *path, const struct bursar_boot *boot, enum bursar_phase phase, pid_t parent,
                      struct bursar_error *error) {
  static const struct bursar_provider provider = {
      .stacks_moved = bursar_frames_moved, .warn = warn, .asked = bursar_changing_hear};
  static bool sizes; /* a forked child's allocators, under hooks that are there still, are its parent's */
  if (!parent)
    sizes = boot->mode != BURSAR_MODE_EXACT && !bursar_counting_refuse();
  struct bursar_settings settings = {.path = path,
                                     .cap = boot->cap,
                                     .within = boot->within,
                                     .domains = heard(boot->domains),
                                     .mode = boot->mode,
                                     .interval = boot->interval,
                                     .seed = boot->seed,
                                     .native = boot->native && boot->mode != BURSAR_MODE_COUNT && follow_native(),
                                     .phase = phase,
                                     .sizes = sizes,
                                     .python_hex = PY_VERSION_HEX,
                                     .python_version = PY_VERSION,
                                     .parent_pid = (uint32_t)parent};
  const char *refused = bursar_modes_refuse(boot->mode);
  if (refused)
    return bursar_error_set(error, BURSAR_FAILED, "%s", refused);
  /* Mode count tells pools' blocks from malloc's by what RAW's hook gave. */
  if (boot->mode == BURSAR_MODE_COUNT && settings.domains & BURSAR_DOMAINS_OF_PYTHON)
    settings.domains |= BURSAR_DOMAINS_OF_PYTHON;
  PyObject *module = PyImport_AddModule("__main__"); /* borrowed, and there since the interpreter began */
  if (!module)
    return bursar_error_set(error, BURSAR_FAILED, "this interpreter has no __main__");
  bursar_scope_start();
  bursar_changing_start();
  bursar_frames_woven = settings.native;
  bursar_frames_start(is_main_thread() ? bursar_thread() : NULL, PyModule_GetDict(module));
  process.broken = NULL;
  int status = bursar_account_start(&settings, &provider, error);
  if (status != 0)
    return status;
  process.pid = getpid();
  snprintf(process.path, sizeof process.path, "%s", path);
  refused = listen_to(boot->mode, settings.domains);
  if (!refused) {
    if (!parent) /* else it begins with the next that is asked: nobody forks with a thread of ours */
      bursar_refusing_follow_process();
    return 0;
  }
  close_books(BURSAR_STATE_STOPPED);
  return bursar_error_set(error, BURSAR_FAILED, "%s", refused);
}

/* No other handler's memory goes through the books while some thread that will not be there may hold a lock of theirs. */
static __thread bool inside_before_fork __attribute__((tls_model("initial-exec"))); /* of a signal handler that forks */
static void before_fork(void) {
  inside_before_fork = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
}
static void after_fork_in_parent(void) { bursar_anywhere_inside = inside_before_fork; }

/* A ledger for a child: beside its parent's; where BURSAR asked for books, in the default place as that one. */
static int child_ledger(char *path, size_t room, struct bursar_error *error) {
  struct bursar_place place;
  if (process.boot.path[0])
    return bursar_boot_child(process.boot.path, path, room, error);
  int status = bursar_place_create(NULL, false, "python", &place, error);
  if (status != 0)
    return status;
  snprintf(path, room, "%s", place.path);
  bursar_place_close(&place);
  return 0;
}

/* A forked child: its parent's ledger is none of its business.  C code may fork without the GIL, or once the interpreter has
 * ended: nothing of Python's is touched then, and the child keeps no books. */
static void after_fork_in_child(void) {
  bursar_anywhere_inside = inside_before_fork;
  if (!process.pid)
    return;
  int kept = errno;
  bool was = bursar_account.active;
  pid_t parent = process.pid;
  bursar_native_books_close();
  bursar_account_abandon();
  bursar_scope_start(); /* its entries were the parent's */
  process.pid = 0;
  if (was && process.follow && bursar_holds_main_gil()) {
    struct bursar_error error = {0};
    char path[sizeof process.path];
    if (child_ledger(path, sizeof path, &error) != 0 ||
        open_books(path, &process.boot, BURSAR_PHASE_MAIN, parent, &error) != 0) {
      remove_hooks();
      bursar_tell(error.text);
    }
  } else {
    remove_hooks();
  }
  errno = kept;
}

static int register_handlers(void) {
  if (!process.handlers)
    process.handlers = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
  return process.handlers ? 0 : -1;
}

static PyObject *raise_error(const struct bursar_error *error) {
  PyObject *text = PyUnicode_DecodeUTF8(error->text, (Py_ssize_t)strlen(error->text), "backslashreplace");
  if (text)
    PyErr_SetObject(error->status == BURSAR_MISUSE ? PyExc_ValueError : PyExc_RuntimeError, text);
  Py_XDECREF(text);
  return NULL;
}

/* The hooks are the process's: only the main interpreter may set them. */
static bool in_main_interpreter(void) {
  if (PyInterpreterState_Get() == PyInterpreterState_Main())
    return true;
  PyErr_SetString(PyExc_RuntimeError, "bursar keeps the books of the process: start it from the main interpreter");
  return false;
}

/* --- functions ---------------------------------------------------------------------------------------------------------- */

/* An "O&" converter: bytes of the path, as the file system has it, for str, bytes and os.PathLike; NULL for None. */
static int path_or_none(PyObject *object, void *out) {
  if (object != Py_None)
    return PyUnicode_FSConverter(object, out);
  *(PyObject **)out = NULL;
  return 1;
}

static PyObject *path_object(const char *path) {
  if (path)
    return PyUnicode_DecodeFSDefault(path);
  Py_RETURN_NONE;
}

/* Once; in the process that was run alone.  A program that embeds Python may begin another interpreter after this one. */
static void end(void) {
  process.finishes = false;
  if (!process.under_run || process.pid != getpid() || !bursar_account.active)
    return;
  close_books(BURSAR_STATE_ENDED);
  struct bursar_error error = {0};
  if (!process.quiet && bursar_tell_may() && bursar_summary_print(process.path, 2, &error) != 0)
    bursar_tell(error.text);
}

/* The program's exit, after all other exit handlers: ours was registered first. */
static PyObject *bursar_finish(PyObject *module, PyObject *unused) {
  bursar_frames_leave_detached();
  end();
  Py_RETURN_NONE;
}

/* Once an interpreter, forked ones included: handlers are inherited. */
static int register_finish(PyObject *module) {
  if (process.finishes)
    return 0;
  PyObject *atexit = PyImport_ImportModule("atexit"), *finish = PyObject_GetAttrString(module, "finish");
  PyObject *result = atexit && finish ? PyObject_CallMethod(atexit, "register", "O", finish) : NULL;
  (void)Py_AtExit(end); /* for programs that clear the handlers; where all its places are taken they go without */
  Py_XDECREF(atexit);
  Py_XDECREF(finish);
  Py_XDECREF(result);
  process.finishes = result != NULL;
  return process.finishes ? 0 : -1;
}

/* Stays, whatever becomes of the books. */
static PyObject *bursar_wipe(PyObject *module, PyObject *unused) {
  const char *why = in_main_interpreter() ? bursar_wiping_start() : NULL;
  if (why)
    PyErr_SetString(PyExc_RuntimeError, why);
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *bursar_start(PyObject *module, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"path", "cap", "within", "follow", "domains", "mode", "interval", "seed", "native", NULL};
  PyObject *given = NULL;
  unsigned long long cap = 0;
  unsigned int within = 1;
  int follow = 0, native = 0;
  const char *domains = "python", *mode = "exact";
  unsigned int interval = 0; /* this and the seed are for tests */
  unsigned long long seed = 0;
  char wrong[BURSAR_DOMAINS_WORD];
  struct bursar_error error = {0};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$KIpssIKp:start", names, PyUnicode_FSConverter, &given, &cap,
                                   &within, &follow, &domains, &mode, &interval, &seed, &native))
    return NULL;
  const char *path = PyBytes_AS_STRING(given);
  PyObject *result = NULL;
  struct bursar_boot boot = {.cap = cap,
                             .within = within,
                             .native = native != 0,
                             .domains = bursar_domains_parse(domains, wrong),
                             .mode = bursar_domains_mode(mode),
                             .interval = interval,
                             .seed = seed};
  if (!boot.domains) {
    PyErr_Format(PyExc_ValueError, "there is no domain '%s'", wrong);
    goto out;
  }
  if (!boot.mode) {
    PyErr_Format(PyExc_ValueError, "there is no mode '%s'", mode);
    goto out;
  }
  if (!in_main_interpreter())
    goto out;
  if (register_handlers() != 0 || register_finish(module) != 0) {
    if (!PyErr_Occurred())
      PyErr_NoMemory();
    goto out;
  }
  bursar_tell_remember();
  if (boot.domains & BURSAR_DOMAINS_NATIVE || boot.native)
    bursar_native_books_claim();
  if (boot.domains & BURSAR_DOMAINS_NATIVE)
    bursar_native_books_reach();
  if (open_books(path, &boot, BURSAR_PHASE_MAIN, 0, &error) != 0) {
    raise_error(&error);
    goto out;
  }
  process.follow = follow != 0;
  process.under_run = false;
  process.boot = boot;
  snprintf(process.boot.path, sizeof process.boot.path, "%s", path);
  result = Py_NewRef(Py_None);
out:
  Py_DECREF(given);
  return result;
}

static PyObject *bursar_stop(PyObject *module, PyObject *unused) {
  if (!in_main_interpreter())
    return NULL;
  if (process.pid == getpid())
    close_books(BURSAR_STATE_STOPPED);
  Py_RETURN_NONE;
}

static PyObject *bursar_status(PyObject *module, PyObject *unused) {
  bool on = bursar_account.active;
  return Py_BuildValue("{s:s,s:N,s:i,s:z}", "mode", on ? bursar_domains_mode_name(bursar_account.mode) : "off", "path",
                       path_object(process.pid ? process.path : NULL), "pid", (int)process.pid, "broken",
                       process.broken);
}

static PyObject *bursar_create(PyObject *module, PyObject *args) {
  PyObject *given = NULL;
  int force;
  struct bursar_place place;
  struct bursar_error error = {0};
  if (!PyArg_ParseTuple(args, "O&p:create", path_or_none, &given, &force))
    return NULL;
  int status = bursar_place_create(given ? PyBytes_AS_STRING(given) : NULL, force != 0, "python", &place, &error);
  Py_XDECREF(given);
  if (status != 0)
    return raise_error(&error);
  PyObject *result = path_object(place.path);
  bursar_place_close(&place);
  return result;
}

static PyObject *bursar_live_bytes(PyObject *module, PyObject *unused) {
  return PyLong_FromLongLong(bursar_account.active ? bursar_account_live() : -1);
}

/* -1: mode sample does not count them. */
static long long known_frees(const struct bursar_tally *all) {
  return bursar_account.mode == BURSAR_MODE_SAMPLE ? -1 : (long long)all->frees;
}

static PyObject *bursar_counters(PyObject *module, PyObject *unused) {
  bursar_count_settle();
  struct bursar_tally all = bursar_account_totals();
  long long live = bursar_account_live(), peak = (long long)BURSAR_BOOKS->peak;
  return Py_BuildValue("LLKLK", live, peak > live ? peak : live, (unsigned long long)all.allocs, known_frees(&all),
                       (unsigned long long)all.alloc_bytes);
}

static PyObject *bursar_mark(PyObject *module, PyObject *unused) {
  int mark = bursar_account.active ? bursar_account_mark() : -1;
  if (mark < 0) {
    PyErr_SetString(PyExc_RuntimeError,
                    bursar_account.active ? "too many measurements at once: at most 32" : "the books are closed");
    return NULL;
  }
  return PyLong_FromLong(mark);
}

static PyObject *bursar_unmark(PyObject *module, PyObject *arg) {
  long mark = PyLong_AsLong(arg);
  if (mark == -1 && PyErr_Occurred())
    return NULL;
  return PyLong_FromLongLong(bursar_account_unmark((int)mark));
}

/* Figures that are kept without allocating: what track() compares must not be in them.  Closes the mark (-1: none). */
static PyObject *bursar_read(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  int64_t cells[6] = {0};
  Py_buffer into;
  long mark = count == 2 ? PyLong_AsLong(args[1]) : -1;
  if (count != 2)
    PyErr_SetString(PyExc_TypeError, "read() takes a buffer and a mark");
  if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &into, PyBUF_WRITABLE) != 0)
    return NULL;
  if (mark >= 0)
    cells[5] = bursar_account_unmark((int)mark);
  struct bursar_tally all = bursar_account_totals();
  cells[0] = bursar_account_live();
  cells[1] = (int64_t)BURSAR_BOOKS->peak > cells[0] ? (int64_t)BURSAR_BOOKS->peak : cells[0];
  cells[2] = (int64_t)all.allocs;
  cells[3] = known_frees(&all);
  cells[4] = (int64_t)all.alloc_bytes;
  if (into.len == (Py_ssize_t)sizeof cells)
    memcpy(into.buf, cells, sizeof cells);
  else
    PyErr_SetString(PyExc_ValueError, "read() needs room for six 64-bit integers");
  PyBuffer_Release(&into);
  if (PyErr_Occurred())
    return NULL;
  Py_RETURN_NONE;
}

static PyObject *bursar_boot(PyObject *module, PyObject *arg) {
  const char *settings = PyUnicode_Check(arg) ? PyUnicode_AsUTF8(arg) : NULL;
  struct bursar_error error = {0};
  if (!settings) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_TypeError, "boot() takes BURSAR_RUN's text");
    return NULL;
  }
  if (PyInterpreterState_Get() != PyInterpreterState_Main() || bursar_account.active)
    Py_RETURN_NONE; /* a subinterpreter runs site too */
  if (bursar_boot_parse(settings, &process.boot, &error) != 0)
    return raise_error(&error);
  if (process.boot.pid != getpid() && !process.boot.follow)
    Py_RETURN_NONE;
  if (process.boot.policy[0] && bursar_policy_load(process.boot.policy, &error) != 0)
    return raise_error(&error);
  if (process.boot.no_core && !bursar_no_core_set()) /* first: whatever becomes of the books */
    return NULL;
  if (register_handlers() != 0 || register_finish(module) != 0)
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
  bursar_tell_remember();
  process.follow = process.boot.follow;
  process.quiet = process.boot.quiet || process.boot.pid != getpid();
  process.under_run = true;
  bursar_native_books_claim();
  if (process.boot.wipe) {
    const char *why = bursar_wiping_start();
    if (why)
      bursar_tell(why);
  }
  if (process.boot.domains & BURSAR_DOMAINS_NATIVE) /* a program that embeds Python may have no preload */
    bursar_native_books_reach();

  char path[sizeof process.path];
  snprintf(path, sizeof path, "%s", process.boot.path);
  int status = process.boot.pid == getpid() ? open_books(path, &process.boot, BURSAR_PHASE_STARTUP, 0, &error)
                                            : BURSAR_MISUSE;
  /* Not the first program of this process, or not its first process: a ledger of its own. */
  if (status == BURSAR_MISUSE && process.boot.follow) {
    status = bursar_boot_child(process.boot.path, path, sizeof path, &error);
    if (status == 0)
      status = open_books(path, &process.boot, BURSAR_PHASE_STARTUP, 0, &error);
  }
  if (status != 0)
    return raise_error(&error);
  bursar_refusing_limit_process(process.boot.budget);
  if (!BURSAR_KNOWS_FRAMES)
    bursar_tell("this Python is newer than this bursar: it counts, but knows no stacks");
  if (process.boot.policy[0] && bursar_policy_apply() != 0)
    return NULL;
  Py_RETURN_NONE;
}

/* What the settings ask for beside books. */
static bool prepare_for(const struct bursar_boot *boot) {
  const char *why = boot->wipe ? bursar_wiping_start() : NULL;
  if (why)
    bursar_tell(why);
  if (boot->domains & BURSAR_DOMAINS_NATIVE || boot->native)
    bursar_native_books_claim();
  if (boot->domains & BURSAR_DOMAINS_NATIVE)
    bursar_native_books_reach();
  return !boot->no_core || bursar_no_core_set();
}

/* As BURSAR and BURSAR_POLICY ask for it: books in the default place, which end without a word.  Where they are open already, the
 * policy's rules alone. */
static PyObject *bursar_switch_on(PyObject *module, PyObject *args) {
  const char *word;
  PyObject *policy = NULL;
  struct bursar_error error = {0};
  struct bursar_place place;
  if (!PyArg_ParseTuple(args, "zO&:switch_on", &word, path_or_none, &policy))
    return NULL;
  struct bursar_boot boot = {.mode = word ? bursar_domains_mode(word) : BURSAR_MODE_SAMPLE,
                             .domains = BURSAR_DOMAINS_OF_PYTHON,
                             .within = 1,
                             .quiet = true};
  /* A user must not make a program with more rights than theirs write files, nor read them. */
  bool ours = !bursar_prim_secure() && PyInterpreterState_Get() == PyInterpreterState_Main();
  bool rules = ours && policy && !bursar_policy_binds();
  int status = rules ? bursar_policy_load(PyBytes_AS_STRING(policy), &error) : 0;
  Py_XDECREF(policy);
  if (status != 0)
    return raise_error(&error);
  if (!boot.mode)
    return PyErr_Format(PyExc_ValueError, "there is no such mode");
  if (rules && !bursar_account.active) {
    bursar_policy_fill(&boot);
    boot.mode = word ? bursar_domains_mode(word) : boot.mode;
    if (!prepare_for(&boot))
      return NULL;
  }
  if (ours && !bursar_account.active) {
    if (bursar_place_create(NULL, false, "python", &place, &error) != 0)
      return raise_error(&error);
    if (register_handlers() != 0 || register_finish(module) != 0) {
      bursar_place_discard(&place);
      return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    bursar_tell_remember();
    process.follow = process.quiet = process.under_run = true; /* what is executed hears BURSAR too */
    process.boot = boot;
    if (open_books(place.path, &boot, BURSAR_PHASE_STARTUP, 0, &error) != 0) {
      bursar_place_discard(&place);
      return raise_error(&error);
    }
    bursar_place_close(&place);
  }
  return !rules || bursar_policy_apply() == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *bursar_ledger_summary(PyObject *module, PyObject *args) {
  PyObject *path = NULL;
  int fd;
  struct bursar_error error = {0};
  if (!PyArg_ParseTuple(args, "O&i:ledger_summary", PyUnicode_FSConverter, &path, &fd))
    return NULL;
  int status = bursar_summary_print(PyBytes_AS_STRING(path), fd, &error);
  Py_DECREF(path);
  if (status != 0)
    return raise_error(&error);
  Py_RETURN_NONE;
}

static PyObject *bursar_plant_refusal(PyObject *self, PyObject *number) {
  unsigned long long at = PyLong_AsUnsignedLongLong(number);
  return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(bursar_refusing_plant(at));
}

static PyObject *bursar_soft_bell(PyObject *self, PyObject *unused) {
  int bell = bursar_refusing_bell();
  return bell < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(bell);
}

static PyObject *bursar_soft_listens(PyObject *self, PyObject *listens) {
  int now = PyObject_IsTrue(listens);
  if (now < 0)
    return NULL;
  bursar_refusing_listens(now != 0);
  Py_RETURN_NONE;
}

static PyObject *bursar_soft_told(PyObject *self, PyObject *unused) {
  PyObject *scope = bursar_refusing_told();
  return scope ? scope : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"start", (PyCFunction)(void (*)(void))bursar_start, METH_VARARGS | METH_KEYWORDS,
     "Opens a ledger and sets the hooks."},
    {"wipe", bursar_wipe, METH_NOARGS, "From here on all that is freed is zeroed first."},
    {"stop", bursar_stop, METH_NOARGS, "Closes the books."},
    {"status", bursar_status, METH_NOARGS, "What the books are doing."},
    {"create", bursar_create, METH_VARARGS, "Makes a ledger file and returns its path."},
    {"live_bytes", bursar_live_bytes, METH_NOARGS,
     "Live bytes over the tracked domains; -1 while the books are closed."},
    {"counters", bursar_counters, METH_NOARGS, "Live bytes, peak bytes, allocations, frees, allocated bytes."},
    {"read", (PyCFunction)(void (*)(void))bursar_read, METH_FASTCALL,
     "Writes the counters and a mark's peak, which it closes."},
    {"_plant_refusal", bursar_plant_refusal, METH_O, "For tests: which block is refused."},
    {"soft_bell", bursar_soft_bell, METH_NOARGS, "A descriptor that is readable once a soft limit was passed."},
    {"soft_listens", bursar_soft_listens, METH_O, "Whether somebody waits for the bell."},
    {"soft_told", bursar_soft_told, METH_NOARGS, "The next scope whose soft limit was passed, or None."},
    {"scope_history", bursar_scope_history, METH_O,
     "Calls of a name that have ended, the peak that 95 % of them did not pass, mean seconds; None: no books."},
    {"tell", bursar_scope_tell, METH_VARARGS,
     "Notes an event of a scope, or of the process (None). False where there are no books."},
    {"mark", bursar_mark, METH_NOARGS, "Begins to watch for the greatest live bytes."},
    {"unmark", bursar_unmark, METH_O, "Ends it and returns them."},
    {"boot", bursar_boot, METH_O, "Starts as BURSAR_RUN says."},
    {"switch_on", bursar_switch_on, METH_VARARGS, "Starts as BURSAR and BURSAR_POLICY say."},
    {"no_core", bursar_no_core, METH_NOARGS, "No core file, no debugger."},
    {"finish", bursar_finish, METH_NOARGS, "Ends as `bursar run` promises."},
    {"ledger_summary", bursar_ledger_summary, METH_VARARGS, "Prints the summary of a ledger to a descriptor."},
    {"size_of", bursar_sizes_of, METH_VARARGS,
     "Bytes, of a number or a text such as 512 MiB; the argument's name is for errors."},
    {"balance", bursar_balance_here, METH_NOARGS, "This process's resident memory, explained."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
  static int (*const parts[])(PyObject *) = {
      bursar_scope_add_type, bursar_hideouts_add,   bursar_residue_add,     bursar_freeze_add,   bursar_vault_add,
      bursar_container_add,  bursar_converting_add, bursar_open_add,        bursar_governor_add, bursar_verdicts_add,
      bursar_uses_add,       bursar_shared_add,     bursar_limit_table_add, bursar_policy_add};
  bursar_api_publish();
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (parts[i](module) != 0)
      return -1;
  PyObject *cap_max = PyLong_FromUnsignedLongLong(BURSAR_CAP_MAX);
  int status = cap_max ? PyModule_AddObjectRef(module, "CAP_MAX", cap_max) : -1;
  Py_XDECREF(cap_max);
  PyObject *words = PyList_New(0), *tuple = NULL;
  for (unsigned i = 0; words && status == 0 && bursar_domains_words[i]; i++) {
    PyObject *word = PyUnicode_FromString(bursar_domains_words[i]);
    status = word ? PyList_Append(words, word) : -1;
    Py_XDECREF(word);
  }
  tuple = words && status == 0 ? PyList_AsTuple(words) : NULL;
  status = tuple ? PyModule_AddObjectRef(module, "DOMAINS", tuple) : -1;
  Py_XDECREF(words);
  Py_XDECREF(tuple);
  return status != 0 || PyModule_AddIntConstant(module, "CAP_MIN", BURSAR_CAP_MIN) != 0 ||
                 PyModule_AddIntConstant(module, "WITHIN_MAX", BURSAR_RECENT_MAX) != 0
             ? -1
             : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, BURSAR_MODULE_SLOTS{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_bursar",
    "The hooks, the exact account and the ledger's writer.",
    0,
    functions,
    slots,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__bursar(void);
PyMODINIT_FUNC PyInit__bursar(void) { return PyModuleDef_Init(&definition); }
