/* The account against plain sums: every figure of the ledger, read back, to the byte. */
#include "account_model.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>

#include "account/hot.h"
#include "account/journal.h"
#include "account/stacks.h"

#define BLOCKS 400

static struct account_model model;
static struct model_places places;

static uint64_t any_size(uint64_t *random) {
  static const uint64_t edges[] = {0, 1, 15, 16, 17, 18, 511, 512, 4095, 65535, 65536, 65553, 1u << 20};
  switch (model_below(random, 8)) {
    case 0: return edges[model_below(random, sizeof edges / sizeof *edges)];
    case 1: return model_below(random, 17);
    case 2: return model_below(random, 100000);
    default: return 17 + model_below(random, 500);
  }
}

struct play {
  uint64_t random;
  unsigned sites, threads;
  bool small; /* blocks of 16 bytes and less, which have no flags, among those that a switch of threads follows */
};

static void play_event(struct play *play, struct model_block *blocks, uint32_t tags[][BURSAR_DOMAIN_COUNT]) {
  uint64_t *random = &play->random;
  /* Often the block allocated last: those are the temporaries. */
  static unsigned last;
  unsigned at = model_below(random, 3) ? (unsigned)model_below(random, BLOCKS) : last;
  struct model_block *block = &blocks[at];
  unsigned domain = (unsigned)model_below(random, BURSAR_DOMAIN_COUNT);
  uint32_t tag = tags[model_below(random, play->sites)][domain];
  if (play->threads > 1 && !model_below(random, 5))
    account_model_switch(&model, (unsigned)model_below(random, play->threads));
  if (!block->p) {
    uint64_t size = any_size(random);
    account_model_alloc(&model, block, model_place_take(&places, size), size, tag, domain);
    last = at;
  } else if (model_below(random, 4)) {
    model_place_give(&places, block->p);
    account_model_free(&model, block);
  } else {
    uint64_t size = any_size(random);
    model_place_give(&places, block->p);
    account_model_realloc(&model, block, model_place_take(&places, size), size,
                          tags[model_below(random, play->sites)][block->domain]);
    last = at;
  }
}

static void play(uint64_t seed, unsigned events, unsigned threads, uint32_t within, bool free_all) {
  static struct model_block blocks[BLOCKS];
  static uint32_t tags[100][BURSAR_DOMAIN_COUNT];
  struct play play = {
      .random = seed * 0x9E3779B97F4A7C15ull + 1, .sites = 1 + (unsigned)(seed * 13 % 100), .threads = threads};
  memset(blocks, 0, sizeof blocks);
  memset(&places, 0, sizeof places);
  account_model_open(&model, 0, within);
  for (unsigned i = 0; i < play.sites; i++)
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      tags[i][domain] = model_site_tag(i, domain);
  unsigned wrong = 0;
  for (unsigned i = 0; i < events; i++) {
    play_event(&play, blocks, tags);
    wrong += (uint64_t)bursar_account_live() != model.live;
    if (!model_below(&play.random, 3000))
      (void)bursar_journal_tick(0);
  }
  for (unsigned i = 0; free_all && i < BLOCKS; i++)
    if (blocks[i].p)
      account_model_free(&model, &blocks[i]);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(wrong == 0, "seed %llu: the total was right at each event", (unsigned long long)seed);
  OK(account_model_differences(&model, true) == 0, "seed %llu, %u threads, within %u: all figures to the byte",
     (unsigned long long)seed, threads, within ? within : 1);
  account_model_remove(&model);
}

static void test_random(void) {
  for (uint64_t seed = 1; seed <= 10; seed++)
    play(seed, 20000, 1, 0, seed % 2);
  for (uint64_t seed = 11; seed <= 16; seed++)
    play(seed, 10000, MODEL_THREADS, 0, seed % 2);
  for (uint64_t seed = 17; seed <= 22; seed++)
    play(seed, 10000, MODEL_THREADS, 2 + (uint32_t)(seed - 17) * 7, seed % 2);
  play(23, 10000, MODEL_THREADS, 5000, true);
}

#define AT(n) ((void *)(uintptr_t)(0x10000000000 + (n) * 0x1000))

/* A peak in the middle, equalled and not exceeded later: the first holds. */
static void test_peak(void) {
  struct model_block a, b, c;
  account_model_open(&model, 0, 0);
  uint32_t one = model_site_tag(1, 0), two = model_site_tag(2, 1);
  account_model_alloc(&model, &a, AT(1), 1000, one, 0);
  account_model_alloc(&model, &b, AT(2), 500, two, 1);
  account_model_free(&model, &a);
  account_model_alloc(&model, &c, AT(3), 1000, two, 1);
  account_model_free(&model, &b);
  account_model_alloc(&model, &a, AT(1), 400, one, 0);
  account_model_free(&model, &c);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  EQ(model.peak, 1500);
  EQ(model.sites[(one >> BURSAR_CELL_SHIFT) - 1].peak.bytes, 1000);
  OK(account_model_differences(&model, true) == 0, "a peak that is equalled later stays the first");
  account_model_remove(&model);
}

/* Sizes around 2^32 are booked whole. */
static void test_huge(void) {
  static const uint64_t sizes[] = {UINT32_MAX - 1, UINT32_MAX, (uint64_t)UINT32_MAX + 1, (uint64_t)1 << 33,
                                   (uint64_t)1 << 35};
  struct model_block blocks[5];
  memset(&places, 0, sizeof places);
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 2);
  for (unsigned i = 0; i < 5; i++)
    account_model_alloc(&model, &blocks[i], model_place_take(&places, sizes[i]), sizes[i], tag, 2);
  for (unsigned i = 0; i < 4; i++)
    account_model_free(&model, &blocks[i]);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "blocks of 4 GiB and more");
  account_model_remove(&model);
}

/* Blocks that are not aligned to 16 bytes are kept beside the table. */
static void test_odd(void) {
  struct model_block blocks[200];
  uint64_t random = 7;
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 0);
  for (unsigned i = 0; i < 200; i++)
    account_model_alloc(&model, &blocks[i], (char *)AT(i) + 8, model_below(&random, 70000), tag, 0);
  for (unsigned i = 0; i < 200; i += 2)
    account_model_realloc(&model, &blocks[i], (char *)AT(i) + (i % 4 ? 8 : 16), 5, tag);
  for (unsigned i = 0; i < 200; i += 3)
    account_model_free(&model, &blocks[i]);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "blocks at odd addresses");
  account_model_remove(&model);
}

/* A free that was not seen: the address comes back, and the old block ends there. */
static void test_reused(void) {
  struct model_block block;
  account_model_open(&model, 0, 0);
  uint32_t one = model_site_tag(1, 0), two = model_site_tag(2, 1);
  for (unsigned round = 0; round < 3; round++) {
    uint64_t size = round == 0 ? 10 : round == 1 ? 100 : 100000;
    account_model_alloc(&model, &block, AT(round), size, one, 0);
    /* The sums free it, the account is not told. */
    struct model_site *site = &model.sites[block.site];
    site->free_bytes += size;
    site->frees++;
    site->temporaries++;
    model.temporaries++;
    model.frees++;
    model.live -= size;
    account_model_alloc(&model, &block, AT(round), round == 2 ? 5000 : 50, two, 1);
  }
  EQ(bursar_account.writer.counts->reused_blocks, 3);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "an address that comes back unfreed ends its old block");
  account_model_remove(&model);
}

/* The same a granule further on, where a small block had its size: no site may be made of that.  A large one is known by
 * its first multiple of 512. */
static void test_reused_inside(uint64_t size) {
  uint64_t odd = size <= BURSAR_SMALL_MAX ? 8 : 1000, even = size <= BURSAR_SMALL_MAX ? 40 : 2000000;
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 0);
  for (unsigned i = 0; i < 64; i++)
    model_book((char *)AT(i * 4096) + 16, size + i, tag, 0);
  struct bursar_tally before = bursar_account_totals();
  for (unsigned i = 0; i < 64; i++)
    model_book((char *)AT(i * 4096) + 32, i % 2 ? odd : even, tag, 0);
  struct bursar_tally after = bursar_account_totals();
  EQ(after.allocs - before.allocs, 64);
  EQ(after.alloc_bytes - before.alloc_bytes, 32 * (odd + even));
  EQ(after.frees - before.frees, 64);
  EQ(after.free_bytes - before.free_bytes, before.alloc_bytes);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  struct bursar_model *books;
  struct bursar_error error;
  if (OK(bursar_model_open(model.path, &books, &error) == 0, "it reads")) {
    EQ(books->reader->unmatched_bytes, 0);
    EQ(books->reader->note_count, 0);
    bursar_model_free(books);
  }
  account_model_remove(&model);
}

/* The realloc order: what is taken out before a call that fails is put back, and nothing was booked. */
static void test_failed_realloc(void) {
  struct model_block block;
  struct bursar_record old;
  account_model_open(&model, 0, 0);
  account_model_alloc(&model, &block, AT(1), 300, model_site_tag(1, 0), 0);
  OK(bursar_live_watch(AT(1)), "a block can be watched");
  OK(bursar_live_take(AT(1), &old) && old.size == 300 && old.watched, "taken out, with its mark");
  OK(bursar_live_put(AT(1), old), "put back");
  account_model_free(&model, &block);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "the books saw one block");
  account_model_remove(&model);
}

/* Temporaries by hand: which free is one is easy to get wrong in both the model and the account. */
static void test_temporaries(void) {
  struct model_block a, b;
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 0);
  struct model_site *site = &model.sites[(tag >> BURSAR_CELL_SHIFT) - 1];
  account_model_alloc(&model, &a, AT(1), 100, tag, 0);
  account_model_free(&model, &a); /* yes */
  account_model_alloc(&model, &a, AT(1), 100, tag, 0);
  account_model_alloc(&model, &b, AT(2), 100, tag, 0);
  account_model_free(&model, &a); /* no */
  account_model_switch(&model, 1);
  account_model_alloc(&model, &a, AT(1), 8, tag, 0);
  account_model_switch(&model, 2);
  account_model_free(&model, &b); /* yes: thread 0 allocated nothing since */
  account_model_switch(&model, 0);
  account_model_free(&model, &a); /* yes */
  EQ(site->temporaries, 3);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "temporaries by thread");
  account_model_remove(&model);
}

static void test_marks(void) {
  struct model_block blocks[64];
  uint64_t random = 99, greatest[40];
  int marks[40];
  unsigned wrong = 0;
  memset(&places, 0, sizeof places);
  memset(blocks, 0, sizeof blocks);
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 0);
  for (unsigned i = 0; i < 40; i++)
    marks[i] = -1;
  for (unsigned i = 0; i < 20000; i++) {
    struct model_block *block = &blocks[model_below(&random, 64)];
    if (block->p) {
      model_place_give(&places, block->p);
      account_model_free(&model, block);
    } else {
      uint64_t size = any_size(&random);
      account_model_alloc(&model, block, model_place_take(&places, size), size, tag, 0);
    }
    for (unsigned k = 0; k < 40; k++)
      if (marks[k] >= 0 && model.live > greatest[k])
        greatest[k] = model.live;
    if (model_below(&random, 20))
      continue;
    unsigned k = (unsigned)model_below(&random, 40);
    if (marks[k] < 0) {
      greatest[k] = model.live;
      marks[k] = bursar_account_mark();
    } else {
      int64_t got = bursar_account_unmark(marks[k]);
      wrong += (uint64_t)got != greatest[k];
      marks[k] = -1;
    }
  }
  EQ(wrong, 0);
  unsigned open = 0;
  while (bursar_account_mark() >= 0)
    open++;
  for (unsigned k = 0; k < 40; k++)
    open += marks[k] >= 0;
  EQ(open, 32);
  EQ(bursar_account_unmark(-1), -1);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, true) == 0, "marks leave the peak as it is");
  account_model_remove(&model);
}

/* The end is when __main__ finished: what is booked afterwards is not in it, and does not hide it. */
static void test_end(void) {
  struct model_block a, b, c;
  account_model_open(&model, 0, 0);
  uint32_t one = model_site_tag(1, 0), two = model_site_tag(2, 2);
  account_model_alloc(&model, &a, AT(1), 700, one, 0);
  account_model_alloc(&model, &b, AT(2), 30, two, 2);
  unsigned moved = model_calls.moved;
  bursar_account_phase(BURSAR_PHASE_EXIT);
  EQ(model_calls.moved, moved + 1);
  EQ(bursar_account.root, BURSAR_NODE_EXIT);
  account_model_free(&model, &a);
  account_model_alloc(&model, &c, AT(3), 100000, two, 2);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  OK(account_model_differences(&model, false) == 0, "what happened after the end is booked");
  struct bursar_model *books;
  struct bursar_error error;
  if (OK(bursar_model_open(model.path, &books, &error) == 0, "it reads")) {
    EQ(books->live.bytes, 730);
    EQ(books->live.blocks, 2);
    EQ(books->peak_bytes, 100030);
    for (uint32_t i = 0; i < books->site_count; i++)
      if (books->sites[i].domain == 2)
        EQ(books->sites[i].live.bytes, 30);
      else
        OK(books->sites[i].live.bytes == 700 && books->sites[i].leak, "the leak is one");
    bursar_model_free(books);
  }
  account_model_remove(&model);
}

/* Closed books do not change, open ones can be opened again elsewhere. */
static void test_again(void) {
  struct model_block a, b;
  struct bursar_error error;
  struct account_model other;
  account_model_open(&model, 0, 0);
  uint32_t tag = model_site_tag(1, 0);
  account_model_alloc(&model, &a, AT(1), 4000, tag, 0);
  struct bursar_settings settings = {.path = model.path};
  EQ(bursar_account_start(&settings, &bursar_account.provider, &error), BURSAR_MISUSE);
  account_model_stop(&model, BURSAR_STATE_STOPPED);
  struct bursar_books closed = *BURSAR_BOOKS;
  OK(bursar_hot_free(AT(1), 0) || (bursar_account_free_gil(AT(1), 0), true),
     "a free of what was booked passes "
     "through");
  bursar_account_alloc_gil(AT(2), 100, tag, 0);
  bursar_account_alloc_free(AT(3), 100, 1, 0, 0);
  bursar_account_phase(BURSAR_PHASE_EXIT);
  bursar_account_stop(BURSAR_STATE_ENDED);
  OK(memcmp(&closed, BURSAR_BOOKS, sizeof closed) == 0, "closed books do not change");
  OK(account_model_differences(&model, true) == 0, "and read as they were");
  account_model_open(&other, 0, 0);
  tag = model_site_tag(3, 1);
  account_model_alloc(&other, &b, AT(1), 77, tag, 1);
  account_model_alloc(&other, &a, AT(9), 7, tag, 1);
  account_model_free(&other, &b);
  account_model_stop(&other, BURSAR_STATE_ENDED);
  OK(account_model_differences(&other, true) == 0, "the next books begin empty");
  OK(account_model_differences(&model, true) == 0, "and leave the first alone");
  account_model_remove(&model);
  account_model_remove(&other);
}

/* errno is the program's, whatever the account does on the way. */
static void test_errno(void) {
  struct model_block block;
  unsigned wrong = 0;
  account_model_open(&model, 0, 0);
  for (unsigned i = 0; i < 6000; i++) {
    uint64_t size = i % 7 ? i % 600 : 200000;
    errno = 12345;
    uint32_t tag = model_site_tag(i % 900 / 3, i % 3);
    wrong += errno != 12345;
    account_model_alloc(&model, &block, AT(i * 8), size, tag, i % 3);
    wrong += errno != 12345;
    account_model_switch(&model, i % MODEL_THREADS);
    (void)bursar_live_watch(AT(i * 8));
    if (i % 3)
      account_model_free(&model, &block);
    wrong += errno != 12345;
    (void)bursar_account_unmark(bursar_account_mark());
    if (i % 10 == 0)
      (void)bursar_journal_tick(0);
    wrong += errno != 12345;
  }
  bursar_account_phase(BURSAR_PHASE_EXIT);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  wrong += errno != 12345;
  EQ(wrong, 0);
  account_model_remove(&model);
}

int main(void) {
  test_peak();
  test_huge();
  test_odd();
  test_reused();
  test_reused_inside(32);
  test_reused_inside(1000);
  test_reused_inside(10000000);
  test_failed_realloc();
  test_temporaries();
  test_marks();
  test_end();
  test_again();
  test_errno();
  test_random();
  return tap_done();
}
