#include "account/lock.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

#define SPINS 64 /* it is held for a microsecond: then its holder was likely put to sleep */

static bool taken;
static __thread unsigned depth __attribute__((tls_model("initial-exec")));

static __attribute__((noinline)) void wait_for_it(void) {
  int kept = errno;
  do {
    for (int i = 0; i < SPINS && __atomic_load_n(&taken, __ATOMIC_RELAXED); i++)
      __asm__ volatile("" ::: "memory");
    if (__atomic_load_n(&taken, __ATOMIC_RELAXED))
      sched_yield();
  } while (__atomic_exchange_n(&taken, true, __ATOMIC_ACQUIRE));
  errno = kept;
}

void bursar_lock_take(void) {
  if (depth++ == 0 && __builtin_expect(__atomic_exchange_n(&taken, true, __ATOMIC_ACQUIRE), 0))
    wait_for_it();
}

void bursar_lock_give(void) {
  if (--depth == 0)
    __atomic_store_n(&taken, false, __ATOMIC_RELEASE);
}

void bursar_lock_after_fork(void) {
  depth = 0;
  __atomic_store_n(&taken, false, __ATOMIC_RELAXED);
}
