/* policy.c: `bursar policy`: what a policy file says and what is wrong with it, and what binds in a running program. */
#include "base/escape.h"
#include "cli/cli.h"
#include "policy/explain.h"
#include "policy/rules.h"

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

int bursar_cli_policy(int argc, char **argv) {
  static const char *const actions[] = {"check", NULL};
  const char *format = NULL;
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"}, {0}};
  const struct bursar_cli_syntax syntax = {.verb = "policy",
                                           .usage = "check FILE [OPTION…]",
                                           .about =
                                               "check: explains a policy file, rule by rule, or names every mistake in "
                                               "it as FILE:LINE, and exits with 1.\n"
                                               "docs/policy.md has what a policy may say.",
                                           .options = options};
  int operands;
  int status = bursar_cli_options(&syntax, argc, argv, &operands);
  if (status >= 0)
    return status;
  if (operands < 1)
    return bursar_cli_complain(2, "policy: say what to do: bursar policy check FILE");
  if (bursar_cli_choice(argv[1], actions) < 0)
    return bursar_cli_unknown("policy", "action", argv[1], actions);
  int chosen = format ? bursar_cli_choice(format, formats) : 0;
  if (chosen < 0)
    return bursar_cli_unknown("policy", "format", format, formats);
  if (operands != 2)
    return bursar_cli_complain(2, "policy: check takes one file: bursar policy check FILE");
  return check(argv[2], chosen == 1);
}
