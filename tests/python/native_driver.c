/* native_driver.c: C code of the kind that finds the holes of interposers, for test_native_holes.py. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define THREADS 4
#define SLOTS 256

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Blocks change hands between threads: each slot is taken, filled and given back by whoever comes. */
static void *shared[SLOTS];
static volatile int stop;

static void *storm(void *seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed * 0x9E3779B97F4A7C15ull + 1;
  while (!stop) {
    size_t size = next(&random) % 5000;
    void *p = NULL;
    switch (next(&random) % 6) {
      case 0: p = malloc(size); break;
      case 1: p = calloc(3, size); break;
      case 2: p = realloc(malloc(64), size + 1); break;
      case 3: p = aligned_alloc(64, (size + 63) / 64 * 64); break;
      case 4:
        if (posix_memalign(&p, 256, size) != 0)
          p = NULL;
        break;
      default: {
        void *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map != MAP_FAILED) {
          munmap((char *)map + 4096, 4096);
          munmap(map, 4 * 4096);
        }
      }
    }
    free(__atomic_exchange_n(&shared[next(&random) % SLOTS], p, __ATOMIC_ACQ_REL));
  }
  return NULL;
}

static pthread_t threads[THREADS];

int storm_begin(void) {
  stop = 0;
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, storm, (void *)(i + 1)) != 0)
      return -1;
  return 0;
}

void storm_end(void) {
  stop = 1;
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < SLOTS; i++) {
    free(shared[i]);
    shared[i] = NULL;
  }
}

/* A thread's last breath: what runs when its own memory is being taken down. */
static pthread_key_t key;
static void *breaths[1000];
static unsigned breath_count;

static void breathe(void *again) {
  breaths[__atomic_fetch_add(&breath_count, 1, __ATOMIC_RELAXED) % 1000] = valloc(4096);
  if ((uintptr_t)again < 3) /* once more, after everybody else's */
    pthread_setspecific(key, (void *)((uintptr_t)again + 1));
}

static void *short_life(void *unused) {
  pthread_setspecific(key, (void *)1);
  return unused;
}

unsigned last_breaths(unsigned n) {
  breath_count = 0;
  pthread_key_create(&key, breathe);
  for (unsigned i = 0; i < n; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, short_life, NULL) == 0)
      pthread_join(thread, NULL);
  }
  pthread_key_delete(key);
  return breath_count;
}

/* A handler that maps memory, whatever it interrupts. */
static unsigned handled;

static void handler(int number) {
  void *map = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map != MAP_FAILED)
    munmap(map, 2 * 4096);
  handled += number == SIGALRM;
}

void handler_begin(void) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  struct itimerval timer = {{0, 1000}, {0, 1000}};
  handled = 0;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &timer, NULL);
}

unsigned handler_end(void) {
  struct itimerval none = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &none, NULL);
  signal(SIGALRM, SIG_DFL);
  return handled;
}

/* An allocator of its own that dies with its library: blocks that outlive the code that made them. */
void *made_here(size_t size) { return malloc(size); }

/* Three ways to hold what is called: by the name, in a table that the loader fills, in a variable that the code fills. */
static void *(*const in_a_table[])(size_t) = {malloc};
static void *(*in_a_variable)(size_t);

void *made_by_table(size_t size) { return in_a_table[0](size); }
void remember_malloc(void) { in_a_variable = malloc; }
void *made_by_variable(size_t size) { return in_a_variable(size); }
void *mapped_here(size_t bytes) {
  return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
void ended_here(void *p) { free(p); }
