/* account_driver.c: allocations that a test asked for, made with no Python in between, and the books' totals after each.
 *
 * Loaded by a Python program with its books open.  The totals are read from the ledger's own bytes, so that reading them
 * allocates nothing.  Threads: driver_open and driver_run from one thread that has released the GIL. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ledger/layout.h"

/* Python's, found in the program that loads this. */
void *PyObject_Malloc(size_t);
void *PyObject_Calloc(size_t, size_t);
void *PyObject_Realloc(void *, size_t);
void PyObject_Free(void *);
void *PyMem_Malloc(size_t);
void *PyMem_Calloc(size_t, size_t);
void *PyMem_Realloc(void *, size_t);
void PyMem_Free(void *);
void *PyMem_RawMalloc(size_t);
void *PyMem_RawCalloc(size_t, size_t);
void *PyMem_RawRealloc(void *, size_t);
void PyMem_RawFree(void *);
int PyGILState_Ensure(void);
void *PyEval_SaveThread(void);
void PyEval_RestoreThread(void *);

#define THREADS 4
#define SLOTS 64

enum { MALLOC, CALLOC, REALLOC, FREE };
struct op {
  uint32_t thread, domain, kind, slot, with_gil, reserved;
  uint64_t size;
};
struct figures {
  uint64_t live, peak, free_high;
  uint64_t allocs[BURSAR_DOMAINS_PYTHON], alloc_bytes[BURSAR_DOMAINS_PYTHON];
  uint64_t frees[BURSAR_DOMAINS_PYTHON], free_bytes[BURSAR_DOMAINS_PYTHON];
};

struct front { /* of each block of a storm */
  uint64_t size;
  uint64_t domain;
};

static struct worker {
  pthread_t thread;
  sem_t go;
  const struct op *op;
  struct figures *out;
  void *state;
  uint64_t seed; /* of a storm; 0: single operations */
  uint64_t storm_ops;
  struct figures own;
} workers[THREADS];
static sem_t done;
static void *slots[SLOTS];
static struct front *shared[2][SLOTS]; /* of a storm: blocks that change hands, with and without the GIL */
static const struct bursar_books *books;

static void read_figures(struct figures *out) {
  memset(out, 0, sizeof *out);
  out->live = books->live;
  for (int domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++) {
    const struct bursar_tally *lanes[] = {&books->gil[domain], &books->free_lane[domain], &books->remote[domain]};
    for (int lane = 0; lane < 3; lane++) {
      out->allocs[domain] += lanes[lane]->allocs;
      out->alloc_bytes[domain] += lanes[lane]->alloc_bytes;
      out->frees[domain] += lanes[lane]->frees;
      out->free_bytes[domain] += lanes[lane]->free_bytes;
      if (lane)
        out->live += lanes[lane]->alloc_bytes - lanes[lane]->free_bytes;
    }
  }
  out->peak = books->peak > out->live ? books->peak : out->live;
  out->free_high = books->free_high;
}

static void *allocate(unsigned domain, unsigned kind, void *p, size_t size) {
  switch (domain * 4 + kind) {
    case BURSAR_DOMAIN_OBJ * 4 + MALLOC: return PyObject_Malloc(size);
    case BURSAR_DOMAIN_OBJ * 4 + CALLOC: return PyObject_Calloc(1, size);
    case BURSAR_DOMAIN_OBJ * 4 + REALLOC: return PyObject_Realloc(p, size);
    case BURSAR_DOMAIN_MEM * 4 + MALLOC: return PyMem_Malloc(size);
    case BURSAR_DOMAIN_MEM * 4 + CALLOC: return PyMem_Calloc(1, size);
    case BURSAR_DOMAIN_MEM * 4 + REALLOC: return PyMem_Realloc(p, size);
    case BURSAR_DOMAIN_RAW * 4 + MALLOC: return PyMem_RawMalloc(size);
    case BURSAR_DOMAIN_RAW * 4 + CALLOC: return PyMem_RawCalloc(1, size);
    default: return PyMem_RawRealloc(p, size);
  }
}

static void release(unsigned domain, void *p) {
  if (domain == BURSAR_DOMAIN_OBJ)
    PyObject_Free(p);
  else if (domain == BURSAR_DOMAIN_MEM)
    PyMem_Free(p);
  else
    PyMem_RawFree(p);
}

static void run_one(const struct op *op) {
  void **slot = &slots[op->slot % SLOTS], *p;
  if (op->kind == FREE) {
    release(op->domain, *slot);
    *slot = NULL;
  } else if ((p = allocate(op->domain, op->kind, *slot, op->size)) != NULL) {
    *slot = p;
  }
}

static uint64_t next(uint64_t *seed) { /* xorshift64 */
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  return *seed ^= *seed << 17;
}

/* Swaps a new block, or nothing, for what lies at a random place; what is found is freed, perhaps resized before, by
 * whoever finds it.  Python's two domains change hands among holders of the GIL alone, RAW among all. */
static void storm_event(struct worker *w, int with_gil) {
  uint64_t dice = next(&w->seed);
  int raw = !with_gil || (dice & 3) == 0;
  unsigned domain = raw ? BURSAR_DOMAIN_RAW : dice >> 2 & 1 ? BURSAR_DOMAIN_OBJ : BURSAR_DOMAIN_MEM;
  struct front *block = NULL;
  if (dice >> 8 & 1) {
    size_t size = sizeof *block + (dice >> 16) % ((dice >> 9 & 31) ? 600 : 200000);
    block = allocate(domain, dice >> 3 & 1, NULL, size);
    *block = (struct front){size, domain};
    w->own.allocs[domain]++;
    w->own.alloc_bytes[domain] += size;
  }
  block = __atomic_exchange_n(&shared[raw][(dice >> 40) % SLOTS], block, __ATOMIC_ACQ_REL);
  if (!block)
    return;
  domain = (unsigned)block->domain;
  if (dice >> 4 & 1) {
    size_t size = sizeof *block + (dice >> 20) % 3000;
    w->own.frees[domain]++;
    w->own.free_bytes[domain] += block->size;
    block = allocate(domain, REALLOC, block, size);
    block->size = size;
    w->own.allocs[domain]++;
    w->own.alloc_bytes[domain] += size;
  }
  w->own.frees[domain]++;
  w->own.free_bytes[domain] += block->size;
  release(domain, block);
}

static void storm(struct worker *w) {
  for (uint64_t left = w->storm_ops; left;) {
    uint64_t batch = 1 + next(&w->seed) % 64, with_gil = next(&w->seed) & 1;
    if (with_gil)
      PyEval_RestoreThread(w->state);
    for (; batch && left; batch--, left--)
      storm_event(w, (int)with_gil);
    if (with_gil)
      w->state = PyEval_SaveThread();
  }
}

static void *work(void *arg) {
  struct worker *w = arg;
  PyGILState_Ensure();
  w->state = PyEval_SaveThread();
  sem_post(&done);
  for (;;) {
    sem_wait(&w->go);
    if (w->seed) {
      storm(w);
    } else {
      if (w->op->with_gil)
        PyEval_RestoreThread(w->state);
      run_one(w->op);
      read_figures(w->out);
      if (w->op->with_gil)
        w->state = PyEval_SaveThread();
    }
    sem_post(&done);
  }
  return NULL;
}

/* Starts the threads; the books may be opened before or after. */
int driver_open(void) {
  sem_init(&done, 0, 0);
  for (int i = 0; i < THREADS; i++) {
    sem_init(&workers[i].go, 0, 0);
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
      return -1;
    sem_wait(&done);
  }
  return 0;
}

/* The books to read: the ledger at this path. */
int driver_books(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  unsigned char *file = mmap(NULL, BURSAR_EXTENT_MIN, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (file == MAP_FAILED)
    return -1;
  books = (const struct bursar_books *)(const void *)(file + BURSAR_AT_BOOKS);
  return 0;
}

/* Runs n operations one after the other, each in its thread; out has n + 1 figures, out[0] those before. */
void driver_run(const struct op *ops, int n, struct figures *out) {
  read_figures(&out[0]);
  for (int i = 0; i < n; i++) {
    struct worker *w = &workers[ops[i].thread % THREADS];
    w->op = &ops[i];
    w->out = &out[i + 1];
    sem_post(&w->go);
    sem_wait(&done);
  }
}

/* All threads at once, so many operations each; out has the figures before and after, own what the threads counted. */
void driver_storm(uint64_t seed, uint64_t n, struct figures *out, struct figures *own) {
  read_figures(&out[0]);
  for (int i = 0; i < THREADS; i++) {
    memset(&workers[i].own, 0, sizeof workers[i].own);
    workers[i].storm_ops = n;
    workers[i].seed = (seed + 1) * 0x9E3779B97F4A7C15ull + (uint64_t)i * 0x5851F42D4C957F2Dull;
    sem_post(&workers[i].go);
  }
  for (int i = 0; i < THREADS; i++)
    sem_wait(&done);
  read_figures(&out[1]);
  memset(own, 0, sizeof *own);
  for (int i = 0; i < THREADS; i++) {
    workers[i].seed = 0;
    for (int domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++) {
      own->allocs[domain] += workers[i].own.allocs[domain];
      own->alloc_bytes[domain] += workers[i].own.alloc_bytes[domain];
      own->frees[domain] += workers[i].own.frees[domain];
      own->free_bytes[domain] += workers[i].own.free_bytes[domain];
    }
  }
}
