#include "model/literal.h"

#include <string.h>

#define DEEPEST 32u

struct literal {
  struct bursar_nodes *nodes;
  const char *start, *at, *end;
  uint64_t place;
};

static uint64_t place(const struct literal *in) { return in->place + (uint64_t)(in->at - in->start); }

static void skip(struct literal *in) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t'))
    in->at++;
}

static bool take(struct literal *in, char c) {
  skip(in);
  if (in->at == in->end || *in->at != c)
    return false;
  in->at++;
  return true;
}

static bool word(struct literal *in, const char *what) {
  size_t length = strlen(what);
  if ((size_t)(in->end - in->at) < length || memcmp(in->at, what, length) != 0)
    return false;
  in->at += length;
  return true;
}

/* With no escapes but of a quote and a backslash, which nobody's fields have. */
static uint32_t text(struct literal *in) {
  char quote = *in->at, kept[BURSAR_NODES_SHORT];
  size_t length = 0;
  uint64_t from = place(in);
  for (in->at++; in->at < in->end && *in->at != quote; in->at++) {
    if (*in->at == '\\') {
      in->at++;
      if (in->at == in->end || !strchr("\\'\"", *in->at))
        return 0;
    }
    if (length == sizeof kept)
      return 0;
    kept[length++] = *in->at;
  }
  if (in->at == in->end)
    return 0;
  in->at++;
  return bursar_nodes_add_text(in->nodes, BURSAR_NODE_TEXT, kept, length, from);
}

static uint32_t number(struct literal *in) {
  int64_t value = 0;
  uint64_t from = place(in);
  for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++)
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *in->at - '0', &value))
      return 0;
  if (in->at < in->end && *in->at == 'L') /* Python 2 */
    in->at++;
  uint32_t node = bursar_nodes_add(in->nodes, BURSAR_NODE_INT, from);
  if (node)
    in->nodes->nodes[node].number = value;
  return node;
}

static uint32_t read(struct literal *in, unsigned depth);

/* Items, or keys and values, to `close`. */
static uint32_t many(struct literal *in, enum bursar_node_kind kind, char close, unsigned depth) {
  uint32_t node = bursar_nodes_add(in->nodes, kind, place(in)), item = 0;
  bool comma = true;
  in->at++;
  while (node && !take(in, close)) {
    if (!comma || !(item = read(in, depth)) || !bursar_nodes_append(in->nodes, node, item))
      return 0;
    if (kind == BURSAR_NODE_DICT &&
        (!take(in, ':') || !(item = read(in, depth)) || !bursar_nodes_append(in->nodes, node, item)))
      return 0;
    comma = take(in, ',');
  }
  /* (3) is a number. */
  return node && kind == BURSAR_NODE_TUPLE && in->nodes->nodes[node].many.count == 1 && !comma ? item : node;
}

static uint32_t read(struct literal *in, unsigned depth) {
  skip(in);
  if (in->at == in->end || depth == DEEPEST)
    return 0;
  char c = *in->at;
  uint64_t from = place(in);
  if (c == '\'' || c == '"')
    return text(in);
  if (c == '(')
    return many(in, BURSAR_NODE_TUPLE, ')', depth + 1);
  if (c == '[')
    return many(in, BURSAR_NODE_LIST, ']', depth + 1);
  if (c == '{')
    return many(in, BURSAR_NODE_DICT, '}', depth + 1);
  if (word(in, "True"))
    return bursar_nodes_add(in->nodes, BURSAR_NODE_TRUE, from);
  if (word(in, "False"))
    return bursar_nodes_add(in->nodes, BURSAR_NODE_FALSE, from);
  return c >= '0' && c <= '9' ? number(in) : 0;
}

int bursar_literal_read(struct bursar_nodes *nodes, const char *from, size_t length, uint64_t at, const char *path,
                        uint32_t *out, struct bursar_error *error) {
  struct literal in = {nodes, from, from, from + length, at};
  *out = read(&in, 0);
  skip(&in);
  if (*out && in.at == in.end && nodes->nodes[*out].kind == BURSAR_NODE_DICT)
    return 0;
  return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu: the header of an npy file makes no sense", path,
                          (unsigned long long)place(&in));
}
