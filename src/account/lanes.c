#include "account/lanes.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define SHARED 0u

_Static_assert(sizeof(struct bursar_thread_lane) * BURSAR_LANES == BURSAR_LANES_BYTES,
               "lanes fill the rest of extent 0");

union bursar_lanes_pages bursar_lanes_pages __attribute__((aligned(BURSAR_PAGE)));
__thread struct bursar_lanes_thread bursar_lanes_mine
    __attribute__((tls_model("initial-exec"))) = {.countdown = -1, .step = -1};

static bool taken[BURSAR_LANES];
static unsigned used = SHARED + 1; /* lanes from here on were never taken */
static bool sharing;               /* a lock */
static pthread_key_t at_end;
static bool has_key;

/* The thread ends.  What it frees after this, in the destructors of others, is counted in the shared lane. */
static void leave(void *lane) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  me->lane = NULL;
  me->countdown = me->step = -1;
  me->gone = true;
  __atomic_store_n(&taken[(struct bursar_thread_lane *)lane - bursar_lanes_pages.lane], false, __ATOMIC_RELEASE);
}

int bursar_lanes_open(struct bursar_writer *writer, struct bursar_error *error) {
  if (!has_key && pthread_key_create(&at_end, leave) != 0)
    return bursar_error_set(error, BURSAR_FAILED,
                            "the program has used up all keys for thread-specific data: use mode "
                            "exact, which needs none");
  has_key = true;
  return bursar_writer_map_lanes(writer, &bursar_lanes_pages, error);
}

void bursar_lanes_after_fork(void) {
  const struct bursar_thread_lane *mine = bursar_lanes_mine.lane;
  for (unsigned i = 0; i < BURSAR_LANES; i++)
    __atomic_store_n(&taken[i], mine == &bursar_lanes_pages.lane[i], __ATOMIC_RELAXED);
  __atomic_store_n(&sharing, false, __ATOMIC_RELAXED);
}

static void raise_used(unsigned count) {
  unsigned was = __atomic_load_n(&used, __ATOMIC_RELAXED);
  while (was < count && !__atomic_compare_exchange_n(&used, &was, count, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
}

struct bursar_thread_lane *bursar_lanes_take(void) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  if (me->lane || me->gone || !has_key)
    return me->lane;
  for (unsigned i = SHARED + 1; i < BURSAR_LANES; i++) {
    if (__atomic_load_n(&taken[i], __ATOMIC_RELAXED) || __atomic_exchange_n(&taken[i], true, __ATOMIC_ACQUIRE))
      continue;
    int kept = errno;
    bool told = pthread_setspecific(at_end, &bursar_lanes_pages.lane[i]) == 0;
    errno = kept;
    if (told) {
      raise_used(i + 1);
      return me->lane = &bursar_lanes_pages.lane[i];
    }
    __atomic_store_n(&taken[i], false, __ATOMIC_RELEASE); /* it would never come back */
    return NULL;
  }
  return NULL;
}

struct bursar_thread_lane *bursar_lanes_share(void) {
  while (__atomic_exchange_n(&sharing, true, __ATOMIC_ACQUIRE))
    sched_yield();
  return &bursar_lanes_pages.lane[SHARED];
}

void bursar_lanes_unshare(void) { __atomic_store_n(&sharing, false, __ATOMIC_RELEASE); }

/* A lane's thread adds plainly to words of its own: old or new.  To ThreadSanitizer a plain add is a race. */
__attribute__((no_sanitize_thread, noinline)) static uint64_t glance(const uint64_t *at) {
  return __atomic_load_n(at, __ATOMIC_RELAXED);
}

struct bursar_tally bursar_lanes_sum(unsigned domain) {
  struct bursar_tally sum = {0};
  unsigned count = __atomic_load_n(&used, __ATOMIC_ACQUIRE);
  for (unsigned i = 0; i < count; i++) {
    const struct bursar_thread_lane *lane = &bursar_lanes_pages.lane[i];
    sum.alloc_bytes += glance(&lane->alloc_bytes[domain]);
    sum.allocs += glance(&lane->allocs[domain]);
    sum.free_bytes += glance(&lane->free_bytes[domain]);
    sum.frees += glance(&lane->frees[domain]);
  }
  return sum;
}

/* Frees first: no block has gone that did not come. */
__attribute__((no_sanitize_thread, noinline)) static int64_t held_in(const struct bursar_thread_lane *lane,
                                                                     unsigned domain) {
  uint64_t gone = __atomic_load_n(&lane->free_bytes[domain], __ATOMIC_ACQUIRE);
  return (int64_t)(__atomic_load_n(&lane->alloc_bytes[domain], __ATOMIC_RELAXED) - gone);
}

int64_t bursar_lanes_held(int64_t out[BURSAR_DOMAIN_COUNT]) {
  unsigned count = __atomic_load_n(&used, __ATOMIC_ACQUIRE);
  int64_t total = 0;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    out[domain] = 0;
    for (unsigned i = 0; i < count; i++)
      out[domain] += held_in(&bursar_lanes_pages.lane[i], domain);
    total += out[domain];
  }
  return total;
}
