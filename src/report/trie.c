#include "report/trie.h"

#include "base/index.h"

#include <stdlib.h>
#include <string.h>

#define NONE BURSAR_READER_NONE

static void merge_nodes(const struct bursar_model *model, struct bursar_trie *trie, struct bursar_index *names,
                        struct bursar_index *seen) {
  trie->nodes[0] = (struct bursar_trie_node){.node = NONE};
  trie->count = 1;
  for (uint32_t i = 0; i < model->node_count; i++) {
    const struct bursar_model_node *node = &model->nodes[i];
    uint32_t parent = i < BURSAR_NODE_FIRST ? 0 : trie->of[node->parent];
    uint32_t code = node->code, name;
    if (i < BURSAR_NODE_FIRST)
      name = i;
    else if (code == NONE)
      name = BURSAR_NODE_FIRST;
    else
      name = BURSAR_NODE_FIRST + 1 + bursar_index_of(names, model->codes[code].function_id, model->codes[code].file_id);
    uint32_t at = 1 + bursar_index_of(seen, (uint64_t)parent << 32 | node->line, name);
    trie->of[i] = at;
    if (at < trie->count)
      continue;
    trie->nodes[at] = (struct bursar_trie_node){.parent = parent, .node = i, .depth = trie->nodes[parent].depth + 1};
    trie->count++;
  }
}

static void add_sites(const struct bursar_model *model, struct bursar_trie *trie, enum bursar_trie_measure measure) {
  for (uint32_t i = 0; i < model->site_count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    struct bursar_held *own = &trie->nodes[trie->of[site->node]].own;
    struct bursar_held held = site->at;
    if (measure == BURSAR_TRIE_TEMPORARIES)
      held = (struct bursar_held){site->temporaries, site->temporaries};
    else if (measure == BURSAR_TRIE_LEAKS)
      held = site->leak ? site->live : (struct bursar_held){0, 0};
    own->bytes += held.bytes;
    own->blocks += held.blocks == BURSAR_MODEL_UNKNOWN ? 0 : held.blocks;
  }
  for (uint32_t i = trie->count; i-- > 0;) {
    struct bursar_trie_node *node = &trie->nodes[i];
    node->all.bytes += node->own.bytes;
    node->all.blocks += node->own.blocks;
    if (!i)
      continue;
    trie->nodes[node->parent].all.bytes += node->all.bytes;
    trie->nodes[node->parent].all.blocks += node->all.blocks;
  }
}

struct rank {
  uint64_t bytes;
  uint32_t node;
};

static int smaller_first(const void *left, const void *right) {
  const struct rank *a = left, *b = right;
  if (a->bytes != b->bytes)
    return a->bytes < b->bytes ? -1 : 1;
  return a->node > b->node ? -1 : a->node < b->node;
}

/* One sort of all nodes; put in front of their siblings in that order, each list of children ends up largest first. */
static int link_children(struct bursar_trie *trie) {
  struct rank *ranks = calloc(trie->count, sizeof *ranks);
  if (!ranks)
    return -1;
  uint32_t count = 0;
  for (uint32_t i = 1; i < trie->count; i++)
    if (trie->nodes[i].all.bytes || trie->nodes[i].all.blocks)
      ranks[count++] = (struct rank){trie->nodes[i].all.bytes, i};
  qsort(ranks, count, sizeof *ranks, smaller_first);
  for (uint32_t i = 0; i < count; i++) {
    struct bursar_trie_node *node = &trie->nodes[ranks[i].node];
    node->next = trie->nodes[node->parent].first;
    trie->nodes[node->parent].first = ranks[i].node;
  }
  free(ranks);
  return 0;
}

int bursar_trie_build(const struct bursar_model *model, enum bursar_trie_measure measure, struct bursar_trie *out,
                      struct bursar_error *error) {
  struct bursar_index names = {0}, seen = {0};
  int status = 0;
  *out = (struct bursar_trie){.nodes = calloc((size_t)model->node_count + 1, sizeof *out->nodes),
                              .of = calloc(model->node_count, sizeof *out->of)};
  if (!out->nodes || !out->of || bursar_index_init(&names, model->code_count) != 0 ||
      bursar_index_init(&seen, model->node_count) != 0) {
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory for %u stack nodes", model->node_count);
    goto out;
  }
  merge_nodes(model, out, &names, &seen);
  add_sites(model, out, measure);
  if (link_children(out) != 0)
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory for %u stack nodes", model->node_count);
out:
  bursar_index_free(&names);
  bursar_index_free(&seen);
  if (status != 0)
    bursar_trie_free(out);
  return status;
}

void bursar_trie_free(struct bursar_trie *trie) {
  free(trie->nodes);
  free(trie->of);
  *trie = (struct bursar_trie){0};
}

uint32_t bursar_trie_next(const struct bursar_trie *trie, uint32_t at) {
  if (trie->nodes[at].first)
    return trie->nodes[at].first;
  while (at && !trie->nodes[at].next)
    at = trie->nodes[at].parent;
  return at ? trie->nodes[at].next : 0;
}
