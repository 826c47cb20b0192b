#include "account/lock.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#define SPINS 64 /* it is held for a microsecond: then its holder was likely put to sleep */

/* A signal handler may come between any two instructions here, take the lock and give it back: who holds it is told by one word,
 * and what is kept beside it is as it was when the handler is done. */
static uintptr_t holder; /* the address of the thread's `again`; 0: nobody */
static __thread unsigned again __attribute__((tls_model("initial-exec"))); /* how often it took what it held */

static bool take_free(uintptr_t me) {
  uintptr_t nobody = 0;
  return __atomic_compare_exchange_n(&holder, &nobody, me, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static __attribute__((noinline)) void wait_for_it(uintptr_t me) {
  int kept = errno;
  do {
    for (int i = 0; i < SPINS && __atomic_load_n(&holder, __ATOMIC_RELAXED); i++)
      __asm__ volatile("" ::: "memory");
    if (__atomic_load_n(&holder, __ATOMIC_RELAXED))
      sched_yield();
  } while (!take_free(me));
  errno = kept;
}

void bursar_lock_take(void) {
  uintptr_t me = (uintptr_t)&again;
  if (__atomic_load_n(&holder, __ATOMIC_RELAXED) == me)
    again++;
  else if (__builtin_expect(!take_free(me), 0))
    wait_for_it(me);
}

void bursar_lock_give(void) {
  if (again)
    again--;
  else
    __atomic_store_n(&holder, 0, __ATOMIC_RELEASE);
}

void bursar_lock_after_fork(void) {
  again = 0;
  __atomic_store_n(&holder, 0, __ATOMIC_RELAXED);
}
