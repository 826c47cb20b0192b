#include "cli/cli.h"
#include "report/html.h"
#include "report/json.h"
#include "report/natives.h"
#include "report/output.h"
#include "report/views.h"

#include <signal.h>
#include <string.h>

/* More than any program gives; a crafted ledger could ask for terabytes. */
#define OUT_MAX (1ull << 34)

enum format { FORMAT_TEXT, FORMAT_HTML, FORMAT_JSON };

struct asked {
  const char *view, *at, *format, *out;
  enum bursar_views_kind kind;
  enum format as;
  enum bursar_model_when when;
  uint64_t time_ns;
};

/* `1.5` or `1.5s`, as nanoseconds. */
static int parse_time(const char *text, uint64_t *ns) {
  uint64_t whole = 0, part = 0, scale = 100000000;
  const char *at = text;
  if (*at < '0' || *at > '9')
    return -1;
  for (; *at >= '0' && *at <= '9'; at++)
    if (whole > 1000000000u || (whole = whole * 10 + (uint64_t)(*at - '0')) > 1000000000u)
      return -1;
  if (*at == '.')
    for (at++; *at >= '0' && *at <= '9'; at++, scale /= 10)
      part += (uint64_t)(*at - '0') * scale;
  if (*at == ' ')
    at++;
  if (strcmp(at, "") != 0 && strcmp(at, "s") != 0)
    return -1;
  *ns = whole * 1000000000u + part;
  return 0;
}

/* Returns -1 to go on, else the exit status. */
static int understand(struct asked *asked) {
  static const char *const formats[] = {"text", "html", "json", NULL};
  int kind = asked->view ? bursar_cli_choice(asked->view, bursar_views_names) : BURSAR_VIEWS_TABLE;
  if (kind < 0)
    return bursar_cli_unknown("report", "view", asked->view, bursar_views_names);
  int format = asked->format ? bursar_cli_choice(asked->format, formats) : FORMAT_TEXT;
  if (format < 0)
    return bursar_cli_unknown("report", "format", asked->format, formats);
  asked->kind = (enum bursar_views_kind)kind;
  asked->as = (enum format)format;
  /* People ask who held the peak, programs for live_* at the end. */
  bool ends = kind == BURSAR_VIEWS_LEAKS || kind == BURSAR_VIEWS_SCOPES || kind == BURSAR_VIEWS_EVENTS;
  asked->when = asked->as == FORMAT_TEXT && !ends ? BURSAR_MODEL_PEAK : BURSAR_MODEL_END;
  if (!asked->at)
    return -1;
  if (asked->as == FORMAT_HTML)
    return bursar_cli_complain(2, "report: the page shows every instant: leave --at out, or take another --format");
  if (kind == BURSAR_VIEWS_LEAKS && strcmp(asked->at, "end") != 0)
    return bursar_cli_complain(2, "report: leaks are what is live at the end: leave --at out");
  if ((kind == BURSAR_VIEWS_SCOPES || kind == BURSAR_VIEWS_EVENTS) && asked->as == FORMAT_TEXT &&
      strcmp(asked->at, "end") != 0)
    return bursar_cli_complain(2, "report: %s are told as they were last: leave --at out", asked->view);
  if (strcmp(asked->at, "end") == 0)
    asked->when = BURSAR_MODEL_END;
  else if (strcmp(asked->at, "peak") == 0)
    asked->when = BURSAR_MODEL_PEAK;
  else if (parse_time(asked->at, &asked->time_ns) == 0)
    asked->when = BURSAR_MODEL_TIME;
  else
    return bursar_cli_complain(2, "report: --at takes peak, end, or seconds since the start like 1.5, not '%s'",
                               asked->at);
  return -1;
}

static enum bursar_model_order json_order(const struct asked *asked) {
  if (asked->kind == BURSAR_VIEWS_LEAKS)
    return BURSAR_MODEL_BY_LIVE;
  if (asked->kind == BURSAR_VIEWS_TEMPORARY)
    return BURSAR_MODEL_BY_TEMPORARIES;
  return asked->at ? BURSAR_MODEL_BY_AT : BURSAR_MODEL_BY_PEAK;
}

static int print(struct bursar_model *model, const struct asked *asked, int fd, struct bursar_error *error) {
  struct bursar_buffer out;
  int status;
  if (asked->as == FORMAT_HTML)
    return bursar_html_write(model, fd, error);
  bursar_buffer_to(&out, fd, OUT_MAX);
  if (asked->as == FORMAT_JSON) {
    status = bursar_model_sort(model, json_order(asked), error);
    if (status == 0)
      status = bursar_json_write(model, asked->kind, asked->when, &out, error);
  } else {
    struct bursar_view view = {.model = model, .out = &out, .when = asked->when};
    bursar_view_fit(&view, fd);
    status = bursar_views_print(model, asked->kind, &view, error);
  }
  int written = bursar_buffer_finish(&out);
  if (status == 0 && written != 0)
    status = bursar_error_set(error, BURSAR_FAILED, "cannot write the report: %s", strerror(-written));
  bursar_buffer_free(&out);
  return status;
}

static int report(const char *ledger, const struct asked *asked) {
  struct bursar_model *model = NULL;
  struct bursar_output output;
  struct bursar_error error;
  int status = bursar_model_open(ledger, &model, &error);
  if (status == 0)
    status = bursar_natives_resolve(model, &error);
  if (status == 0)
    status = bursar_model_choose(model, asked->when, asked->time_ns, &error);
  if (status == 0)
    status = bursar_output_open(asked->out, &output, &error);
  if (status != 0)
    goto out;
  status = print(model, asked, output.fd, &error);
  if (status == 0)
    status = bursar_output_commit(&output, &error);
  else
    bursar_output_discard(&output);
out:
  bursar_model_free(model);
  return status == 0 ? 0 : bursar_cli_fail(&error);
}

int bursar_cli_report(int argc, char **argv) {
  struct asked asked = {0};
  const struct bursar_cli_option options[] = {
      {.name = "view",
       .value = "VIEW",
       .text = &asked.view,
       .help = "table (by site, the default), tree (by caller), lines (by source line),\n"
               "flame, leaks (live at the end), temporary (freed at once),\n"
               "scopes (by request or function), events (what was noted of them)"},
      {.name = "at",
       .value = "WHEN",
       .text = &asked.at,
       .help = "peak (the default of text), end, or seconds since the start like 1.5"},
      {.name = "format",
       .value = "FORMAT",
       .text = &asked.format,
       .help = "text (the default), html (one page with all views), json"},
      {.name = "output",
       .letter = 'o',
       .value = "FILE",
       .text = &asked.out,
       .help = "write there: replaces a file, but never a ledger"},
      {0}};
  const struct bursar_cli_syntax syntax = {.verb = "report",
                                           .usage = "LEDGER|PID [OPTION…]",
                                           .about = "Shows who held the memory, from a ledger or a running program.",
                                           .options = options};
  int operands;
  signal(SIGXFSZ, SIG_IGN); /* a file size limit then is an error of write(), and nothing is left behind */
  int status = bursar_cli_options(&syntax, argc, argv, &operands);
  if (status >= 0)
    return status;
  if (operands != 1)
    return bursar_cli_complain(2, "report: give one ledger or process id: see bursar report --help");
  status = understand(&asked);
  return status >= 0 ? status : report(argv[1], &asked);
}
