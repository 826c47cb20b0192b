/* hostile_driver.c: C code that uses memory where nobody expects it, for test_native_hostile.py.  Each function returns what is known
 * of its result. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;

static void *map(size_t bytes) { return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

/* A handler that frees and allocates, on a stack of its own or not.  Only mappings are interrupted: malloc itself may not be. */
#define SLOTS 64
static volatile unsigned handled;
static void *slots[SLOTS];

static void handler(int number) {
  unsigned at = handled++ % SLOTS;
  free(slots[at]);
  slots[at] = realloc(malloc(50), 100 + (size_t)(number == SIGALRM ? at : 0));
}

static void interrupt_every(int microseconds) {
  struct itimerval timer = {{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &timer, NULL);
}

int handlers(int rounds, int elsewhere) {
  static char stack[1 << 16];
  stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | (elsewhere ? SA_ONSTACK : 0)};
  handled = 0;
  sigaltstack(&own, NULL);
  sigaction(SIGALRM, &action, NULL);
  interrupt_every(50);
  while (handled < (unsigned)rounds)
    munmap(map(8192), 8192);
  interrupt_every(0);
  signal(SIGALRM, SIG_DFL);
  own.ss_flags = SS_DISABLE;
  sigaltstack(&own, NULL);
  for (int i = 0; i < SLOTS; i++) {
    free(slots[i]);
    slots[i] = NULL;
  }
  return handled >= (unsigned)rounds;
}

/* Threads that allocate until their end, and in it. */
static pthread_key_t key;

static void at_the_end(void *held) {
  free(held);
  for (size_t i = 0; i < 50; i++)
    free(malloc(1000 + i));
}

static void *short_life(void *early) {
  pthread_setspecific(key, malloc(777));
  for (size_t i = 0; i < 100; i++)
    free(realloc(malloc(i * 10 + 1), i * 20 + 1));
  if (early)
    pthread_exit(malloc(123));
  return malloc(123);
}

int short_lives(int rounds) {
  int ended = 0;
  pthread_key_create(&key, at_the_end);
  for (int i = 0; i < rounds; i++) {
    pthread_t threads[4];
    for (uintptr_t k = 0; k < 4; k++)
      if (pthread_create(&threads[k], NULL, short_life, (void *)(k & 1)) != 0)
        return -1;
    for (int k = 0; k < 4; k++) {
      void *left;
      pthread_join(threads[k], &left);
      free(left);
      ended++;
    }
  }
  pthread_key_delete(key);
  return ended;
}

/* Code that comes, allocates, and goes, again and again: another's may be where it was. */
int come_and_go(const char *path, int rounds) {
  int made = 0;
  for (int i = 0; i < rounds; i++) {
    void *module = dlopen(path, RTLD_NOW);
    if (!module)
      return -1;
    void *(*make)(size_t) = (void *(*)(size_t))dlsym(module, "made_here");
    void (*end)(void *) = (void (*)(void *))dlsym(module, "ended_here");
    void *p = make(1000);
    made += p != NULL;
    end(p);
    dlclose(module);
  }
  return made;
}

/* What cannot be had is refused as ever, and what is odd is served as ever. */
int refusals(void) {
  volatile size_t most = SIZE_MAX;
  void *p = (void *)1, *q;
  errno = 0;
  if (malloc(most / 2 - 100) || errno != ENOMEM)
    return 1;
  errno = 0;
  if (calloc(most / 8, 16) || errno != ENOMEM)
    return 2;
  errno = 0;
  if (aligned_alloc(4096, most - 4096) || errno != ENOMEM)
    return 3;
  if (posix_memalign(&p, 3, 10) != EINVAL || p != (void *)1 || posix_memalign(&p, 1ul << 62, 10) != ENOMEM)
    return 4;
  p = aligned_alloc(1ul << 28, 100ul << 20);
  if (!p || (uintptr_t)p & ((1ul << 28) - 1))
    return 5;
  free(p);
  p = malloc(100);
  errno = 0;
  q = realloc(p, most / 2 - 5);
  if (q || errno != ENOMEM)
    return 6;
  errno = 5;
  free(p);
  if (errno != 5)
    return 7;
  errno = 0;
  if (reallocarray(NULL, most / 2, 4) || errno != ENOMEM)
    return 8;
  errno = 0;
  if (map(0) != MAP_FAILED || errno != EINVAL)
    return 9;
  errno = 0;
  if (munmap((void *)123, 4096) != -1 || errno != EINVAL)
    return 10;
  errno = 0;
  if (map(1ul << 60) != MAP_FAILED || errno != ENOMEM)
    return 11;
  p = map(1 << 20);
  if (mremap(p, 1 << 20, 1ul << 60, MREMAP_MAYMOVE) != MAP_FAILED || munmap(p, 1 << 20) != 0)
    return 12;
  return 0;
}

/* Blocks that grow and shrink while they change hands. */
static void *shared[SLOTS];

static void *resize(void *seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed * 0x9E3779B97F4A7C15ull + 1;
  for (int i = 0; i < 20000; i++) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    void **slot = &shared[random % SLOTS], *p = __atomic_exchange_n(slot, NULL, __ATOMIC_ACQ_REL);
    free(__atomic_exchange_n(slot, realloc(p, 1 + random % 3000), __ATOMIC_ACQ_REL));
  }
  return NULL;
}

int resized_by_many(void) {
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++)
    if (pthread_create(&threads[i], NULL, resize, (void *)(i + 1)) != 0)
      return 0;
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < SLOTS; i++) {
    free(shared[i]);
    shared[i] = NULL;
  }
  return 1;
}

/* Forks of forks while others allocate. */
static volatile int stop;

static void *busy(void *unused) {
  for (size_t size = 1; !stop; size = size * 7 % 5003)
    free(malloc(size));
  return unused;
}

int forks(int rounds) {
  int right = 0;
  pthread_t threads[3];
  stop = 0;
  for (int i = 0; i < 3; i++)
    if (pthread_create(&threads[i], NULL, busy, NULL) != 0)
      return -1;
  for (int i = 0; i < rounds; i++) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
      for (size_t k = 0; k < 100; k++)
        free(malloc(k * 50));
      child = fork();
      if (child == 0) {
        free(malloc(10));
        _exit(3);
      }
      waitpid(child, &status, 0);
      _exit(WEXITSTATUS(status) + 4);
    }
    waitpid(child, &status, 0);
    right += WIFEXITED(status) && WEXITSTATUS(status) == 7;
  }
  stop = 1;
  for (int i = 0; i < 3; i++)
    pthread_join(threads[i], NULL);
  return right;
}

static char *const arguments[] = {(char *)"true", NULL};

static pid_t spawned(void) {
  pid_t child;
  return posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) == 0 ? child : -1;
}

static pid_t vforked(void) {
  pid_t child = vfork();
  if (child == 0) {
    execve("/bin/true", arguments, environ);
    _exit(9);
  }
  return child;
}

int spawns(int rounds) {
  int right = 0;
  for (int i = 0; i < rounds; i++) {
    int status = -1;
    pid_t child = i % 2 ? vforked() : spawned();
    right += child > 0 && waitpid(child, &status, 0) == child && status == 0;
  }
  return right;
}

/* Stacks of one's own, which come and go: what was next to one may be gone. */
static ucontext_t home, away;
static void *held;
static int turns;

static void body(void) {
  for (;;) {
    free(held);
    held = malloc(500);
    turns++;
    swapcontext(&away, &home);
  }
}

int contexts(int rounds) {
  turns = 0;
  for (int i = 0; i < rounds; i++) {
    size_t bytes = (4 + (size_t)i % 3) * 4096;
    void *stack = map(bytes);
    getcontext(&away);
    away.uc_stack.ss_sp = stack;
    away.uc_stack.ss_size = bytes;
    makecontext(&away, body, 0);
    swapcontext(&home, &away);
    swapcontext(&home, &away);
    munmap(stack, bytes);
  }
  free(held);
  held = NULL;
  return turns;
}

__attribute__((noinline)) void *deep(int frames) {
  void *p = frames ? deep(frames - 1) : malloc(4242);
  __asm__ volatile("" ::: "memory"); /* the call is not the last thing that it does */
  return p;
}

void ended(void *p) { free(p); }
