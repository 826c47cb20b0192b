#include "context.h"

#include <string.h>

/* As Python/hamt.c and pycore_context.h have them since 3.7; whoever uses this compares an answer with Python's own first. */
struct map {
  PyObject_HEAD PyObject *root;
};
struct context {
  PyObject_HEAD PyObject *around;
  struct map *map;
};
struct sparse_node { /* pairs of key and value; the key is NULL where the value is a node */
  PyObject_VAR_HEAD uint32_t bits;
  PyObject *pairs[];
};
struct full_node {
  PyObject_HEAD PyObject *children[32];
};
struct same_hash_node {
  PyObject_VAR_HEAD int32_t hash;
  PyObject *pairs[];
};

#define LEVELS 8 /* of five bits of hash, and one of equal hashes */

int bursar_context_variable(PyObject *object, struct bursar_context_variable *out) {
  Py_hash_t hash = PyObject_Hash(object);
  if (hash == -1)
    return -1;
  int32_t folded = (int32_t)(hash & 0xffffffff) ^ (int32_t)(hash >> 32);
  *out = (struct bursar_context_variable){object, folded == -1 ? -2 : folded};
  return 0;
}

PyObject *bursar_context_find(const PyThreadState *thread, const struct bursar_context_variable *variable) {
  const struct context *context = (const struct context *)thread->context;
  const PyObject *node = context && context->map ? context->map->root : NULL;
  uint32_t hash = (uint32_t)variable->hash;
  for (unsigned level = 0; node && level < LEVELS; level++, hash >>= 5) {
    const char *kind = Py_TYPE(node)->tp_name;
    if (strcmp(kind, "hamt_bitmap_node") == 0) {
      const struct sparse_node *sparse = (const struct sparse_node *)node;
      uint32_t bit = 1u << (hash & 31);
      if (!(sparse->bits & bit))
        return NULL;
      unsigned at = 2 * (unsigned)__builtin_popcount(sparse->bits & (bit - 1));
      if (sparse->pairs[at])
        return sparse->pairs[at] == variable->object ? sparse->pairs[at + 1] : NULL;
      node = sparse->pairs[at + 1];
    } else if (strcmp(kind, "hamt_array_node") == 0) {
      node = ((const struct full_node *)node)->children[hash & 31];
    } else if (strcmp(kind, "hamt_collision_node") == 0) {
      const struct same_hash_node *same = (const struct same_hash_node *)node;
      for (Py_ssize_t i = 0; i + 1 < Py_SIZE(same); i += 2)
        if (same->pairs[i] == variable->object)
          return same->pairs[i + 1];
      return NULL;
    } else {
      return NULL;
    }
  }
  return NULL;
}
