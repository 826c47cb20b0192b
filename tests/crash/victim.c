/* victim.c: allocates as fast as it can until it is killed, and keeps a count of its own in shared memory.
 *
 * Loaded by a Python program under `bursar run`.  Each thread has a page of the file: what it has begun and what it has
 * done.  A count is `begun` before the call and `done` after it, so that at any instant the books are between the two.
 * What the books said before the first of these events is in the first page: nobody else allocates from then on. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ledger/layout.h"

/* Python's, found in the program that loads this. */
void *PyObject_Malloc(size_t);
void *PyObject_Realloc(void *, size_t);
void PyObject_Free(void *);
void *PyMem_RawMalloc(size_t);
void *PyMem_RawRealloc(void *, size_t);
void PyMem_RawFree(void *);
int PyGILState_Ensure(void);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *);

#define SLOTS 256
#define BATCH 2000 /* steps until the GIL is passed on */

struct count {
  uint64_t allocs, alloc_bytes, frees, free_bytes;
};
struct thread_page {
  struct count begun, done;
  struct count before; /* of the first page: all of the program, before it began */
  uint64_t ready;      /* of the first page */
  unsigned char rest[4096 - 3 * sizeof(struct count) - 8];
};
_Static_assert(sizeof(struct thread_page) == 4096, "a page");

static struct thread_page *pages;

static void allocated(struct count *count, uint64_t bytes) {
  __atomic_store_n(&count->alloc_bytes, count->alloc_bytes + bytes, __ATOMIC_SEQ_CST);
  __atomic_store_n(&count->allocs, count->allocs + 1, __ATOMIC_SEQ_CST);
}

static void freed(struct count *count, uint64_t bytes) {
  __atomic_store_n(&count->free_bytes, count->free_bytes + bytes, __ATOMIC_SEQ_CST);
  __atomic_store_n(&count->frees, count->frees + 1, __ATOMIC_SEQ_CST);
}

static uint64_t next(uint64_t *seed) { /* xorshift64 */
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  return *seed ^= *seed << 17;
}

static void step(struct thread_page *page, uint64_t *seed, void **slots, uint64_t *sizes, int with_gil) {
  uint64_t dice = next(seed);
  unsigned at = dice % SLOTS;
  int raw = !with_gil || at % 2;
  uint64_t size = (dice >> 32 & 63 ? dice >> 16 & 511 : dice >> 16 & 0xfffff);
  if (slots[at] && (dice >> 9 & 3)) {
    freed(&page->begun, sizes[at]);
    (raw ? PyMem_RawFree : PyObject_Free)(slots[at]);
    freed(&page->done, sizes[at]);
    slots[at] = NULL;
  } else if (slots[at]) {
    freed(&page->begun, sizes[at]);
    allocated(&page->begun, size);
    slots[at] = (raw ? PyMem_RawRealloc : PyObject_Realloc)(slots[at], size);
    freed(&page->done, sizes[at]);
    allocated(&page->done, size);
    sizes[at] = size;
  } else {
    allocated(&page->begun, size);
    slots[at] = (raw ? PyMem_RawMalloc : PyObject_Malloc)(size);
    allocated(&page->done, size);
    sizes[at] = size;
  }
}

struct work {
  uint64_t seed;
  struct thread_page *page;
  int with_gil;
};
static sem_t attached, gate;

static void run(struct work work) {
  static __thread void *slots[SLOTS];
  static __thread uint64_t sizes[SLOTS];
  uint64_t seed = work.seed * 0x9E3779B97F4A7C15ull + 1;
  for (;;) {
    void *state = NULL;
    for (int i = 0; i < BATCH; i++)
      step(work.page, &seed, slots, sizes, work.with_gil);
    if (work.with_gil) {
      state = PyEval_SaveThread();
      PyEval_RestoreThread(state);
    }
  }
}

static void *begin(void *arg) {
  struct work work = *(struct work *)arg;
  void *state = NULL;
  if (work.with_gil) {
    PyGILState_Ensure();
    state = PyEval_SaveThread();
  }
  sem_post(&attached);
  sem_wait(&gate);
  if (work.with_gil)
    PyEval_RestoreThread(state);
  run(work);
  return NULL;
}

static void read_books(const struct bursar_books *books, struct count *out) {
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_tally *lanes[] = {&books->gil[domain], &books->free_lane[domain], &books->remote[domain]};
    for (int lane = 0; lane < 3; lane++) {
      out->allocs += lanes[lane]->allocs;
      out->alloc_bytes += lanes[lane]->alloc_bytes;
      out->frees += lanes[lane]->frees;
      out->free_bytes += lanes[lane]->free_bytes;
    }
  }
}

static void *map(const char *path, size_t bytes, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0)
    return NULL;
  void *p = mmap(NULL, bytes, flags == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return p == MAP_FAILED ? NULL : p;
}

/* Called without the GIL, by the program's only thread; returns only to say that it cannot begin.  Beside that thread,
 * which takes the GIL, as many others run, `with` of them with it. */
int victim_run(const char *counts, const char *ledger, uint64_t seed, int without, int with) {
  static struct work work[16];
  pthread_t thread;
  pages = map(counts, 16 * sizeof *pages, O_RDWR);
  unsigned char *file = map(ledger, BURSAR_EXTENT_MIN, O_RDONLY);
  if (!pages || !file || without + with > 15)
    return -1;
  sem_init(&attached, 0, 0);
  sem_init(&gate, 0, 0);
  for (int i = 0; i < without + with; i++) {
    work[i + 1] = (struct work){seed + (uint64_t)i + 1, &pages[i + 1], i >= without};
    if (pthread_create(&thread, NULL, begin, &work[i + 1]) != 0)
      return -1;
    sem_wait(&attached);
  }
  PyGILState_Ensure(); /* there is a state for this thread: nothing is allocated */
  read_books((const struct bursar_books *)(const void *)(file + BURSAR_AT_BOOKS), &pages[0].before);
  __atomic_store_n(&pages[0].ready, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < without + with; i++)
    sem_post(&gate);
  run((struct work){seed, &pages[0], 1});
  return 0;
}
