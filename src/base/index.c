#include "base/index.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "prim/prim.h"

static int init(struct bursar_index *index, uint32_t most, size_t item, void *items) {
  uint64_t slots = 16;
  while (slots < (uint64_t)most * 2)
    slots *= 2;
  *(void **)items = calloc(most ? most : 1, item);
  index->slots = slots > UINT32_MAX ? NULL : calloc(slots, sizeof *index->slots);
  if (!*(void **)items || !index->slots) {
    bursar_index_free(index);
    return -ENOMEM;
  }
  index->mask = (uint32_t)slots - 1;
  index->most = most;
  index->seed = bursar_prim_now() ^ (uint64_t)(uintptr_t)index->slots << 16;
  return 0;
}

int bursar_index_init(struct bursar_index *index, uint32_t most) {
  *index = (struct bursar_index){0};
  return init(index, most, sizeof *index->keys, &index->keys);
}

int bursar_index_init_texts(struct bursar_index *index, uint32_t most) {
  *index = (struct bursar_index){0};
  return init(index, most, sizeof *index->texts, &index->texts);
}

static uint64_t mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xd1b54a32d192ed03u);
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint32_t bursar_index_of(struct bursar_index *index, uint64_t a, uint64_t b) {
  uint32_t slot = (uint32_t)mix(mix(a, index->seed), b);
  for (;; slot++) {
    uint32_t *at = &index->slots[slot & index->mask];
    if (!*at) {
      if (index->count == index->most)
        return UINT32_MAX;
      index->keys[index->count] = (struct bursar_index_key){a, b};
      *at = ++index->count;
      return *at - 1;
    }
    if (index->keys[*at - 1].a == a && index->keys[*at - 1].b == b)
      return *at - 1;
  }
}

static uint64_t hash_text(struct bursar_text text, uint64_t seed) {
  uint64_t hash = seed ^ (text.bytes ? text.length : UINT64_MAX);
  size_t length = text.bytes ? text.length : 0;
  for (size_t i = 0; i < length; i += 8) {
    uint64_t word = 0;
    memcpy(&word, text.bytes + i, length - i < 8 ? length - i : 8);
    hash = mix(hash, word ^ seed);
  }
  return mix(hash, seed);
}

static bool same_text(struct bursar_text a, struct bursar_text b) {
  if (!a.bytes || !b.bytes)
    return !a.bytes && !b.bytes;
  return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

uint32_t bursar_index_of_text(struct bursar_index *index, struct bursar_text text) {
  uint32_t slot = (uint32_t)hash_text(text, index->seed);
  for (;; slot++) {
    uint32_t *at = &index->slots[slot & index->mask];
    if (!*at) {
      if (index->count == index->most)
        return UINT32_MAX;
      index->texts[index->count] = text;
      *at = ++index->count;
      return *at - 1;
    }
    if (same_text(index->texts[*at - 1], text))
      return *at - 1;
  }
}

void bursar_index_free(struct bursar_index *index) {
  free(index->keys);
  free(index->texts);
  free(index->slots);
  index->keys = NULL;
  index->texts = NULL;
  index->slots = NULL;
}
