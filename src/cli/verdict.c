/* verdict.c: `bursar verdict`: does a scope leak, how many bytes a call, where? */
#include "cli/cli.h"
#include "ledger/reader.h"
#include "report/view_verdict.h"

#include <unistd.h>

#define OUT_MAX (64u << 20)

static bool is_of_interest(const struct bursar_reader *reader, uint32_t name) {
  return reader->scope_name[name].calls > 0;
}

/* Those that leak come first. */
static bool any_leaks(const struct bursar_reader *reader, uint32_t first, uint32_t last) {
  for (uint32_t i = first; i < last; i++)
    if (is_of_interest(reader, i) && bursar_view_verdict_of(reader, i).says == BURSAR_VIEW_VERDICT_LEAKS)
      return true;
  return false;
}

static int print(const struct bursar_reader *reader, uint32_t first, uint32_t last, bool one, bool json) {
  static const enum bursar_view_verdict_says order[] = {BURSAR_VIEW_VERDICT_LEAKS, BURSAR_VIEW_VERDICT_UNDECIDED,
                                                        BURSAR_VIEW_VERDICT_CLEAN};
  struct bursar_buffer out;
  uint32_t printed = 0;
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  if (json)
    bursar_buffer_format(&out, "{\"schema\":1,\"pid\":%u,%s", reader->header.pid, one ? "" : "\"verdicts\":[");
  for (unsigned rank = 0; rank < 3; rank++)
    for (uint32_t i = first; i < last; i++) {
      struct bursar_view_verdict verdict = bursar_view_verdict_of(reader, i);
      if (verdict.says != order[rank] || !(one || is_of_interest(reader, i)))
        continue;
      if (json) {
        bursar_buffer_text(&out, one ? "" : printed ? ",\n{" : "{");
        bursar_view_verdict_json(&verdict, reader, &out);
        bursar_buffer_text(&out, one ? "" : "}");
      } else {
        bursar_view_verdict_print(&verdict, reader, &out);
      }
      printed++;
    }
  if (json)
    bursar_buffer_text(&out, one ? "}\n" : "]}\n");
  else if (!printed)
    bursar_buffer_text(&out, "no scope has ended: with bursar.scope(\"name\"): in the program enters one\n");
  return bursar_cli_finish(&out);
}

int bursar_cli_verdict(int argc, char **argv) {
  static const char *const formats[] = {"text", "json", NULL};
  const char *format = NULL;
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"}, {0}};
  const struct bursar_cli_syntax syntax = {.verb = "verdict",
                                           .usage = "(PID | LEDGER) [SCOPE] [OPTION…]",
                                           .about =
                                               "Says whether scopes leak: how many bytes a call, with a bound, and "
                                               "where.  Exits with 1 where one does, with 0\n"
                                               "where none does or it is undecided.",
                                           .options = options};
  struct bursar_reader *reader;
  struct bursar_error error;
  int operands;
  int status = bursar_cli_options(&syntax, argc, argv, &operands);
  if (status >= 0)
    return status;
  if (operands < 1 || operands > 2)
    return bursar_cli_complain(2,
                               "verdict: give a process or a ledger, and a scope perhaps: see bursar verdict "
                               "--help");
  int chosen = format ? bursar_cli_choice(format, formats) : 0;
  if (chosen < 0)
    return bursar_cli_unknown("verdict", "format", format, formats);
  if (bursar_reader_open(argv[1], &reader, &error) != 0)
    return bursar_cli_fail(&error);
  uint32_t first = 1, last = reader->scope_names;
  if (operands == 2) {
    first = bursar_view_verdict_find(reader, argv[2]);
    last = first + 1;
  }
  if (first == 0)
    status = bursar_cli_complain(1, "verdict: there is no scope '%s' in %s: see bursar report %s --view scopes",
                                 argv[2], argv[1], argv[1]);
  else
    status = print(reader, first, last, operands == 2, chosen == 1);
  if (status == 0 && first && any_leaks(reader, first, last))
    status = 1;
  bursar_reader_free(reader);
  return status;
}
