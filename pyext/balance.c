#include "balance.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/account.h"
#include "account/answer.h"
#include "report/balance.h"
#include "report/balance_text.h"

#define TEXT_MAX (1u << 20)

/* None where it is not known. */
static PyObject *number(uint64_t value) {
  if (value == BURSAR_BALANCE_UNKNOWN)
    Py_RETURN_NONE;
  return PyLong_FromUnsignedLongLong(value);
}

/* Names of files may be any bytes. */
static PyObject *string(const char *text) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
}

static PyObject *lines_of(const struct bursar_balance *balance) {
  PyObject *list = PyList_New(0);
  for (uint32_t i = 0; list && i < balance->line_count; i++) {
    const struct bursar_balance_line *line = &balance->lines[i];
    PyObject *one =
        Py_BuildValue("(NNNN)", string(line->name), number(line->bytes), string(line->detail), number(line->live));
    if (!one || PyList_Append(list, one) != 0)
      Py_CLEAR(list);
    Py_XDECREF(one);
  }
  return list;
}

static PyObject *notes_of(const struct bursar_balance *balance) {
  PyObject *list = PyList_New(0);
  for (uint32_t i = 0; list && i < balance->note_count; i++) {
    PyObject *one = string(balance->notes[i]);
    if (!one || PyList_Append(list, one) != 0)
      Py_CLEAR(list);
    Py_XDECREF(one);
  }
  return list;
}

static PyObject *facts_of(const struct bursar_balance *balance) {
  struct bursar_buffer text;
  bursar_buffer_init(&text, TEXT_MAX);
  bursar_balance_text_print(balance, &text);
  PyObject *facts = NULL;
  if (bursar_buffer_finish(&text) == 0)
    facts = Py_BuildValue("{s:l,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:N}", "pid", balance->pid, "rss_bytes",
                          number(balance->rss), "lines", lines_of(balance), "unexplained_bytes",
                          number(balance->unexplained), "returnable_bytes", number(balance->returnable),
                          "live_not_resident_bytes", number(balance->live_not_resident), "pss_bytes",
                          number(balance->pss), "swap_bytes", number(balance->swap), "page_tables_bytes",
                          number(balance->page_tables), "cgroup_limit_bytes", number(balance->cgroup_limit),
                          "cgroup_usage_bytes", number(balance->cgroup_usage), "threads", number(balance->threads),
                          "notes", notes_of(balance), "text", string(text.data));
  else
    PyErr_NoMemory();
  bursar_buffer_free(&text);
  return facts;
}

static int make(struct bursar_balance *balance) {
  struct bursar_look look;
  struct bursar_inside inside;
  int status;
  /* The longer half: other threads of Python go on meanwhile. */
  Py_BEGIN_ALLOW_THREADS;
  status = bursar_answer_begin(&look, 0);
  Py_END_ALLOW_THREADS;
  if (status < 0)
    return status;
  bursar_answer_finish(&look, &inside);
  bool open = bursar_account.active;
  struct bursar_balance_facts facts = {
      .regions = &look.regions, .inside = &inside, .domains = open ? bursar_account.writer.header->domains : 0};
  for (unsigned domain = 0; open && domain < BURSAR_DOMAIN_COUNT; domain++)
    facts.live[domain] = look.inside ? inside.live[domain] : bursar_account_live_of(domain);
  bursar_smaps_status(0, &facts.status);
  bursar_smaps_cgroup(0, &facts.cgroup);
  bursar_balance_make(&facts, balance);
  balance->pid = (long)getpid();
  if (!open)
    bursar_balance_note(balance, "no books are open: call bursar.start(), or use bursar run, to see who holds it");
  if (!look.inside)
    bursar_balance_note(balance, "the system forbids to read one's own memory: what is in it is not known");
  bursar_look_end(&look);
  return 0;
}

PyObject *bursar_balance_here(PyObject *module, PyObject *unused) {
  struct bursar_balance *balance = calloc(1, sizeof *balance);
  PyObject *facts = NULL;
  int status = balance ? make(balance) : 0;
  if (!balance)
    PyErr_NoMemory();
  else if (status < 0)
    PyErr_Format(PyExc_OSError, "cannot read /proc/self/smaps: %s", strerror(-status));
  else
    facts = facts_of(balance);
  free(balance);
  return facts;
}
