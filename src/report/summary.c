#include "report/summary.h"

#include "base/size.h"
#include "ledger/domains.h"
#include "report/estimate.h"
#include "report/holders.h"
#include "report/view.h"

#include <stdio.h>
#include <string.h>

#define HOLDERS 5
#define SUMMARY_MAX 65536u

/* A path that can be pasted into a shell. */
static void print_quoted(struct bursar_buffer *out, const char *path) {
  static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  struct bursar_text text = {path, (uint32_t)strlen(path)};
  if (path[0] && path[0] != '-' && strspn(path, safe) == strlen(path)) {
    bursar_escape_terminal(out, text);
    return;
  }
  bursar_buffer_text(out, path[0] == '-' ? "./'" : "'");
  for (const char *at = path;; at++) {
    size_t length = strcspn(at, "'");
    bursar_escape_terminal(out, (struct bursar_text){at, (uint32_t)length});
    at += length;
    if (!*at)
      break;
    bursar_buffer_text(out, "'\\''");
  }
  bursar_buffer_char(out, '\'');
}

static void print_holder(const struct bursar_view *view, const struct bursar_holder *holder) {
  const struct bursar_model *model = view->model;
  size_t room = view->width > 50 ? view->width - 22 : 28;
  bursar_buffer_text(view->out, "  ");
  bursar_view_share(view, holder->own.bytes, model->at.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_size(view, holder->own.bytes);
  bursar_buffer_text(view->out, "  ");
  size_t taken = bursar_view_line(view, holder->node, room);
  struct bursar_text function = bursar_model_function(model, holder->node);
  if (!bursar_model_is_root(holder->node) && taken + 3 + bursar_escape_columns(function) <= room) {
    bursar_buffer_char(view->out, ' ');
    bursar_view_style(view, BURSAR_STYLE_DIM);
    taken += 1 + bursar_escape_terminal(view->out, function);
    bursar_view_style(view, BURSAR_STYLE_PLAIN);
  }
  if (holder->caller != BURSAR_READER_NONE && taken + 15 < room) {
    bursar_buffer_text(view->out, " \xe2\x86\x90 ");
    bursar_view_line(view, holder->caller, room - taken - 3);
  }
  bursar_buffer_char(view->out, '\n');
}

static void print_counts(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char a[BURSAR_SIZE_TEXT], b[BURSAR_SIZE_TEXT], c[BURSAR_SIZE_TEXT], error[BURSAR_ESTIMATE_TEXT];
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_format(view->out, "bursar: peak %s%s", bursar_size_print(model->peak_bytes, a),
                       bursar_estimate_print(model->errors.peak_bytes, error));
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_format(view->out, " at %.3f s of %.3f s; %s%s live at the end\n", (double)model->peak_time_ns / 1e9,
                       (double)model->run_ns / 1e9, bursar_size_print(model->live.bytes, b),
                       bursar_estimate_print(model->errors.live_bytes, error));
  bursar_buffer_format(view->out, "  %s allocations, ", bursar_view_number(model->allocations, a));
  bursar_view_temporaries(view);
  bursar_buffer_format(view->out, ", %s in all\n",
                       model->allocated_bytes == BURSAR_MODEL_UNKNOWN ? "an unknown amount"
                                                                      : bursar_size_print(model->allocated_bytes, c));
  bursar_view_warnings(view);
}

/* A program without Python: frames of its own have no names here, a report looks for them. */
static void print_domains(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char size[BURSAR_SIZE_TEXT];
  const char *before = "  held at the peak: ";
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    if (!(model->reader->header.domains >> domain & 1))
      continue;
    bursar_buffer_format(view->out, "%s%s %s", before, bursar_domains_name(domain),
                         bursar_size_print(model->peak_by_domain[domain], size));
    before = ", ";
  }
  bursar_buffer_char(view->out, '\n');
}

static void print_lines(const struct bursar_view *view, const struct bursar_holders *holders) {
  if (holders->count)
    bursar_buffer_text(view->out, "  held at the peak, by line:\n");
  for (uint32_t i = 0; i < holders->count && i < HOLDERS; i++)
    if (holders->lines[i].own.bytes)
      print_holder(view, &holders->lines[i]);
}

static int print_all(const struct bursar_view *view, const char *path, struct bursar_error *error) {
  struct bursar_holders holders;
  int status = bursar_holders_find(view->model, &holders, error);
  if (status != 0)
    return status;
  print_counts(view);
  if (view->model->plain)
    print_domains(view);
  else
    print_lines(view, &holders);
  bursar_buffer_text(view->out, "  ledger ");
  print_quoted(view->out, path);
  bursar_buffer_text(view->out, "\n  bursar report ");
  print_quoted(view->out, path);
  bursar_buffer_text(view->out, "\n  bursar report ");
  print_quoted(view->out, path);
  bursar_buffer_text(view->out, " --format html -o report.html\n");
  bursar_holders_free(&holders);
  return 0;
}

/* Native code has no names here, in the program itself: what it holds is told by the lines of Python that called it. */
static void leave_native_out(struct bursar_model *model) {
  for (uint32_t i = BURSAR_NODE_FIRST; i < model->node_count; i++)
    while (model->nodes[model->nodes[i].parent].native)
      model->nodes[i].parent = model->nodes[model->nodes[i].parent].parent;
  for (uint32_t i = 0; i < model->site_count; i++)
    if (model->nodes[model->sites[i].node].native)
      model->sites[i].node = model->nodes[model->sites[i].node].parent;
}

int bursar_summary_print(const char *ledger_path, int fd, struct bursar_error *error) {
  struct bursar_model *model;
  struct bursar_buffer out;
  int status = bursar_model_open(ledger_path, &model, error);
  if (status != 0)
    return status;
  leave_native_out(model);
  bursar_buffer_to(&out, fd, SUMMARY_MAX);
  struct bursar_view view = {.model = model, .out = &out, .when = BURSAR_MODEL_PEAK, .indent = 2};
  bursar_view_fit(&view, fd);
  status = bursar_model_choose(model, BURSAR_MODEL_PEAK, 0, error);
  if (status == 0)
    status = print_all(&view, ledger_path, error);
  if (status == 0) {
    int written = bursar_buffer_finish(&out);
    if (written != 0)
      status = bursar_error_set(error, BURSAR_FAILED, "cannot print the summary: %s", strerror(-written));
  }
  bursar_buffer_free(&out);
  bursar_model_free(model);
  return status;
}
