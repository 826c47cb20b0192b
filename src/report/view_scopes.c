#include "base/size.h"
#include "report/views.h"

/* One row a scope: what it still holds, how often it was entered, the peaks of its entries, what it allocated in all. */
#define FIXED_COLUMNS 75  /* all but the name */
#define NARROW_COLUMNS 50 /* without what is left out where lines are short */
#define NAME_COLUMNS_MIN 12

static bool is_narrow(const struct bursar_view *view) { return view->width < FIXED_COLUMNS + 20; }

static struct bursar_text name_of(const struct bursar_model_scope *scope) {
  static const char unknown[] = "(unknown scope)";
  return scope->name.bytes ? scope->name : (struct bursar_text){unknown, sizeof unknown - 1};
}

static void print_size(const struct bursar_view *view, uint64_t bytes) {
  if (bytes == BURSAR_MODEL_UNKNOWN)
    bursar_buffer_format(view->out, "%9s", "-");
  else
    bursar_view_size(view, bytes);
  bursar_buffer_char(view->out, ' ');
}

static void print_seconds(const struct bursar_view *view, uint64_t ns) {
  double seconds = (double)ns / 1e9;
  bursar_buffer_format(view->out, seconds < 1e3 ? "%9.3f" : seconds < 1e6 ? "%9.1f" : "%9.0f", seconds);
}

static void print_row(const struct bursar_view *view, const struct bursar_model_scope *scope) {
  bool narrow = is_narrow(view);
  char number[BURSAR_SIZE_TEXT];
  print_size(view, scope->live_bytes);
  print_size(view, scope->retained_bytes);
  bursar_view_count(view, scope->calls);
  bursar_buffer_char(view->out, ' ');
  if (!narrow) {
    bursar_buffer_format(view->out, "%4s ", scope->open ? bursar_size_count(scope->open, number) : "");
    print_size(view, scope->peak_p50);
  }
  print_size(view, scope->peak_max);
  print_size(view, scope->allocated_bytes);
  if (!narrow)
    print_seconds(view, scope->time_ns);
  bursar_buffer_text(view->out, narrow ? " " : "  ");
  size_t fixed = narrow ? NARROW_COLUMNS : FIXED_COLUMNS, room = view->width > fixed ? view->width - fixed : 0;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_escape_terminal_cut(view->out, name_of(scope), room < NAME_COLUMNS_MIN ? NAME_COLUMNS_MIN : room);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

void bursar_view_scopes_print(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char number[BURSAR_SIZE_TEXT];
  uint32_t rows = model->scope_count < BURSAR_VIEW_ROWS ? model->scope_count : BURSAR_VIEW_ROWS;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_format(view->out, "Scopes %s: what was allocated in them, in %s bytes\n",
                       model->running ? "now" : "as they were last", model->scopes_unit);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  if (!rows) {
    bursar_buffer_format(view->out, "none was entered%s: with bursar.scope(\"name\"): in the program enters one\n",
                         model->reader->header.mode == BURSAR_MODE_SAMPLE
                             ? ", or the sizes of blocks were not known (debug hooks: record in mode exact)"
                             : "");
    return;
  }
  bursar_view_style(view, BURSAR_STYLE_DIM);
  if (is_narrow(view))
    bursar_buffer_format(view->out, "%9s %9s %8s %9s %9s  %s\n", "live", "retained", "calls", "max peak", "allocated",
                         "scope");
  else
    bursar_buffer_format(view->out, "%9s %9s %8s %4s %9s %9s %9s %9s  %s\n", "live", "retained", "calls", "open",
                         "p50 peak", "max peak", "allocated", "seconds", "scope");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  for (uint32_t i = 0; i < rows && !view->out->failed; i++)
    print_row(view, &model->scopes[i]);
  if (rows < model->scope_count) {
    bursar_view_style(view, BURSAR_STYLE_DIM);
    bursar_buffer_format(view->out, "\xe2\x80\xa6 %s more scopes: --format json has all\n",
                         bursar_size_count(model->scope_count - rows, number));
    bursar_view_style(view, BURSAR_STYLE_PLAIN);
  }
}
