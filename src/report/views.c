#include "report/views.h"

const char *const bursar_views_names[BURSAR_VIEWS_COUNT + 1] = {
    [BURSAR_VIEWS_TABLE] = "table",   [BURSAR_VIEWS_TREE] = "tree",     [BURSAR_VIEWS_LINES] = "lines",
    [BURSAR_VIEWS_FLAME] = "flame",   [BURSAR_VIEWS_LEAKS] = "leaks",   [BURSAR_VIEWS_TEMPORARY] = "temporary",
    [BURSAR_VIEWS_SCOPES] = "scopes", [BURSAR_VIEWS_EVENTS] = "events",
};

static enum bursar_model_order order_of(enum bursar_views_kind kind) {
  switch (kind) {
    case BURSAR_VIEWS_LEAKS: return BURSAR_MODEL_BY_LIVE;
    case BURSAR_VIEWS_TEMPORARY: return BURSAR_MODEL_BY_TEMPORARIES;
    default: return BURSAR_MODEL_BY_AT;
  }
}

int bursar_views_print(struct bursar_model *model, enum bursar_views_kind kind, struct bursar_view *view,
                       struct bursar_error *error) {
  int status = bursar_model_sort(model, order_of(kind), error);
  if (status != 0)
    return status;
  bursar_view_head(view);
  switch (kind) {
    case BURSAR_VIEWS_TREE: return bursar_tree_print(view, error);
    case BURSAR_VIEWS_LINES: return bursar_lines_print(view, error);
    case BURSAR_VIEWS_FLAME: return bursar_flame_print(view, error);
    case BURSAR_VIEWS_LEAKS: bursar_table_print_leaks(view); return 0;
    case BURSAR_VIEWS_TEMPORARY: bursar_table_print_temporary(view); return 0;
    case BURSAR_VIEWS_SCOPES: bursar_view_scopes_print(view); return 0;
    case BURSAR_VIEWS_EVENTS: bursar_view_events_print(view); return 0;
    default: bursar_table_print(view); return 0;
  }
}
