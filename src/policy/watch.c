#include "policy/watch.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "policy/budget.h"
#include "prim/prim.h"
#include "prim/smaps.h"

#define EVERY_NS 10000000
#define ALONE 10 /* each so many looks: is anybody left? */
#define STACK (256 << 10)
#define GONE_US 100
#define GONE_TRIES 10000 /* a second in all */

bool bursar_watch_due;

static pthread_t thread;
static pid_t task;
static bool running, stopping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;

static void look(void) {
  uint64_t resident;
  if (bursar_smaps_resident(0, &resident) == 0)
    bursar_budget_seen(resident);
}

static void *watch(void *unused) {
  unsigned looks = 0;
  bursar_prim_waits(1);
  pthread_mutex_lock(&lock);
  task = gettid();
  while (!stopping && !(++looks % ALONE == 0 && bursar_prim_waits_for_nobody())) {
    pthread_mutex_unlock(&lock);
    look();
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += EVERY_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    while (!stopping && pthread_cond_timedwait(&wake, &lock, &until) == 0)
      ;
  }
  pthread_mutex_unlock(&lock);
  bursar_prim_waits(-1);
  return unused;
}

/* A thread that is joined is counted by the kernel for some microseconds more, and whoever forks then is warned. */
static void wait_until_gone(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d", (int)task);
  for (int i = 0; i < GONE_TRIES && access(path, F_OK) == 0; i++)
    usleep(GONE_US);
}

void bursar_watch_stop(void) {
  bursar_watch_due = false;
  if (!running)
    return;
  pthread_mutex_lock(&lock);
  stopping = true;
  pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
  pthread_join(thread, NULL);
  running = false;
}

static void before_fork(void) {
  int kept = errno;
  bool was = running;
  bursar_watch_stop();
  if (was)
    wait_until_gone();
  bursar_watch_due = was;
  errno = kept;
}

static int begin(void) {
  pthread_attr_t attributes;
  pthread_condattr_t clock;
  sigset_t all, before;
  int result = pthread_attr_init(&attributes);
  if (result)
    return -result;
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_cond_init(&wake, &clock);
  pthread_condattr_destroy(&clock);
  pthread_attr_setstacksize(&attributes, STACK > PTHREAD_STACK_MIN ? STACK : PTHREAD_STACK_MIN);
  stopping = false;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  result = pthread_create(&thread, &attributes, watch, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  running = result == 0;
  return -result;
}

int bursar_watch_start(void) {
  static bool registered;
  bursar_watch_due = false;
  if (running)
    return 0;
  if (!registered && !(registered = pthread_atfork(before_fork, NULL, NULL) == 0))
    return -ENOMEM;
  look();
  return begin();
}
