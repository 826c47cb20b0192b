/* Every request to the system fails in turn, once and from then on: the program goes on, and what is booked is true.
 *
 * The linker puts the wraps below between the core and prim.c (see meson.build). */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "account/journal.h"
#include "account/stacks.h"
#include "account_model.h"
#include "prim/prim.h"
#include "tap.h"

static unsigned calls, fail_from, fail_to; /* the calls from the one to the other fail */

static bool fails(void) {
  calls++;
  return calls >= fail_from && calls <= fail_to;
}

void *__real_bursar_prim_reserve(size_t bytes, bool writable);
void *__wrap_bursar_prim_reserve(size_t bytes, bool writable);
void *__wrap_bursar_prim_reserve(size_t bytes, bool writable) {
  return fails() ? NULL : __real_bursar_prim_reserve(bytes, writable);
}
int __real_bursar_prim_grow(int fd, uint64_t offset, uint64_t bytes);
int __wrap_bursar_prim_grow(int fd, uint64_t offset, uint64_t bytes);
int __wrap_bursar_prim_grow(int fd, uint64_t offset, uint64_t bytes) {
  return fails() ? -ENOSPC : __real_bursar_prim_grow(fd, offset, bytes);
}
int __real_bursar_prim_map_shared(void *at, size_t bytes, int fd, uint64_t offset);
int __wrap_bursar_prim_map_shared(void *at, size_t bytes, int fd, uint64_t offset);
int __wrap_bursar_prim_map_shared(void *at, size_t bytes, int fd, uint64_t offset) {
  return fails() ? -ENOMEM : __real_bursar_prim_map_shared(at, bytes, fd, offset);
}

#define BLOCKS 300
static struct account_model model; /* only its file and its provider are used here */

struct block {
  char *p; /* NULL: none */
  uint64_t size;
  unsigned domain;
  bool booked, outside;
};
static struct block blocks[BLOCKS];
static char folder[] = "/tmp/bursar-test-XXXXXX";
static unsigned wrong;
static uint64_t generation, runs;

/* How much a program does: few stacks, or more than the ledger has room for. */
struct load {
  unsigned events, lines, per_leaf;
};

/* An event is booked whole or not at all. */
static bool booked_one(const struct bursar_tally *before, uint64_t size, bool allocation) {
  struct bursar_tally after = bursar_account_totals();
  uint64_t allocs = after.allocs - before->allocs, alloc_bytes = after.alloc_bytes - before->alloc_bytes;
  uint64_t frees = after.frees - before->frees, free_bytes = after.free_bytes - before->free_bytes;
  uint64_t number = allocation ? allocs : frees, bytes = allocation ? alloc_bytes : free_bytes;
  bool other = allocation ? frees || free_bytes : allocs || alloc_bytes;
  wrong += other || number > 1 || bytes != number * size;
  return number == 1;
}

static void allocate(const struct load *load, struct block *block, unsigned at, uint64_t *random,
                     const uint32_t *codes) {
  /* Ever new places, so that the table must grow too. */
  char *p = (char *)0x100000000000 + (runs << 32) + (at << 14) + ((generation++ / load->per_leaf) << 24) +
            (at % 11 ? 0 : 8);
  *block =
      (struct block){p, model_below(random, at % 20 ? 900 : 300000), at % BURSAR_DOMAIN_COUNT, false, at % 13 == 0};
  struct bursar_tally before = bursar_account_totals();
  if (block->outside) {
    bursar_account_alloc_free(p, block->size, block->domain + 1, block->domain, 0);
  } else if (bursar_account.active) {
    uint32_t node = BURSAR_NODE_MAIN;
    for (unsigned i = 0; i < 3; i++)
      node = bursar_stacks_node(node, codes[model_below(random, 8)], (uint32_t)model_below(random, load->lines));
    model_book(p, block->size, bursar_stacks_site(node, block->domain), block->domain);
  }
  block->booked = booked_one(&before, block->size, true);
}

static void release(struct block *block, uint64_t *random) {
  struct bursar_record record = {.size = 0};
  struct bursar_tally before = bursar_account_totals();
  bool was_open = bursar_account.active;
  if (!block->outside && model_below(random, 8))
    model_unbook(block->p, block->domain);
  else if (bursar_live_take(block->p, &record))
    bursar_account_retire_free(block->p, record, block->domain);
  bool freed = booked_one(&before, block->size, false);
  /* Once the books are closed no free counts; the one that finds that they must be may. */
  wrong += bursar_account.active && freed != block->booked;
  wrong += freed && (!block->booked || !was_open);
  block->p = NULL;
}

static void work(const struct load *load) {
  uint64_t random = 11;
  uint32_t codes[8];
  memset(blocks, 0, sizeof blocks);
  generation = 0;
  runs++;
  for (unsigned i = 0; i < 8; i++) {
    char name[16];
    codes[i] = bursar_account.active
                   ? bursar_stacks_code(bursar_stacks_string(name, (size_t)snprintf(name, sizeof name, "f%u", i)), 0, i)
                   : 0;
  }
  for (unsigned i = 0; i < load->events; i++) {
    unsigned at = (unsigned)model_below(&random, BLOCKS);
    errno = 12345;
    if (blocks[at].p)
      release(&blocks[at], &random);
    else
      allocate(load, &blocks[at], at, &random, codes);
    if (bursar_account.active && i % 250 == 0)
      (void)bursar_journal_tick(0);
    if (bursar_account.active && i % 500 == 0)
      account_model_switch(&model, i / 500 % MODEL_THREADS);
    wrong += errno != 12345;
  }
}

/* What is in the ledger adds up, however little it is. */
static unsigned unsound(bool broken) {
  struct bursar_model *books;
  struct bursar_error error;
  uint64_t at_peak = 0, live = 0;
  if (bursar_model_open(model.path, &books, &error) != 0) {
    printf("# %s\n", error.text);
    return 1;
  }
  for (uint32_t i = 0; i < books->site_count; i++) {
    at_peak += books->sites[i].peak.bytes;
    live += books->sites[i].live.bytes;
  }
  uint64_t apart = at_peak > books->peak_bytes ? at_peak - books->peak_bytes : books->peak_bytes - at_peak;
  unsigned bad = (books->reader->note_count != 0) + (books->reader->unmatched_bytes != 0) +
                 (live != books->live.bytes) + (apart > books->peak_error_bytes) +
                 (broken != (books->reader->life == BURSAR_LIFE_BROKEN));
  for (uint32_t i = 0; i < books->reader->note_count; i++)
    printf("# %s\n", books->reader->note[i]);
  if (apart > books->peak_error_bytes)
    printf("# the sites at the peak differ by %llu, the error is said to be %llu\n", (unsigned long long)apart,
           (unsigned long long)books->peak_error_bytes);
  bursar_model_free(books);
  return bad;
}

/* Returns whether the failing call was reached at all. */
static bool one(const struct load *load, unsigned from, unsigned to, unsigned *started, unsigned *bad) {
  struct bursar_error error;
  memset(&error, 0, sizeof error);
  calls = 0;
  fail_from = from;
  fail_to = to;
  wrong = 0;
  int status = account_model_start(&model, folder, 4u << 20, 0, &error);
  if (status == 0) {
    ++*started;
    work(load);
    bool broken = !bursar_account.active;
    unsigned made = calls;
    fail_from = UINT32_MAX;
    unsigned told = broken ? 1 : 0;
    account_model_stop(&model, BURSAR_STATE_ENDED);
    unsigned was = wrong + (model_calls.warned != told) + unsound(broken);
    if (was)
      printf("# call %u to %u of %u: %u things were wrong\n", from, to, made, was);
    *bad += was != 0;
  } else {
    fail_from = UINT32_MAX;
    /* The program goes on without books; with hooks, where an earlier start had installed them. */
    bool clean = !bursar_account.active && strlen(error.text) > 10 && status == BURSAR_FAILED;
    if (bursar_live_top)
      work(load);
    *bad += !clean || wrong || model_calls.warned;
    if (!clean || wrong)
      printf("# call %u: a start that failed, %d %s\n", from, status, error.text);
  }
  bursar_writer_close(&bursar_account.writer);
  unlink(model.path);
  return calls >= from;
}

/* All of them, or one in so many. */
static void torture(const struct load *load, unsigned step, unsigned least) {
  for (unsigned forever = 0; forever < 2; forever++) {
    unsigned started = 0, bad = 0, n = 1;
    while (one(load, n, forever ? UINT32_MAX - 1 : n, &started, &bad) && n < 2000)
      n += step;
    EQ(bad, 0);
    OK(n > least && n < 2000 && started > 5, "calls up to %u failed, %s; %u times the books had opened", n - 1,
       forever ? "with all that came after" : "once each", started);
  }
}

int main(void) {
  if (!mkdtemp(folder))
    abort();
  torture(&(struct load){.events = 4000, .lines = 40, .per_leaf = 100}, 1, 50);
  torture(&(struct load){.events = 30000, .lines = 100000, .per_leaf = 3000}, 5, 50);
  rmdir(folder);
  return tap_done();
}
