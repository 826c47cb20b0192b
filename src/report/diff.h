/* diff.h: what two ledgers held at their peaks, side by side, by domain and stack.
 *
 * Stacks are the same where function, file and line of all their frames are, files being named from the main script's
 * folder or the installed package on: two check-outs of one program compare, and what was edited shows as less of one and
 * more of another.
 * Ownership: the caller's, from bursar_diff_make to bursar_diff_free; both models must outlive it.  Threads: one at a
 * time.  Safety class N. */
#ifndef BURSAR_REPORT_DIFF_H
#define BURSAR_REPORT_DIFF_H

#include "base/buffer.h"
#include "report/model.h"
#include "report/view.h"

struct bursar_diff_row {
  const struct bursar_model *model; /* where the stack's names are: after's, or before's where after has none */
  uint32_t node;
  uint32_t domain;
  struct bursar_held before, after; /* at the two peaks */
};

struct bursar_diff {
  const struct bursar_model *before, *after;
  struct bursar_diff_row *rows; /* greatest change first */
  uint32_t count;
};

int bursar_diff_make(const struct bursar_model *before, const struct bursar_model *after, struct bursar_diff *out,
                     struct bursar_error *error) __attribute__((warn_unused_result));
/* A zeroed one is fine. */
void bursar_diff_free(struct bursar_diff *diff);
/* Peak after less peak before. */
int64_t bursar_diff_growth(const struct bursar_diff *diff);

/* Only out, width and colour of the view are used. */
void bursar_diff_print(const struct bursar_diff *diff, const struct bursar_view *view);
void bursar_diff_write_json(const struct bursar_diff *diff, struct bursar_buffer *out);

#endif
