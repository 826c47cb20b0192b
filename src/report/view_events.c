#include "base/size.h"
#include "report/views.h"

/* One row an event.  A log is read from its end: of many, the last ones are shown. */
#define ROWS 100
#define FIXED_COLUMNS 33 /* time, kind, size and the gaps */
#define COLUMNS_MIN 20

static void print_row(const struct bursar_view *view, const struct bursar_model_event *event) {
  static const char unknown[] = "(unknown scope)";
  size_t room = view->width > FIXED_COLUMNS + COLUMNS_MIN ? view->width - FIXED_COLUMNS : COLUMNS_MIN;
  struct bursar_text scope = event->scope.bytes ? event->scope : (struct bursar_text){unknown, sizeof unknown - 1};
  bursar_buffer_format(view->out, "%9.3f  %-9s  ", (double)event->time_ns / 1e9, event->kind);
  if (event->kind[0] == 'b')
    bursar_buffer_repeat(view->out, " ", 9); /* nothing is held at the beginning */
  else
    bursar_view_size(view, event->bytes > 0 ? (uint64_t)event->bytes : 0);
  bursar_buffer_text(view->out, "  ");
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  size_t taken = bursar_escape_terminal_cut(view->out, scope, event->text.bytes ? room / 2 : room);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  if (event->text.bytes && taken + 2 < room) {
    bursar_buffer_text(view->out, "  ");
    bursar_escape_terminal_cut(view->out, event->text, room - taken - 2);
  }
  bursar_buffer_char(view->out, '\n');
}

void bursar_view_events_print(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char number[BURSAR_SIZE_TEXT];
  uint32_t from = model->event_count > ROWS ? model->event_count - ROWS : 0;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_text(view->out, "Events, by seconds since the start\n");
  bursar_view_style(view, BURSAR_STYLE_DIM);
  if (model->lost_events)
    bursar_buffer_format(view->out, "\xe2\x80\xa6 %s older events: there is no room for them\n",
                         bursar_size_count(model->lost_events, number));
  if (from)
    bursar_buffer_format(view->out, "\xe2\x80\xa6 %s earlier events: --format json has them\n",
                         bursar_size_count(from, number));
  if (model->event_count)
    bursar_buffer_format(view->out, "%9s  %-9s  %9s  %s\n", "time", "event", "bytes",
                         "scope; a note: held then, an end: its peak, a proof: scanned");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  for (uint32_t i = from; i < model->event_count && !view->out->failed; i++)
    print_row(view, &model->events[i]);
  if (!model->event_count)
    bursar_buffer_text(view->out, "there were none: bursar.scope(\"name\", events=True) and its note() make them\n");
}
