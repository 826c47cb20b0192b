#include "report/diff.h"
#include "base/size.h"
#include "cli/cli.h"
#include "report/natives.h"
#include "report/output.h"

#include <signal.h>
#include <string.h>

struct asked {
  const char *fail_over, *format, *out;
  uint64_t limit;
  bool json;
};

static int print(const struct bursar_diff *diff, const struct asked *asked, struct bursar_error *error) {
  struct bursar_output output;
  struct bursar_buffer out;
  int status = bursar_output_open(asked->out, &output, error);
  if (status != 0)
    return status;
  bursar_buffer_to(&out, output.fd, UINT64_MAX);
  struct bursar_view view = {.model = diff->after, .out = &out, .when = BURSAR_MODEL_PEAK};
  bursar_view_fit(&view, output.fd);
  if (asked->json)
    bursar_diff_write_json(diff, &out);
  else
    bursar_diff_print(diff, &view);
  int written = bursar_buffer_finish(&out);
  bursar_buffer_free(&out);
  if (written == 0)
    return bursar_output_commit(&output, error);
  bursar_output_discard(&output);
  return bursar_error_set(error, BURSAR_FAILED, "cannot write the comparison: %s", strerror(-written));
}

static int compare(char **ledgers, const struct asked *asked) {
  struct bursar_model *before = NULL, *after = NULL;
  struct bursar_diff diff = {0};
  struct bursar_error error;
  int result = 0;
  int status = bursar_model_open(ledgers[0], &before, &error);
  if (status == 0)
    status = bursar_model_open(ledgers[1], &after, &error);
  if (status == 0)
    status = bursar_natives_resolve(before, &error);
  if (status == 0)
    status = bursar_natives_resolve(after, &error);
  if (status == 0)
    status = bursar_diff_make(before, after, &diff, &error);
  if (status == 0)
    status = print(&diff, asked, &error);
  if (status != 0)
    result = bursar_cli_fail(&error);
  else if (asked->fail_over && bursar_diff_growth(&diff) > 0 && (uint64_t)bursar_diff_growth(&diff) > asked->limit) {
    char grown[BURSAR_SIZE_TEXT], limit[BURSAR_SIZE_TEXT];
    result = bursar_cli_complain(1, "diff: the peak grew by %s, more than %s",
                                 bursar_size_print((uint64_t)bursar_diff_growth(&diff), grown),
                                 bursar_size_print(asked->limit, limit));
  }
  bursar_diff_free(&diff);
  bursar_model_free(before);
  bursar_model_free(after);
  return result;
}

int bursar_cli_diff(int argc, char **argv) {
  static const char *const formats[] = {"text", "json", NULL};
  struct asked asked = {0};
  const struct bursar_cli_option options[] = {
      {.name = "fail-over",
       .value = "SIZE",
       .text = &asked.fail_over,
       .help = "exit with 1 where the peak grew by more than this, such as 10MiB"},
      {.name = "format", .value = "FORMAT", .text = &asked.format, .help = "text (the default) or json"},
      {.name = "output",
       .letter = 'o',
       .value = "FILE",
       .text = &asked.out,
       .help = "write there: replaces a file, but never a ledger"},
      {0}};
  const struct bursar_cli_syntax syntax = {.verb = "diff",
                                           .usage = "BEFORE AFTER [OPTION…]",
                                           .about = "Compares what two ledgers held at their peaks, by site.",
                                           .options = options};
  int operands;
  signal(SIGXFSZ, SIG_IGN); /* a file size limit then is an error of write(), and nothing is left behind */
  int status = bursar_cli_options(&syntax, argc, argv, &operands);
  if (status >= 0)
    return status;
  if (operands != 2)
    return bursar_cli_complain(2, "diff: give two ledgers, the earlier one first: see bursar diff --help");
  int format = asked.format ? bursar_cli_choice(asked.format, formats) : 0;
  if (format < 0)
    return bursar_cli_unknown("diff", "format", asked.format, formats);
  asked.json = format == 1;
  if (asked.fail_over && bursar_size_parse(asked.fail_over, &asked.limit) != 0)
    return bursar_cli_complain(2, "diff: --fail-over takes a size like 10MiB, not '%s'", asked.fail_over);
  return compare(argv + 1, &asked);
}
