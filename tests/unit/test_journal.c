/* The past: at each tick that the journal kept, the reader shows what every site held then. */
#include "account/journal.h"
#include "tap.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "account/stacks.h"
#include "account_model.h"

#define BLOCKS 600
#define TICKS 6000
#define SITES 200

static struct account_model model;
static struct model_places places;

/* A flag that no reader knows: the tick is then whole (it says what every site held), however soon after the last. */
#define NOW 0x100u

struct then {
  uint64_t time_ns, live, allocs;
  struct model_held held[MODEL_SITES];
};
static struct then *history; /* in order of time */
static unsigned ticks_made;

/* The tick that was made just now. */
static void remember(void) {
  const struct bursar_counts *counts = bursar_account.writer.counts;
  const struct bursar_tick *ticks = (const struct bursar_tick *)(void *)bursar_account.writer
                                        .base[counts->journal ? BURSAR_REGION_TICKS_B : BURSAR_REGION_TICKS_A];
  struct then *then = &history[ticks_made++];
  then->time_ns = ticks[counts->ticks[counts->journal] - 1].time_ns;
  then->live = model.live;
  then->allocs = model.allocs;
  for (unsigned i = 0; i < MODEL_SITES; i++)
    then->held[i] = (struct model_held){model.sites[i].alloc_bytes - model.sites[i].free_bytes,
                                        model.sites[i].allocs - model.sites[i].frees};
}

static const struct then *find(uint64_t time_ns) {
  for (unsigned i = 0; i < ticks_made; i++)
    if (history[i].time_ns == time_ns)
      return &history[i];
  return NULL;
}

/* Only the ticks that are asked for: those of the clock would be of instants that the model does not know. */
static void hold_clock(void) { bursar_account.writer.counts->tick_interval_ns = UINT64_MAX / 8; }

static void change(uint64_t *random, struct model_block *blocks, unsigned sites) {
  struct model_block *block = &blocks[model_below(random, BLOCKS)];
  if (block->p) {
    model_place_give(&places, block->p);
    account_model_free(&model, block);
    return;
  }
  /* A new site now and then: it held nothing at all ticks before. */
  unsigned domain = (unsigned)model_below(random, BURSAR_DOMAIN_COUNT);
  uint64_t size = model_below(random, 20) ? model_below(random, 400) : model_below(random, 200000);
  account_model_alloc(&model, block, model_place_take(&places, size), size,
                      model_site_tag((unsigned)model_below(random, sites), domain), domain);
}

/* A tick knows its totals; a whole one knows the sites too. */
static unsigned tick_differs(const struct bursar_model *books, uint32_t tick, struct bursar_held *held) {
  const struct bursar_model_tick *got = &books->ticks[tick];
  const struct then *then = find(got->time_ns);
  if (!then)
    return 1;
  unsigned wrong = got->live_bytes != then->live || got->allocations != then->allocs;
  if (wrong)
    printf("# tick %u: %llu bytes live, %llu allocations, should be %llu and %llu\n", tick,
           (unsigned long long)got->live_bytes, (unsigned long long)got->allocations, (unsigned long long)then->live,
           (unsigned long long)then->allocs);
  uint64_t time_ns = bursar_model_at(books, got->time_ns, held);
  if (!got->whole) /* the whole one before it is shown for it */
    return wrong + (time_ns > got->time_ns);
  wrong += time_ns != got->time_ns;
  for (uint32_t i = 0; i < books->site_count; i++) {
    const struct model_held *want = &then->held[books->sites[i].ledger];
    if (books->sites[i].outside || (held[i].bytes == want->bytes && held[i].blocks == want->blocks))
      continue;
    if (!wrong++)
      printf("# tick %u: site %u held %llu bytes, should be %llu\n", tick, books->sites[i].ledger,
             (unsigned long long)held[i].bytes, (unsigned long long)want->bytes);
  }
  return wrong;
}

struct expected {
  unsigned least, least_whole; /* ticks that the journal should have kept */
  const struct then *end;      /* NULL: none */
  bool lossy;                  /* more changes than there is room for */
};

static void check_ticks(const struct bursar_model *books, const struct expected *expected, struct bursar_held *held) {
  unsigned wrong = 0, wrong_ticks = 0, ends = 0, bad_high = 0, whole = 0;
  for (uint32_t i = 0; i < books->tick_count && wrong_ticks < 5; i++) {
    wrong = tick_differs(books, i, held);
    wrong_ticks += wrong != 0;
    ends += books->ticks[i].end;
    whole += books->ticks[i].whole;
    bad_high += books->ticks[i].high_bytes < books->ticks[i].live_bytes ||
                books->ticks[i].high_bytes > books->peak_bytes;
  }
  EQ(wrong_ticks, 0);
  EQ(bad_high, 0);
  OK(books->tick_count >= expected->least && books->tick_count <= BURSAR_TICKS_MAX && whole >= expected->least_whole,
     "%u of %u ticks are left, %u of them whole", books->tick_count, ticks_made, whole);
  if (expected->end)
    EQ(ends, 1);
}

static void check(uint64_t cap, const struct expected *expected) {
  struct bursar_model *books;
  struct bursar_error error;
  if (!OK(bursar_model_open(model.path, &books, &error) == 0, "it reads"))
    return;
  struct bursar_held *held = calloc(books->site_count + 1, sizeof *held);
  if (!held)
    abort();
  check_ticks(books, expected, held);
  EQ(books->history_lossy, expected->lossy);
  if (expected->end) {
    unsigned wrong = 0;
    for (uint32_t i = 0; i < books->site_count; i++)
      wrong += !books->sites[i].outside &&
               books->sites[i].live.bytes != expected->end->held[books->sites[i].ledger].bytes;
    EQ(books->live.bytes, expected->end->live);
    EQ(wrong, 0);
  }
  struct stat st;
  memset(&st, 0xff, sizeof st);
  (void)stat(model.path, &st);
  OK((uint64_t)st.st_size <= cap && (uint64_t)st.st_blocks * 512 <= cap, "the file is within its cap: %llu bytes",
     (unsigned long long)st.st_size);
  if (!expected->lossy)
    OK(bursar_model_at(books, 0, held) == 0 && held[0].bytes == 0, "before the first tick nothing is held");
  OK(bursar_model_at(books, UINT64_MAX, held) == books->run_ns, "after the last is the end");
  free(held);
  bursar_model_free(books);
}

struct plan {
  uint64_t seed, cap;
  unsigned ticks, per_tick, not_whole; /* one tick in so many is not asked to be whole; 0: none */
  bool with_end;
  struct expected expected;
};

static void run(struct plan plan) {
  static struct model_block blocks[BLOCKS];
  uint64_t random = plan.seed;
  memset(blocks, 0, sizeof blocks);
  memset(&places, 0, sizeof places);
  ticks_made = 0;
  account_model_open(&model, plan.cap, 0);
  remember(); /* of the start */
  for (unsigned i = 0; i < plan.ticks; i++) {
    hold_clock();
    for (uint64_t k = model_below(&random, 2 * plan.per_tick); k-- > 0;)
      change(&random, blocks, 1 + i * SITES / plan.ticks);
    hold_clock();
    if (plan.with_end && i == plan.ticks / 3) {
      bursar_account_phase(BURSAR_PHASE_EXIT);
      remember();
      plan.expected.end = plan.expected.lossy ? NULL : &history[ticks_made - 1];
    } else if (bursar_journal_tick(plan.not_whole && !model_below(&random, plan.not_whole) ? 0 : NOW)) {
      remember();
    }
  }
  account_model_stop(&model, BURSAR_STATE_ENDED);
  printf("# seed %llu, cap %llu\n", (unsigned long long)plan.seed, (unsigned long long)plan.cap);
  EQ(ticks_made, plan.ticks + 1);
  OK(account_model_differences(&model, !plan.with_end) == 0, "peak and totals to the byte, whatever the journal does");
  check(plan.cap ? plan.cap : BURSAR_CAP_DEFAULT, &plan.expected);
  account_model_remove(&model);
}

/* Nearly as many sites as a small ledger has room for change between each two ticks: of two such intervals it keeps one,
 * and that one whole. */
static void test_overwhelmed(void) {
  enum { MANY = 12000, ROUNDS = 12 };
  static uint32_t tags[MANY];
  static uint64_t size[MANY], at_tick[ROUNDS][MANY];
  uint64_t random = 9, live = 0, peak = 0, at_peak = 0;
  unsigned wrong = 0;
  account_model_open(&model, 1, 0);
  memset(size, 0, sizeof size);
  ticks_made = 0;
  remember();
  uint32_t code = bursar_stacks_code(bursar_stacks_string("f", 1), 0, 1);
  for (uint32_t i = 0; i < MANY; i++)
    tags[i] = bursar_stacks_site(bursar_stacks_node(BURSAR_NODE_MAIN, code, i + 1), 0);
  for (unsigned round = 0; round < ROUNDS; round++) {
    hold_clock();
    for (unsigned i = 0; i < MANY; i++) {
      char *p = (char *)0x100000000000 + i * 1024;
      if (size[i])
        model_unbook(p, 0);
      live -= size[i];
      size[i] = size[i] && model_below(&random, 2) ? 0 : 17 + model_below(&random, 900);
      if (size[i])
        model_book(p, size[i], tags[i], 0);
      live += size[i];
      peak = live > peak ? live : peak;
    }
    hold_clock();
    model.live = live;
    model.allocs = bursar_account_totals().allocs;
    wrong += bursar_journal_tick(NOW) == 0;
    remember();
    memcpy(at_tick[round], size, sizeof size);
  }
  EQ(wrong, 0);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  struct bursar_model *books;
  struct bursar_error error;
  if (!OK(bursar_model_open(model.path, &books, &error) == 0, "it reads"))
    return;
  EQ(books->history_lossy, 0);
  EQ(books->reader->note_count, 0);
  EQ(books->reader->unmatched_bytes, 0);
  EQ(books->live.bytes, live);
  for (uint32_t i = 0; i < books->site_count; i++)
    at_peak += books->sites[i].peak.bytes;
  EQ(books->peak_bytes, peak);
  EQ(at_peak, peak);
  for (uint32_t i = 0; i < books->tick_count; i++) {
    const struct then *then = find(books->ticks[i].time_ns);
    wrong += !then || then->live != books->ticks[i].live_bytes || then->allocs != books->ticks[i].allocations;
  }
  EQ(wrong, 0);
  struct bursar_held *held = calloc(books->site_count + 1, sizeof *held);
  if (!held)
    abort();
  unsigned whole = 0;
  for (uint32_t i = 1; i < books->tick_count; i++) {
    if (!books->ticks[i].whole)
      continue;
    const struct then *then = find(books->ticks[i].time_ns);
    if (!then || then == history) /* the start, or of the clock */
      continue;
    uint64_t time_ns = bursar_model_at(books, books->ticks[i].time_ns, held);
    wrong += time_ns != books->ticks[i].time_ns;
    for (uint32_t k = 0; k < books->site_count; k++) {
      uint32_t which = books->sites[k].ledger - ((tags[0] >> BURSAR_CELL_SHIFT) - 1);
      wrong += which < MANY && held[k].bytes != at_tick[then - history - 1][which];
    }
    whole++;
  }
  OK(whole > 0, "%u instants are known by site", whole);
  EQ(wrong, 0);
  uint64_t first = bursar_model_at(books, 0, held);
  OK(books->ticks[0].whole ? first == 0 : first > 0, "before the first of them that one is shown: %llu",
     (unsigned long long)first);
  free(held);
  bursar_model_free(books);
  account_model_remove(&model);
}

int main(void) {
  history = calloc(TICKS + 2, sizeof *history);
  if (!history)
    abort();
  run((struct plan){.seed = 1, .ticks = 300, .per_tick = 20, .expected = {.least = 301, .least_whole = 301}});
  run((struct plan){
      .seed = 2, .ticks = 900, .per_tick = 20, .not_whole = 3, .expected = {.least = 901, .least_whole = 300}});
  run((struct plan){
      .seed = 3, .ticks = TICKS, .per_tick = 10, .with_end = true, .expected = {.least = 400, .least_whole = 100}});
  run((struct plan){.seed = 4,
                    .ticks = 3000,
                    .per_tick = 60,
                    .not_whole = 2,
                    .with_end = true,
                    .expected = {.least = 400, .least_whole = 50}});
  run((struct plan){.seed = 5,
                    .cap = 4u << 20,
                    .ticks = 2000,
                    .per_tick = 3,
                    .with_end = true,
                    .expected = {.least = 400, .least_whole = 50}});
  run((struct plan){.seed = 6,
                    .cap = 4u << 20,
                    .ticks = 1500,
                    .per_tick = 100,
                    .with_end = true,
                    .expected = {.least = 400, .least_whole = 4}});
  test_overwhelmed();
  free(history);
  return tap_done();
}
