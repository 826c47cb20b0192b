/* The table of live blocks against a list of them: whatever the sizes, the neighbours and the order. */
#include "account/live.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>

#include "account_model.h"

#define LEAF ((uintptr_t)1 << BURSAR_LEAF_SHIFT)

/* Three places where blocks lie side by side: each a row of granules, two of them across a border between leaves, and one
 * for blocks that are not aligned. */
#define GRANULES 2048
static const uintptr_t rows[] = {0x300000000000, 0x310000000000 + LEAF - GRANULES / 2 * 16, 5 * LEAF - 64};
#define ROWS (sizeof rows / sizeof *rows)
#define ODD_ROW 0x320000000000
/* And one for blocks of any size, far apart. */
#define FAR_ROW 0x100000000000
#define FAR 64

struct entry {
  uintptr_t address; /* 0: none */
  struct bursar_record record;
};
#define ENTRIES 1024
static struct entry entries[ENTRIES];
static unsigned char taken[ROWS][GRANULES], far_taken[FAR];
static unsigned char odd_taken[GRANULES];

static const uint64_t sizes[] = {0,
                                 1,
                                 15,
                                 16,
                                 17,
                                 31,
                                 32,
                                 33,
                                 48,
                                 495,
                                 496,
                                 497,
                                 511,
                                 512,
                                 513,
                                 527,
                                 528,
                                 4095,
                                 4096,
                                 65535,
                                 65536,
                                 UINT32_MAX - 1,
                                 UINT32_MAX,
                                 (uint64_t)UINT32_MAX + 1,
                                 (uint64_t)1 << 33,
                                 ((uint64_t)1 << 33) + 32};

static uint64_t any_size(uint64_t *random) {
  return model_below(random, 4) ? model_below(random, model_below(random, 8) ? 100 : 700)
                                : sizes[model_below(random, sizeof sizes / sizeof *sizes)];
}

/* A free stretch of the row for so many bytes; 0 where the place that chance picked is taken. */
static uintptr_t place(uint64_t *random, uint64_t size, unsigned char *row, uintptr_t base, uintptr_t offset) {
  unsigned needs = size + offset <= 16 ? 1 : (unsigned)((size + offset + 15) / 16);
  unsigned at = (unsigned)model_below(random, GRANULES - 300);
  for (unsigned i = 0; i < needs; i++)
    if (row[at + i])
      return 0;
  memset(row + at, 1, needs);
  return base + at * 16 + offset;
}

static void vacate(const struct entry *entry) {
  uint64_t size = entry->record.size;
  if (entry->address >= FAR_ROW && entry->address < FAR_ROW + FAR * ((uint64_t)1 << 34)) {
    far_taken[(entry->address - FAR_ROW) >> 34] = 0;
    return;
  }
  uintptr_t offset = entry->address % 16, granule;
  unsigned needs = size + offset <= 16 ? 1 : (unsigned)((size + offset + 15) / 16);
  unsigned char *row = odd_taken;
  granule = (entry->address - ODD_ROW) / 16;
  for (unsigned i = 0; i < ROWS; i++)
    if (entry->address >= rows[i] && entry->address < rows[i] + GRANULES * 16) {
      row = taken[i];
      granule = (entry->address - rows[i]) / 16;
    }
  memset(row + granule, 0, needs);
}

static uintptr_t any_place(uint64_t *random, uint64_t size) {
  if (size > 4096) {
    unsigned at = (unsigned)model_below(random, FAR);
    if (far_taken[at])
      return 0;
    far_taken[at] = 1;
    return FAR_ROW + at * ((uintptr_t)1 << 34) + (at % 3 ? 0 : LEAF - 16);
  }
  unsigned row = (unsigned)model_below(random, ROWS + 1);
  return row < ROWS ? place(random, size, taken[row], rows[row], 0)
                    : place(random, size, odd_taken, ODD_ROW, model_below(random, 2) ? 8 : 1 + model_below(random, 15));
}

/* What live_each saw: every block once. */
struct seen {
  unsigned count, wrong;
  uint64_t bytes;
};

static void see(const void *p, struct bursar_record record, void *context) {
  struct seen *seen = context;
  bool found = false;
  seen->count++;
  seen->bytes += record.size;
  for (unsigned i = 0; i < ENTRIES && !found; i++)
    found = entries[i].address == (uintptr_t)p && entries[i].record.size == record.size &&
            entries[i].record.number == record.number && entries[i].record.scope == record.scope;
  seen->wrong += !found;
}

static bool each_agrees(void) {
  struct seen seen = {0, 0, 0}, large = {0, 0, 0};
  unsigned count = 0, larges = 0;
  uint64_t bytes = 0;
  bursar_live_each(see, &seen);
  bursar_live_large_each(BURSAR_SMALL_MAX, see, &large);
  for (unsigned i = 0; i < ENTRIES; i++)
    if (entries[i].address) {
      count++;
      bytes += entries[i].record.size;
      larges += entries[i].record.size > BURSAR_SMALL_MAX;
    }
  if (seen.count == count && seen.bytes == bytes && !seen.wrong && large.count == larges && !large.wrong)
    return true;
  printf("# each saw %u blocks, there are %u; %u were wrong\n", seen.count, count, seen.wrong);
  return false;
}

static unsigned step(uint64_t *random) {
  struct entry *entry = &entries[model_below(random, ENTRIES)];
  struct bursar_record out = {.size = 0};
  if (!entry->address) {
    uint64_t size = any_size(random);
    uintptr_t at = any_place(random, size);
    if (!at)
      return 0;
    *entry = (struct entry){
        at,
        {.size = size,
         .number = 1 + (uint32_t)model_below(random, model_below(random, 2) ? 1999 : (1u << 26) - 1),
         .scope = model_below(random, 3) ? 0 : 1 + (uint32_t)model_below(random, BURSAR_SCOPE_SLOTS - 1)}};
    return bursar_live_holds((void *)at) || !bursar_live_put((void *)at, entry->record) ||
           !bursar_live_holds((void *)at);
  }
  void *p = (void *)entry->address;
  if (!model_below(random, 3)) {
    if (bursar_live_watch(p))
      entry->record.watched = true;
    else if (entry->record.size > 16 && entry->address % 16 == 0)
      return 1;
    return !bursar_live_holds(p);
  }
  unsigned wrong = !bursar_live_take(p, &out) || out.size != entry->record.size || out.number != entry->record.number ||
                   out.watched != entry->record.watched || out.scope != entry->record.scope;
  wrong += bursar_live_holds(p) || bursar_live_take(p, &out);
  /* A realloc that fails puts it back, one that succeeds does not. */
  if (!model_below(random, 4)) {
    wrong += !bursar_live_put(p, entry->record);
    return wrong;
  }
  vacate(entry);
  entry->address = 0;
  return wrong;
}

/* Sites were folded: blocks that named them name others, and nothing else changes (a size that looks like a number). */
static void renumber(uint64_t *random) {
  static uint32_t numbers[2000];
  for (unsigned i = 0; i < 2000; i++)
    numbers[i] = i && model_below(random, 2) ? 1 + (uint32_t)model_below(random, 1999) : 0;
  bursar_live_renumber(numbers, 2000);
  for (unsigned i = 0; i < ENTRIES; i++)
    if (entries[i].address && entries[i].record.number < 2000 && numbers[entries[i].record.number])
      entries[i].record.number = numbers[entries[i].record.number];
}

/* A block is in the way of another at its own place, and of one that needs its second cell or its record. */
static unsigned in_the_way_wrong(void) {
  unsigned wrong = 0;
  for (unsigned i = 0; i < ENTRIES; i++) {
    const char *p = (const char *)entries[i].address;
    uint64_t size = entries[i].record.size;
    if (!p)
      continue;
    wrong += bursar_live_in_the_way(p, size) != p;
    if ((uintptr_t)p % 16)
      continue;
    if (size > 16 && size <= BURSAR_SMALL_MAX && ((uintptr_t)p + 16) % LEAF)
      wrong += bursar_live_in_the_way(p + 16, 1) != p;
    if (size > BURSAR_SMALL_MAX && (uintptr_t)p % 512 && ((uintptr_t)p + 16) % LEAF) {
      wrong += bursar_live_in_the_way(p + 16, BURSAR_SMALL_MAX + 1) != p;
      wrong += bursar_live_large_in_the_way(p + 16) != p;
      wrong += bursar_live_in_the_way(p + 16, BURSAR_SMALL_MAX) != NULL;
    }
  }
  return wrong;
}

static void test_random(void) {
  uint64_t random = 42;
  unsigned wrong = 0, agreed = 0;
  for (unsigned round = 0; round < 20; round++) {
    for (unsigned i = 0; i < 30000; i++)
      wrong += step(&random);
    agreed += each_agrees();
    wrong += in_the_way_wrong();
    renumber(&random);
  }
  EQ(wrong, 0);
  EQ(agreed, 20);
  for (unsigned i = 0; i < ENTRIES; i++) {
    struct bursar_record out = {.size = 0};
    if (entries[i].address) {
      wrong += !bursar_live_take((void *)entries[i].address, &out) || out.size != entries[i].record.size;
      entries[i].address = 0;
    }
  }
  EQ(wrong, 0);
  OK(each_agrees(), "nothing is left");
}

/* The granule that held a freed block's size is the first of whoever comes next. */
static void test_second_granule(void) {
  struct bursar_record out = {.size = 0};
  char *base = (char *)0x330000000000;
  for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    bool good = bursar_live_put(base, (struct bursar_record){.size = sizes[k], .number = 9}) &&
                bursar_live_take(base, &out);
    for (unsigned i = 0; i < 4; i++)
      good = good && !bursar_live_holds(base + 16 * i);
    OK(good && out.size == sizes[k] && out.number == 9, "%llu bytes leave nothing behind",
       (unsigned long long)sizes[k]);
  }
  OK(bursar_live_put(base, (struct bursar_record){.size = 32, .number = 3}) &&
         bursar_live_put(base + 32, (struct bursar_record){.size = 16, .number = 4}) &&
         bursar_live_put(base + 48, (struct bursar_record){.size = 16, .number = 5}),
     "three neighbours");
  OK(bursar_live_take(base + 32, &out) && out.number == 4 && bursar_live_take(base, &out) && out.size == 32 &&
         bursar_live_put(base, (struct bursar_record){.size = 16, .number = 6}) &&
         bursar_live_put(base + 16, (struct bursar_record){.size = 32, .number = 7}) &&
         bursar_live_take(base + 48, &out) && out.number == 5 && bursar_live_take(base + 16, &out) && out.size == 32 &&
         bursar_live_take(base, &out) && out.number == 6,
     "each is what was put there");
}

static void test_drop(void) {
  struct bursar_record out;
  for (unsigned i = 0; i < 100; i++)
    (void)!bursar_live_put((char *)0x350000000000 + i * 24, (struct bursar_record){.size = 20, .number = 5});
  bursar_live_drop();
  unsigned held = 0;
  for (unsigned i = 0; i < 100; i++)
    held += bursar_live_holds((char *)0x350000000000 + i * 24) ||
            bursar_live_take((char *)0x350000000000 + i * 24, &out);
  EQ(held, 0);
  OK(each_agrees(), "a dropped table is empty");
  OK(bursar_live_put((char *)0x350000000018, (struct bursar_record){.size = 20, .number = 5}) &&
         bursar_live_take((char *)0x350000000018, &out) && out.size == 20,
     "and can be used again");
}

/* Many odd addresses, few at a time: the table beside the table does not lose any. */
static void test_odd_churn(void) {
  unsigned wrong = 0;
  for (uintptr_t i = 0; i < 300000; i++) {
    struct bursar_record out = {.size = 0};
    char *at = (char *)0x360000000008;
    if (i >= 1000)
      wrong += !bursar_live_take(at + (i - 1000) * 16, &out) || out.size != i - 1000;
    wrong += !bursar_live_put(at + i * 16, (struct bursar_record){.size = i, .number = 5});
  }
  EQ(wrong, 0);
  bursar_live_drop();
}

/* --- threads: each books blocks of its own, in leaves that all of them make ------------------------------------------- */

#define THREADS 8
static pthread_barrier_t barrier;

static void *book_own(void *argument) {
  uintptr_t mine = (uintptr_t)argument;
  uintptr_t wrong = 0;
  for (uintptr_t leaf = 0; leaf < 24; leaf++) {
    pthread_barrier_wait(&barrier); /* all at the same new leaf */
    for (uintptr_t i = 0; i < 200; i++) {
      char *p = (char *)0x370000000000 + leaf * LEAF + (i * THREADS + mine) * 64 + (i % 5 ? 0 : 8);
      struct bursar_record out = {.size = 0};
      wrong += !bursar_live_put(p, (struct bursar_record){.size = i % 50, .number = (uint32_t)(mine * 1000 + i + 1)});
      if (i % 3 == 0)
        wrong += !bursar_live_take(p, &out) || out.number != mine * 1000 + i + 1 || out.size != i % 50;
    }
  }
  return (void *)wrong;
}

static void count_one(const void *p, struct bursar_record record, void *context) { ++*(unsigned *)context; }

static void test_threads(void) {
  pthread_t threads[THREADS];
  uintptr_t wrong = 0;
  unsigned count = 0;
  pthread_barrier_init(&barrier, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, book_own, (void *)i) != 0)
      abort();
  for (unsigned i = 0; i < THREADS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    wrong += (uintptr_t)result;
  }
  EQ(wrong, 0);
  bursar_live_each(count_one, &count);
  EQ(count, THREADS * 24 * 133);
  bursar_live_drop();
}

int main(void) {
  if (!OK(bursar_live_init() == 0, "there is address space"))
    return tap_done();
  OK(bursar_live_init() == 0, "asked twice, it is the same");
  test_random();
  test_second_granule();
  test_drop();
  test_odd_churn();
  test_threads();
  return tap_done();
}
