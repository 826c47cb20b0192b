#include "report/holders.h"

#include "base/index.h"
#include "report/trie.h"

#include <stdlib.h>
#include <string.h>

#define NONE BURSAR_READER_NONE

static bool contains(struct bursar_text text, const char *part) {
  size_t length = strlen(part);
  return text.bytes && text.length >= length && memmem(text.bytes, text.length, part, length) != NULL;
}

bool bursar_holders_is_own(const struct bursar_model *model, struct bursar_text file) {
  struct bursar_text main_file = model->main_file;
  if (!file.bytes || !file.length || file.bytes[0] == '<')
    return false;
  if (contains(file, "/site-packages/") || contains(file, "/dist-packages/") || contains(file, "/lib/python3"))
    return false;
  if (!main_file.bytes || !main_file.length)
    return true;
  uint32_t folder = main_file.length;
  while (folder && main_file.bytes[folder - 1] != '/')
    folder--;
  return file.length >= folder && memcmp(file.bytes, main_file.bytes, folder) == 0;
}

/* What is worked out on the way. */
struct finding {
  const struct bursar_model *model;
  struct bursar_trie trie;
  struct bursar_index index; /* (file, line) -> number */
  uint32_t *line_of;         /* by trie node: its number, NONE for the program itself */
  uint32_t *open;            /* by number: how often the walk is in it */
  uint32_t *own_above;       /* by trie node: the nearest node of the program's own files from it up, 0 none */
  struct bursar_held *best;  /* by number: the largest contribution through one own line */
  struct bursar_holder *lines;
};

static void number_lines(struct finding *f) {
  const struct bursar_model *model = f->model;
  f->line_of[0] = NONE;
  for (uint32_t i = 1; i < f->trie.count; i++) {
    uint32_t node = f->trie.nodes[i].node, code = model->nodes[node].code;
    uint64_t file = bursar_model_is_root(node) ? node
                    : code == NONE             ? BURSAR_NODE_FIRST
                                               : BURSAR_NODE_FIRST + 1 + (uint64_t)model->codes[code].file_id;
    f->line_of[i] = bursar_index_of(&f->index, file, model->nodes[node].line);
    f->lines[f->line_of[i]].node = node;
    f->lines[f->line_of[i]].caller = NONE;
    bool own = bursar_holders_is_own(model, bursar_model_file(model, node));
    f->own_above[i] = own ? i : f->own_above[f->trie.nodes[i].parent];
  }
}

/* Adds up own and all.  `all` is taken where a line is entered for the first time on the way down. */
static void add_up(struct finding *f) {
  const struct bursar_trie_node *nodes = f->trie.nodes;
  uint32_t before = 0;
  for (uint32_t at = bursar_trie_next(&f->trie, 0); at; at = bursar_trie_next(&f->trie, at)) {
    /* Leave what lies between the last node and this one's parent. */
    for (uint32_t left = before; left != nodes[at].parent; left = nodes[left].parent)
      f->open[f->line_of[left]]--;
    before = at;
    struct bursar_holder *line = &f->lines[f->line_of[at]];
    if (f->open[f->line_of[at]]++ == 0) {
      line->all.bytes += nodes[at].all.bytes;
      line->all.blocks += nodes[at].all.blocks;
    }
    line->own.bytes += nodes[at].own.bytes;
    line->own.blocks += nodes[at].own.blocks;
  }
}

/* For each line that is not the program's own: which own line it mostly worked for. */
static int find_callers(struct finding *f) {
  const struct bursar_trie_node *nodes = f->trie.nodes;
  struct bursar_index pairs = {0};
  uint64_t *through = calloc(f->trie.count, sizeof *through);
  if (!through || bursar_index_init(&pairs, f->trie.count) != 0) {
    free(through);
    return -1;
  }
  for (uint32_t i = 1; i < f->trie.count; i++) {
    uint32_t own = f->own_above[i];
    if (!own || own == i || !nodes[i].own.bytes)
      continue;
    uint32_t pair = bursar_index_of(&pairs, f->line_of[i], f->line_of[own]);
    through[pair] += nodes[i].own.bytes;
    struct bursar_held *best = &f->best[f->line_of[i]];
    if (through[pair] > best->bytes) {
      best->bytes = through[pair];
      f->lines[f->line_of[i]].caller = nodes[own].node;
    }
  }
  bursar_index_free(&pairs);
  free(through);
  return 0;
}

static int largest_first(const void *left, const void *right) {
  const struct bursar_holder *a = left, *b = right;
  if (a->own.bytes != b->own.bytes)
    return a->own.bytes > b->own.bytes ? -1 : 1;
  if (a->all.bytes != b->all.bytes)
    return a->all.bytes > b->all.bytes ? -1 : 1;
  return a->node < b->node ? -1 : a->node > b->node;
}

static void drop_empty(struct finding *f, struct bursar_holders *out) {
  out->lines = f->lines;
  for (uint32_t i = 0; i < f->index.count; i++)
    if (f->lines[i].all.bytes || f->lines[i].own.blocks)
      out->lines[out->count++] = f->lines[i];
  qsort(out->lines, out->count, sizeof *out->lines, largest_first);
  f->lines = NULL;
}

int bursar_holders_find(const struct bursar_model *model, struct bursar_holders *out, struct bursar_error *error) {
  struct finding f = {.model = model};
  *out = (struct bursar_holders){0};
  int status = bursar_trie_build(model, BURSAR_TRIE_AT, &f.trie, error);
  if (status != 0)
    return status;
  const uint32_t count = f.trie.count;
  f.line_of = calloc(count, sizeof *f.line_of);
  f.open = calloc(count, sizeof *f.open);
  f.own_above = calloc(count, sizeof *f.own_above);
  f.best = calloc(count, sizeof *f.best);
  f.lines = calloc(count, sizeof *f.lines);
  if (f.line_of && f.open && f.own_above && f.best && f.lines && bursar_index_init(&f.index, count) == 0) {
    number_lines(&f);
    add_up(&f);
    status = find_callers(&f);
  } else {
    status = -1;
  }
  if (status == 0)
    drop_empty(&f, out);
  else
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory for %u stack nodes", count);
  free(f.line_of);
  free(f.open);
  free(f.own_above);
  free(f.best);
  free(f.lines);
  bursar_index_free(&f.index);
  bursar_trie_free(&f.trie);
  return status;
}

void bursar_holders_free(struct bursar_holders *holders) {
  free(holders->lines);
  *holders = (struct bursar_holders){0};
}
