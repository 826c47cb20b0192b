/* Events of both lanes at once: at rest every figure is exact, whoever allocated and whoever freed. */
#include <pthread.h>
#include <stdlib.h>

#include "account/journal.h"
#include "account/stacks.h"
#include "account_model.h"
#include "tap.h"

#define FREE_THREADS 8
#define GIL_THREADS 3
#define OWN 64      /* blocks that a thread holds at most */
#define EVENTS 8000 /* of each thread */
#define SITES 40
#define HANDED 256

/* By design: lane FREE adds up what lane GIL is just changing, to see whether there is a new maximum (it only asks for how
 * much the peak may be wrong), and moves the level at which lane GIL looks for one. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void); /* libtsan looks for it */
const char *__tsan_default_suppressions(void) { return "race:bursar_account_live\n"; }

static struct account_model model; /* only its file and its provider are used here */
static uint32_t tags[SITES][BURSAR_DOMAIN_COUNT];

struct sums {
  uint64_t alloc_bytes, allocs, free_bytes, frees;
};
struct block {
  char *p;
  uint64_t size;
  uint32_t site;
  unsigned domain;
  bool *away; /* its place is not free before whoever has it clears this */
};

/* A thread's own sums; added up when all have ended. */
struct worker {
  pthread_t thread;
  unsigned number;
  uint64_t random;
  struct sums sites[MODEL_SITES], lane[BURSAR_DOMAIN_COUNT], gil[BURSAR_DOMAIN_COUNT], remote[BURSAR_DOMAIN_COUNT];
};
static struct worker workers[FREE_THREADS + GIL_THREADS];

/* Blocks of lane GIL on their way to a thread that frees them without the GIL. */
static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER, handing = PTHREAD_MUTEX_INITIALIZER;
static struct block handed[HANDED];
static unsigned handed_count, gil_threads;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t begun;

static bool hand_over(const struct block *block) {
  pthread_mutex_lock(&handing);
  bool room = handed_count < HANDED;
  if (room)
    handed[handed_count++] = *block;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&handing);
  return room;
}

/* `wait`: until there is one, or nobody is left to hand one over. */
static bool take_over(struct block *block, bool wait) {
  pthread_mutex_lock(&handing);
  while (wait && !handed_count && gil_threads)
    pthread_cond_wait(&changed, &handing);
  bool some = handed_count > 0;
  if (some)
    *block = handed[--handed_count];
  pthread_mutex_unlock(&handing);
  return some;
}

static char *address(unsigned thread, unsigned slot, unsigned generation) {
  return (char *)0x100000000000 + ((uint64_t)thread << 32) + slot * 131072 + generation % 3 * 32768 +
         (slot % 7 ? 0 : 8);
}

static void count(struct sums *sums, bool allocation, uint64_t size) {
  *(allocation ? &sums->alloc_bytes : &sums->free_bytes) += size;
  ++*(allocation ? &sums->allocs : &sums->frees);
}

/* As the RAW hook does without the GIL: out of the table first, then booked. */
static bool free_outside(const struct block *block) {
  struct bursar_record record = {.size = 0};
  if (!bursar_live_take(block->p, &record) || record.size != block->size)
    return false;
  bursar_account_retire_free(block->p, record, block->domain);
  return true;
}

static void outside_event(struct worker *me, struct block *block, char *p, unsigned i, uintptr_t *wrong) {
  if (block->p) {
    *wrong += !free_outside(block);
    count(&me->lane[block->domain], false, block->size);
    block->p = NULL;
    return;
  }
  *block = (struct block){p, model_below(&me->random, 3000), 0, i % 50 ? BURSAR_DOMAIN_RAW : BURSAR_DOMAIN_OBJ, NULL};
  bursar_account_alloc_free(block->p, block->size, block->domain + 1, block->domain, 0);
  count(&me->lane[block->domain], true, block->size);
}

static void *without_gil(void *argument) {
  struct worker *me = argument;
  struct block own[OWN] = {{0}}, other;
  uintptr_t wrong = 0;
  bool some = true;
  pthread_barrier_wait(&begun);
  for (unsigned i = 0; i <= EVENTS || some; i++) {
    unsigned at = (unsigned)model_below(&me->random, OWN);
    if (i < EVENTS)
      outside_event(me, &own[at], address(me->number, at, i), i, &wrong);
    some = (i >= EVENTS || i % 4 == 0) && take_over(&other, i >= EVENTS);
    if (!some)
      continue;
    wrong += !free_outside(&other);
    __atomic_store_n(other.away, false, __ATOMIC_RELEASE);
    count(&me->remote[other.domain], false, other.size);
    count(&me->sites[other.site], false, other.size);
  }
  return (void *)wrong;
}

static void gil_event(struct worker *me, struct block *own, unsigned i) {
  static bool away[GIL_THREADS][OWN];
  unsigned at = (unsigned)model_below(&me->random, OWN);
  struct block *block = &own[at];
  bool *gone = &away[me->number - FREE_THREADS][at];
  if (__atomic_load_n(gone, __ATOMIC_ACQUIRE))
    return;
  if (!block->p) {
    unsigned domain = (unsigned)model_below(&me->random, BURSAR_DOMAIN_COUNT);
    uint32_t tag = tags[model_below(&me->random, SITES)][domain];
    *block = (struct block){address(me->number, at, i), model_below(&me->random, i % 40 ? 2000 : 120000),
                            (tag >> BURSAR_CELL_SHIFT) - 1, domain, gone};
    model_book(block->p, block->size, tag, domain);
    count(&me->sites[block->site], true, block->size);
    count(&me->gil[domain], true, block->size);
  } else if ((*gone = at % 4 == 0 && model_below(&me->random, 2)) && hand_over(block)) {
    block->p = NULL;
  } else {
    *gone = false;
    model_unbook(block->p, block->domain);
    count(&me->sites[block->site], false, block->size);
    count(&me->gil[block->domain], false, block->size);
    block->p = NULL;
  }
}

static void *with_gil(void *argument) {
  struct worker *me = argument;
  static struct block held[GIL_THREADS][OWN];
  struct block *own = held[me->number - FREE_THREADS];
  unsigned generation = 0;
  memset(own, 0, sizeof *held);
  pthread_barrier_wait(&begun);
  for (unsigned i = 0; i < EVENTS;) {
    pthread_mutex_lock(&gil);
    bursar_account_switch_gil(&model.recent[me->number - FREE_THREADS]);
    for (unsigned k = 0; k < 25; k++, i++)
      gil_event(me, own, generation++);
    if (i % 1000 == 0)
      (void)bursar_journal_tick(0);
    pthread_mutex_unlock(&gil);
  }
  pthread_mutex_lock(&handing);
  gil_threads--;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&handing);
  return NULL;
}

static bool same(const struct bursar_tally *got, const struct sums *want) {
  return got->alloc_bytes == want->alloc_bytes && got->allocs == want->allocs && got->free_bytes == want->free_bytes &&
         got->frees == want->frees;
}

static void add(struct sums *to, const struct sums *from) {
  to->alloc_bytes += from->alloc_bytes;
  to->allocs += from->allocs;
  to->free_bytes += from->free_bytes;
  to->frees += from->frees;
}

static void check_totals(const struct worker *all) {
  unsigned wrong = 0;
  uint64_t live = 0;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    wrong += !same(&BURSAR_BOOKS->gil[domain], &all->gil[domain]);
    wrong += !same(&BURSAR_BOOKS->free_lane[domain], &all->lane[domain]);
    wrong += !same(&BURSAR_BOOKS->remote[domain], &all->remote[domain]);
    live += all->gil[domain].alloc_bytes - all->gil[domain].free_bytes + all->lane[domain].alloc_bytes -
            all->lane[domain].free_bytes - all->remote[domain].free_bytes;
  }
  EQ(wrong, 0);
  EQ(bursar_account_live(), live);
}

static void check_sites(const struct worker *all, uint64_t peak_at_rest) {
  struct bursar_model *books;
  struct bursar_error error;
  if (!OK(bursar_model_open(model.path, &books, &error) == 0, "it reads"))
    return;
  unsigned wrong = 0;
  uint64_t at_peak = 0;
  for (uint32_t i = 0; i < books->site_count; i++) {
    const struct bursar_model_site *site = &books->sites[i];
    const struct sums *want = site->outside ? &all->lane[site->domain] : &all->sites[site->ledger];
    wrong += site->allocations != want->allocs || site->allocated_bytes != want->alloc_bytes ||
             site->frees != want->frees || site->live.bytes != want->alloc_bytes - want->free_bytes ||
             site->live.blocks != want->allocs - want->frees;
    at_peak += site->peak.bytes;
  }
  EQ(wrong, 0);
  EQ(books->reader->note_count, 0);
  EQ(books->reader->unmatched_bytes, 0);
  OK(books->peak_bytes + books->peak_error_bytes >= peak_at_rest, "the peak is no smaller than what is held at rest");
  uint64_t apart = at_peak > books->peak_bytes ? at_peak - books->peak_bytes : books->peak_bytes - at_peak;
  OK(apart <= books->peak_error_bytes, "the sites at the peak are within its error: %llu of %llu",
     (unsigned long long)apart, (unsigned long long)books->peak_error_bytes);
  bursar_model_free(books);
}

static void begin(void) {
  account_model_open(&model, 0, 0);
  for (unsigned i = 0; i < SITES; i++)
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      tags[i][domain] = model_site_tag(i, domain);
}

static void test_threads(void) {
  static struct worker all;
  uintptr_t wrong = 0;
  gil_threads = GIL_THREADS;
  pthread_barrier_init(&begun, NULL, FREE_THREADS + GIL_THREADS);
  begin();
  for (unsigned i = 0; i < FREE_THREADS + GIL_THREADS; i++) {
    workers[i] = (struct worker){.number = i, .random = i * 77 + 1};
    if (pthread_create(&workers[i].thread, NULL, i < FREE_THREADS ? without_gil : with_gil, &workers[i]) != 0)
      abort();
  }
  memset(&all, 0, sizeof all);
  for (unsigned i = 0; i < FREE_THREADS + GIL_THREADS; i++) {
    void *result;
    pthread_join(workers[i].thread, &result);
    wrong += (uintptr_t)result;
    for (unsigned k = 0; k < MODEL_SITES; k++)
      add(&all.sites[k], &workers[i].sites[k]);
    for (unsigned k = 0; k < BURSAR_DOMAIN_COUNT; k++) {
      add(&all.lane[k], &workers[i].lane[k]);
      add(&all.gil[k], &workers[i].gil[k]);
      add(&all.remote[k], &workers[i].remote[k]);
    }
  }
  EQ(wrong, 0);
  uint64_t remote = 0;
  for (unsigned k = 0; k < BURSAR_DOMAIN_COUNT; k++)
    remote += all.remote[k].frees;
  OK(remote >= GIL_THREADS * OWN / 4, "%llu blocks were freed in the other lane", (unsigned long long)remote);
  check_totals(&all);
  uint64_t live = (uint64_t)bursar_account_live();
  account_model_stop(&model, BURSAR_STATE_ENDED);
  check_sites(&all, live);
  account_model_remove(&model);
}

/* One after the other, the true peak is known: the ledger says it, give or take what it says itself. */
static void test_peak(uint64_t seed) {
  static struct block blocks[200];
  static bool outside[200];
  uint64_t random = seed, live = 0, peak = 0;
  memset(blocks, 0, sizeof blocks);
  begin();
  for (unsigned i = 0; i < 5000; i++) {
    unsigned at = (unsigned)model_below(&random, 200);
    struct block *block = &blocks[at];
    if (block->p) {
      live -= block->size;
      if (outside[at] || !model_below(&random, 4))
        (void)free_outside(block);
      else
        model_unbook(block->p, block->domain);
      block->p = NULL;
      continue;
    }
    *block = (struct block){address(0, at, 0), model_below(&random, 5000), 0, (unsigned)model_below(&random, 3), NULL};
    outside[at] = model_below(&random, 2);
    if (outside[at])
      bursar_account_alloc_free(block->p, block->size, block->domain + 1, block->domain, 0);
    else
      model_book(block->p, block->size, tags[at % SITES][block->domain], block->domain);
    live += block->size;
    peak = live > peak ? live : peak;
  }
  EQ(bursar_account_live(), live);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  struct bursar_model *books;
  struct bursar_error error;
  if (OK(bursar_model_open(model.path, &books, &error) == 0, "it reads")) {
    uint64_t at_peak = 0;
    for (uint32_t i = 0; i < books->site_count; i++)
      at_peak += books->sites[i].peak.bytes;
    OK(books->peak_bytes <= peak && peak <= books->peak_bytes + books->peak_error_bytes,
       "the peak, %llu, is within %llu + %llu", (unsigned long long)peak, (unsigned long long)books->peak_bytes,
       (unsigned long long)books->peak_error_bytes);
    OK(books->peak_error_bytes < peak / 10, "the error is no excuse");
    uint64_t apart = at_peak > books->peak_bytes ? at_peak - books->peak_bytes : books->peak_bytes - at_peak;
    OK(apart <= books->peak_error_bytes, "the sites at the peak add up to it within its error: %llu of %llu",
       (unsigned long long)apart, (unsigned long long)books->peak_error_bytes);
    EQ(books->reader->unmatched_bytes, 0);
    bursar_model_free(books);
  }
  account_model_remove(&model);
}

/* A block is handed out again in the other lane, its end unseen. */
static void test_reused(void) {
  begin();
  char *p = address(0, 1, 0);
  model_book(p, 100, tags[1][0], 0);
  bursar_account_alloc_free(p, 50, 1, 0, 0);
  EQ(BURSAR_BOOKS->remote[0].free_bytes, 100);
  model_book(p, 30, tags[2][1], 1);
  EQ(BURSAR_BOOKS->free_lane[0].free_bytes, 50);
  EQ(bursar_account_live(), 30);
  /* Of another domain: each domain's own sums stay right. */
  bursar_account_alloc_free(p, 20, 3, 2, 0);
  EQ(BURSAR_BOOKS->remote[1].free_bytes, 30);
  EQ(bursar_account_live(), 20);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  struct bursar_model *books;
  struct bursar_error error;
  if (OK(bursar_model_open(model.path, &books, &error) == 0, "it reads")) {
    EQ(books->reader->unmatched_bytes, 0);
    EQ(books->reader->note_count, 0);
    EQ(books->live_by_domain[2], 20);
    EQ(books->live_by_domain[1], 0);
    bursar_model_free(books);
  }
  account_model_remove(&model);
}

int main(void) {
  test_reused();
  for (uint64_t seed = 1; seed <= 12; seed++)
    test_peak(seed);
  for (unsigned round = 0; round < 3; round++)
    test_threads();
  return tap_done();
}
