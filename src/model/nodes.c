#include "model/nodes.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 256u

void bursar_nodes_init(struct bursar_nodes *nodes) {
  *nodes = (struct bursar_nodes){.nodes = NULL};
  bursar_buffer_init(&nodes->texts, BURSAR_NODES_TEXTS);
}

void bursar_nodes_free(struct bursar_nodes *nodes) {
  free(nodes->nodes);
  free(nodes->cells);
  free(nodes->objects);
  bursar_buffer_free(&nodes->texts);
  bursar_nodes_init(nodes);
}

/* Room for one more; the first place, number 0, is left zero. */
static bool grow(void **table, uint32_t *count, uint32_t *room, uint32_t most, size_t bytes) {
  if (*count < *room)
    return true;
  if (*room >= most)
    return false;
  uint32_t more = *room ? *room * 2 : FIRST_ROOM;
  void *larger = realloc(*table, more * bytes);
  if (!larger)
    return false;
  if (!*room) {
    memset(larger, 0, bytes);
    *count = 1;
  }
  *table = larger;
  *room = more;
  return true;
}

uint32_t bursar_nodes_add(struct bursar_nodes *nodes, enum bursar_node_kind kind, uint64_t place) {
  void *table = nodes->nodes;
  if (!grow(&table, &nodes->count, &nodes->room, BURSAR_NODES_MOST, sizeof *nodes->nodes))
    return 0;
  nodes->nodes = table;
  nodes->nodes[nodes->count] = (struct bursar_node){.kind = (uint8_t)kind, .place = place};
  return nodes->count++;
}

uint32_t bursar_nodes_add_object(struct bursar_nodes *nodes, uint32_t of, uint32_t arguments, uint64_t place) {
  void *table = nodes->objects;
  uint32_t node = bursar_nodes_add(nodes, BURSAR_NODE_OBJECT, place);
  if (!node || !grow(&table, &nodes->object_count, &nodes->object_room, BURSAR_NODES_MOST, sizeof *nodes->objects))
    return 0;
  nodes->objects = table;
  nodes->objects[nodes->object_count] = (struct bursar_object){.of = of, .arguments = arguments};
  nodes->nodes[node].object = nodes->object_count++;
  return node;
}

bool bursar_nodes_keep(struct bursar_nodes *nodes, uint32_t node, const char *text, size_t length) {
  size_t at = nodes->texts.used;
  uint32_t bytes = (uint32_t)length;
  bursar_buffer_add(&nodes->texts, &bytes, sizeof bytes);
  bursar_buffer_add(&nodes->texts, text, length);
  nodes->nodes[node].text = (uint32_t)at + 1;
  return !nodes->texts.failed;
}

uint32_t bursar_nodes_add_text(struct bursar_nodes *nodes, enum bursar_node_kind kind, const char *text, size_t length,
                               uint64_t place) {
  uint32_t node = bursar_nodes_add(nodes, kind, place);
  if (node)
    nodes->nodes[node].form = BURSAR_FORM_UTF8;
  return node && bursar_nodes_keep(nodes, node, text, length) ? node : 0;
}

bool bursar_nodes_link(struct bursar_nodes *nodes, struct bursar_chain *chain, uint32_t node) {
  void *table = nodes->cells;
  if (!grow(&table, &nodes->cell_count, &nodes->cell_room, BURSAR_NODES_CELLS, sizeof *nodes->cells))
    return false;
  nodes->cells = table;
  uint32_t cell = nodes->cell_count++;
  nodes->cells[cell] = (struct bursar_cell){.node = node};
  if (chain->last)
    nodes->cells[chain->last].next = cell;
  else
    chain->first = cell;
  chain->last = cell;
  return true;
}

bool bursar_nodes_append(struct bursar_nodes *nodes, uint32_t container, uint32_t node) {
  struct bursar_node *to = &nodes->nodes[container];
  to->many.count++;
  return bursar_nodes_link(nodes, &to->many.chain, node);
}

struct bursar_object *bursar_nodes_object(const struct bursar_nodes *nodes, uint32_t node) {
  return nodes->nodes[node].kind == BURSAR_NODE_OBJECT ? &nodes->objects[nodes->nodes[node].object] : NULL;
}

struct bursar_text bursar_nodes_text(const struct bursar_nodes *nodes, uint32_t node) {
  uint32_t at = node ? nodes->nodes[node].text : 0, length;
  if (!at)
    return (struct bursar_text){NULL, 0};
  memcpy(&length, nodes->texts.data + at - 1, sizeof length);
  return (struct bursar_text){nodes->texts.data + at - 1 + sizeof length, length};
}

static bool is(struct bursar_text text, const char *words) {
  return text.bytes && text.length == strlen(words) && memcmp(text.bytes, words, text.length) == 0;
}

bool bursar_nodes_is(const struct bursar_nodes *nodes, uint32_t node, const char *words) {
  return is(bursar_nodes_text(nodes, node), words);
}

struct bursar_text bursar_nodes_maker(const struct bursar_nodes *nodes, uint32_t node) {
  const struct bursar_object *object = node ? bursar_nodes_object(nodes, node) : NULL;
  return object ? bursar_nodes_text(nodes, object->of) : (struct bursar_text){NULL, 0};
}

uint32_t bursar_nodes_links(const struct bursar_nodes *nodes, uint32_t container, uint32_t *out, uint32_t most) {
  const struct bursar_node *node = &nodes->nodes[container];
  uint32_t count = 0;
  if (node->kind < BURSAR_NODE_LIST || node->kind > BURSAR_NODE_DICT)
    return 0;
  for (uint32_t cell = node->many.chain.first; cell && count < most; cell = nodes->cells[cell].next)
    out[count++] = nodes->cells[cell].node;
  return node->many.count;
}

uint32_t bursar_nodes_value(const struct bursar_nodes *nodes, uint32_t dict, const char *key) {
  const struct bursar_node *node = &nodes->nodes[dict];
  uint32_t found = 0;
  if (node->kind != BURSAR_NODE_DICT || node->many.count / 2 > BURSAR_NODES_KEYS)
    return 0;
  for (uint32_t cell = node->many.chain.first; cell;) {
    uint32_t value = nodes->cells[cell].next;
    if (bursar_nodes_is(nodes, nodes->cells[cell].node, key))
      found = nodes->cells[value].node; /* the last one stays, as in a dict */
    cell = nodes->cells[value].next;
  }
  return found;
}
