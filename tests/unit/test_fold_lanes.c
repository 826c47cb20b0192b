/* Sites are folded while threads without the GIL end blocks of theirs: no byte is lost or counted twice. */
#include "account/fold.h"
#include "account/lock.h"
#include "tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "account/journal.h"
#include "account/stacks.h"
#include "account_model.h"
#include "report/model.h"

#define EVENTS 60000u
#define THREADS 3
#define SLOTS 64

/* As in test_lanes.c: lane GIL adds plainly to what the others read. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void); /* libtsan looks for it */
const char *__tsan_default_suppressions(void) { return "race:bursar_account_live\n"; }

static struct account_model books; /* only its file and its provider are used here */
static char *shared[SLOTS];
static bool stop;

static void *address(unsigned at) { return (char *)0x200000000000 + (uint64_t)at * 1024; }

static unsigned moved_meanwhile;

/* As pyext/anywhere.c does it: at once, or in two halves with something in between. */
static void end_block(void *p, bool in_halves, unsigned lingering) {
  struct bursar_record record;
  bursar_fold_hold_off();
  bool found = bursar_live_take(p, &record);
  uint32_t generation = bursar_fold_generation;
  if (in_halves) {
    bursar_fold_let_go();
    for (unsigned i = 0; i <= lingering; i++)
      sched_yield();
    bursar_fold_hold_off();
    record.number = bursar_fold_where(record.number, generation);
  }
  if (!found || !record.number)
    abort();
  generation = bursar_fold_generation;
  for (unsigned i = 0; i < lingering; i++)
    sched_yield();
  bursar_account_retire_free(p, record, bursar_account_domain(record.number));
  __atomic_fetch_add(&moved_meanwhile, generation != bursar_fold_generation, __ATOMIC_RELAXED);
  bursar_fold_let_go();
}

static void end_rest(void) {
  for (unsigned i = 0; i < SLOTS; i++)
    if (shared[i])
      end_block(shared[i], false, 0);
  memset(shared, 0, sizeof shared);
}

static void *without_gil(void *seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed + 1;
  unsigned ended = 0;
  while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
    char *p = __atomic_exchange_n(&shared[model_below(&random, SLOTS)], NULL, __ATOMIC_ACQ_REL);
    if (!p)
      continue;
    end_block(p, model_below(&random, 3) == 0, model_below(&random, 100) ? 0 : 50);
    ended++;
  }
  return (void *)(uintptr_t)ended;
}

/* Mostly stacks that were never seen, so that there is always something to fold. */
static uint32_t any_tag(uint64_t *random, const uint32_t *codes, unsigned domain) {
  uint32_t node = BURSAR_NODE_MAIN;
  bursar_lock_take();
  for (unsigned depth = 1 + (unsigned)model_below(random, 5); depth; depth--)
    node = bursar_stacks_node(node, codes[model_below(random, 8)], 1 + (unsigned)model_below(random, 50));
  uint32_t tag = bursar_stacks_site(node, domain);
  bursar_lock_give();
  return tag;
}

/* Until the first folding, or to the end. */
static void with_gil(uint64_t *random, bool first) {
  uint32_t codes[8];
  bursar_lock_take();
  for (unsigned i = 0; i < 8; i++) {
    char name[3] = {'f', (char)('A' + i), 0};
    codes[i] = bursar_stacks_code(bursar_stacks_string(name, 2), bursar_stacks_string("file.py", 7), 1);
  }
  bursar_lock_give();
  uint32_t generation = bursar_fold_generation;
  for (unsigned i = 0; i < EVENTS && !(first && generation != bursar_fold_generation); i++) {
    unsigned domain = (unsigned)model_below(random, BURSAR_DOMAIN_COUNT);
    char *p = address(i);
    model_book(p, 1 + model_below(random, 900), any_tag(random, codes, domain), domain);
    char **slot = &shared[model_below(random, SLOTS)];
    while (!first && i % 2 &&
           __atomic_load_n(slot, __ATOMIC_RELAXED)) /* every second block waits for somebody else to end it */
      sched_yield();
    char *other = __atomic_exchange_n(slot, p, __ATOMIC_ACQ_REL);
    if (other) {
      struct bursar_record record;
      if (!bursar_live_take(other, &record))
        abort();
      bursar_account_retire_gil(other, record, bursar_account_domain(record.number));
    }
    if (i % 300 == 0)
      (void)bursar_journal_tick(0);
  }
}

/* A block is taken out, its light site goes to another, and then its end is booked. */
static void test_lifted(void) {
  struct bursar_record record;
  uint64_t random = 3;
  uint32_t code = bursar_stacks_code(bursar_stacks_string("lone", 4), bursar_stacks_string("file.py", 7), 1);
  uint32_t caller = bursar_stacks_node(BURSAR_NODE_MAIN, code, 1), callers_site = bursar_stacks_site(caller, 0);
  char *p = address(EVENTS + 1);
  model_book(p, 1, bursar_stacks_site(bursar_stacks_node(caller, code, 2), 0), 0); /* of next to no weight */
  bursar_fold_hold_off();
  OK(bursar_live_take(p, &record), "taken out");
  record.generation = bursar_fold_generation;
  bursar_fold_let_go();
  with_gil(&random, true);
  EQ(bursar_fold_generation, record.generation + 1);
  uint32_t number = bursar_fold_where(record.number, record.generation);
  OK(number == callers_site >> BURSAR_CELL_SHIFT && number != record.number, "it is at its caller's site now");
  bursar_account_retire_free(p, (struct bursar_record){.size = record.size, .number = number}, 0);
  EQ(bursar_fold_where(record.number, record.generation - 1), 0);
}

static void check(uint64_t events) {
  struct bursar_model *model;
  struct bursar_error error;
  unsigned holding = 0;
  if (!OK(bursar_model_open(books.path, &model, &error) == 0, "it reads"))
    return;
  for (uint32_t i = 0; i < model->site_count; i++)
    holding += model->sites[i].live.bytes != 0 || model->sites[i].live.blocks != 0;
  EQ(holding, 0);
  EQ(model->live.bytes, 0);
  EQ(model->allocations, events);
  EQ(model->frees, events);
  EQ(model->reader->unmatched_bytes, 0);
  EQ(model->reader->note_count, 0);
  for (uint32_t i = 0; i < model->reader->note_count; i++)
    printf("# %s\n", model->reader->note[i]);
  bursar_model_free(model);
}

int main(void) {
  pthread_t threads[THREADS];
  uint64_t random = 7, ended = 0;
  account_model_open(&books, 1, 0);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, without_gil, (void *)i) != 0)
      abort();
  with_gil(&random, false);
  __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
  for (unsigned i = 0; i < THREADS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    ended += (uintptr_t)result;
  }
  end_rest();
  OK(ended > EVENTS / 100, "%llu blocks were ended without the GIL", (unsigned long long)ended);
  OK(bursar_fold_generation > 4, "sites moved %u times", bursar_fold_generation);
  EQ(moved_meanwhile, 0);
  EQ(bursar_account_live(), 0);
  bursar_account_stop(BURSAR_STATE_ENDED);
  check(EVENTS);
  account_model_remove(&books);

  account_model_open(&books, 1, 0);
  test_lifted();
  end_rest();
  uint64_t booked = bursar_account_totals().allocs;
  EQ(bursar_account_live(), 0);
  bursar_account_stop(BURSAR_STATE_ENDED);
  check(booked);
  account_model_remove(&books);
  return tap_done();
}
