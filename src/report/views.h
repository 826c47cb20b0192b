/* views.h: the text views, one file each.  What they share is in view.h, which says who owns what.
 *
 * Errors: no memory; what the buffer could not take shows when it is finished.  Threads: one at a time.  Class N. */
#ifndef BURSAR_REPORT_VIEWS_H
#define BURSAR_REPORT_VIEWS_H

#include "report/view.h"

enum bursar_views_kind {
  BURSAR_VIEWS_TABLE,
  BURSAR_VIEWS_TREE,
  BURSAR_VIEWS_LINES,
  BURSAR_VIEWS_FLAME,
  BURSAR_VIEWS_LEAKS,
  BURSAR_VIEWS_TEMPORARY,
  BURSAR_VIEWS_SCOPES,
  BURSAR_VIEWS_EVENTS,
  BURSAR_VIEWS_COUNT
};

/* Their names on the command line, ended by NULL. */
extern const char *const bursar_views_names[BURSAR_VIEWS_COUNT + 1];

/* Sorts the model as the view wants it, and prints head and view. */
int bursar_views_print(struct bursar_model *model, enum bursar_views_kind kind, struct bursar_view *view,
                       struct bursar_error *error) __attribute__((warn_unused_result));

/* By site; the model is sorted already. */
void bursar_table_print(const struct bursar_view *view);
void bursar_table_print_leaks(const struct bursar_view *view);
void bursar_table_print_temporary(const struct bursar_view *view);
/* By caller, from the outermost in. */
int bursar_tree_print(const struct bursar_view *view, struct bursar_error *error) __attribute__((warn_unused_result));
/* By source line, with the line's text where its file can be read. */
int bursar_lines_print(const struct bursar_view *view, struct bursar_error *error) __attribute__((warn_unused_result));
/* A flame graph made of characters. */
int bursar_flame_print(const struct bursar_view *view, struct bursar_error *error) __attribute__((warn_unused_result));
/* What each scope's entries held and allocated, at the last state. */
void bursar_view_scopes_print(const struct bursar_view *view);
/* What was noted of scopes, in order of time. */
void bursar_view_events_print(const struct bursar_view *view);

#endif
