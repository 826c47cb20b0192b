#include "base/size.h"
#include "report/trie.h"
#include "report/views.h"

#include <stdio.h>
#include <stdlib.h>

#define FIXED_COLUMNS 18 /* size and share */
#define LEVELS_MAX 256 /* each level that is printed splits, or loses the least share: there are never more than ~100 */
#define ROWS_MAX 400

#define TEE "\xe2\x94\x9c\xe2\x94\x80 "
#define ELBOW "\xe2\x94\x94\xe2\x94\x80 "
#define RAIL "\xe2\x94\x82  "
#define RIGHT_ARROW " \xe2\x86\x92 "
#define ELLIPSIS "\xe2\x80\xa6"

/* A walk with its own stack: traces are as deep as the program was. */
struct walk {
  const struct bursar_view *view;
  const struct bursar_trie *trie;
  uint64_t least; /* smaller nodes are hidden */
  uint64_t hidden_bytes;
  uint64_t hidden;
  unsigned rows;
  uint32_t at[LEVELS_MAX]; /* the child that is next, by level; 0 where there is none left */
};

static bool is_shown(const struct walk *walk, uint32_t at) {
  return at && walk->trie->nodes[at].all.bytes >= walk->least;
}

/* Children are sorted: the shown ones come first. */
static uint32_t next_shown(const struct walk *walk, uint32_t at) {
  uint32_t next = walk->trie->nodes[at].next;
  return is_shown(walk, next) ? next : 0;
}

static void hide_children(struct walk *walk, uint32_t parent) {
  for (uint32_t child = walk->trie->nodes[parent].first; child; child = walk->trie->nodes[child].next)
    if (!is_shown(walk, child)) {
      walk->hidden++;
      walk->hidden_bytes += walk->trie->nodes[child].all.bytes;
    }
}

/* The end of the chain that starts at `at`: as long as one child has all but a hidden rest, the two are one line. */
static uint32_t end_of_chain(struct walk *walk, uint32_t at, uint32_t *between) {
  const struct bursar_trie_node *nodes = walk->trie->nodes;
  /* A root is no frame: it stands alone. */
  if (nodes[at].depth == 1) {
    *between = 0;
    return at;
  }
  for (*between = 0;; ++*between) {
    uint32_t child = nodes[at].first;
    bool single = is_shown(walk, child) && !next_shown(walk, child) &&
                  nodes[at].all.bytes - nodes[child].all.bytes < walk->least;
    if (!single)
      return at;
    hide_children(walk, at);
    at = child;
  }
}

static void print_chain(const struct walk *walk, uint32_t first, uint32_t last, uint32_t between, size_t columns) {
  const struct bursar_view *view = walk->view;
  const struct bursar_trie_node *nodes = walk->trie->nodes;
  if (first == last) {
    bursar_view_place(view, nodes[first].node, columns);
    return;
  }
  char middle[48] = "";
  int length = between > 1
                   ? snprintf(middle, sizeof middle, RIGHT_ARROW "(%u frame%s)", between - 1, between == 2 ? "" : "s")
                   : 0;
  size_t arrows = 3 + (length ? (size_t)length - 2 : 0);
  size_t half = columns > arrows ? (columns - arrows) / 2 : 0;
  size_t taken = bursar_view_place(view, nodes[first].node, half);
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_text(view->out, middle);
  bursar_buffer_text(view->out, RIGHT_ARROW);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_view_place(view, nodes[last].node, columns > taken + arrows ? columns - taken - arrows : 0);
}

/* Prints the chain below `at`, and returns its last node. */
static uint32_t print_row(struct walk *walk, uint32_t at, unsigned level) {
  const struct bursar_view *view = walk->view;
  const struct bursar_trie_node *nodes = walk->trie->nodes;
  uint32_t between, last = end_of_chain(walk, at, &between);
  size_t indent = FIXED_COLUMNS + 3 * (size_t)level;
  bursar_view_size(view, nodes[at].all.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_share(view, nodes[at].all.bytes, nodes[0].all.bytes);
  bursar_buffer_char(view->out, ' ');
  bursar_view_style(view, BURSAR_STYLE_DIM);
  for (unsigned i = 1; i < level; i++)
    bursar_buffer_text(view->out, walk->at[i] ? RAIL : "   ");
  if (level)
    bursar_buffer_text(view->out, walk->at[level] ? TEE : ELBOW);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  print_chain(walk, at, last, between, view->width > indent + 20 ? view->width - indent : 20);
  bursar_buffer_char(view->out, '\n');
  walk->rows++;
  hide_children(walk, last);
  return last;
}

static void walk_all(struct walk *walk) {
  const struct bursar_trie_node *nodes = walk->trie->nodes;
  unsigned level = 0;
  hide_children(walk, 0);
  walk->at[0] = is_shown(walk, nodes[0].first) ? nodes[0].first : 0;
  for (;;) {
    uint32_t now = walk->at[level];
    if (!now) {
      if (!level--)
        return;
      continue;
    }
    walk->at[level] = next_shown(walk, now);
    if (walk->rows >= ROWS_MAX || walk->view->out->failed)
      return;
    uint32_t last = print_row(walk, now, level);
    if (level + 1 < LEVELS_MAX)
      walk->at[++level] = is_shown(walk, nodes[last].first) ? nodes[last].first : 0;
  }
}

int bursar_tree_print(const struct bursar_view *view, struct bursar_error *error) {
  struct bursar_trie trie;
  char least[BURSAR_SIZE_TEXT], hidden[BURSAR_SIZE_TEXT];
  struct walk *walk = calloc(1, sizeof *walk);
  if (!walk)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  int status = bursar_trie_build(view->model, BURSAR_TRIE_AT, &trie, error);
  if (status != 0) {
    free(walk);
    return status;
  }
  walk->view = view;
  walk->trie = &trie;
  walk->least = trie.nodes[0].all.bytes / 100 + 1;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_text(view->out, "Held by caller ");
  bursar_view_instant(view);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
  walk_all(walk);
  if (walk->rows >= ROWS_MAX)
    bursar_buffer_text(view->out, ELLIPSIS " more, not shown\n");
  if (walk->hidden)
    bursar_buffer_format(view->out, ELLIPSIS " %llu branch%s below 1 %% (%s) hidden, %s together\n",
                         (unsigned long long)walk->hidden, walk->hidden == 1 ? "" : "es",
                         bursar_size_print(walk->least, least), bursar_size_print(walk->hidden_bytes, hidden));
  if (!trie.nodes[0].all.bytes)
    bursar_buffer_text(view->out, "nothing was held\n");
  bursar_trie_free(&trie);
  free(walk);
  return 0;
}
