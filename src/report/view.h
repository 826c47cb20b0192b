/* view.h: what the text views share: where they print, how lines, shares and places look.
 *
 * A view gets a model whose instant is chosen (bursar_model_choose) and prints it into a buffer; the buffer's errors
 * stick, so that views need not look at them.  Texts of the model are escaped on the way.
 * Ownership: all borrowed for the call.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_REPORT_VIEW_H
#define BURSAR_REPORT_VIEW_H

#include "base/buffer.h"
#include "base/size.h"
#include "report/model.h"

#include <stdbool.h>
#include <stddef.h>

#define BURSAR_VIEW_WIDTH 100 /* where there is no terminal to ask */
#define BURSAR_VIEW_WIDTH_MIN 40
#define BURSAR_VIEW_WIDTH_MAX 400
#define BURSAR_VIEW_ROWS 30       /* of a table; the rest is one line */
#define BURSAR_VIEW_ROWS_SMALL 10 /* so many are shown however little they hold, the others from a thousandth on */

enum bursar_view_style {
  BURSAR_STYLE_PLAIN,
  BURSAR_STYLE_BOLD,
  BURSAR_STYLE_DIM,
  BURSAR_STYLE_BAR,
  BURSAR_STYLE_WARN,
};

struct bursar_view {
  const struct bursar_model *model;
  struct bursar_buffer *out;
  unsigned width;
  unsigned indent; /* of warnings */
  bool colour;
  enum bursar_model_when when;
};

/* Width and colour for a descriptor: of its terminal, else 100 and none.  NO_COLOR is heard. */
void bursar_view_fit(struct bursar_view *view, int fd);

/* Everything between two of these is in the style; PLAIN ends it.  Nothing without colour. */
void bursar_view_style(const struct bursar_view *view, enum bursar_view_style style);
/* The peak, the run, the counts, and what is wrong with the ledger: the lines above every view. */
void bursar_view_head(const struct bursar_view *view);
/* What is wrong with the ledger or not known, a line each; nothing where all is well. */
void bursar_view_warnings(const struct bursar_view *view);
/* "at the peak (1.234 s)" and the like, for titles. */
void bursar_view_instant(const struct bursar_view *view);
/* ` 45.2 %`, seven columns; a total of 0 gives dashes. */
void bursar_view_share(const struct bursar_view *view, uint64_t part, uint64_t whole);
/* A bar and a blank, `bursar_view_bar_columns` wide: nothing where the lines are too short for it. */
void bursar_view_bar(const struct bursar_view *view, uint64_t part, uint64_t whole);
unsigned bursar_view_bar_columns(const struct bursar_view *view);
/* A size right-aligned in nine columns, a count in eight (a dash where it is not known). */
void bursar_view_size(const struct bursar_view *view, uint64_t bytes);
void bursar_view_count(const struct bursar_view *view, uint64_t count);

/* "680 of them temporary", or that it is not known. */
void bursar_view_temporaries(const struct bursar_view *view);
/* A count of things, or "an unknown number of": for sentences. */
char *bursar_view_number(uint64_t count, char out[BURSAR_SIZE_TEXT]);

/* A file name as a person needs it: the part after site-packages or the standard library, or relative to the main
 * script's folder.  Borrowed, part of the same text. */
struct bursar_text bursar_view_short(const struct bursar_model *model, struct bursar_text file);
/* `function file:line` in at most `columns`; returns the columns taken. */
size_t bursar_view_place(const struct bursar_view *view, uint32_t node, size_t columns);
/* `file:line` alone. */
size_t bursar_view_line(const struct bursar_view *view, uint32_t node, size_t columns);
/* The frame and as many of its callers as fit. */
void bursar_view_stack(const struct bursar_view *view, uint32_t node, size_t columns);
/* Is row `i` of a table worth a line? */
bool bursar_view_shows(uint64_t i, uint64_t part, uint64_t whole);
/* "… 12 more …" with what they hold. */
void bursar_view_rest(const struct bursar_view *view, uint64_t count, const char *things, uint64_t bytes,
                      uint64_t whole);

#endif
