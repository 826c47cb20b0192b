/* The books of a program without Python, while several threads allocate, free what others allocated, and look stacks up that
 * are folded under them: no byte is lost or counted twice. */
#include "native/plain.h"
#include "tap.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/fold.h"
#include "account_model.h"
#include "ledger/place.h"
#include "native/native.h"

#define THREADS 3u
#define EVENTS 30000u
#define SLOTS 64u
#define PAGE 4096u

typedef void what(void *context);
static void (*calls)(unsigned depth, unsigned way, what *then, void *context);

static char folder[] = "/tmp/bursar-test-XXXXXX", path[64];
static const struct bursar_native_books *books;
static unsigned warned;

static void warn(const char *line) { warned += line[0] != 0; }

/* As in test_lanes.c: what is read of lane GIL's figures, which nobody adds to here. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void); /* libtsan looks for it */
const char *__tsan_default_suppressions(void) { return "race:bursar_account_live\n"; }

static void open_books(uint64_t cap, bool stacks) {
  struct bursar_settings settings = {.path = path, .cap = cap, .domains = BURSAR_DOMAINS_NATIVE, .native = stacks};
  struct bursar_place place;
  struct bursar_error error = {0};
  bool native;
  (void)unlink(path);
  if (bursar_place_create(path, false, NULL, &place, &error) != 0)
    abort();
  bursar_place_close(&place);
  OK(bursar_plain_open(&settings, warn, &native, &error) == 0, "open: %s", error.text);
  EQ(native, stacks);
  books = bursar_native_table.books;
}

/* --- one thread ----------------------------------------------------------------------------------------------------------- */

static void *at(unsigned number) { return (char *)0x200000000000 + (uint64_t)number * 65536; }

static struct bursar_model *read_back(void) {
  struct bursar_model *model = NULL;
  struct bursar_error error = {0};
  OK(bursar_model_open(path, &model, &error) == 0, "it reads: %s", error.text);
  if (!model)
    exit(tap_done());
  EQ(model->reader->note_count, 0);
  EQ(model->live_error_bytes, 0);
  return model;
}

static void test_alone(void) {
  struct bursar_record record;
  open_books(0, false);
  books->begun(at(1), 1000);
  books->begun(at(2), 500);
  books->ending(at(1));
  books->begun(at(3), 900);
  books->ending(at(3)); /* temporary */
  OK(books->lift(at(2), &record) && record.size == 500, "lifted");
  books->drop(at(2), record, NULL, 700); /* failed */
  OK(books->lift(at(2), &record), "it is where it was");
  books->drop(at(2), record, at(4), 700);
  OK(!books->lift(at(2), &record), "and has moved");
  books->ending(at(77)); /* nobody's */
  books->mapped(at(10), 10 * PAGE - 5);
  books->unmapping((char *)at(10) + 2 * PAGE, 3 * PAGE);
  EQ(bursar_account_live(), 700 + 7 * PAGE);
  OK(bursar_plain_close(BURSAR_STATE_ENDED), "closed");
  OK(!bursar_native_table.books, "nobody listens");
  books->begun(at(5), 1); /* whoever was on the way */
  struct bursar_model *model = read_back();
  EQ(model->peak_bytes, 700 + 10 * PAGE);
  EQ(model->peak_error_bytes, 0);
  EQ(model->live.bytes, 700 + 7 * PAGE);
  EQ(model->live.blocks, 2);
  EQ(model->allocations, 5);
  EQ(model->frees, 3);
  EQ(model->temporaries, 1);
  OK(model->plain, "it has no Python");
  bursar_model_free(model);
}

/* A peak is exact while one thread allocates, however little it is above the last. */
static void test_small_steps(void) {
  open_books(0, false);
  books->begun(at(1), 10000000);
  for (unsigned i = 2; i < 100; i++) {
    books->begun(at(i), 20);
    books->begun(at(1000), 20);
    books->ending(at(1000));
  }
  for (unsigned i = 1; i < 100; i++)
    books->ending(at(i));
  OK(bursar_plain_close(BURSAR_STATE_ENDED), "closed");
  struct bursar_model *model = read_back();
  EQ(model->peak_bytes, 10000000 + 98 * 20 + 20);
  EQ(model->peak_error_bytes, 0);
  EQ(model->live.bytes, 0);
  bursar_model_free(model);
}

/* --- several -------------------------------------------------------------------------------------------------------------- */

struct block {
  uint64_t bytes;
  char *p;
};
static struct block *shared[SLOTS];

struct worker {
  uint64_t random, bytes, count;
  char *next;
  struct block *block;
};

static void begin(void *context) {
  struct worker *worker = context;
  books->begun(worker->block->p, worker->block->bytes);
}

static void end(struct block *block) {
  struct bursar_record record;
  if (!block)
    return;
  if (block->bytes % 3) {
    books->ending(block->p);
  } else if (books->lift(block->p, &record)) { /* as a realloc to nothing */
    books->drop(block->p, record, NULL, 0);
  } else {
    abort();
  }
  free(block);
}

static void *work(void *context) {
  struct worker *worker = context;
  for (unsigned i = 0; i < EVENTS; i++) {
    struct block *block = malloc(sizeof *block);
    if (!block)
      abort();
    *block = (struct block){1 + model_below(&worker->random, 3000), worker->next};
    worker->next += 4096;
    worker->block = block;
    worker->bytes += block->bytes;
    worker->count++;
    calls(14, (unsigned)model_below(&worker->random, 1 << 14), begin, worker);
    if (i % 16 == 0) {
      char *map = worker->next;
      worker->next += 16 * PAGE;
      books->mapped(map, 8 * PAGE);
      books->unmapping(map, 3 * PAGE);
      books->unmapping(map, 8 * PAGE);
    }
    end(__atomic_exchange_n(&shared[model_below(&worker->random, SLOTS)], block, __ATOMIC_ACQ_REL));
  }
  return NULL;
}

static void test_several(uint64_t cap, bool stacks) {
  static struct worker workers[THREADS];
  pthread_t threads[THREADS];
  uint64_t bytes = 0, count = 0, maps = (uint64_t)THREADS * ((EVENTS + 15) / 16);
  uint32_t generation = bursar_fold_generation;
  open_books(cap, stacks);
  for (unsigned i = 0; i < THREADS; i++) {
    workers[i] = (struct worker){.random = i + 1, .next = (char *)0x300000000000 + ((uint64_t)i << 36)};
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
      abort();
  }
  for (unsigned i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    bytes += workers[i].bytes;
    count += workers[i].count;
  }
  for (unsigned i = 0; i < SLOTS; i++) {
    end(shared[i]);
    shared[i] = NULL;
  }
  EQ(bursar_account_live(), 0);
  uint32_t moves = bursar_fold_generation - generation - 2; /* each start moves it by two */
  OK(stacks == (moves > 0), "sites moved %u times", moves);
  OK(bursar_plain_close(BURSAR_STATE_ENDED), "closed");
  struct bursar_model *model = read_back();
  uint64_t site_bytes = 0, site_count = 0, holding = 0;
  for (uint32_t i = 0; i < model->site_count; i++) {
    holding += model->sites[i].live.bytes != 0 || model->sites[i].live.blocks != 0;
    site_bytes += model->sites[i].domain == BURSAR_DOMAIN_MALLOC ? model->sites[i].allocated_bytes : 0;
    site_count += model->sites[i].allocations;
  }
  EQ(site_bytes, bytes);
  EQ(site_count, count + maps);
  EQ(holding, 0);
  EQ(model->allocations, count + maps);
  EQ(model->frees, count + maps);
  EQ(model->live.bytes, 0);
  bursar_model_free(model);
}

int main(int argc, char **argv) {
  void *module = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
  if (!module || !mkdtemp(folder))
    abort();
  *(void **)(void *)&calls = dlsym(module, "plain_calls");
  snprintf(path, sizeof path, "%s/books.bursar", folder);
  test_alone();
  test_small_steps();
  test_several(0, false);
#if defined(__x86_64__)
  test_several(BURSAR_CAP_MIN, true);
#endif
  EQ(warned, 0);
  (void)unlink(path);
  (void)rmdir(folder);
  return tap_done();
}
