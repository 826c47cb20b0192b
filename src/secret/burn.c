#include "secret/burn.h"

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "prim/peek.h"
#include "prim/prim.h"
#include "secret/wipe.h"

#define PAGE ((uintptr_t)BURSAR_PRIM_PAGE)
#define NEAR (16 * PAGE) /* zeroed without asking what is there: it will be used again soon */
#define ASKED 512        /* pages that the kernel is asked about at once */

/* The thread's own stack, as the C library says; asked once, since that costs reading maps in the main thread. */
static __thread struct {
  uintptr_t low, high;
} own __attribute__((tls_model("initial-exec")));

static bool learn(void) {
  pthread_attr_t attributes;
  void *low = NULL;
  size_t bytes = 0, guard = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0)
    return false;
  int status = pthread_attr_getstack(&attributes, &low, &bytes);
  if (pthread_attr_getguardsize(&attributes, &guard) != 0)
    guard = 0;
  pthread_attr_destroy(&attributes);
  if (status != 0)
    return false;
  own.high = (uintptr_t)low + bytes;
  own.low = ((uintptr_t)low + guard + PAGE - 1) & ~(PAGE - 1);
  return true;
}

static inline uintptr_t stack_pointer(void) {
  uintptr_t here;
#if defined(__x86_64__)
  __asm__ volatile("mov %%rsp, %0" : "=r"(here));
#elif defined(__aarch64__)
  __asm__ volatile("mov %0, sp" : "=r"(here));
#else
  here = (uintptr_t)__builtin_frame_address(0) - 2048;
#endif
  return here;
}

/* Zeroes the stack from its own frame down to `near`: the frame grows over all of it, so that nothing is written where a signal
 * might be, nor where tools look for mistakes. */
static __attribute__((noinline)) void zero_near(uintptr_t near) {
  uintptr_t here = stack_pointer();
  bursar_wipe(alloca(here - near), here - near);
}

/* How many pages of [at, at + pages) are mapped, from the top down; for each of these whether it is in memory. */
static size_t ask(uintptr_t at, size_t pages, unsigned char *there) {
  size_t mapped = 0, beyond = pages + 1;
  for (size_t count = pages; mapped + 1 < beyond; count = mapped + (beyond - mapped) / 2) {
    if (mincore((void *)(at + (pages - count) * PAGE), count * PAGE, there + pages - count) == 0)
      mapped = count;
    else
      beyond = count;
  }
  return mapped;
}

/* Gives the pages below `top` back, as far down as the stack is mapped: they are seldom in use again, and are read as zeros.
 * Where they are locked they are zeroed here. */
static __attribute__((noinline)) void zero_deep(uintptr_t top) {
  unsigned char there[ASKED];
  while (top > own.low) {
    size_t pages = (top - own.low) / PAGE < ASKED ? (top - own.low) / PAGE : ASKED;
    size_t mapped = ask(top - pages * PAGE, pages, there);
    if (mapped && madvise((void *)(top - mapped * PAGE), mapped * PAGE, MADV_DONTNEED) != 0)
      for (size_t i = pages - mapped; i < pages; i++)
        if (there[i] & 1)
          bursar_wipe((void *)(top - (pages - i) * PAGE), PAGE);
    if (mapped < pages)
      return;
    top -= pages * PAGE;
  }
}

/* Where what is near begins, with a page below it for who zeroes it; 0 where the thread is on another stack than its own, or at
 * the end of it. */
static uintptr_t find_near(uintptr_t here) {
  if ((here < own.low || here >= own.high) && (!learn() || here < own.low || here >= own.high))
    return 0;
  uintptr_t below = here & ~(PAGE - 1);
  if (below < own.low + 2 * PAGE)
    return 0;
  return below - own.low > NEAR + PAGE ? below - NEAR : own.low + PAGE;
}

void bursar_burn_stack(void) {
  int kept = errno;
  uintptr_t near = find_near(stack_pointer());
  if (near) {
    zero_deep(near);
    zero_near(near);
  }
  errno = kept;
}

void bursar_burn_registers(void) {
#if defined(__x86_64__)
  #define SIXTEEN                                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
        "xmm13", "xmm14", "xmm15"
  if (__builtin_cpu_supports("avx512f"))
    __asm__ volatile(
        "vpxord %%zmm16, %%zmm16, %%zmm16\n\tvpxord %%zmm17, %%zmm17, %%zmm17\n\t"
        "vpxord %%zmm18, %%zmm18, %%zmm18\n\tvpxord %%zmm19, %%zmm19, %%zmm19\n\t"
        "vpxord %%zmm20, %%zmm20, %%zmm20\n\tvpxord %%zmm21, %%zmm21, %%zmm21\n\t"
        "vpxord %%zmm22, %%zmm22, %%zmm22\n\tvpxord %%zmm23, %%zmm23, %%zmm23\n\t"
        "vpxord %%zmm24, %%zmm24, %%zmm24\n\tvpxord %%zmm25, %%zmm25, %%zmm25\n\t"
        "vpxord %%zmm26, %%zmm26, %%zmm26\n\tvpxord %%zmm27, %%zmm27, %%zmm27\n\t"
        "vpxord %%zmm28, %%zmm28, %%zmm28\n\tvpxord %%zmm29, %%zmm29, %%zmm29\n\t"
        "vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31"
        :
        :
        : "memory");
  if (__builtin_cpu_supports("avx"))
    __asm__ volatile("vzeroall" : : : SIXTEEN);
  else
    __asm__ volatile(
        "pxor %%xmm0, %%xmm0\n\tpxor %%xmm1, %%xmm1\n\tpxor %%xmm2, %%xmm2\n\tpxor %%xmm3, %%xmm3\n\t"
        "pxor %%xmm4, %%xmm4\n\tpxor %%xmm5, %%xmm5\n\tpxor %%xmm6, %%xmm6\n\tpxor %%xmm7, %%xmm7\n\t"
        "pxor %%xmm8, %%xmm8\n\tpxor %%xmm9, %%xmm9\n\tpxor %%xmm10, %%xmm10\n\tpxor %%xmm11, %%xmm11\n\t"
        "pxor %%xmm12, %%xmm12\n\tpxor %%xmm13, %%xmm13\n\tpxor %%xmm14, %%xmm14\n\tpxor %%xmm15, %%xmm15"
        :
        :
        : SIXTEEN);
  #undef SIXTEEN
#elif defined(__aarch64__)
  __asm__ volatile(
      "movi v0.2d, #0\n\tmovi v1.2d, #0\n\tmovi v2.2d, #0\n\tmovi v3.2d, #0\n\tmovi v4.2d, #0\n\t"
      "movi v5.2d, #0\n\tmovi v6.2d, #0\n\tmovi v7.2d, #0\n\tmovi v16.2d, #0\n\tmovi v17.2d, #0\n\t"
      "movi v18.2d, #0\n\tmovi v19.2d, #0\n\tmovi v20.2d, #0\n\tmovi v21.2d, #0\n\tmovi v22.2d, #0\n\t"
      "movi v23.2d, #0\n\tmovi v24.2d, #0\n\tmovi v25.2d, #0\n\tmovi v26.2d, #0\n\tmovi v27.2d, #0\n\t"
      "movi v28.2d, #0\n\tmovi v29.2d, #0\n\tmovi v30.2d, #0\n\tmovi v31.2d, #0"
      :
      :
      : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
        "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

/* --- ended threads ------------------------------------------------------------------------------------------------------ */

#define AT_ONCE 64 /* threads: as many stacks of one size are burnt */

struct burner {
  pthread_t thread;
  bool used; /* its stack had been used before */
  sem_t *done, *leave;
};

#define BEGINNING 4096 /* what the beginning of a thread uses itself */

/* Has some thread used this stack since it was made, or burnt?  Read through the kernel: it is nobody's. */
static __attribute__((noinline)) bool is_used(void) {
  static const struct bursar_peek self = {.pages_fd = -1, .mem_fd = -1};
  unsigned char there[NEAR / PAGE];
  uint64_t part[128];
  uintptr_t here = stack_pointer(), near = find_near(here);
  size_t pages = near ? (here - near) / PAGE : 0;
  if (pages == 0 || ask(near, pages, there) != pages)
    return false;
  for (uintptr_t at = near; at + sizeof part <= here - BEGINNING; at += sizeof part) {
    if (!(there[(at - near) / PAGE] & 1) || bursar_peek_read(&self, at, part, sizeof part) != (ssize_t)sizeof part)
      continue;
    for (size_t i = 0; i < sizeof part / 8; i++)
      if (part[i])
        return true;
  }
  return false;
}

static void *burn_own(void *given) {
  struct burner *burner = given;
  burner->used = is_used();
  bursar_burn_stack();
  sem_post(burner->done);
  while (sem_wait(burner->leave) != 0)
    ;
  return NULL;
}

/* The C library hands the stack that it kept last to the next thread that wants one not much smaller; once that is a new one, or
 * one that was burnt, there is none behind it that was not.  Each thread stays until then, so that none gets the same again. */
static void burn_ended_of(size_t bytes) {
  static struct burner burners[AT_ONCE]; /* under the GIL, and of one caller */
  sem_t done, leave;
  pthread_attr_t attributes;
  size_t count = 0;
  if (pthread_attr_init(&attributes) != 0)
    return;
  sem_init(&done, 0, 0);
  sem_init(&leave, 0, 0);
  bool more = bytes == 0 || pthread_attr_setstacksize(&attributes, bytes) == 0;
  while (more && count < AT_ONCE) {
    struct burner *burner = &burners[count];
    *burner = (struct burner){.done = &done, .leave = &leave};
    if (pthread_create(&burner->thread, &attributes, burn_own, burner) != 0)
      break;
    count++;
    while (sem_wait(&done) != 0)
      ;
    more = burner->used;
  }
  for (size_t i = 0; i < count; i++)
    sem_post(&leave);
  for (size_t i = 0; i < count; i++)
    pthread_join(burners[i].thread, NULL);
  sem_destroy(&done);
  sem_destroy(&leave);
  pthread_attr_destroy(&attributes);
}

void bursar_burn_ended(bool all) {
  int kept = errno;
  sigset_t every, before;
  sigfillset(&every);
  if (pthread_sigmask(SIG_SETMASK, &every, &before) == 0) {
    burn_ended_of(0);
    for (size_t bytes = 64 << 10; all && bytes <= 64 << 20; bytes *= 4)
      burn_ended_of(bytes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  errno = kept;
}
