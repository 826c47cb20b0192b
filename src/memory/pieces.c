#include "memory/pieces.h"

#include <errno.h>
#include <string.h>

#include "prim/prim.h"

#define MOST (1u << 18)
#define BYTES (MOST * sizeof(struct bursar_pieces_one))

int bursar_pieces_init(struct bursar_pieces *out) {
  *out = (struct bursar_pieces){.at = bursar_prim_reserve(BYTES, true)};
  return out->at ? 0 : -ENOMEM;
}

void bursar_pieces_free(struct bursar_pieces *pieces) {
  if (pieces->at)
    bursar_prim_release(pieces->at, BYTES);
  *pieces = (struct bursar_pieces){.at = NULL};
}

/* The first piece that ends behind the address. */
static size_t find(const struct bursar_pieces *pieces, uint64_t at) {
  size_t low = 0, high = pieces->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (pieces->at[middle].to <= at)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

const struct bursar_pieces_one *bursar_pieces_at(const struct bursar_pieces *pieces, uint64_t at) {
  size_t i = find(pieces, at);
  return i < pieces->count && pieces->at[i].from <= at ? &pieces->at[i] : NULL;
}

bool bursar_pieces_gap(const struct bursar_pieces *pieces, uint64_t *from, uint64_t *to) {
  size_t i = find(pieces, *from);
  for (; i < pieces->count && pieces->at[i].from <= *from && *from < *to; i++)
    *from = pieces->at[i].to;
  if (*from >= *to)
    return false;
  if (i < pieces->count && pieces->at[i].from < *to)
    *to = pieces->at[i].from;
  return true;
}

static void insert(struct bursar_pieces *pieces, uint64_t from, uint64_t to, enum bursar_pieces_kind kind) {
  if (pieces->count == MOST) {
    pieces->cut = true;
    return;
  }
  size_t i = find(pieces, from);
  memmove(pieces->at + i + 1, pieces->at + i, (pieces->count - i) * sizeof *pieces->at);
  pieces->at[i] = (struct bursar_pieces_one){from, to, kind};
  pieces->count++;
}

void bursar_pieces_add(struct bursar_pieces *pieces, uint64_t from, uint64_t to, enum bursar_pieces_kind kind) {
  uint64_t end = to;
  while (!pieces->cut && bursar_pieces_gap(pieces, &from, &end)) {
    insert(pieces, from, end, kind);
    from = end;
    end = to;
  }
}
