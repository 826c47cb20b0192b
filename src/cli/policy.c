/* policy.c: `bursar policy`: what a policy file says and what is wrong with it, and what binds in a running program. */
#include "base/escape.h"
#include "cli/cli.h"
#include "ledger/ask.h"
#include "policy/explain.h"
#include "policy/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_MAX (64u << 20)

static struct bursar_text text_of(const char *text) { return (struct bursar_text){text, (uint32_t)strlen(text)}; }

static const char *const formats[] = {"text", "json", NULL};

/* ---- check ---- */

static void print_mistakes_json(struct bursar_buffer *out, const struct bursar_mistakes *mistakes) {
  bursar_buffer_text(out, "],\"mistakes\":[");
  for (uint32_t i = 0; i < mistakes->count; i++) {
    bursar_buffer_format(out, "%s{\"line\":%u,\"column\":%u,\"text\":", i ? ",\n" : "\n", mistakes->at[i].line,
                         mistakes->at[i].column);
    bursar_escape_json(out, text_of(mistakes->at[i].text));
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_format(out, "],\"more_mistakes\":%u}\n", mistakes->more);
}

static int print_json(const char *path, const struct bursar_explained *all, size_t count,
                      const struct bursar_mistakes *mistakes) {
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  bursar_buffer_text(&out, "{\"schema\":1,\"file\":");
  bursar_escape_json(&out, text_of(path));
  bursar_buffer_format(&out, ",\"good\":%s,\"rules\":[", mistakes->count ? "false" : "true");
  for (size_t i = 0; i < count; i++) {
    bursar_buffer_format(&out, "%s{\"line\":%u,\"key\":", i ? ",\n" : "\n", all[i].line);
    bursar_escape_json(&out, text_of(all[i].key));
    bursar_buffer_text(&out, ",\"value\":");
    bursar_escape_json(&out, text_of(all[i].value));
    bursar_buffer_text(&out, ",\"says\":");
    bursar_escape_json(&out, text_of(all[i].says));
    bursar_buffer_char(&out, '}');
  }
  print_mistakes_json(&out, mistakes);
  return bursar_cli_finish(&out);
}

static int print_text(const char *path, const struct bursar_explained *all, size_t count) {
  struct bursar_buffer out;
  size_t width = 0;
  for (size_t i = 0; i < count; i++) {
    size_t columns = bursar_escape_columns(text_of(all[i].key));
    width = columns > width && columns <= 40 ? columns : width;
  }
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  bursar_escape_terminal(&out, text_of(path));
  bursar_buffer_format(&out, ": %zu rule%s, which bind from a program's start\n", count, count == 1 ? "" : "s");
  for (size_t i = 0; i < count; i++) {
    bursar_buffer_format(&out, "%5u  ", all[i].line);
    size_t taken = bursar_escape_terminal(&out, text_of(all[i].key));
    bursar_buffer_repeat(&out, " ", taken < width ? width - taken : 0);
    bursar_buffer_format(&out, "  %s\n", all[i].says);
  }
  return bursar_cli_finish(&out);
}

static int print_mistakes(const char *path, const struct bursar_mistakes *mistakes) {
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDERR_FILENO, OUT_MAX);
  for (uint32_t i = 0; i < mistakes->count; i++) {
    bursar_escape_terminal(&out, text_of(path));
    bursar_buffer_format(&out, ":%u: %s\n", mistakes->at[i].line, mistakes->at[i].text);
  }
  if (mistakes->more) {
    bursar_escape_terminal(&out, text_of(path));
    bursar_buffer_format(&out, ": and %u more; mend these first\n", mistakes->more);
  }
  (void)!bursar_buffer_finish(&out);
  bursar_buffer_free(&out);
  return 1;
}

static int check(const char *path, bool json) {
  static struct bursar_mistakes mistakes;
  struct bursar_rules rules;
  struct bursar_error error;
  struct bursar_explained *all = NULL;
  size_t count = 0;
  int status = bursar_rules_read(path, &rules, &mistakes, &error);
  if (status == BURSAR_FAILED)
    return bursar_cli_fail(&error);
  if (rules.scopes && !(all = bursar_explain(&rules, &count)))
    status = bursar_cli_complain(1, "no memory to explain %.800s", path);
  else if (json)
    status = print_json(path, all, count, &mistakes);
  else
    status = mistakes.count ? print_mistakes(path, &mistakes) : print_text(path, all, count);
  free(all);
  bursar_rules_free(&rules);
  return status == 0 && mistakes.count ? 1 : status;
}

/* ---- a running program ---- */

#define WAIT_NS 5000000000ull

/* A process's number, or its ledger. */
static int open_program(const char *given, struct bursar_ask *ask) {
  struct bursar_error error;
  char *end;
  long pid = strtol(given, &end, 10);
  bool number = given[0] >= '0' && given[0] <= '9' && !*end && pid > 0 && pid <= INT32_MAX;
  int status = number ? bursar_ask_open((pid_t)pid, ask, &error) : bursar_ask_open_file(given, ask, &error);
  if (status != 0)
    return bursar_cli_fail(&error);
  if (ask->place.fd < 0)
    return bursar_cli_complain(1, "process %ld keeps no books, or is not there: bursar ls lists those that do", pid);
  return -1;
}

/* -1, or the exit status where there is no answer to show. */
static int ask_program(const char *given, struct bursar_ask *ask, const char *text, struct bursar_changed *answer) {
  bool replaced;
  switch (bursar_ask_change(ask, text, WAIT_NS, answer, &replaced)) {
    case BURSAR_ASK_DEAF:
      return bursar_cli_complain(1,
                                 "%.800s takes no changes: its books are closed, or are those of a program without "
                                 "Python or of an older bursar",
                                 given);
    case BURSAR_ASK_DENIED:
      return bursar_cli_complain(1, "cannot write to the ledger %.800s: %s", ask->place.path, strerror(errno));
    case BURSAR_ASK_WAITS:
      return bursar_cli_complain(
          1, "no answer from %.800s, which rests or is slow%s: %s", given,
          replaced ? ", nor was an earlier change answered, which this one takes the place of" : "",
          text[0] == '?' ? "ask again" : "it will be made, or refused, once the program works; its events will say so");
    default: break;
  }
  return replaced ? bursar_cli_complain(-1, "an earlier change was not answered, and is not made") : -1;
}

/* What a shell leaves of a value, as a policy file has it. */
static void write_value(struct bursar_buffer *out, const char *value) {
  bool plain = strcmp(value, "true") == 0 || strcmp(value, "false") == 0 || value[0] == '"' || value[0] == '\'' ||
               (value[0] && !value[strspn(value, "0123456789.+-eE_")]);
  if (plain) {
    bursar_buffer_text(out, value);
    return;
  }
  bursar_buffer_char(out, '"');
  for (; *value; value++)
    bursar_buffer_format(out, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
  bursar_buffer_char(out, '"');
}

/* Here too, so that what is misspelt is said whatever the program does. */
static int check_change(const char *text) {
  static struct bursar_mistakes mistakes;
  struct bursar_rules rules;
  int status = bursar_rules_parse(text, strlen(text), true, &rules, &mistakes);
  bursar_rules_free(&rules);
  return status == 0 ? -1 : bursar_cli_complain(2, "policy: %s", mistakes.at[0].text);
}

static int set(const char *given, const char *key, const char *value) {
  struct bursar_ask ask;
  struct bursar_buffer text, out;
  static struct bursar_changed answer;
  bursar_buffer_init(&text, BURSAR_CONTROL_TEXT);
  bursar_buffer_format(&text, "%s = ", key);
  write_value(&text, value);
  int status = bursar_buffer_finish(&text) == 0 ? check_change(text.data)
                                                : bursar_cli_complain(2, "policy: too long a key or value");
  if (status < 0)
    status = open_program(given, &ask);
  if (status < 0) {
    status = ask_program(given, &ask, text.data, &answer);
    bursar_ask_close(&ask);
  }
  bursar_buffer_free(&text);
  if (status >= 0)
    return status;
  if (answer.result != BURSAR_CHANGED_MADE)
    return bursar_cli_complain(answer.result == BURSAR_CHANGED_WRONG ? 2 : 1, "policy: %s%.*s",
                               answer.result == BURSAR_CHANGED_REFUSED ? "refused: " : "", (int)answer.bytes,
                               answer.text);
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  bursar_escape_terminal(&out, (struct bursar_text){answer.text, answer.bytes});
  bursar_buffer_char(&out, '\n');
  return bursar_cli_finish(&out);
}

static int show(const char *given) {
  struct bursar_ask ask;
  struct bursar_buffer whole, out;
  static struct bursar_changed answer;
  char text[32];
  int status = open_program(given, &ask);
  if (status >= 0)
    return status;
  bursar_buffer_init(&whole, OUT_MAX);
  do {
    snprintf(text, sizeof text, "?%zu", whole.used);
    status = ask_program(given, &ask, text, &answer);
    if (status < 0 && answer.result != BURSAR_CHANGED_SHOWN)
      status = bursar_cli_complain(1, "policy: %.*s", (int)answer.bytes, answer.text);
    if (status < 0)
      bursar_buffer_add(&whole, answer.text, answer.bytes);
  } while (status < 0 && answer.more && answer.bytes);
  bursar_ask_close(&ask);
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  for (size_t at = 0; status < 0 && at < whole.used;) { /* line by line: they are a program's */
    size_t length = strcspn(whole.data + at, "\n");
    bursar_escape_terminal(&out, (struct bursar_text){whole.data + at, (uint32_t)length});
    bursar_buffer_char(&out, '\n');
    at += length + 1;
  }
  bursar_buffer_free(&whole);
  int end = bursar_cli_finish(&out);
  return status < 0 ? end : status;
}

/* ---- the verb ---- */

int bursar_cli_policy(int argc, char **argv) {
  static const char *const actions[] = {"check", "set", "show", NULL};
  static const int takes[] = {1, 3, 1};
  static const char *const usages[] = {"check FILE", "set (PID | LEDGER) KEY VALUE", "show (PID | LEDGER)"};
  const char *format = NULL;
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "of check: text (the default) or json"}, {0}};
  const struct bursar_cli_syntax syntax = {
      .verb = "policy",
      .usage = "(check FILE | set (PID | LEDGER) KEY VALUE | show (PID | LEDGER)) [OPTION…]",
      .about =
          "check: explains a policy file, rule by rule, or names every mistake in it as FILE:LINE, and exits with 1.\n"
          "set: changes a running program's, such as scope.load.hard to 200MiB; never to weaken a limit that was set\n"
          "at its start.  Exits with 1 where it is refused, or where no answer comes.\n"
          "show: what binds now, and where it is from.\n"
          "docs/policy.md has what a policy may say.",
      .options = options};
  int operands;
  int status = bursar_cli_options(&syntax, argc, argv, &operands);
  if (status >= 0)
    return status;
  if (operands < 1)
    return bursar_cli_complain(2, "policy: say what to do: bursar policy check FILE");
  int action = bursar_cli_choice(argv[1], actions);
  if (action < 0)
    return bursar_cli_unknown("policy", "action", argv[1], actions);
  int chosen = format ? bursar_cli_choice(format, formats) : 0;
  if (chosen < 0)
    return bursar_cli_unknown("policy", "format", format, formats);
  if (operands != 1 + takes[action])
    return bursar_cli_complain(2, "policy: %s takes something else: bursar policy %s", actions[action], usages[action]);
  return action == 0 ? check(argv[2], chosen == 1) : action == 1 ? set(argv[2], argv[3], argv[4]) : show(argv[2]);
}
