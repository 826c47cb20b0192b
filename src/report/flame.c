#include "base/size.h"
#include "report/trie.h"
#include "report/views.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 60
#define NAME_MIN 4 /* columns */
#define BAR "\xe2\x94\x82"
#define LINE "\xe2\x94\x80"

/* One frame's box on a row, in columns. */
struct box {
  uint32_t at; /* in the trie */
  unsigned from, to;
};

struct row {
  struct box boxes[BURSAR_VIEW_WIDTH_MAX];
  unsigned count;
};

/* A colour that belongs to the name, from six warm ones. */
static void start_colour(const struct bursar_view *view, struct bursar_text name) {
  static const unsigned char warm[] = {166, 172, 130, 136, 173, 180};
  unsigned hash = 0;
  for (uint32_t i = 0; i < name.length; i++)
    hash = hash * 31 + (unsigned char)name.bytes[i];
  if (view->colour)
    bursar_buffer_format(view->out, "\033[30;48;5;%um", warm[hash % sizeof warm]);
}

static void print_box(const struct bursar_view *view, const struct bursar_trie *trie, const struct box *box) {
  unsigned width = box->to - box->from;
  uint32_t node = trie->nodes[box->at].node;
  struct bursar_text name = node == BURSAR_READER_NONE ? (struct bursar_text){"all", 3}
                                                       : bursar_model_function(view->model, node);
  start_colour(view, name);
  bursar_buffer_text(view->out, BAR);
  size_t taken = 1;
  if (width >= NAME_MIN && bursar_escape_columns(name) + 12 < width && node != BURSAR_READER_NONE &&
      !bursar_model_is_root(node))
    taken += bursar_view_place(&(struct bursar_view){.model = view->model, .out = view->out}, node, width - 2);
  else if (width >= NAME_MIN)
    taken += bursar_escape_terminal_cut(view->out, name, width - 2);
  bursar_buffer_repeat(view->out, view->colour ? " " : LINE, width > taken ? width - taken : 0);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
}

static void print_row(const struct bursar_view *view, const struct bursar_trie *trie, const struct row *row) {
  unsigned column = 0;
  for (unsigned i = 0; i < row->count; i++) {
    bursar_buffer_repeat(view->out, " ", row->boxes[i].from - column);
    print_box(view, trie, &row->boxes[i]);
    column = row->boxes[i].to;
  }
  bursar_buffer_char(view->out, '\n');
}

/* Rows on which nothing has room for a name are not drawn. */
static bool is_readable(const struct row *row) {
  for (unsigned i = 0; i < row->count; i++)
    if (row->boxes[i].to - row->boxes[i].from >= NAME_MIN)
      return true;
  return false;
}

/* Children stand under their caller, largest first; edges come from running sums, so that rounding never overlaps. */
static void place_children(const struct bursar_trie *trie, const struct box *box, struct row *below, uint64_t *hidden) {
  const struct bursar_trie_node *node = &trie->nodes[box->at];
  unsigned width = box->to - box->from;
  uint64_t done = 0;
  for (uint32_t child = node->first; child; child = trie->nodes[child].next) {
    uint64_t bytes = trie->nodes[child].all.bytes;
    double scale = node->all.bytes ? (double)width / (double)node->all.bytes : 0;
    unsigned from = (unsigned)((double)done * scale + 0.5), to = (unsigned)((double)(done + bytes) * scale + 0.5);
    done += bytes;
    if (to > width)
      to = width;
    if (from >= to || below->count == BURSAR_VIEW_WIDTH_MAX) {
      *hidden += bytes;
      continue;
    }
    below->boxes[below->count++] = (struct box){child, box->from + from, box->from + to};
  }
}

int bursar_flame_print(const struct bursar_view *view, struct bursar_error *error) {
  struct bursar_trie trie;
  struct row *rows = calloc(2, sizeof *rows);
  uint64_t hidden = 0;
  char text[BURSAR_SIZE_TEXT], column[BURSAR_SIZE_TEXT];
  if (!rows)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  int status = bursar_trie_build(view->model, BURSAR_TRIE_AT, &trie, error);
  if (status != 0)
    goto out;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_text(view->out, "Flame graph of what was held ");
  bursar_view_instant(view);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_format(view->out, ", callers above; a column is %s\n",
                       bursar_size_print(trie.nodes[0].all.bytes / view->width, column));
  rows[0].boxes[0] = (struct box){0, 0, view->width};
  rows[0].count = trie.nodes[0].all.bytes ? 1 : 0;
  unsigned depth = 0;
  for (; is_readable(&rows[depth % 2]) && depth < ROWS_MAX && !view->out->failed; depth++) {
    struct row *row = &rows[depth % 2], *below = &rows[(depth + 1) % 2];
    print_row(view, &trie, row);
    below->count = 0;
    for (unsigned i = 0; i < row->count; i++)
      place_children(&trie, &row->boxes[i], below, &hidden);
  }
  if (!trie.nodes[0].all.bytes)
    bursar_buffer_text(view->out, "nothing was held\n");
  if (rows[depth % 2].count)
    bursar_buffer_format(view->out, "stacks go on deeper: %s\n",
                         depth == ROWS_MAX ? "these are their first frames" : "what is there is too narrow for names");
  if (hidden)
    bursar_buffer_format(view->out, "%s in frames narrower than half a column are not drawn\n",
                         bursar_size_print(hidden, text));
  bursar_trie_free(&trie);
out:
  free(rows);
  return status;
}
