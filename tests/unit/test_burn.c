#include "secret/burn.h"

#include <alloca.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "secret/environment.h"
#include "tap.h"

enum { MARK = 0xA7, BYTES = 64 };

/* Writes a mark so far below, and returns the place, which is no variable's any more. */
static __attribute__((noinline)) uintptr_t leave(size_t below) {
  volatile unsigned char *room = alloca(below);
  for (int i = 0; i < BYTES; i++)
    room[i] = MARK;
  return (uintptr_t)room;
}

/* How many of its bytes are still there; none where the memory itself has gone. */
static __attribute__((noinline)) int left(uintptr_t at) {
  unsigned char there[2];
  int count = 0;
  if (mincore((void *)(at & ~(uintptr_t)4095), BYTES + (at & 4095), there) != 0)
    return 0;
  for (int i = 0; i < BYTES; i++)
    count += ((volatile unsigned char *)at)[i] == MARK;
  return count;
}

static const size_t depths[] = {4000, 40000, 400000};
static struct {
  int before, after, kept;
} seen[3];

static void *burn_here(void *unused) {
  for (int i = 0; i < 3; i++) {
    volatile unsigned char mine[BYTES]; /* in use: it stays */
    for (int k = 0; k < BYTES; k++)
      mine[k] = MARK;
    uintptr_t place = leave(depths[i]);
    seen[i].before = left(place);
    bursar_burn_stack();
    seen[i].after = left(place);
    seen[i].kept = 0;
    for (int k = 0; k < BYTES; k++)
      seen[i].kept += mine[k] == MARK;
  }
  return NULL;
}

static void say(const char *whose) {
  for (int i = 0; i < 3; i++)
    OK(seen[i].before == BYTES && seen[i].after == 0 && seen[i].kept == BYTES,
       "%s stack, %zu bytes below: %d bytes were there, %d are left; %d in use stay", whose, depths[i], seen[i].before,
       seen[i].after, seen[i].kept);
}

static void test_stacks(void) {
  pthread_t thread;
  burn_here(NULL);
  say("the main thread's");
  if (pthread_create(&thread, NULL, burn_here, NULL) == 0)
    pthread_join(thread, NULL);
  say("a thread's");
}

static uintptr_t places[3];
static pthread_barrier_t all;

static void *leave_and_end(void *which) {
  places[(uintptr_t)which] = leave(6000);
  pthread_barrier_wait(&all);
  return NULL;
}

static void test_ended(void) {
  pthread_t threads[3];
  int before = 0, after = 0;
  pthread_barrier_init(&all, NULL, 3);
  for (uintptr_t i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, leave_and_end, (void *)i) != 0)
      abort();
  for (int i = 0; i < 3; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++)
    before += left(places[i]);
  bursar_burn_ended(false);
  for (int i = 0; i < 3; i++)
    after += left(places[i]);
  OK(before > 0 && after == 0, "stacks of ended threads: %d bytes were there, %d are left", before, after);
}

static void test_registers(void) {
#ifdef __x86_64__
  uint64_t mark = 0xA7A7A7A7A7A7A7A7u, low, high;
  __asm__ volatile("movq %0, %%xmm5\n\tmovq %0, %%xmm15" : : "r"(mark) : "xmm5", "xmm15");
  bursar_burn_registers();
  __asm__ volatile("movq %%xmm5, %0\n\tmovq %%xmm15, %1" : "=r"(low), "=r"(high));
  OK(low == 0 && high == 0, "registers");
  if (__builtin_cpu_supports("avx512f")) {
    __asm__ volatile("vmovq %0, %%xmm16\n\tvmovq %0, %%xmm31" : : "r"(mark));
    bursar_burn_registers();
    __asm__ volatile("vmovq %%xmm16, %0\n\tvmovq %%xmm31, %1" : "=r"(low), "=r"(high));
    OK(low == 0 && high == 0, "the upper registers");
  }
#else
  OK(true, "registers are not looked at on this processor");
#endif
}

static void test_environment(void) {
  setenv("BURSAR_TEST_VALUE", "first", 1);
  char *value = getenv("BURSAR_TEST_VALUE");
  OK(strcmp(value, "first") == 0 && bursar_environment_wipe("BURSAR_TEST_VALUE") == 1 &&
         memcmp(value, "\0\0\0\0\0", 5) == 0,
     "a variable that was set");
  OK(bursar_environment_wipe("BURSAR_TEST_VAL") == 0, "not one whose name only begins so");
  const char *path = getenv("PATH");
  OK(path && *path && bursar_environment_wipe("PATH") >= 1 && !*path, "one that the program was started with");
}

int main(void) {
  test_stacks();
  test_ended();
  test_registers();
  test_environment();
  return tap_done();
}
