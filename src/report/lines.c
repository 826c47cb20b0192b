#include "report/holders.h"
#include "report/source.h"
#include "report/views.h"

#define NONE BURSAR_READER_NONE
#define FIXED_COLUMNS 38 /* share, two sizes, blocks, and the gaps; the bar comes on top */

static void print_source(const struct bursar_view *view, uint32_t node) {
  const struct bursar_model *model = view->model;
  char text[BURSAR_SOURCE_LINE];
  bool changed = false;
  int length = bursar_source_line(bursar_model_file(model, node), model->nodes[node].line,
                                  model->reader->header.started_unix_ns, text, &changed);
  if (length <= 0)
    return;
  const char *remark = changed ? "  (the file has changed since)" : "";
  size_t indent = 20, room = view->width > indent + 30 ? view->width - indent - (changed ? 30 : 0) : 20;
  bursar_buffer_repeat(view->out, " ", indent);
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_escape_terminal_cut(view->out, (struct bursar_text){text, (uint32_t)length}, room);
  bursar_buffer_text(view->out, remark);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

static void print_row(const struct bursar_view *view, const struct bursar_holder *line) {
  size_t fixed = FIXED_COLUMNS + bursar_view_bar_columns(view);
  size_t room = view->width > fixed + 20 ? view->width - fixed : 20;
  bursar_view_bar(view, line->own.bytes, view->model->at.bytes);
  bursar_view_share(view, line->own.bytes, view->model->at.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_size(view, line->own.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_size(view, line->all.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_count(view, line->own.blocks);
  bursar_buffer_text(view->out, "  ");
  size_t taken = bursar_view_line(view, line->node, room);
  if (line->caller != NONE && taken + 20 < room) {
    bursar_view_style(view, BURSAR_STYLE_DIM);
    bursar_buffer_text(view->out, " \xe2\x86\x90 ");
    bursar_view_line(view, line->caller, room - taken - 3);
    bursar_view_style(view, BURSAR_STYLE_PLAIN);
  }
  bursar_buffer_char(view->out, '\n');
  print_source(view, line->node);
}

int bursar_lines_print(const struct bursar_view *view, struct bursar_error *error) {
  struct bursar_holders holders;
  uint64_t rest = 0, rest_bytes = 0;
  int status = bursar_holders_find(view->model, &holders, error);
  if (status != 0)
    return status;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_text(view->out, "Held by source line ");
  bursar_view_instant(view);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_format(view->out, "%*s%7s %9s %9s %8s  %s\n", (int)bursar_view_bar_columns(view), "", "share", "itself",
                       "in all", "blocks", "line, and the own line that it mostly worked for");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  for (uint32_t i = 0; i < holders.count && !view->out->failed; i++) {
    if (!holders.lines[i].own.bytes)
      continue;
    if (bursar_view_shows(i, holders.lines[i].own.bytes, view->model->at.bytes)) {
      print_row(view, &holders.lines[i]);
      continue;
    }
    rest++;
    rest_bytes += holders.lines[i].own.bytes;
  }
  if (rest)
    bursar_view_rest(view, rest, "lines", rest_bytes, view->model->at.bytes);
  if (!view->model->at.bytes)
    bursar_buffer_text(view->out, "nothing was held\n");
  bursar_holders_free(&holders);
  return 0;
}
