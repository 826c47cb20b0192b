/* api_driver.c: C code that tells bursar of its allocator and its scopes, as include/bursar.h says; for test_c_api.py. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bursar.h"

static const struct bursar_api *bursar;

int setup(void) {
  bursar = bursar_api();
  return bursar != NULL;
}

/* A pool that never gives a chunk back. */
static char *chunk;
static size_t left;

void *pool_alloc(size_t bytes) {
  size_t rounded = (bytes + 15) & ~(size_t)15;
  if (rounded > left) {
    left = 1 << 20;
    chunk = malloc(left);
    if (bursar)
      bursar->chunk_begins(chunk, left);
  }
  void *p = chunk;
  chunk += rounded;
  left -= rounded;
  if (bursar)
    bursar->block_begins(p, bytes);
  return p;
}

void pool_free(void *p) {
  if (bursar)
    bursar->block_ends(p);
}

/* An arena of its own mapping. */
void *arena_make(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bursar)
    bursar->chunk_begins(at, bytes);
  return at;
}

uint64_t begin(const char *name) { return bursar ? bursar->scope_begin(name) : 0; }
void end(uint64_t scope) {
  if (bursar)
    bursar->scope_end(scope);
}

/* A thread that Python never saw. */
static void *work(void *unused) {
  (void)unused;
  uint64_t outer = begin("c outer"), inner = begin("c inner");
  void *p = malloc(50000);
  end(inner);
  void *q = malloc(20000);
  end(outer);
  void *r = malloc(7);
  free(q);
  free(r);
  return p;
}

void *in_a_thread(void) {
  pthread_t thread;
  void *p = NULL;
  if (pthread_create(&thread, NULL, work, NULL) == 0)
    pthread_join(thread, &p);
  return p;
}
