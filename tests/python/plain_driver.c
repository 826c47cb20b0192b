/* plain_driver.c: a program without Python whose memory is known to the byte, for test_plain.py: plain_driver WHAT [ARG…].
 *
 * It uses no stdio, whose buffers would be booked too. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define THREADS 4

extern char **environ;
static void *volatile kept[64];
static int count;

static void keep(void *p) { kept[count++] = p; }

static void say(const char *text) {
  if (write(1, text, strlen(text)) < 0)
    _exit(9);
}

static void check(int good) {
  if (!good)
    _exit(99);
}

static int family(void) {
  void *p = NULL;
  keep(malloc(1001));
  keep(calloc(7, 143));
  keep(realloc(NULL, 1003));
  keep(reallocarray(NULL, 17, 59));
  keep(aligned_alloc(64, 1024));
  check((uintptr_t)kept[count - 1] % 64 == 0);
  keep(memalign(256, 1006));
  check((uintptr_t)kept[count - 1] % 256 == 0);
  keep(valloc(1007));
  keep(pvalloc(5000));
  check(posix_memalign(&p, 4096, 1009) == 0 && (uintptr_t)p % 4096 == 0);
  keep(p);
  keep(malloc(0));
  return 0;
}

static int reallocs(void) {
  const volatile size_t huge = (size_t)1 << 40;
  char *p = malloc(100), *q;
  p[99] = 7;
  p = realloc(p, 100000);
  check(p && p[99] == 7);
  errno = 0;
  check(!realloc(p, (size_t)1 << 62) && errno == ENOMEM);
  errno = 0;
  check(!reallocarray(p, huge, huge) && errno == ENOMEM);
  keep(p);
  q = malloc(500);
  check(!realloc(q, 0));
  return 0;
}

static char *pages(size_t n) {
  char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(p != MAP_FAILED);
  return p;
}

static int maps(void) {
  static const int order[] = {4, 0, 8, 2, 1, 3, 5, 7, 6};
  char *p;
  pages(100);
  check(munmap(pages(50), 50 * PAGE) == 0);
  check(munmap(pages(10), 4 * PAGE) == 0);            /* 6 are left */
  check(munmap(pages(10) + 3 * PAGE, 2 * PAGE) == 0); /* 8 are left */
  p = pages(9);
  for (int i = 0; i < 9; i++)
    check(munmap(p + (size_t)order[i] * PAGE, PAGE) == 0);
  p = mremap(pages(5), 5 * PAGE, 500 * PAGE, MREMAP_MAYMOVE);
  check(p != MAP_FAILED);
  check(mremap(p, 500 * PAGE, (size_t)1 << 60, MREMAP_MAYMOVE) == MAP_FAILED);
  check(mmap(NULL, (size_t)1 << 32, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
  check(mmap(pages(3), PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
  return 0; /* 100 + 6 + 8 + 500 + 2 + 1 */
}

static int temporaries(void) {
  for (int i = 0; i < 1000; i++) {
    kept[0] = malloc(100);
    free(kept[0]);
  }
  for (int i = 0; i < 500; i++) { /* of each pair the second alone is freed next */
    kept[0] = malloc(24);
    kept[1] = malloc(24);
    free(kept[0]);
    free(kept[1]);
  }
  return 0;
}

/* A peak to the byte: a million at once, and less before and after. */
static int peak(void) {
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 50; i++)
      kept[i] = malloc(round == 1 ? 20000 : 10000);
    for (int i = 0; i < 50; i++)
      free(kept[i]);
  }
  return 0;
}

static pthread_barrier_t barrier;

static void *climb(void *unused) {
  static _Thread_local void *mine[10000];
  for (int i = 0; i < 10000; i++)
    mine[i] = malloc(1000);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 10000; i++)
    free(mine[i]);
  return unused;
}

/* Whatever the C library keeps of threads comes from calloc. */
static int threads(void) {
  pthread_t all[THREADS];
  check(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
  for (int i = 0; i < THREADS; i++)
    check(pthread_create(&all[i], NULL, climb, NULL) == 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(all[i], NULL);
  return 0;
}

/* Blocks change hands, are mapped and moved, while somebody forks. */
static void *shared[256];
static int stop;

static void *storm(void *seed) {
  uint64_t random = (uint64_t)(uintptr_t)seed * 0x9E3779B97F4A7C15ull + 1;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    size_t size = random % 5000;
    void *p = random % 7 ? malloc(size) : realloc(malloc(64), size + 1);
    if (random % 11 == 0) {
      char *map = pages(4);
      munmap(map + PAGE, PAGE);
      munmap(map, 4 * PAGE);
    }
    free(__atomic_exchange_n(&shared[random >> 40 & 255], p, __ATOMIC_ACQ_REL));
  }
  return NULL;
}

static int storms(void) {
  pthread_t all[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    check(pthread_create(&all[i], NULL, storm, (void *)(i + 1)) == 0);
  for (int i = 0; i < 100; i++) {
    pid_t child = fork();
    int status = 1;
    if (child == 0) {
      for (int k = 0; k < 100; k++)
        free(malloc(1000));
      _exit(0);
    }
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < THREADS; i++)
    pthread_join(all[i], NULL);
  for (int i = 0; i < 256; i++)
    free(shared[i]);
  return 0;
}

static int handled;

static void handler(int number) {
  munmap(pages(2), 2 * PAGE);
  handled += number == SIGALRM;
}

static int handlers(void) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  struct itimerval timer = {{0, 500}, {0, 500}};
  check(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
  while (__atomic_load_n(&handled, __ATOMIC_RELAXED) < 200)
    free(malloc(3000));
  timer = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
  keep(malloc(12345));
  return 0;
}

/* Threads that allocate are stopped where they are, and never go on: some runtimes end so. */
static void stand_still(int number) {
  while (number)
    pause();
}

static void *spin(void *unused) {
  for (;;)
    free(malloc(100));
  return unused;
}

static int stopped(void) {
  pthread_t all[20];
  keep(malloc(1000000));
  signal(SIGUSR1, stand_still);
  for (int i = 0; i < 20; i++) {
    check(pthread_create(&all[i], NULL, spin, NULL) == 0);
    usleep(1000);
    check(pthread_kill(all[i], SIGUSR1) == 0);
  }
  usleep(20000); /* each has got it by now, or is stopped later */
  return 3;
}

/* Ledgers of the tests have this in their names; the folders that they are in do not. */
static void say_of_ledgers(void) {
  static char maps[1 << 16];
  int fd = open("/proc/self/maps", O_RDONLY);
  size_t bytes = 0;
  for (ssize_t n; (n = read(fd, maps + bytes, sizeof maps - bytes)) > 0;)
    bytes += (size_t)n;
  close(fd);
  if (memmem(maps, bytes, "/test.bursar", 12))
    say("a ledger is mapped\n");
}

static int forks(void) {
  keep(malloc(1000000));
  pid_t child = fork();
  int status;
  if (child == 0) {
    keep(malloc(5000000));
    say_of_ledgers();
    exit(4);
  }
  check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
  keep(malloc(2000000));
  return 0;
}

static int run_child(char **argv, int become) {
  pid_t child;
  int status;
  keep(malloc(1000000));
  if (become) {
    execvp(argv[0], argv);
    return 98;
  }
  check(posix_spawnp(&child, argv[0], NULL, NULL, argv, environ) == 0);
  check(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* A chain of functions, each a frame of its own. */
__attribute__((noinline)) static void *innermost(size_t size) {
  void *p = malloc(size);
  __asm__ volatile("" ::"r"(p) : "memory");
  return p;
}
__attribute__((noinline)) static void *middle(size_t size) {
  void *p = innermost(size + 1);
  __asm__ volatile("" ::"r"(p) : "memory");
  return p;
}

static void *chain_in_thread(void *unused) {
  keep(middle(40000));
  return unused;
}

static int chain(void) {
  pthread_t thread;
  for (int i = 0; i < 10; i++)
    keep(middle(1000));
  keep(innermost(5000));
  check(pthread_create(&thread, NULL, chain_in_thread, NULL) == 0);
  pthread_join(thread, NULL);
  return 0;
}

/* More stacks than the ledger keeps: a binary tree of calls, 2^16 leaves. */
__attribute__((noinline)) static void left(int depth, int bits);
__attribute__((noinline)) static void right(int depth, int bits);
static void below(int depth, int bits) {
  if (!depth)
    free(malloc(64));
  else if (bits >> (depth - 1) & 1)
    left(depth - 1, bits);
  else
    right(depth - 1, bits);
}
static void left(int depth, int bits) {
  below(depth, bits);
  __asm__ volatile("");
}
static void right(int depth, int bits) {
  below(depth, bits);
  __asm__ volatile("");
}

static void *many_stacks(void *unused) {
  for (int i = 0; i < 1 << 16; i++)
    below(16, i);
  return unused;
}

static int stacks(void) {
  pthread_t other;
  check(pthread_create(&other, NULL, many_stacks, NULL) == 0);
  many_stacks(NULL);
  pthread_join(other, NULL);
  keep(innermost(777777));
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  static const struct {
    const char *name;
    int (*run)(void);
  } all[] = {{"family", family}, {"reallocs", reallocs}, {"maps", maps},     {"temporaries", temporaries},
             {"peak", peak},     {"threads", threads},   {"storms", storms}, {"handlers", handlers},
             {"forks", forks},   {"chain", chain},       {"stacks", stacks}, {"stopped", stopped}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(what, all[i].name) == 0)
      return all[i].run();
  if (strcmp(what, "spawn") == 0 || strcmp(what, "exec") == 0)
    return run_child(argv + 2, what[0] == 'e');
  keep(malloc(1000000));
  say("here\n");
  if (strcmp(what, "exit") == 0)
    exit(atoi(argv[2]));
  if (strcmp(what, "_exit") == 0)
    _exit(atoi(argv[2]));
  if (strcmp(what, "signal") == 0)
    raise(atoi(argv[2]));
  if (strcmp(what, "closed") == 0) {
    close(2);
    check(open("/dev/null", 0) == 2);
    return 0;
  }
  return 97;
}
