#include "policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "account/verdict.h"
#include "ledger/domains.h"
#include "open.h"
#include "policy/rules.h"
#include "refusing.h"

static struct bursar_rules rules; /* that were loaded and not applied yet */
static char path_of[4096];
static bool binds;
static struct bursar_rule governor[BURSAR_RULES_KEYS]; /* of those that were applied last */
static bool governs;

bool bursar_policy_binds(void) { return binds; }

int bursar_policy_load(const char *path, struct bursar_error *error) {
  static struct bursar_mistakes mistakes;
  bursar_rules_free(&rules);
  int status = bursar_rules_read(path, &rules, &mistakes, error);
  if (status == BURSAR_MISUSE)
    status = bursar_rules_fail(path, &mistakes, error);
  if (status != 0)
    bursar_rules_free(&rules);
  snprintf(path_of, sizeof path_of, "%s", path);
  return status;
}

void bursar_policy_fill(struct bursar_boot *boot) {
  const struct bursar_rule *of = rules.of;
  if (of[BURSAR_RULES_MODE].line)
    boot->mode = (uint32_t)of[BURSAR_RULES_MODE].number;
  if (bursar_rules_domains(&rules))
    boot->domains = bursar_rules_domains(&rules);
  if (of[BURSAR_RULES_TEMPORARY_WITHIN].line)
    boot->within = (uint32_t)of[BURSAR_RULES_TEMPORARY_WITHIN].number;
  boot->native = boot->native || of[BURSAR_RULES_NATIVE].number;
  boot->wipe = boot->wipe || of[BURSAR_RULES_WIPE].number;
  boot->no_core = boot->no_core || of[BURSAR_RULES_NO_CORE].number;
  boot->follow = boot->follow || of[BURSAR_RULES_FOLLOW_FORK].number;
}

/* --- applied ------------------------------------------------------------------------------------------------------------------ */

static void tell(const char *text) {
  bursar_lock_take();
  uint32_t string = bursar_stacks_string(text, strlen(text));
  bursar_lock_give();
  bursar_scopes_tell(BURSAR_EVENT_CHANGED, 0, 0, string);
}

static int apply_left_open(const struct bursar_rules_scope *scope) {
  int64_t action = scope->of[BURSAR_RULES_LEFT_OPEN].number;
  PyObject *name = PyUnicode_DecodeUTF8(scope->name, scope->bytes, "strict");
  PyObject *word = action == BURSAR_RULES_IGNORE ? Py_NewRef(Py_None)
                                                 : PyUnicode_FromString(bursar_rules_actions[action - 1]);
  int status = name && word ? bursar_open_default(name, word) : -1;
  Py_XDECREF(name);
  Py_XDECREF(word);
  return status;
}

/* *stay: how many limits are tighter already, where a policy binds. */
static int apply_limits(unsigned *stay) {
  for (uint32_t i = 0; i < rules.count; i++)
    for (int kind = 0; kind < BURSAR_LIMIT_KINDS; kind++) {
      const struct bursar_rules_scope *scope = &rules.scopes[i];
      if (!scope->of[kind].line)
        continue;
      int result = (binds ? bursar_limits_change : bursar_limits_set)(scope->name, scope->bytes,
                                                                      (enum bursar_limit)kind, scope->of[kind].number);
      if (result == -EPERM)
        ++*stay;
      else if (result < 0)
        return result;
    }
  struct bursar_rule budget = rules.of[BURSAR_RULES_BUDGET];
  if (!budget.line)
    return 0;
  int64_t bytes = budget.percent ? bursar_limits_percent((unsigned)budget.number) : budget.number;
  if (!binds && !bursar_limits_process_first()) { /* else `bursar run --budget` has said it */
    bursar_refusing_limit_process(bytes);
  } else if (binds) {
    *stay += bursar_limits_change_process(bytes) == -EPERM;
    bursar_refusing_follow_process();
  }
  return 0;
}

static void apply_verdict(void) {
  uint32_t threshold = 64, warmup = 500, t, w;
  bursar_verdict_set(&threshold, &warmup, false); /* they become what was set */
  t = rules.of[BURSAR_RULES_THRESHOLD].line ? (uint32_t)rules.of[BURSAR_RULES_THRESHOLD].number : threshold;
  w = rules.of[BURSAR_RULES_WARMUP].line ? (uint32_t)rules.of[BURSAR_RULES_WARMUP].number : warmup;
  bursar_verdict_set(&t, &w, true);
}

static unsigned rules_of(void) {
  unsigned count = rules.governor != 0;
  for (unsigned key = 0; key < BURSAR_RULES_KEYS; key++)
    count += rules.of[key].line != 0;
  for (uint32_t i = 0; i < rules.count; i++)
    for (unsigned key = 0; key < BURSAR_RULES_OF_SCOPE; key++)
      count += rules.scopes[i].of[key].line != 0;
  return count;
}

int bursar_policy_apply(void) {
  char text[4096 + 64];
  unsigned stay = 0;
  int result = apply_limits(&stay);
  if (result < 0) {
    PyErr_Format(PyExc_ValueError, "%s: at most %u names may have limits", path_of, BURSAR_LIMITS_NAMES);
    return -1;
  }
  apply_verdict();
  for (uint32_t i = 0; i < rules.count; i++)
    if (rules.scopes[i].of[BURSAR_RULES_LEFT_OPEN].line && apply_left_open(&rules.scopes[i]) != 0)
      return -1;
  snprintf(text, sizeof text, "policy %s: %u rules", path_of, rules_of());
  tell(text);
  governs = rules.governor != 0;
  memcpy(governor, rules.of, sizeof governor);
  binds = true;
  bursar_rules_free(&rules);
  return stay ? PyErr_WarnFormat(PyExc_RuntimeWarning, 3,
                                 "%s: limits above those that bind since the start are left out: %u", path_of, stay)
              : 0;
}

/* --- for Python ------------------------------------------------------------------------------------------------------------------ */

static int put(PyObject *dict, const char *key, PyObject *value) {
  int status = value ? PyDict_SetItemString(dict, key, value) : -1;
  Py_XDECREF(value);
  return status;
}

static PyObject *domains_text(uint32_t domains) {
  char list[128] = "";
  size_t used = 0;
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (domains >> domain & 1)
      used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? "," : "", bursar_domains_name(domain));
  return PyUnicode_FromString(list);
}

/* What the table [run] says: the keywords of start(). */
static PyObject *policy_load(PyObject *module, PyObject *path) {
  PyObject *name, *run = NULL;
  struct bursar_error error = {0};
  if (!PyUnicode_FSConverter(path, &name))
    return NULL;
  int status = bursar_policy_load(PyBytes_AS_STRING(name), &error);
  Py_DECREF(name);
  if (status != 0) {
    PyObject *text = PyUnicode_DecodeUTF8(error.text, (Py_ssize_t)strlen(error.text), "backslashreplace");
    if (text)
      PyErr_SetObject(status == BURSAR_MISUSE ? PyExc_ValueError : PyExc_OSError, text);
    Py_XDECREF(text);
    return NULL;
  }
  const struct bursar_rule *of = rules.of;
  if (!(run = PyDict_New()))
    return NULL;
  if ((of[BURSAR_RULES_MODE].line &&
       put(run, "mode", PyUnicode_FromString(bursar_domains_mode_name((uint32_t)of[BURSAR_RULES_MODE].number))) != 0) ||
      (bursar_rules_domains(&rules) && put(run, "domains", domains_text(bursar_rules_domains(&rules))) != 0) ||
      (of[BURSAR_RULES_TEMPORARY_WITHIN].line &&
       put(run, "temporary_within", PyLong_FromLongLong(of[BURSAR_RULES_TEMPORARY_WITHIN].number)) != 0))
    goto fail;
  static const struct {
    const char *name;
    unsigned key;
  } switches[] = {{"native", BURSAR_RULES_NATIVE},
                  {"wipe", BURSAR_RULES_WIPE},
                  {"no_core", BURSAR_RULES_NO_CORE},
                  {"follow_fork", BURSAR_RULES_FOLLOW_FORK}};
  for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
    if (of[switches[i].key].line && put(run, switches[i].name, PyBool_FromLong(of[switches[i].key].number != 0)) != 0)
      goto fail;
  return run;
fail:
  Py_DECREF(run);
  return NULL;
}

static PyObject *policy_apply(PyObject *module, PyObject *unused) {
  return bursar_policy_apply() == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *seconds(int64_t ns) { return PyFloat_FromDouble((double)ns / 1e9); }

/* The keywords of governor(), once after a policy was applied that has it; else None. */
static PyObject *policy_governor(PyObject *module, PyObject *unused) {
  const struct bursar_rule *of = governor;
  if (!governs)
    Py_RETURN_NONE;
  governs = false;
  PyObject *settings = PyDict_New();
  if (!settings ||
      (of[BURSAR_RULES_LIMIT].line &&
       put(settings, "limit", PyLong_FromLongLong(of[BURSAR_RULES_LIMIT].number)) != 0) ||
      (of[BURSAR_RULES_PAUSE].line && put(settings, "pause", seconds(of[BURSAR_RULES_PAUSE].number)) != 0) ||
      (of[BURSAR_RULES_IDLE].line && put(settings, "idle", seconds(of[BURSAR_RULES_IDLE].number)) != 0) ||
      (of[BURSAR_RULES_FREEZE].line &&
       put(settings, "freeze", PyBool_FromLong(of[BURSAR_RULES_FREEZE].number != 0)) != 0) ||
      (of[BURSAR_RULES_TRIM].line && put(settings, "trim", PyBool_FromLong(of[BURSAR_RULES_TRIM].number != 0)) != 0))
    Py_CLEAR(settings);
  return settings;
}

static PyMethodDef functions[] = {
    {"policy_load", policy_load, METH_O, "Reads a policy file; what its table [run] says."},
    {"policy_apply", policy_apply, METH_NOARGS, "Applies what was read."},
    {"policy_governor", policy_governor, METH_NOARGS, "The governor's settings that were applied, once; None: none."},
    {NULL, NULL, 0, NULL},
};

int bursar_policy_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
