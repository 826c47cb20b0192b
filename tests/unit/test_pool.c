/* The pool: memory that is zeroed, the caller's own, and used again. */
#include "base/pool.h"
#include "tap.h"

#include <errno.h>

#include "account_model.h"

#define HELD 300

struct piece {
  unsigned char *at; /* NULL: none */
  size_t bytes;
  unsigned char mark;
};
static struct piece pieces[HELD];

static size_t any_bytes(uint64_t *random) {
  static const size_t edges[] = {0, 1, 31, 32, 33, 64, 4096, 65535, 65536, 65537, 200000, 1u << 20};
  return model_below(random, 5) ? model_below(random, 3000) : edges[model_below(random, sizeof edges / sizeof *edges)];
}

static bool all(const unsigned char *at, size_t bytes, unsigned char value) {
  for (size_t i = 0; i < bytes; i++)
    if (at[i] != value)
      return false;
  return true;
}

static void test_random(void) {
  uint64_t random = 3;
  unsigned dirty = 0, shared = 0, missing = 0, unaligned = 0;
  for (unsigned i = 0; i < 30000; i++) {
    struct piece *piece = &pieces[model_below(&random, HELD)];
    if (piece->at) {
      shared += !all(piece->at, piece->bytes, piece->mark);
      bursar_pool_give(piece->at, piece->bytes);
      piece->at = NULL;
      continue;
    }
    *piece = (struct piece){.bytes = any_bytes(&random), .mark = (unsigned char)(1 + i % 255)};
    errno = 12345;
    piece->at = bursar_pool_take(piece->bytes);
    missing += !piece->at || errno != 12345;
    if (!piece->at)
      continue;
    unaligned += (uintptr_t)piece->at % 16 != 0;
    dirty += !all(piece->at, piece->bytes, 0);
    memset(piece->at, piece->mark, piece->bytes);
  }
  EQ(missing, 0);
  EQ(dirty, 0);
  EQ(shared, 0);
  EQ(unaligned, 0);
  for (unsigned i = 0; i < HELD; i++)
    bursar_pool_give(pieces[i].at, pieces[i].bytes);
}

static void test_footprint(void) {
  void *some[64];
  for (unsigned i = 0; i < 64; i++)
    some[i] = bursar_pool_take(5000);
  for (unsigned i = 0; i < 64; i++)
    bursar_pool_give(some[i], 5000);
  size_t before = bursar_pool_footprint();
  for (unsigned round = 0; round < 1000; round++) {
    for (unsigned i = 0; i < 64; i++)
      some[i] = bursar_pool_take(5000 + i);
    for (unsigned i = 0; i < 64; i++)
      bursar_pool_give(some[i], 5000 + i);
  }
  EQ(bursar_pool_footprint(), before);
  void *large = bursar_pool_take(10u << 20);
  EQ(bursar_pool_footprint(), before + (10u << 20));
  bursar_pool_give(large, 10u << 20);
  EQ(bursar_pool_footprint(), before);
  bursar_pool_give(NULL, 7);
  EQ(bursar_pool_footprint(), before);
}

int main(void) {
  test_random();
  test_footprint();
  return tap_done();
}
