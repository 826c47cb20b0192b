/* balance.c: `bursar balance`: why a process is as large as it is. */
#include "report/balance.h"
#include "base/size.h"
#include "cli/cli.h"
#include "ledger/ask.h"
#include "ledger/inside.h"
#include "ledger/reader.h"
#include "memory/look.h"
#include "report/balance_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_NS 300000000ull
#define OUT_MAX (16u << 20)

static int print(const struct bursar_balance *balance, bool json) {
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  if (json)
    bursar_balance_text_json(balance, &out);
  else
    bursar_balance_text_print(balance, &out);
  return bursar_cli_finish(&out);
}

/* ---- a running process ---- */

/* `own`: a ledger of the user's own says that it is theirs. */
static int cannot_look(pid_t pid, int why, bool own) {
  switch (-why) {
    case ESRCH: return bursar_cli_complain(1, "balance: there is no process %ld (any more): see bursar ls", (long)pid);
    case EACCES:
    case EPERM:
      if (own)
        return bursar_cli_complain(1,
                                   "balance: process %ld lets nobody look into it (--no-core): run this as root, or "
                                   "see "
                                   "bursar report %ld",
                                   (long)pid, (long)pid);
      return bursar_cli_complain(1, "balance: process %ld belongs to another user: run this as that user, or as root",
                                 (long)pid);
    case ENOENT: return bursar_cli_complain(1, "balance: there is no /proc here: mount it");
    default: return bursar_cli_complain(1, "balance: cannot read /proc/%ld/smaps: %s", (long)pid, strerror(-why));
  }
}

/* What the process says of itself, else what may be read of its memory; that too for large heaps, which it does not go
 * through while its program waits.  *answered: it was the process. */
static int look(pid_t pid, struct bursar_ask *ask, struct bursar_look *out, struct bursar_inside *inside,
                bool *answered) {
  bool books = ask->place.fd >= 0;
  struct bursar_inside outside;
  memset(inside, 0, sizeof *inside);
  *answered = books && bursar_ask_inside(ask, WAIT_NS, inside);
  bool whole = *answered && (inside->known & BURSAR_INSIDE_HEAPS);
  int status = bursar_look_begin(pid, books ? (uint64_t)ask->inode : 0, books && !whole ? BURSAR_LOOK_INSIDE : 0, out);
  if (status < 0 || !books || whole)
    return status;
  if (!*answered)
    bursar_look_scan(out);
  bursar_look_sum(out);
  bursar_inside_fill(out, &outside);
  if (!*answered) {
    *inside = outside;
  } else if (outside.known & BURSAR_INSIDE_HEAPS) {
    inside->known |= BURSAR_INSIDE_HEAPS;
    inside->heaps = outside.heaps;
    memcpy(inside->heap, outside.heap, sizeof inside->heap);
  }
  return 0;
}

static void add_notes(struct bursar_balance *balance, const struct bursar_ask *ask, const struct bursar_inside *inside,
                      bool answered) {
  if (ask->place.fd < 0)
    bursar_balance_note(balance, "process %ld keeps no books of bursar's: these are the kernel's categories alone",
                        balance->pid);
  else if (!ask->open)
    bursar_balance_note(balance, "the books are closed: what is live is not known any more");
  else if (!answered)
    bursar_balance_note(balance,
                        "the program is idle and gave no answer: what of the live blocks is resident is not known%s",
                        inside->known ? "; its memory was read instead" : ", nor what is free in it");
}

static int balance_process(pid_t pid, bool json) {
  struct bursar_balance *balance = calloc(1, sizeof *balance);
  struct bursar_ask *ask = calloc(1, sizeof *ask);
  struct bursar_inside inside;
  struct bursar_look seen;
  struct bursar_error error;
  bool answered;
  int result = 1;
  if (!balance || !ask) {
    bursar_cli_complain(1, "balance: not enough memory");
    goto out;
  }
  if (pid == 0) {
    cannot_look(pid, -ESRCH, false);
    goto out;
  }
  if (bursar_ask_open(pid, ask, &error) < 0) {
    bursar_cli_complain(1, "balance: %s", error.text);
    goto out;
  }
  int status = look(pid, ask, &seen, &inside, &answered);
  if (status < 0) {
    cannot_look(pid, status, ask->place.fd >= 0);
    goto close;
  }
  struct bursar_balance_facts facts = {
      .regions = &seen.regions, .inside = &inside, .domains = ask->open ? ask->header.domains : 0};
  memcpy(facts.live, ask->live, sizeof facts.live);
  bursar_smaps_status(pid, &facts.status);
  bursar_smaps_cgroup(pid, &facts.cgroup);
  bursar_balance_make(&facts, balance);
  balance->pid = pid;
  balance->ledger = ask->place.fd >= 0 ? ask->place.path : NULL;
  balance->state = ask->place.fd < 0 ? NULL : ask->open ? "running" : "stopped";
  add_notes(balance, ask, &inside, answered);
  result = print(balance, json);
  bursar_look_end(&seen);
close:
  bursar_ask_close(ask);
out:
  free(ask);
  free(balance);
  return result;
}

/* ---- a ledger ---- */

static int balance_ledger(const struct bursar_reader *reader, bool json) {
  struct bursar_inside nothing = {.known = 0};
  struct bursar_balance_facts facts = {.inside = &nothing,
                                       .domains = reader->header.domains,
                                       .status = {BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN},
                                       .cgroup = {BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN, 0}};
  struct bursar_balance *balance = calloc(1, sizeof *balance);
  if (!balance)
    return bursar_cli_complain(1, "balance: not enough memory");
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    facts.live[domain] = reader->total[domain].alloc_bytes - reader->total[domain].free_bytes;
  bursar_balance_make(&facts, balance);
  balance->pid = (long)reader->header.pid;
  balance->ledger = reader->path;
  balance->state = bursar_reader_life_name(reader->life);
  bursar_balance_note(balance, "the %s: what was live then is known, what was resident is not",
                      reader->life == BURSAR_LIFE_STOPPED || reader->life == BURSAR_LIFE_BROKEN ? "books are closed"
                                                                                                : "program has ended");
  for (uint32_t i = 0; i < reader->note_count; i++)
    bursar_balance_note(balance, "%s", reader->note[i]);
  int result = print(balance, json);
  free(balance);
  return result;
}

static int balance_file(const char *path, bool json) {
  struct bursar_reader *reader;
  struct bursar_error error;
  if (bursar_reader_open(path, &reader, &error) != 0)
    return bursar_cli_fail(&error);
  pid_t pid = (pid_t)reader->header.pid;
  bool running = reader->life == BURSAR_LIFE_RUNNING;
  int result = running ? 0 : balance_ledger(reader, json);
  bursar_reader_free(reader);
  return running ? balance_process(pid, json) : result;
}

static bool is_pid(const char *word) {
  return *word && strlen(word) < 10 && strspn(word, "0123456789") == strlen(word) && access(word, F_OK) != 0;
}

int bursar_cli_balance(int argc, char **argv) {
  const char *format = "text";
  static const char *const formats[] = {"text", "json", NULL};
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"}, {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "balance",
      .usage = "PID|LEDGER [--format text|json]",
      .about =
          "Explains a process's resident memory, line by line.  The lines add up to it; what nothing explains\n"
          "is 'unexplained'.  A program under bursar run tells who holds it; of others the kernel's categories\n"
          "are shown.  Of a program that has ended its ledger tells what was live.",
      .options = options};
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (count != 1)
    return bursar_cli_complain(2, "balance: give one process id or ledger: see bursar balance --help");
  if (bursar_cli_choice(format, formats) < 0)
    return bursar_cli_unknown("balance", "format", format, formats);
  bool json = strcmp(format, "json") == 0;
  return is_pid(argv[1]) ? balance_process((pid_t)atoi(argv[1]), json) : balance_file(argv[1], json);
}
