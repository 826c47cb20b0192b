#include "native/wiping.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tap.h"

/* Pools as pymalloc has them, one of each size, in an arena; the blocks are handed out one after the other and never again. */
#define POOL 16384u
#define ARENA (1u << 20)
#define HEAD 48u
struct head {
  uint32_t count, unused;
  uint64_t free_block, next, previous;
  uint32_t arena, size_class, next_offset, last_offset;
};

static char *arena;
static uint32_t freed;

static struct head *pool_of(size_t size) {
  uintptr_t first = ((uintptr_t)arena + POOL - 1) & ~(uintptr_t)(POOL - 1);
  return (struct head *)(first + (size - 1) / 16 * POOL);
}

static void make_pools(void) {
  for (size_t size = 16; size <= 512; size += 16)
    *pool_of(size) = (struct head){.size_class = (uint32_t)size / 16 - 1,
                                   .next_offset = HEAD + (uint32_t)size,
                                   .last_offset = POOL - (uint32_t)size};
}

static void *give(void *ctx, size_t size) {
  if (size > 512)
    return malloc(size);
  struct head *pool = pool_of(size ? size : 1);
  uint32_t whole = (pool->size_class + 1) * 16;
  if (pool->next_offset > pool->last_offset)
    return NULL;
  void *p = (char *)pool + pool->next_offset - whole;
  pool->next_offset += whole;
  pool->count++;
  memset(p, 0xA5, whole);
  return p;
}
static void *give_zeros(void *ctx, size_t count, size_t size) { return NULL; }
static void *resize(void *ctx, void *p, size_t size) { return p ? realloc(p, size) : give(ctx, size); }
static void take(void *ctx, void *p) { freed++; }

static void *map_arena(void *ctx, size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}
static void unmap_arena(void *ctx, void *p, size_t size) { munmap(p, size); }

static size_t other_than(const unsigned char *p, size_t bytes, unsigned char value) {
  size_t n = 0;
  for (size_t i = 0; i < bytes; i++)
    n += p[i] != value;
  return n;
}

static void each_size_ends(struct bursar_wiping_allocator *hooked) {
  size_t wrong = 0;
  for (size_t size = 1; size <= 512; size++) {
    size_t whole = (size + 15) & ~(size_t)15;
    make_pools();
    unsigned char *before = hooked->malloc(hooked->ctx, size), *p = hooked->malloc(hooked->ctx, size),
                  *after = hooked->malloc(hooked->ctx, size);
    hooked->free(hooked->ctx, p);
    wrong += other_than(p, whole, 0) + other_than(before, whole, 0xA5) + other_than(after, whole, 0xA5);
  }
  EQ(wrong, 0);
}

static void test_realloc(struct bursar_wiping_allocator *hooked) {
  unsigned char *p = hooked->malloc(hooked->ctx, 100), *q = hooked->realloc(hooked->ctx, p, 90);
  OK(p == q && !other_than(p, 90, 0xA5) && !other_than(p + 90, 112 - 90, 0), "what shrinks loses its tail");
  q = hooked->realloc(hooked->ctx, p, 30);
  OK(q != p && !other_than(q, 30, 0xA5) && !other_than(p, 112, 0), "what moves leaves nothing");
  p = hooked->realloc(hooked->ctx, q, 3000);
  OK(!other_than(p, 30, 0xA5) && !other_than(q, 32, 0), "nor does what leaves the pools");
  free(p);
  p = hooked->realloc(hooked->ctx, NULL, 40);
  OK(p && !other_than(p, 40, 0xA5), "of NULL it is a malloc");
  q = hooked->realloc(hooked->ctx, p, 0);
  OK(q && q != p && !other_than(p, 48, 0), "to nothing it is another block");
  make_pools();
}

static void test_what_is_no_pools(struct bursar_wiping_allocator *hooked) {
  unsigned char *p = hooked->malloc(hooked->ctx, 2000);
  memset(p, 0xA5, 2000);
  EQ(bursar_wiping_pool(p), 0);
  hooked->free(hooked->ctx, p);
  EQ(other_than(p, 2000, 0xA5), 0);
  free(p);
  hooked->free(hooked->ctx, NULL);
}

/* One arena was there before the hooks, the other comes by them. */
int main(void) {
  struct bursar_wiping_allocator hooked = {NULL, give, give_zeros, resize, take};
  struct bursar_wiping_arenas arenas = {NULL, map_arena, unmap_arena};
  arena = map_arena(NULL, ARENA);
  if (!arena)
    return 1;
  bursar_wiping_over(BURSAR_WIPING_OBJ, &hooked);
  bursar_wiping_over_arenas(&arenas, false);
  OK(hooked.malloc == give && hooked.calloc == give_zeros, "who allocates pays nothing");
  each_size_ends(&hooked);
  test_realloc(&hooked);
  test_what_is_no_pools(&hooked);
  arena = arenas.alloc(arenas.ctx, ARENA);
  each_size_ends(&hooked);
  void *p = hooked.malloc(hooked.ctx, 100);
  EQ(bursar_wiping_pool(p), 112);
  arenas.free(arenas.ctx, arena, ARENA);
  EQ(bursar_wiping_pool(p), 0); /* nothing is there to be looked at */
  OK(freed > 1000, "each free went on");
  return tap_done();
}
