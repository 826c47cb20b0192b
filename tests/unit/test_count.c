/* Mode count against plain sums: what is live exactly, peaks within the error that is told. */
#include "account/count.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "account_model.h"
#include "ledger/tallies.h"
#include "report/model.h"

static struct account_model books;

struct sums {
  int64_t live[BURSAR_DOMAIN_COUNT], peak[BURSAR_DOMAIN_COUNT], total, total_peak;
};

static void change(struct sums *sums, unsigned domain, int64_t bytes) {
  sums->live[domain] += bytes;
  sums->total += bytes;
  if (sums->live[domain] > sums->peak[domain])
    sums->peak[domain] = sums->live[domain];
  if (sums->total > sums->total_peak)
    sums->total_peak = sums->total;
}

static struct bursar_model *read_back(void) {
  struct bursar_model *model = NULL;
  struct bursar_error error;
  if (bursar_model_open(books.path, &model, &error) != 0) {
    printf("# %s\n", error.text);
    abort();
  }
  return model;
}

static bool is_short(uint64_t told, int64_t peak) {
  return (int64_t)told <= peak && peak - (int64_t)told <= BURSAR_TALLIES_APART;
}

/* Sizes from bytes to megabytes, so that peaks come between two looks at them, and at one. */
static void test_one_thread(bool killed) {
  static struct {
    uint32_t size, domain;
  } slots[5000];
  struct sums sums = {0};
  uint64_t seed = killed ? 5 : 4, events = 0;
  unsigned differences = 0;
  memset(slots, 0, sizeof slots);
  account_model_open_counting(&books);
  for (unsigned i = 0; i < 2000000; i++) {
    unsigned at = (unsigned)model_below(&seed, 5000);
    if (slots[at].size) {
      change(&sums, slots[at].domain, -(int64_t)slots[at].size);
      bursar_count_end(slots[at].size, slots[at].domain);
      slots[at].size = 0;
    }
    if (model_below(&seed, 5) == 0)
      continue; /* so that the number of blocks goes up and down */
    slots[at].domain = (uint32_t)model_below(&seed, BURSAR_DOMAIN_COUNT);
    slots[at].size = 16 + (uint32_t)model_below(&seed, model_below(&seed, 100) ? 500 : 3000000);
    change(&sums, slots[at].domain, slots[at].size);
    if (bursar_count_begin(slots[at].size, slots[at].domain))
      bursar_count_look();
    events++;
    if (i % 100000 == 0)
      differences += bursar_account_live() != sums.total;
  }
  EQ(differences, 0);
  if (!killed)
    account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  EQ(model->live.bytes, sums.total);
  EQ(model->allocations, events);
  EQ(model->peak_error_bytes, BURSAR_TALLIES_APART);
  OK(is_short(model->peak_bytes, sums.total_peak), "the peak is %lld short",
     (long long)(sums.total_peak - (int64_t)model->peak_bytes));
  EQ(model->live_error_bytes, 0);
  int64_t parts = 0;
  unsigned unequal = 0;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    parts += (int64_t)model->peak_by_domain[domain];
    unequal += model->live_by_domain[domain] != (uint64_t)sums.live[domain];
    unequal += !is_short(model->reader->books.domain_peak[domain], sums.peak[domain]);
  }
  EQ(unequal, 0);
  EQ(parts, model->peak_bytes);
  EQ(model->reader->note_count, 0);
  OK(model->tick_count > 1, "there are points in time");
  bursar_model_free(model);
  if (killed)
    account_model_stop(&books, BURSAR_STATE_ENDED);
  account_model_remove(&books);
}

/* --- threads ------------------------------------------------------------------------------------------------------------ */

#define THREADS 8
#define EACH 200000u

static pthread_barrier_t together;

/* All hold 10 MiB at once; what one begins another ends. */
static void *work(void *argument) {
  for (unsigned i = 0; i < 10240; i++)
    (void)bursar_count_begin(1024, BURSAR_DOMAIN_MALLOC);
  pthread_barrier_wait(&together);
  for (unsigned i = 0; i < EACH; i++) {
    bursar_count_end(1024, BURSAR_DOMAIN_MALLOC);
    (void)bursar_count_begin(1024, BURSAR_DOMAIN_MALLOC);
  }
  pthread_barrier_wait(&together);
  for (unsigned i = 0; i < 10240 && argument; i++) /* the others' blocks too, and then some are left */
    bursar_count_end(2048, BURSAR_DOMAIN_MALLOC);
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  account_model_open_counting(&books);
  pthread_barrier_init(&together, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)(i % 2)) != 0)
      abort();
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  EQ(bursar_account_live(), 0);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  EQ(model->live.bytes, 0);
  EQ(model->allocations, THREADS * (10240 + EACH));
  int64_t off = (int64_t)model->peak_bytes - THREADS * 10240 * 1024;
  OK(off <= (int64_t)model->peak_error_bytes && off >= -(int64_t)model->peak_error_bytes,
     "the peak is within its error: %lld of %llu bytes", (long long)off, (unsigned long long)model->peak_error_bytes);
  OK(model->peak_error_bytes > 0 && model->peak_error_bytes <= THREADS * BURSAR_TALLIES_APART, "which is small");
  bursar_model_free(model);
  account_model_remove(&books);
}

/* --- whose blocks ------------------------------------------------------------------------------------------------------- */

static void test_granules(void) {
  char *arena = (char *)0x300000000000 - (4 << 14); /* across the end of a leaf */
  account_model_open_counting(&books);
  EQ(bursar_count_owner(arena), BURSAR_COUNT_BEFORE);
  OK(bursar_count_mark_pools(arena - 4096, (8 << 14) + 8192), "pools are marked");
  EQ(bursar_count_owner(arena), BURSAR_COUNT_POOL);
  EQ(bursar_count_owner(arena + (8 << 14) - 1), BURSAR_COUNT_POOL);
  EQ(bursar_count_owner(arena + (8 << 14)), BURSAR_COUNT_BEFORE);
  EQ(bursar_count_owner(arena - 1), BURSAR_COUNT_BEFORE);
  OK(bursar_count_mark(arena + (8 << 14), BURSAR_COUNT_MALLOC), "what is behind is malloc's");
  bursar_count_unmark(arena, 9 << 14);
  EQ(bursar_count_owner(arena + (7 << 14)), BURSAR_COUNT_BEFORE);
  EQ(bursar_count_owner(arena + (8 << 14)), BURSAR_COUNT_MALLOC); /* no pool: an arena's end is not its */
  account_model_stop(&books, BURSAR_STATE_ENDED);
  account_model_remove(&books);
  bursar_count_forget();
  EQ(bursar_count_owner(arena + (8 << 14)), BURSAR_COUNT_BEFORE);
}

/* What was freed beyond what was allocated is told, and never makes a figure negative. */
static void test_blocks_from_before(void) {
  account_model_open_counting(&books);
  (void)bursar_count_begin(1000, BURSAR_DOMAIN_OBJ);
  bursar_count_end(5000, BURSAR_DOMAIN_OBJ);
  (void)bursar_count_begin(700, BURSAR_DOMAIN_RAW);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  EQ(model->live_by_domain[BURSAR_DOMAIN_OBJ], 0);
  EQ(model->live_by_domain[BURSAR_DOMAIN_RAW], 700);
  EQ(model->reader->freed_before, 4000);
  EQ(model->reader->note_count, 0);
  bursar_model_free(model);
  account_model_remove(&books);
}

int main(void) {
  test_one_thread(false);
  test_one_thread(true);
  test_threads();
  test_granules();
  test_blocks_from_before();
  return tap_done();
}
