/* The operating system behind prim.h: identities, mappings, growth that never leaves a hole and never kills. */
#include "prim/prim.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXTENT 65536u

static int temporary(void) {
  char name[] = "/tmp/bursar-test-XXXXXX";
  int fd = mkostemp(name, O_CLOEXEC);
  unlink(name);
  return fd;
}

static void identities(void) {
  struct bursar_identity self;
  struct bursar_identity named;
  struct bursar_identity other;
  uint8_t no_boot[16] = {0};
  EQ(bursar_prim_identity(0, &self), 0);
  EQ(bursar_prim_identity(getpid(), &named), 0);
  OK(memcmp(&self, &named, sizeof self) == 0, "self is getpid()");
  OK(self.process_start > 0, "a start");
  OK(self.pid_namespace > 0, "a namespace");
  OK(memcmp(self.boot_id, no_boot, 16) != 0, "a boot");
  EQ(bursar_prim_identity(1, &other), 0);
  OK(other.process_start != self.process_start, "another process started at another time");
  fflush(stdout);
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  waitpid(child, NULL, 0);
  errno = 7;
  EQ(bursar_prim_identity(child, &other), -ESRCH);
  EQ(errno, 7);
}

/* A process may call itself anything, brackets and blanks included: the fields behind its name must still be found. */
static void a_name_with_brackets(void) {
  int ready[2];
  int done[2];
  struct bursar_identity before;
  struct bursar_identity after;
  char byte = 0;
  if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(done, O_CLOEXEC) != 0)
    return;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int fd = open("/proc/self/comm", O_WRONLY);
    bool good = fd >= 0 && write(fd, "a) R 1 (b", 9) == 9;
    good = write(ready[1], &byte, 1) == 1 && good;
    _exit(read(done[0], &byte, 1) == 1 && good ? 0 : 1);
  }
  bursar_prim_identity(child, &before);
  EQ(read(ready[0], &byte, 1), 1);
  EQ(bursar_prim_identity(child, &after), 0);
  OK(before.process_start == after.process_start && after.process_start > 0, "the start is found behind any name");
  int status = 1;
  EQ(write(done[1], &byte, 1), 1);
  waitpid(child, &status, 0);
  EQ(status, 0);
  close(ready[0]), close(ready[1]), close(done[0]), close(done[1]);
}

static void mappings(void) {
  struct stat is;
  int fd = temporary();
  EQ(bursar_prim_grow(fd, 0, 4 * EXTENT), 0);
  EQ(fstat(fd, &is), 0);
  EQ(bursar_prim_maps_file(0, is.st_dev, is.st_ino), 0);
  char *base = bursar_prim_reserve(4 * EXTENT, false);
  OK(base != NULL, "a reservation");
  if (!base)
    return;
  EQ(bursar_prim_map_shared(base + EXTENT, EXTENT, fd, 2 * EXTENT), 0);
  memcpy(base + EXTENT, "here", 4);
  char read_back[4] = "";
  EQ(pread(fd, read_back, 4, 2 * EXTENT), 4);
  OK(memcmp(read_back, "here", 4) == 0, "what is written to the mapping is in the file");
  EQ(bursar_prim_maps_file(0, is.st_dev, is.st_ino), 1);
  EQ(bursar_prim_maps_file(getpid(), is.st_dev, is.st_ino), 1);
  EQ(bursar_prim_maps_file(getpid(), is.st_dev, is.st_ino + 1), 0);
  bursar_prim_release(base, 4 * EXTENT);
  EQ(bursar_prim_maps_file(0, is.st_dev, is.st_ino), 0);
  close(fd);
  EQ(bursar_prim_map_shared(NULL, EXTENT, -1, 0), -EBADF);
}

static void shared_files(void) {
  char path[4096];
  char name[] = "/tmp/bursar test\nXXXXXX";
  int fd = mkostemp(name, O_CLOEXEC);
  EQ(bursar_prim_grow(fd, 0, EXTENT), 0);
  EQ(bursar_prim_shared_file(0, 0, path, sizeof path), 0);
  void *at = mmap(NULL, EXTENT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  OK(at != MAP_FAILED, "mapped");
  EQ(bursar_prim_shared_file(0, 0, path, sizeof path), 1);
  SAME(path, name);
  EQ(bursar_prim_shared_file(0, 1, path, sizeof path), 0);
  EQ(bursar_prim_shared_file(0, 0, path, 8), -ENAMETOOLONG);
  munmap(at, EXTENT);
  unlink(name);
  close(fd);
}

static void reservations(void) {
  unsigned char *zeros = bursar_prim_reserve(1u << 20, true);
  OK(zeros && zeros[0] == 0 && zeros[(1u << 20) - 1] == 0, "zero pages on first touch");
  if (zeros)
    zeros[12345] = 1;
  bursar_prim_release(zeros, 1u << 20);
  bursar_prim_release(NULL, 1u << 20);
  errno = 7;
  OK(bursar_prim_reserve((size_t)1 << 62, true) == NULL, "what does not fit is NULL");
  EQ(errno, 7);
}

static void growth(void) {
  struct stat is;
  int fd = temporary();
  EQ(bursar_prim_grow(fd, 0, EXTENT), 0);
  EQ(bursar_prim_grow(fd, EXTENT, 3 * EXTENT), 0);
  EQ(fstat(fd, &is), 0);
  EQ(is.st_size, 4 * EXTENT);
  OK(is.st_blocks * 512 >= 4 * (long long)EXTENT, "no hole");
  EQ(pwrite(fd, "kept", 4, 100), 4);
  EQ(bursar_prim_grow(fd, 0, EXTENT), 0);
  char back[4] = "";
  EQ(pread(fd, back, 4, 100), 4);
  OK(memcmp(back, "kept", 4) == 0, "what was there stays");
  close(fd);
  errno = 7;
  OK(bursar_prim_grow(-1, 0, EXTENT) == -EBADF && errno == 7, "errors are returned, errno is kept");
}

/* In a child, since a limit that was lowered stays. */
static int in_child(int (*body)(void)) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0)
    _exit(body());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int over_the_limit(void) {
  int fd = temporary();
  struct rlimit limit = {.rlim_cur = 2 * EXTENT, .rlim_max = RLIM_INFINITY};
  sigset_t pending;
  sigset_t blocked;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || bursar_prim_grow(fd, 0, EXTENT) != 0)
    return 1;
  if (bursar_prim_grow(fd, EXTENT, 2 * EXTENT) != -EFBIG)
    return 2;
  sigpending(&pending);
  sigprocmask(SIG_BLOCK, NULL, &blocked);
  return sigismember(&pending, SIGXFSZ) || sigismember(&blocked, SIGXFSZ) ? 3 : 0;
}

/* The planted half: without being held off, the signal kills. */
static int over_the_limit_unheld(void) {
  int fd = temporary();
  struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
  struct rlimit limit = {.rlim_cur = EXTENT, .rlim_max = RLIM_INFINITY};
  if (setrlimit(RLIMIT_CORE, &none) != 0 || setrlimit(RLIMIT_FSIZE, &limit) != 0)
    return 1;
  return pwrite(fd, "x", 1, EXTENT) == 1 ? 2 : 3;
}

/* A signal that was pending before is the host's own, and stays. */
static int a_pending_one_stays(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGXFSZ);
  sigprocmask(SIG_BLOCK, &set, NULL);
  raise(SIGXFSZ);
  int status = over_the_limit();
  sigpending(&set);
  return status == 3 && sigismember(&set, SIGXFSZ) ? 0 : 1;
}

static int say_to_nobody(void) {
  int ends[2];
  if (pipe(ends) != 0)
    return 1;
  close(ends[0]);
  bursar_prim_say(ends[1], "nobody reads this\n", 18);
  bursar_prim_say(-1, "nor this\n", 9);
  return 0;
}

static void say(void) {
  int ends[2];
  char text[16] = "";
  EQ(pipe2(ends, O_CLOEXEC), 0);
  bursar_prim_say(ends[1], "hello", 5);
  EQ(read(ends[0], text, sizeof text), 5);
  SAME(text, "hello");
  close(ends[0]);
  close(ends[1]);
  EQ(in_child(say_to_nobody), 0);
}

static void clocks(void) {
  uint64_t first = bursar_prim_now();
  uint64_t second = bursar_prim_now();
  OK(first > 0 && second >= first, "time goes forward");
  OK(bursar_prim_unix_now() > 1700000000ull * 1000000000ull, "after 2023, in nanoseconds");
}

int main(void) {
  identities();
  a_name_with_brackets();
  mappings();
  shared_files();
  reservations();
  growth();
  EQ(in_child(over_the_limit), 0);
  EQ(in_child(over_the_limit_unheld), -SIGXFSZ);
  EQ(in_child(a_pending_one_stays), 0);
  say();
  clocks();
  return tap_done();
}
