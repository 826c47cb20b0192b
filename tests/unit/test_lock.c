/* The lock of the books: whatever a signal handler interrupts, and between threads. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>

#include "account/lock.h"
#include "tap.h"

#define ROUNDS 4000u /* of the handler: a few hundred of them find the lock taken, as many its taking and giving */
#define THREADS 3

static volatile sig_atomic_t handled;

static void handler(int number) {
  bursar_lock_take();
  bursar_lock_take();
  bursar_lock_give();
  bursar_lock_give();
  handled += number == SIGALRM;
}

static void test_a_handler(void) {
  struct sigaction action = {.sa_handler = handler};
  struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  while (handled < (sig_atomic_t)ROUNDS) {
    bursar_lock_take();
    bursar_lock_take();
    bursar_lock_give();
    bursar_lock_give();
  }
  setitimer(ITIMER_REAL, &never, NULL);
  signal(SIGALRM, SIG_DFL);
  OK(handled >= (sig_atomic_t)ROUNDS, "a handler that takes the lock, wherever it comes, finds it or waits for nobody");
}

static uint64_t guarded, own[THREADS];

static void *work(void *count) {
  for (unsigned i = 0; i < 50000; i++) {
    bursar_lock_take();
    bursar_lock_take();
    guarded++;
    bursar_lock_give();
    guarded++;
    bursar_lock_give();
    *(uint64_t *)count += 2;
  }
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  uint64_t sum = 0;
  for (unsigned i = 0; i < THREADS; i++)
    OK(pthread_create(&threads[i], NULL, work, &own[i]) == 0, "a thread begins");
  for (unsigned i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    sum += own[i];
  }
  OK(guarded == sum, "one thread at a time: %llu of %llu", (unsigned long long)guarded, (unsigned long long)sum);
}

int main(void) {
  test_a_handler();
  test_threads();
  return tap_done();
}
