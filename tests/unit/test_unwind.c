/* The unwinder against a peer, libgcc's behind backtrace(): on random calls, through callbacks, signals and threads. */
#include "native/unwind.h"
#include "tap.h"

#include <alloca.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "account_model.h"

#define DEPTH 4096

static struct bursar_unwind_stack stack;
static __thread struct bursar_unwind_stack *own = &stack;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* who has it unwinds */
static __thread uint64_t random_state = 11;
static unsigned captures, wrong, frames_seen, frames_kept, lost_errno, deepest;
static __thread volatile uintptr_t sink;

static void complain(void *const *peers, int peer_count) {
  printf("# ours %u frames, the peer's %d\n", own->count, peer_count);
  for (int i = 0; i < peer_count || i < (int)own->count; i++)
    printf("#  %p  %p\n", i < (int)own->count ? (void *)own->frames[own->count - 1 - (unsigned)i].at.pc : NULL,
           i < peer_count ? peers[i] : NULL);
}

/* backtrace tells this function's own frame first, and a sanitizer's in front of it. */
static __attribute__((noinline)) void capture(void) {
  static void *peers[DEPTH];
  struct bursar_unwind_at at = BURSAR_UNWIND_CALLER();
  pthread_mutex_lock(&turn);
  errno = 77;
  frames_kept += bursar_unwind_follow(own, &at, UINTPTR_MAX);
  lost_errno += errno != 77;
  int all = backtrace(peers, DEPTH), first = all > 1 && (uintptr_t)peers[1] != at.pc ? 2 : 1, count = all - first;
  bool same = count == (int)own->count;
  for (int i = 0; same && i < count; i++)
    same = (uintptr_t)peers[first + i] == own->frames[own->count - 1 - (unsigned)i].at.pc;
  if (!same && wrong < 2)
    complain(peers + first, count);
  wrong += !same;
  captures++;
  frames_seen += own->count;
  if (own->count > deepest)
    deepest = own->count;
  pthread_mutex_unlock(&turn);
}

/* --- functions of all the shapes that compilers make ---------------------------------------------------------------------- */

static void any(unsigned depth);

static __attribute__((noinline)) void plain(unsigned depth) {
  any(depth);
  sink++;
}

static __attribute__((noinline)) void twice(unsigned depth) {
  any(depth / 2);
  any(depth - depth / 2 - 1);
  sink++;
}

static __attribute__((noinline)) void large(unsigned depth) {
  volatile char room[5000];
  room[depth] = 1;
  any(depth);
  sink += (uintptr_t)room[depth];
}

static __attribute__((noinline)) void dynamic(unsigned depth) {
  volatile char *room = alloca(model_below(&random_state, 3000) + 16);
  room[0] = 1;
  any(depth);
  sink += (uintptr_t)room[0];
}

static __attribute__((noinline)) void aligned(unsigned depth) {
  volatile _Alignas(64) char room[128];
  room[depth & 127] = 1;
  any(depth);
  sink += (uintptr_t)room[depth & 127];
}

static __attribute__((noinline)) void aligned_dynamic(unsigned depth) {
  volatile _Alignas(64) char room[128];
  volatile char *more = alloca(model_below(&random_state, 300) + 16);
  more[0] = room[depth & 127] = 1;
  any(depth);
  sink += (uintptr_t)room[depth & 127] + (uintptr_t)more[0];
}

/* rbp holds anything in a function without a frame pointer that runs out of registers. */
static __attribute__((noinline, optimize("omit-frame-pointer"))) void crowded(unsigned depth) {
  uint64_t a = model_below(&random_state, 99), b = a * 3, c = b ^ 5, d = c + 7, e = d * 9, f = e + a, g = f ^ b;
  __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g) : : "rbp");
  any(depth);
  __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g) : : "rbp");
  sink += a + b + c + d + e + f + g;
}

static __attribute__((noinline, optimize("no-omit-frame-pointer"))) void framed(unsigned depth) {
  any(depth);
  sink++;
}

static __thread unsigned depth_in_callback;
static int compare(const void *left, const void *right) {
  unsigned depth = depth_in_callback;
  depth_in_callback = 0;
  if (depth)
    any(depth);
  return *(const int *)left - *(const int *)right;
}

static __attribute__((noinline)) void through_libc(unsigned depth) {
  int numbers[3] = {3, 1, 2};
  depth_in_callback = depth;
  qsort(numbers, 3, sizeof *numbers, compare);
  depth_in_callback = 0;
  sink += (uintptr_t)numbers[0];
}

static void (*const shapes[])(unsigned) = {plain,           twice,   large,  dynamic,     aligned,
                                           aligned_dynamic, crowded, framed, through_libc};

static void any(unsigned depth) {
  if (depth == 0 || model_below(&random_state, 4) == 0)
    capture();
  if (depth > 0 && depth < 100)
    shapes[model_below(&random_state, sizeof shapes / sizeof *shapes)](depth - 1);
}

static void begin(void) { captures = wrong = frames_seen = frames_kept = lost_errno = deepest = 0; }

static void test_random(void) {
  begin();
  for (unsigned i = 0; i < 2000; i++)
    any(1 + model_below(&random_state, 60));
  EQ(wrong, 0);
  EQ(lost_errno, 0);
  OK(captures > 5000, "%u stacks were compared", captures);
  OK(deepest > 50, "the deepest had %u frames", deepest);
  OK(frames_kept > frames_seen / 4 && frames_kept < frames_seen, "%u of %u frames were kept", frames_kept, frames_seen);
}

/* The same stack again: all of it is kept, as long as the compiler makes no several calls of the loop's one. */
static void test_kept(void) {
  begin();
#pragma GCC unroll 1
  for (unsigned i = 0; i < 100; i++)
    capture();
  EQ(wrong, 0);
  OK(frames_kept > frames_seen - frames_seen / 10, "%u of %u frames were kept", frames_kept, frames_seen);
}

/* --- a callee that comes from elsewhere with the very same stack ---------------------------------------------------------- */

static __attribute__((noinline)) void leaf(void) {
  capture();
  sink++;
}
static __attribute__((noinline)) void middle(void) {
  leaf();
  sink++;
}
static __attribute__((noinline)) void outer(void) {
  middle(); /* here */
  sink++;
  middle(); /* and here: only the return address in between tells */
  sink++;
}

static void test_same_place_other_caller(void) {
  begin();
  for (unsigned i = 0; i < 50; i++)
    outer();
  EQ(captures, 100);
  EQ(wrong, 0);
}

/* --- signals ---------------------------------------------------------------------------------------------------------------- */

static void handler(int number) { capture(); }

static __attribute__((noinline)) void interrupted(void) {
  (void)raise(SIGUSR1);
  sink++;
}

static void test_signals(void) {
  static char other[1 << 16];
  stack_t alternate = {.ss_sp = other, .ss_size = sizeof other};
  struct sigaction action = {.sa_handler = handler};
  begin();
  sigaction(SIGUSR1, &action, NULL);
  for (unsigned i = 0; i < 10; i++) {
    interrupted();
    leaf();
  }
  EQ(captures, 20);
  EQ(wrong, 0);
  action.sa_flags = SA_ONSTACK;
  sigaltstack(&alternate, NULL);
  sigaction(SIGUSR1, &action, NULL);
  for (unsigned i = 0; i < 10; i++) {
    interrupted();
    leaf();
  }
  EQ(captures, 40);
  EQ(wrong, 0);
}

/* --- threads, each with its stack in turn ------------------------------------------------------------------------------------ */

static void *other_thread(void *unused) {
  for (unsigned i = 0; i < 20; i++)
    any(30);
  return NULL;
}

static void test_threads(void) {
  pthread_t thread;
  begin();
  for (unsigned i = 0; i < 20; i++) {
    bool made = pthread_create(&thread, NULL, other_thread, NULL) == 0;
    if (!made || pthread_join(thread, NULL) != 0)
      wrong++;
    any(10);
  }
  EQ(wrong, 0);
  OK(captures > 100, "%u stacks were compared", captures);
}

/* Several at a time, each with its own, while modules come and go: what is known of code is all of theirs. */
static bool done;

static void *unwinding_thread(void *mine) {
  own = mine;
  random_state = (uint64_t)(uintptr_t)mine | 1;
  for (unsigned i = 0; i < 300; i++)
    any(30);
  return NULL;
}

static void *unloading_thread(void *unused) {
  while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
    bursar_unwind_unloaded();
    sched_yield();
  }
  return unused;
}

static void test_threads_together(void) {
  static struct bursar_unwind_stack stacks[4];
  pthread_t threads[4], unloading;
  begin();
  bool made = pthread_create(&unloading, NULL, unloading_thread, NULL) == 0;
  for (unsigned i = 0; i < 4; i++)
    made = made && pthread_create(&threads[i], NULL, unwinding_thread, &stacks[i]) == 0;
  for (unsigned i = 0; made && i < 4; i++)
    pthread_join(threads[i], NULL);
  __atomic_store_n(&done, true, __ATOMIC_RELAXED);
  pthread_join(unloading, NULL);
  OK(made && captures > 1000, "%u stacks of four threads were compared", captures);
  EQ(wrong, 0);
}

/* --- code without unwind information ------------------------------------------------------------------------------------------ */

static unsigned from_made;
static void called_from_made_code(void) {
  struct bursar_unwind_at at = BURSAR_UNWIND_CALLER();
  from_made = 0;
  (void)bursar_unwind_follow(&stack, &at, UINTPTR_MAX);
  from_made = stack.count;
}

static void test_made_code(void) {
#if defined(__x86_64__)
  /* sub $8,%rsp; call *%rdi; add $8,%rsp; ret */
  static const unsigned char code[] = {0x48, 0x83, 0xec, 8, 0xff, 0xd7, 0x48, 0x83, 0xc4, 8, 0xc3};
  unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!OK(page != MAP_FAILED, "a page for code"))
    return;
  memcpy(page, code, sizeof code);
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  ((void (*)(void (*)(void)))(uintptr_t)page)(called_from_made_code);
  EQ(from_made, 1); /* the made code itself, and there it ends */
  EQ(stack.frames[0].at.pc, (uintptr_t)page + 6);
  munmap(page, 4096);
#endif
}

/* A limit ends the walk with the frame that holds it. */
static __attribute__((noinline)) void within(uintptr_t limit) {
  struct bursar_unwind_at at = BURSAR_UNWIND_CALLER();
  (void)bursar_unwind_follow(&stack, &at, limit);
}

static __attribute__((noinline)) void with_limit(void) {
  volatile char here = 0;
  within((uintptr_t)&here);
  sink += (uintptr_t)here;
  EQ(stack.count, 1);
  OK(bursar_unwind_end(&stack, 0) > (uintptr_t)&here && stack.frames[0].at.sp <= (uintptr_t)&here,
     "the limit is in the outermost frame");
  within(UINTPTR_MAX);
  OK(stack.count > 2, "without one there are more");
}

int main(void) {
  void *warm[2];
  (void)backtrace(warm, 2); /* it loads libgcc */
  if (!bursar_unwind_start()) {
    printf("1..0 # SKIP stacks cannot be unwound here\n");
    return 0;
  }
  test_random();
  test_kept();
  test_same_place_other_caller();
  test_signals();
  test_threads();
  test_threads_together();
  test_made_code();
  with_limit();
  return tap_done();
}
