/* A ledger that is full: rare stacks go to their callers', what is of weight stays, and no byte is lost. */
#include "account/fold.h"
#include "tap.h"

#include <stdlib.h>

#include "account/journal.h"
#include "account/stacks.h"
#include "account_model.h"

#define TOPS 8 /* outermost frames: nothing is folded beyond them */
#define CODES 24
#define HEAVY 12
#define BLOCKS 3000
#define DEPTH 6

static struct account_model books; /* only its file and its provider are used here */

struct sums {
  uint64_t alloc_bytes, allocs, free_bytes, frees, temporaries;
  struct model_held peak;
};
static struct sums sums[TOPS][BURSAR_DOMAIN_COUNT];
static uint64_t live, peak, total_allocs;

/* What was held below each outermost frame at the ticks. */
#define TICKS 512
static struct then {
  uint64_t serial, held[TOPS][BURSAR_DOMAIN_COUNT];
} then[TICKS];
static unsigned then_count;

struct path {
  unsigned depth;
  struct {
    unsigned code, line;
  } frame[DEPTH];
};

struct block {
  char *p;
  uint64_t size, serial;
  unsigned top, domain;
};
static struct block blocks[BLOCKS + HEAVY];
static uint32_t codes[CODES];

static uint32_t tag_of(const struct path *path, unsigned domain) {
  uint32_t node = BURSAR_NODE_MAIN;
  for (unsigned i = 0; i < path->depth; i++)
    node = bursar_stacks_node(node, codes[path->frame[i].code], path->frame[i].line);
  return bursar_stacks_site(node, domain);
}

static void any_path(uint64_t *random, struct path *path) {
  path->depth = 1 + (unsigned)model_below(random, DEPTH);
  for (unsigned i = 0; i < path->depth; i++) {
    path->frame[i].code = (unsigned)model_below(random, i ? CODES : TOPS);
    path->frame[i].line = i ? 1 + (unsigned)model_below(random, 40) : 7;
  }
}

static void book(struct block *block, unsigned at, const struct path *path, uint64_t size, unsigned domain) {
  char *p = (char *)0x100000000000 + (uint64_t)at * (16u << 20) + (at % 9 ? 0 : 8);
  struct sums *sum = &sums[path->frame[0].code][domain];
  *block = (struct block){p, size, ++total_allocs, path->frame[0].code, domain};
  model_book(p, size, tag_of(path, domain), domain);
  sum->alloc_bytes += size;
  sum->allocs++;
  live += size;
  if (live <= peak)
    return;
  peak = live;
  for (unsigned i = 0; i < TOPS; i++)
    for (unsigned d = 0; d < BURSAR_DOMAIN_COUNT; d++)
      sums[i][d].peak =
          (struct model_held){sums[i][d].alloc_bytes - sums[i][d].free_bytes, sums[i][d].allocs - sums[i][d].frees};
}

static void unbook(struct block *block) {
  struct sums *sum = &sums[block->top][block->domain];
  model_unbook(block->p, block->domain);
  sum->free_bytes += block->size;
  sum->frees++;
  sum->temporaries += block->serial == total_allocs;
  live -= block->size;
  block->p = NULL;
}

/* The outermost frame's number, by the name of its function; TOPS where there is none. */
static unsigned top_of(const struct bursar_model *model, uint32_t node) {
  while (model->nodes[node].parent >= BURSAR_NODE_FIRST)
    node = model->nodes[node].parent;
  struct bursar_text name = bursar_model_function(model, node);
  return node >= BURSAR_NODE_FIRST && name.length == 2 && model->nodes[node].parent == BURSAR_NODE_MAIN
             ? (unsigned)name.bytes[1] - 'A'
             : TOPS;
}

static bool is_path(const struct bursar_model *model, uint32_t node, const struct path *path) {
  unsigned i = path->depth;
  for (; i > 0 && node >= BURSAR_NODE_FIRST; node = model->nodes[node].parent) {
    i--;
    struct bursar_text name = bursar_model_function(model, node);
    if (name.length != 2 || (unsigned)name.bytes[1] - 'A' != path->frame[i].code ||
        model->nodes[node].line != path->frame[i].line)
      return false;
  }
  return i == 0 && node == BURSAR_NODE_MAIN;
}

static void check_sums(const struct bursar_model *model) {
  struct sums got[TOPS + 1][BURSAR_DOMAIN_COUNT];
  uint64_t at_peak = 0, end = 0;
  unsigned wrong = 0, backward = 0;
  memset(got, 0, sizeof got);
  for (uint32_t i = 0; i < model->site_count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    struct sums *sum = &got[top_of(model, site->node)][site->domain];
    sum->alloc_bytes += site->allocated_bytes;
    sum->allocs += site->allocations;
    sum->free_bytes += site->allocated_bytes - site->live.bytes;
    sum->frees += site->frees;
    sum->temporaries += site->temporaries;
    sum->peak.bytes += site->peak.bytes;
    sum->peak.blocks += site->peak.blocks;
    at_peak += site->peak.bytes;
    end += site->live.bytes;
  }
  for (unsigned i = 0; i < TOPS; i++)
    wrong += memcmp(got[i], sums[i], sizeof got[i]) != 0;
  EQ(wrong, 0);
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    EQ(got[TOPS][domain].allocs, 0);
  EQ(model->peak_bytes, peak);
  EQ(at_peak, peak);
  EQ(model->peak_error_bytes, 0);
  EQ(end, live);
  EQ(model->allocations, total_allocs);
  for (uint32_t i = BURSAR_NODE_FIRST; i < model->node_count; i++)
    backward += model->nodes[i].parent >= i;
  EQ(backward, 0);
  EQ(model->reader->unmatched_bytes, 0);
  EQ(model->reader->note_count, 0);
  for (uint32_t i = 0; i < model->reader->note_count; i++)
    printf("# %s\n", model->reader->note[i]);
}

static void make_tick(void) {
  struct then *now = &then[then_count++ % TICKS];
  now->serial = bursar_journal_tick(BURSAR_TICK_END); /* a whole one, however soon */
  for (unsigned i = 0; i < TOPS; i++)
    for (unsigned d = 0; d < BURSAR_DOMAIN_COUNT; d++)
      now->held[i][d] = sums[i][d].alloc_bytes - sums[i][d].free_bytes;
}

/* Whole ticks of the journal after folding: what folded sites held is part of what their callers' held then. */
static void check_past(struct bursar_model *model, unsigned least) {
  struct bursar_held *held = calloc(model->site_count + 1, sizeof *held);
  unsigned right = 0, wrong = 0, resting = 0;
  if (!held)
    abort();
  for (uint32_t tick = 0; tick < model->tick_count; tick++) {
    uint64_t got[TOPS + 1][BURSAR_DOMAIN_COUNT] = {{0}}, serial = model->reader->tick[tick].serial;
    /* A rest's tick is dated back to when it began, which may be the tick before: that time then shows the rest. */
    bool rested = tick + 1 < model->tick_count && model->ticks[tick + 1].time_ns == model->ticks[tick].time_ns;
    resting += rested;
    if (!model->ticks[tick].whole || rested)
      continue;
    (void)bursar_model_at(model, model->ticks[tick].time_ns, held);
    for (uint32_t i = 0; i < model->site_count; i++)
      got[top_of(model, model->sites[i].node)][model->sites[i].domain] += held[i].bytes;
    for (unsigned i = 0; i < TICKS && i < then_count; i++)
      if (then[i].serial == serial) {
        bool same = memcmp(got, then[i].held, sizeof then[i].held) == 0;
        right += same;
        wrong += !same;
      }
  }
  if (!OK(right >= least / 2 && right + resting >= least && (wrong == 0 || model->history_lossy),
          "the past holds at %u instants of %u", right, model->tick_count))
    printf("# at %u instants it does not; lossy: %d\n", wrong, model->history_lossy);
  free(held);
}

static void check(const struct path *heavy, uint64_t heavy_size, bool folded, unsigned instants) {
  struct bursar_model *model;
  struct bursar_error error;
  if (!OK(bursar_model_open(books.path, &model, &error) == 0, "it reads"))
    return;
  check_sums(model);
  check_past(model, instants);
  OK((model->folded_sites > 0) == folded, "%llu sites were folded", (unsigned long long)model->folded_sites);
  for (unsigned i = 0; i < HEAVY; i++) {
    bool found = false;
    for (uint32_t k = 0; k < model->site_count && !found; k++)
      found = model->sites[k].domain == i % BURSAR_DOMAIN_COUNT && model->sites[k].live.bytes >= heavy_size &&
              is_path(model, model->sites[k].node, &heavy[i]);
    OK(found || !heavy_size, "what holds much keeps its own stack");
  }
  bursar_model_free(model);
}

static void begin(uint64_t cap) {
  memset(sums, 0, sizeof sums);
  memset(blocks, 0, sizeof blocks);
  live = peak = total_allocs = then_count = 0;
  account_model_open(&books, cap, 0);
  for (unsigned i = 0; i < CODES; i++) {
    char name[3] = {'f', (char)('A' + i), 0};
    codes[i] = bursar_stacks_code(bursar_stacks_string(name, 2), bursar_stacks_string("file.py", 7), 1);
  }
  /* The outermost frames have their sites from the start. */
  for (unsigned i = 0; i < TOPS; i++)
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      (void)tag_of(&(struct path){.depth = 1, .frame = {{i, 7}}}, domain);
}

/* `folded`: whether so many events are more than the cap has room for; `instants`: of how many, at least, the past is known. */
static void play(uint64_t seed, uint64_t cap, unsigned events, bool folded, unsigned instants) {
  struct path heavy[HEAVY];
  uint64_t random = seed;
  unsigned changed = 0;
  printf("# seed %llu\n", (unsigned long long)seed);
  begin(cap);
  for (unsigned i = 0; i < HEAVY; i++) {
    any_path(&random, &heavy[i]);
    heavy[i].depth = heavy[i].depth < 3 ? 3 : heavy[i].depth;
    for (unsigned k = 1; k < heavy[i].depth; k++)
      heavy[i].frame[k].code = i, heavy[i].frame[k].line = 1 + k;
    book(&blocks[BLOCKS + i], BLOCKS + i, &heavy[i], 1000000, i % BURSAR_DOMAIN_COUNT);
  }
  for (unsigned i = 0; i < events; i++) {
    unsigned at = (unsigned)model_below(&random, BLOCKS), moved = model_calls.moved;
    if (blocks[at].p) {
      unbook(&blocks[at]);
    } else {
      struct path path;
      any_path(&random, &path);
      book(&blocks[at], at, &path, model_below(&random, 900), (unsigned)model_below(&random, BURSAR_DOMAIN_COUNT));
    }
    changed += model_calls.moved != moved;
    if (i % 400 == 0)
      make_tick();
  }
  EQ(model_calls.warned, 0);
  OK((changed > 0) == folded, "cached stacks had to be looked up again %u times", changed);
  EQ((uint64_t)bursar_account_live(), live);
  bursar_account_stop(BURSAR_STATE_ENDED);
  check(heavy, 1000000, folded, instants);
  account_model_remove(&books);
}

/* All is freed after all that folding, each block at the site that it is charged to now. */
static void free_all(uint64_t seed) {
  uint64_t random = seed;
  struct path path;
  begin(1);
  for (unsigned i = 0; i < 40000; i++) {
    unsigned at = (unsigned)model_below(&random, BLOCKS);
    if (blocks[at].p)
      unbook(&blocks[at]);
    any_path(&random, &path);
    book(&blocks[at], at, &path, model_below(&random, 9000), (unsigned)model_below(&random, BURSAR_DOMAIN_COUNT));
    if (i % 500 == 0)
      (void)bursar_journal_tick(0);
  }
  for (unsigned i = 0; i < BLOCKS; i++)
    if (blocks[i].p)
      unbook(&blocks[i]);
  EQ(live, 0);
  EQ(bursar_account_live(), 0);
  bursar_account_stop(BURSAR_STATE_ENDED);
  struct bursar_model *model;
  struct bursar_error error;
  if (OK(bursar_model_open(books.path, &model, &error) == 0, "it reads")) {
    unsigned holding = 0;
    for (uint32_t i = 0; i < model->site_count; i++)
      holding += model->sites[i].live.bytes != 0 || model->sites[i].live.blocks != 0;
    EQ(holding, 0);
    check_sums(model);
    bursar_model_free(model);
  }
  account_model_remove(&books);
}

/* The books after full ones fold as readily as those. */
static void test_again(void) {
  unsigned moved[2];
  for (unsigned round = 0; round < 2; round++) {
    uint64_t random = 77;
    struct path path;
    begin(1);
    for (unsigned i = 0; i < 30000; i++) {
      struct block block;
      any_path(&random, &path);
      book(&block, i % 50, &path, 100, 0);
      unbook(&block);
      if (i % 200 == 0)
        (void)bursar_journal_tick(0);
    }
    moved[round] = model_calls.moved;
    bursar_account_stop(BURSAR_STATE_ENDED);
    account_model_remove(&books);
  }
  EQ(moved[1], moved[0]);
}

/* Where a first fold made little room there is another one after so many events, however rare whole ticks have become (after
 * half an hour one comes every few minutes). */
static void test_patience(void) {
  struct block block;
  uint64_t random = 5;
  unsigned moved = 0;
  begin(1);
  for (unsigned i = 0; i < 11000; i++) { /* outermost lines, which are not folded */
    book(&block, 0, &(struct path){.depth = 1, .frame = {{i % TOPS, 8 + i / TOPS}}}, 100, 0);
    unbook(&block);
  }
  for (unsigned round = 0; round < 3; round++) {
    moved = model_calls.moved;
    for (unsigned i = 0; i < 12000; i++) {
      struct path path;
      any_path(&random, &path);
      book(&block, 0, &path, 100, 0);
      unbook(&block);
      if (i % 100 == 0)
        (void)bursar_journal_tick(0);
    }
    for (unsigned i = 0; i < 600000; i++) {
      book(&block, 0, &(struct path){.depth = 1, .frame = {{0, 8}}}, 100, 0);
      unbook(&block);
      if (i % 1000 == 0)
        (void)bursar_journal_tick(0);
    }
    OK(model_calls.moved > moved, "round %u: full, and folded", round);
  }
  bursar_account_stop(BURSAR_STATE_ENDED);
  account_model_remove(&books);
}

int main(void) {
  test_patience();
  play(1, 0, 20000, false, 50);
  play(2, 1, 60000, true, 2); /* the smallest ledger has room for three to five of these, by when they come */
  play(3, 4u << 20, 60000, true, 1);
  play(5, 0, 200000, true, 100);
  free_all(4);
  test_again();
  return tap_done();
}
