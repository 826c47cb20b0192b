/* Sampling: estimates without bias whose errors are what they say, exact counts beside them, and books that hold together. */
#include "account/sample.h"
#include "tap.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "account/fold.h"
#include "account/stacks.h"
#include "account_model.h"
#include "report/model.h"

/* |z| of a normal variable is above this once in a million. */
#define Z_MILLIONTH 4.8916

static struct account_model books;

static void *address(uint64_t at) { return (char *)0x200000000000 + at * 4096; }

/* Sizes as programs have them: mostly small, some pages, a few above the interval, and some of no bytes. */
static uint64_t some_size(uint64_t *seed) {
  uint64_t dice = model_below(seed, 1000);
  if (dice < 5)
    return 0;
  if (dice < 900)
    return 1 + model_below(seed, 512);
  if (dice < 990)
    return 513 + model_below(seed, 20000);
  return 20000 + model_below(seed, 2000000); /* up to four times the interval */
}

static void allocate(void *p, uint64_t size, uint32_t tag, unsigned domain) {
  if (!bursar_sample_alloc(size, domain))
    return;
  bursar_sample_end(p, true);
  bursar_sample_book_gil(p, size, tag, domain);
}

static void release(void *p) {
  if (bursar_sample_may_hold(p))
    bursar_sample_end(p, true);
}

/* --- the books of a known program ---------------------------------------------------------------------------------------- */

#define SITES 40
#define SLOTS 4096

struct truth {
  double live_bytes, live_blocks, allocated, allocs;
};

/* Sums of (estimate - truth) over runs, and of the variances that the ledger tells: their ratio is a z. */
struct sums {
  double off, variance;
};

static void note(struct sums *sums, double estimate, double truth, double error) {
  sums->off += estimate - truth;
  sums->variance += error * error;
}

static double z(const struct sums *sums) { return sums->off / sqrt(sums->variance); }

struct coverage {
  unsigned inside, all;
};

static void cover(struct coverage *coverage, double estimate, double truth, double error) {
  coverage->all++;
  coverage->inside += fabs(estimate - truth) <= 1.959964 * error;
}

static uint64_t run_known(uint64_t seed, uint64_t events, struct truth truths[SITES]) {
  static struct {
    uint64_t size;
    uint32_t site;
    bool held;
  } slots[SLOTS];
  uint32_t tags[SITES];
  uint64_t bytes = 0;
  memset(slots, 0, sizeof slots);
  memset(truths, 0, SITES * sizeof *truths);
  for (unsigned i = 0; i < SITES; i++)
    tags[i] = model_site_tag(i, BURSAR_DOMAIN_OBJ);
  for (uint64_t event = 0; event < events; event++) {
    uint64_t at = model_below(&seed, SLOTS), site = model_below(&seed, SITES);
    if (slots[at].held) {
      release(address(at));
      truths[slots[at].site].live_bytes -= (double)slots[at].size;
      truths[slots[at].site].live_blocks -= slots[at].size != 0;
    }
    uint64_t size = some_size(&seed);
    allocate(address(at), size, tags[site], BURSAR_DOMAIN_OBJ);
    slots[at].held = true;
    slots[at].size = size;
    slots[at].site = (uint32_t)site;
    truths[site].live_bytes += (double)size;
    truths[site].live_blocks += size != 0;
    truths[site].allocated += (double)size;
    truths[site].allocs += size != 0;
    bytes += size;
  }
  return bytes;
}

static const struct bursar_model_site *site_named(const struct bursar_model *model, unsigned which) {
  char name[32];
  snprintf(name, sizeof name, "function_%u", which);
  for (uint32_t i = 0; i < model->site_count; i++) {
    struct bursar_text text = bursar_model_function(model, model->sites[i].node);
    if (text.length == strlen(name) && memcmp(text.bytes, name, text.length) == 0)
      return &model->sites[i];
  }
  return NULL;
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

/* 10^7 allocations and as many frees, in 40 runs of other seeds. */
static void test_unbiased(void) {
  const unsigned runs = 40;
  struct sums live = {0}, blocks = {0}, bytes = {0}, allocs = {0};
  struct coverage of_bytes = {0}, of_blocks = {0};
  unsigned unequal = 0;
  for (unsigned run = 0; run < runs; run++) {
    struct truth truths[SITES];
    account_model_open_sampling(&books, 0, 0, run + 1);
    uint64_t counted = run_known(run * 7919 + 17, 250000, truths);
    account_model_stop(&books, BURSAR_STATE_ENDED);
    struct bursar_model *model = read_back();
    unequal += model->allocations != 250000 || model->allocated_bytes != counted || model->reader->note_count;
    for (unsigned i = 0; i < SITES; i++) {
      const struct bursar_model_site none = {0}, *found = site_named(model, i), *site = found ? found : &none;
      const struct bursar_model_errors *errors = &site->errors;
      note(&live, (double)site->live.bytes, truths[i].live_bytes, errors->live_bytes);
      note(&blocks, (double)site->live.blocks, truths[i].live_blocks, errors->live_blocks);
      note(&bytes, (double)site->allocated_bytes, truths[i].allocated, errors->allocated_bytes);
      note(&allocs, (double)site->allocations, truths[i].allocs, errors->allocations);
      if (site->samples >= 20)
        cover(&of_bytes, (double)site->allocated_bytes, truths[i].allocated, errors->allocated_bytes);
      if (site->samples >= 20)
        cover(&of_blocks, (double)site->allocations, truths[i].allocs, errors->allocations);
    }
    bursar_model_free(model);
    account_model_remove(&books);
  }
  EQ(unequal, 0);
  printf("# z: live bytes %.2f, live blocks %.2f, allocated bytes %.2f, allocations %.2f\n", z(&live), z(&blocks),
         z(&bytes), z(&allocs));
  OK(fabs(z(&live)) < Z_MILLIONTH, "live bytes are without bias");
  OK(fabs(z(&blocks)) < Z_MILLIONTH, "live blocks are without bias");
  OK(fabs(z(&bytes)) < Z_MILLIONTH, "allocated bytes are without bias");
  OK(fabs(z(&allocs)) < Z_MILLIONTH, "allocations are without bias");
  printf("# 95 %% intervals hold %u of %u sites' bytes, %u of %u sites' allocations\n", of_bytes.inside, of_bytes.all,
         of_blocks.inside, of_blocks.all);
  OK(of_bytes.all >= 1000, "most sites have at least twenty samples");
  OK(of_bytes.inside >= of_bytes.all * 93 / 100 && of_bytes.inside <= of_bytes.all * 97 / 100,
     "an interval of 95 %% of the bytes holds the truth for 93 to 97 %% of the sites");
}

/* A test of bias that finds none is believed only where it finds one: weights that are three hundredths too high. */
static void test_bias_would_be_seen(void) {
  struct sums sums = {0};
  uint64_t seed = 99;
  account_model_open_sampling(&books, 0, 0, 3);
  for (uint64_t i = 0; i < 20000000; i++) {
    uint64_t size = 1000 + model_below(&seed, 1000);
    bool chosen = bursar_sample_alloc(size, BURSAR_DOMAIN_OBJ);
    struct bursar_weight weight = bursar_sample_weigh(address(i), size);
    note(&sums, chosen ? (double)weight.bytes * 1.03 : 0, (double)size, chosen ? sqrt(weight.variance) : 0);
  }
  account_model_stop(&books, BURSAR_STATE_ENDED);
  account_model_remove(&books);
  OK(fabs(z(&sums)) > Z_MILLIONTH, "weights that are too high by three hundredths give a z of %.1f", z(&sums));
}

/* --- weights ------------------------------------------------------------------------------------------------------------- */

static void test_weights(void) {
  account_model_open_sampling(&books, 0, 0, 5);
  struct bursar_weight weight = bursar_sample_weigh(address(1), 100u << 20); /* 200 intervals: as good as certain */
  EQ(weight.bytes, 100u << 20);
  OK(fabs(weight.blocks - 1) < 1e-9 && weight.variance < 1, "a block of 200 intervals stands for itself");
  weight = bursar_sample_weigh(address(2), BURSAR_SAMPLE_INTERVAL);
  double p = 1 - exp(-1);
  OK(fabs((double)weight.bytes - BURSAR_SAMPLE_INTERVAL / p) <= 1, "one of an interval stands for s / (1 - 1/e)");
  OK(fabs(weight.blocks_variance - (1 - p) / (p * p)) < 1e-9, "and its variance is (1 - p) / p^2");
  double sum = 0;
  for (unsigned i = 0; i < 100000; i++)
    sum += (double)bursar_sample_weigh(address(i), 1000).bytes;
  double exact = 1000 / -expm1(-1000.0 / BURSAR_SAMPLE_INTERVAL);
  OK(fabs(sum / 100000 - exact) < 5 * 0.5 / sqrt(100000), "weights in whole bytes are right on average");
  weight = bursar_sample_weigh(address(7), 48);
  struct bursar_weight again = bursar_sample_weigh(address(7), 48);
  EQ(weight.bytes, again.bytes);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  account_model_remove(&books);
}

/* --- the books hold together ------------------------------------------------------------------------------------------- */

static void test_nothing_is_left(void) {
  account_model_open_sampling(&books, 0, 4096, 11); /* a point in four kilobytes: many samples */
  uint32_t tag = model_site_tag(1, BURSAR_DOMAIN_MEM);
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned i = 0; i < 50000; i++)
      allocate(address(i), 64 + i % 1000, tag, BURSAR_DOMAIN_MEM);
    for (unsigned i = 0; i < 50000; i++)
      release(address((uint64_t)i * 7919 % 50000));
  }
  EQ(bursar_account_live(), 0);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  const struct bursar_model_site *site = site_named(model, 1);
  EQ(model->live.bytes, 0);
  EQ(model->live.blocks, 0);
  EQ(model->allocations, 150000);
  EQ(model->frees, BURSAR_MODEL_UNKNOWN);
  EQ(model->reader->note_count, 0);
  OK(site && site->errors.live_bytes == 0 && site->samples > 10000, "no error is left of what is gone");
  OK(model->peak_bytes > 20000000 && model->peak_bytes < 40000000 && site->errors.peak_bytes > 0,
     "the peak is near 28 MB, with an error");
  OK(fabs((double)site->peak.blocks - 50000) < 5 * site->errors.peak_blocks, "and so are its blocks");
  bursar_model_free(model);
  account_model_remove(&books);
}

static void test_reused_address(void) {
  account_model_open_sampling(&books, 0, 1, 1); /* every byte is a point */
  uint32_t tag = model_site_tag(2, BURSAR_DOMAIN_OBJ);
  for (unsigned i = 0; i < 10; i++)
    allocate(address(5), 100, tag, BURSAR_DOMAIN_OBJ); /* the ends are not seen */
  EQ(bursar_account_live(), 100);
  struct bursar_record record;
  OK(bursar_sample_lift(address(5), &record, true), "it is there");
  OK(!bursar_sample_lift(address(5), &record, true), "and is taken out once");
  bursar_sample_put_back(address(5), record, true);
  EQ(bursar_account_live(), 100);
  release(address(5));
  EQ(bursar_account_live(), 0);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  release(address(5)); /* closed: nothing happens */
  account_model_remove(&books);
}

/* The smallest ledger holds no more than its sites: the rest is folded, and blocks find where their site went. */
static void test_folding(void) {
  account_model_open_sampling(&books, BURSAR_CAP_MIN, 64, 21);
  uint64_t seed = 1, live = 0;
  static uint32_t sizes[20000];
  memset(sizes, 0, sizeof sizes);
  for (unsigned i = 0; i < 400000; i++) {
    unsigned at = (unsigned)model_below(&seed, 20000);
    if (sizes[at])
      release(address(at));
    live -= sizes[at];
    sizes[at] = 1000 + (uint32_t)model_below(&seed, 1000); /* certain to be chosen */
    live += sizes[at];
    char name[32];
    snprintf(name, sizeof name, "f%u", (unsigned)model_below(&seed, 30000));
    uint32_t code = bursar_stacks_code(bursar_stacks_string(name, strlen(name)), 0, 1);
    uint32_t node = bursar_stacks_node(bursar_stacks_node(BURSAR_NODE_MAIN, code, 1), code, 2);
    allocate(address(at), sizes[at], bursar_stacks_site(node, BURSAR_DOMAIN_OBJ), BURSAR_DOMAIN_OBJ);
    if (i % 1000 == 0)
      bursar_account.fold_due = true;
  }
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  double blocks = 0;
  for (uint32_t i = 0; i < model->site_count; i++)
    blocks += (double)model->sites[i].live.blocks;
  OK(model->folded_sites > 0, "sites were folded");
  EQ(model->reader->note_count, 0);
  OK(fabs((double)model->live.bytes - (double)live) <= 1e-6 * (double)live, "what is live is right to a millionth");
  EQ(blocks, model->live.blocks);
  unsigned held = 0;
  for (unsigned i = 0; i < 20000; i++)
    held += sizes[i] != 0;
  OK(fabs(blocks - held) <= 2, "all blocks found their sites");
  bursar_model_free(model);
  account_model_remove(&books);
}

/* --- threads ------------------------------------------------------------------------------------------------------------ */

#define THREADS 80 /* more than there are lanes */
#define EACH 40000u

static pthread_barrier_t together;

static void *work(void *argument) {
  uint64_t base = (uintptr_t)argument * EACH;
  pthread_barrier_wait(&together); /* all are there before one ends */
  for (uint64_t i = 0; i < EACH; i++) {
    void *p = address(base + i);
    if (bursar_sample_alloc(100, BURSAR_DOMAIN_MALLOC)) {
      bursar_fold_hold_off();
      bursar_sample_book_free(p, 100, BURSAR_DOMAIN_MALLOC + 1, BURSAR_DOMAIN_MALLOC);
      bursar_fold_let_go();
    }
    if (i % 2 == 0 && bursar_sample_may_hold(p))
      bursar_sample_end(p, false);
  }
  pthread_barrier_wait(&together);
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  account_model_open_sampling(&books, 0, 10000, 31);
  pthread_barrier_init(&together, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
      abort();
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct bursar_model *model = read_back();
  EQ(model->allocations, THREADS * EACH);
  EQ(model->allocated_bytes, THREADS * EACH * 100ull);
  EQ(model->reader->note_count, 0);
  OK(fabs((double)model->live.bytes - THREADS * EACH * 50.0) < Z_MILLIONTH * model->errors.live_bytes,
     "what threads hold is estimated well: %.2f errors off",
     ((double)model->live.bytes - THREADS * EACH * 50.0) / model->errors.live_bytes);
  bursar_model_free(model);
  account_model_remove(&books);
}

int main(void) {
  test_weights();
  test_unbiased();
  test_bias_would_be_seen();
  test_nothing_is_left();
  test_reused_address();
  test_folding();
  test_threads();
  return tap_done();
}
