#include "changing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/answer.h"
#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "anywhere.h"
#include "policy/change.h"
#include "refusing.h"

/* The one that is looked at: main GIL. */
static struct {
  uint64_t number;
  enum { IDLE, WAITS /* for the main thread: another may take its place */, RUNS } state;
  bool called; /* the main thread was, and has not come yet */
  bool shows;
  size_t from; /* shows: the first byte that is wanted */
  struct bursar_change change;
} asked;

void bursar_changing_start(void) {
  asked.state = IDLE;
  asked.called = false;
}

static void tell(const struct bursar_change *change) {
  char text[sizeof change->text + 32];
  if (change->result != BURSAR_CHANGED_MADE && change->result != BURSAR_CHANGED_REFUSED)
    return;
  bool made = change->result == BURSAR_CHANGED_MADE;
  int bytes = snprintf(text, sizeof text, "%s%s", made ? "" : "change refused: ", change->text);
  uint32_t name = change->of_scope ? bursar_scopes_name(change->scope.name, change->scope.bytes) : 0;
  bursar_lock_take();
  uint32_t string = bursar_stacks_string(text, (size_t)bytes);
  bursar_lock_give();
  bursar_scopes_tell(made ? BURSAR_EVENT_CHANGED : BURSAR_EVENT_NOTE, name, 0, string);
}

/* Between two instructions: hooks may have to be put in. */
static int follow(void *unused) {
  bursar_refusing_follow_process();
  return 0;
}

static void answer(void) {
  tell(&asked.change);
  if (!asked.change.of_scope && asked.change.key == BURSAR_RULES_BUDGET && asked.change.result == BURSAR_CHANGED_MADE)
    (void)Py_AddPendingCall(follow, NULL);
  bursar_answer_change(asked.number, asked.change.result, asked.change.text, strlen(asked.change.text), 0);
}

/* --- in a thread of its own ---------------------------------------------------------------------------------------------------------- */

/* python/bursar/_policy.py: what was set before, as a number as in rules.h, or an exception that says why not. */
static bool ask_python(struct bursar_rule *before) {
  struct bursar_change *change = &asked.change;
  PyObject *module = PyImport_ImportModule("bursar._policy"), *result = NULL;
  if (module && change->of_scope)
    result = PyObject_CallMethod(module, "left_open", "s#s", change->scope.name, (Py_ssize_t)change->scope.bytes,
                                 bursar_rules_actions[change->rule.number - 1]);
  else if (module)
    result =
        PyObject_CallMethod(module, "govern", "IL", change->key - BURSAR_RULES_LIMIT, (long long)change->rule.number);
  before->number = result ? PyLong_AsLongLong(result) : 0;
  Py_XDECREF(module);
  Py_XDECREF(result);
  return !PyErr_Occurred();
}

/* An exception as the answer: PermissionError where nothing may be weakened. */
static void say_exception(void) {
  struct bursar_change *change = &asked.change;
  PyObject *type, *value, *traceback;
  bool refused = PyErr_ExceptionMatches(PyExc_PermissionError);
  PyErr_Fetch(&type, &value, &traceback);
  PyObject *text = value ? PyObject_Str(value) : NULL;
  const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
  change->result = refused ? BURSAR_CHANGED_REFUSED : BURSAR_CHANGED_WRONG;
  snprintf(change->text, sizeof change->text, "%s", utf8 ? utf8 : "it failed");
  PyErr_Clear();
  Py_XDECREF(text);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
}

static void show(void) {
  PyObject *module = PyImport_ImportModule("bursar._policy");
  PyObject *text = module ? PyObject_CallMethod(module, "show", NULL) : NULL;
  Py_ssize_t bytes = 0;
  const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &bytes) : NULL;
  if (utf8) {
    size_t from = asked.from < (size_t)bytes ? asked.from : (size_t)bytes, left = (size_t)bytes - from;
    size_t now = left < BURSAR_CHANGED_TEXT ? left : BURSAR_CHANGED_TEXT;
    bursar_answer_change(asked.number, BURSAR_CHANGED_SHOWN, utf8 + from, now, left - now);
  } else {
    say_exception();
    answer();
  }
  Py_XDECREF(module);
  Py_XDECREF(text);
}

static void make(void) {
  struct bursar_change *change = &asked.change;
  struct bursar_rule before = {0};
  if (change->rule.percent)
    bursar_change_process(change, bursar_limits_percent((unsigned)change->rule.number));
  else if (ask_python(&before))
    bursar_change_say(change, before);
  else
    say_exception();
  answer();
}

static void run(void *unused) {
  PyGILState_STATE state = PyGILState_Ensure();
  if (asked.state == RUNS && asked.shows)
    show();
  else if (asked.state == RUNS) /* no other books were begun */
    make();
  asked.state = IDLE;
  PyGILState_Release(state);
}

/* Between two instructions of whatever the main thread does, an import perhaps: what runs Python has a thread of its own, which can
 * wait for that. */
static int go_on(void *unused) {
  asked.called = false;
  if (asked.state != WAITS)
    return 0;
  asked.state = RUNS;
  if (PyThread_start_new_thread(run, NULL) == PYTHREAD_INVALID_THREAD_ID)
    asked.state = IDLE; /* it is tried again */
  return 0;
}

/* --- in a hook --------------------------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) void hear(void) {
  char text[BURSAR_CONTROL_TEXT + 1];
  uint64_t number;
  size_t bytes;
  if (!bursar_answer_asked(&number, text, &bytes) || (asked.state == WAITS && number == asked.number))
    return;
  asked.number = number;
  asked.state = IDLE;
  asked.shows = text[0] == '?';
  if (asked.shows)
    asked.from = strtoul(text + 1, NULL, 10);
  else
    bursar_change_make(text, bytes, &asked.change);
  if (!asked.shows && asked.change.result) {
    answer();
    return;
  }
  asked.called = asked.called || Py_AddPendingCall(go_on, NULL) == 0;
  asked.state = asked.called ? WAITS : IDLE;
}

void bursar_changing_hear(void) {
  if (asked.state == RUNS || !bursar_holds_main_gil())
    return;
  bool was = bursar_anywhere_inside;
  int kept = errno;
  bursar_anywhere_inside = true;
  hear();
  bursar_anywhere_inside = was;
  errno = kept;
}
