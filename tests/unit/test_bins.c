/* malloc's lists of free chunks: they tell what a pass over the heaps tells, and lists that do not hold tell nothing. */
#include "memory/bins.h"
#include "memory/heap.h"
#include "memory/look.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>

#define BLOCKS 20000u
#define BINS 127u

/* --- an arena made by hand ------------------------------------------------------------------------------------------- */

static struct made {
  uint64_t words[12 + 2 + 2 * BINS];
} arena __attribute__((aligned(32)));
static uint64_t *last, (*bin)[2];                         /* in it */
static uint64_t chunk[4][4] __attribute__((aligned(16))); /* size before, size, next, previous */
static const struct bursar_peek here = {.pages_fd = -1, .mem_fd = -1};

static uint64_t at(const void *p) { return (uint64_t)(uintptr_t)p; }

/* Two chunks in one list, one in another, and the last one.  `before`: words before the lists. */
static void make(unsigned before) {
  memset(&arena, 0, sizeof arena);
  last = arena.words + before;
  bin = (uint64_t (*)[2])(last + 2);
  for (unsigned i = 0; i < BINS; i++)
    bin[i][0] = bin[i][1] = at(bin[i]) - 16;
  *last = at(chunk[3]);
  chunk[3][1] = 0x1001;
  const uint64_t first[4] = {0, 0x40 | 1, at(chunk[1]), at(bin[2]) - 16},
                 second[4] = {0, 0x40 | 1, at(bin[2]) - 16, at(chunk[0])},
                 other[4] = {0, 0x5000, at(bin[90]) - 16, at(bin[90]) - 16};
  memcpy(chunk[0], first, sizeof first);
  memcpy(chunk[1], second, sizeof second);
  memcpy(chunk[2], other, sizeof other);
  bin[2][0] = at(chunk[0]);
  bin[2][1] = at(chunk[1]);
  bin[90][0] = bin[90][1] = at(chunk[2]);
}

struct sum {
  uint64_t bytes, top, refuse;
};

static bool visit(uint64_t where, uint64_t size, bool top, void *context) {
  struct sum *sum = context;
  *(top ? &sum->top : &sum->bytes) += size;
  return where != sum->refuse;
}

static bool holds(void) {
  struct sum sum = {0};
  uint64_t most = 10;
  return bursar_bins_each(&here, at(&arena), &most, visit, &sum);
}

static void test_by_hand(unsigned before) {
  struct sum sum = {0};
  uint64_t most = 10;
  char buffer[sizeof arena];
  make(before);
  OK(bursar_bins_each(&here, at(&arena), &most, visit, &sum), "an arena with three free chunks");
  EQ(sum.bytes, 0x40 + 0x40 + 0x5000);
  EQ(sum.top, 0x1000);
  EQ(most, 7);
  EQ(bursar_bins_find(&here, at(&arena), at(&arena + 1), buffer, sizeof buffer), at(&arena));
  EQ(bursar_bins_find(&here, at(&arena) + 16, at(&arena + 1), buffer, sizeof buffer), 0);
  most = 2;
  OK(!bursar_bins_each(&here, at(&arena), &most, visit, &sum), "more chunks than may be looked up");
  EQ(most, 0);
  most = 10;
  sum.refuse = at(chunk[2]);
  OK(!bursar_bins_each(&here, at(&arena), &most, visit, &sum), "a chunk that cannot be");
  const struct {
    const char *what;
    uint64_t *word, value;
  } wrong[] = {{"a link back to another", &chunk[1][3], at(chunk[2])},
               {"a size that is none", &chunk[0][1], 0x48},
               {"a size too small", &chunk[2][1], 0x10},
               {"a link to nowhere", &chunk[0][2], 16},
               {"a link that is odd", &chunk[1][2], at(chunk[2]) + 8},
               {"a circle", &chunk[1][2], at(chunk[0])},
               {"no last chunk", last, 0},
               {"a last chunk nowhere", last, 4096},
               {"half a list", &bin[5][0], at(chunk[2])},
               {"no link", &bin[5][1], 0}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    make(before);
    OK(holds(), "as made");
    *wrong[i].word = wrong[i].value;
    OK(!holds(), "%s", wrong[i].what);
  }
  OK(!bursar_bins_each(&here, 4096, &most, visit, &sum), "an arena nowhere");
}

/* --- the C library's own --------------------------------------------------------------------------------------------- */

static void *blocks[2][BLOCKS];
static pthread_barrier_t made, looked;

/* Sizes of all lists; most blocks are given back, in another order. */
static void fill(void **to, unsigned seed) {
  uint64_t random = seed;
  for (unsigned i = 0; i < BLOCKS; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    size_t size = 1100 + (random >> 33) % (i % 20 ? 3000 : 60000);
    if ((to[i] = malloc(size)))
      memset(to[i], 1, size);
  }
  for (unsigned i = 0; i < BLOCKS; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    if ((random >> 33) % 8)
      continue;
    free(to[i]);
    to[i] = NULL;
  }
}

static void *thread(void *unused) {
  fill(blocks[1], 2);
  pthread_barrier_wait(&made);
  pthread_barrier_wait(&looked);
  for (unsigned i = 0; i < BLOCKS; i++)
    free(blocks[1][i]);
  return unused;
}

/* What the passes say over the heaps of an arena. */
static struct bursar_heap pass(struct bursar_look *look, uint64_t key) {
  struct bursar_heap sum = {.arena = key}, one;
  for (size_t i = 0; i < look->regions.count; i++) {
    const struct bursar_regions_one *region = &look->regions.at[i];
    const uint64_t step = BURSAR_REGIONS_HEAP_BYTES;
    for (uint64_t from = (region->from + step - 1) / step * step;
         key && region->kind == BURSAR_REGIONS_ANON && from < region->to; from += step) {
      uint64_t to = region->to - from < step ? region->to : from + step;
      if (!region->writable || !bursar_regions_resident(region, from, to) ||
          !bursar_heap_thread(&look->peek, region, from, to, true, look->buffer, &one) || one.arena != key)
        continue;
      sum.free_resident += one.free_resident;
      sum.returnable += one.returnable;
    }
    if (!key && region->kind == BURSAR_REGIONS_HEAP && bursar_heap_main(&look->peek, region, look->buffer, &one))
      sum = one;
  }
  return sum;
}

static void test_the_c_librarys(void) {
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
  OK(true, "# SKIP a sanitizer's malloc has no such lists");
#else
  struct bursar_look look;
  pthread_t other;
  pthread_barrier_init(&made, NULL, 2);
  pthread_barrier_init(&looked, NULL, 2);
  fill(blocks[0], 1);
  if (!OK(pthread_create(&other, NULL, thread, NULL) == 0, "a thread, whose arena has heaps of its own"))
    return;
  pthread_barrier_wait(&made);
  if (!OK(bursar_look_begin(0, 0, BURSAR_LOOK_INSIDE, &look) == 0 && look.inside, "a look"))
    return;
  OK(look.heaps_walked, "every heap is known");
  OK(look.heap_count >= 2, "of two arenas");
  for (size_t i = 0; i < 2; i++) {
    struct bursar_heap told = pass(&look, look.heaps[i].arena);
    OK(look.heaps[i].listed, "arena %zu is told by its lists", i);
    OK(told.free_resident > 1u << 20, "and has free chunks");
    EQ(look.heaps[i].free_resident, told.free_resident);
    EQ(look.heaps[i].returnable, told.returnable);
  }
  bursar_look_end(&look);
  pthread_barrier_wait(&looked);
  pthread_join(other, NULL);
#endif
}

int main(void) {
  test_by_hand(12); /* until glibc 2.42 */
  test_by_hand(1);
  test_the_c_librarys();
  return tap_done();
}
