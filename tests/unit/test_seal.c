#include "secret/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static struct bursar_seal made(size_t bytes) {
  struct bursar_seal seal;
  size_t offset;
  char *text = malloc(bytes);
  memset(text, 'w', bytes);
  if (bursar_seal_begin(&seal, bytes) != 0 || bursar_seal_put(&seal, text, bytes, &offset) != 0 ||
      bursar_seal_close(&seal) != 0)
    abort();
  free(text);
  return seal;
}

static void test_pieces_are_aligned_and_readable_at_once(void) {
  struct bursar_seal seal;
  size_t offset[4] = {0};
  OK(bursar_seal_begin(&seal, 300) == 0 && seal.bytes == 4096, "room for whole pages");
  OK(bursar_seal_put(&seal, "first", 5, &offset[0]) == 0 && bursar_seal_put(&seal, "", 0, &offset[1]) == 0 &&
         bursar_seal_put(&seal, "second", 6, &offset[2]) == 0,
     "three pieces, one of no bytes");
  OK(offset[0] == 0 && offset[1] == 64 && offset[2] == 64, "aligned to 64");
  OK(memcmp(seal.at, "first", 5) == 0 && memcmp(seal.at + 64, "second", 6) == 0, "seen before it is sealed");
  static const char large[4096];
  OK(bursar_seal_put(&seal, large, sizeof large, &offset[3]) == -ENOSPC && seal.used == 70,
     "and no more than the "
     "room");
  OK(bursar_seal_close(&seal) == 0 && seal.writer < 0, "sealed");
  OK(bursar_seal_put(&seal, "x", 1, &offset[3]) == -EPERM, "then nothing more goes in");
  bursar_seal_end(&seal);
  OK(!seal.at && seal.fd < 0, "given back");
  OK(bursar_seal_begin(&seal, 0) == 0 && bursar_seal_close(&seal) == 0, "of no bytes there is one too");
  bursar_seal_end(&seal);
}

/* One attack a line, on what any code in the process can reach. */
static void test_nothing_makes_it_writable(void) {
  struct bursar_seal seal = made(8192);
  char path[64];
  struct bursar_seal open_one;
  if (bursar_seal_begin(&open_one, 8192) != 0)
    abort();
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", open_one.fd);
  int writable = open(path, O_RDWR);
  OK(writable >= 0 && pwrite(writable, "x", 1, 0) == 1, "before it is sealed a write goes (or this proves nothing)");
  bursar_seal_end(&open_one);
  (void)close(writable);

  OK(mprotect((void *)seal.at, seal.bytes, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "mprotect is refused");
  OK(pwrite(seal.fd, "x", 1, 0) == -1, "write to its descriptor is refused");
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", seal.fd);
  writable = open(path, O_RDWR);
  OK(writable < 0 || (pwrite(writable, "x", 1, 0) == -1 && errno == EPERM), "opened again for writing: refused");
  OK(writable < 0 || (ftruncate(writable, 0) == -1 && errno == EPERM), "to shrink it: refused");
  OK(writable < 0 || (ftruncate(writable, 1 << 20) == -1 && errno == EPERM), "to grow it: refused");
  OK(writable < 0 || mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, writable, 0) == MAP_FAILED,
     "mapped for writing: "
     "refused");
  OK(writable < 0 || fallocate(writable, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1,
     "to punch a hole: refused");
  OK(writable < 0 || (fcntl(writable, F_ADD_SEALS, 0) == -1 && errno == EPERM), "its seals are sealed");
  int mem = open("/proc/self/mem", O_RDWR);
  OK(mem < 0 || pwrite(mem, "x", 1, (off_t)(uintptr_t)seal.at) == -1, "through /proc/self/mem: refused");
  pid_t child = fork();
  if (child == 0) {
    (void)signal(SIGSEGV, SIG_DFL);
    *(volatile char *)(uintptr_t)seal.at = 'x';
    _exit(0);
  }
  int status = 0;
  OK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a store faults");
  OK(seal.at[0] == 'w' && seal.at[8191] == 'w', "and all of it is what it was");
  (void)close(mem);
  (void)close(writable);
  bursar_seal_end(&seal);
}

static void test_attached(void) {
  struct bursar_seal seal = made(5000), other;
  OK(bursar_seal_attach(&other, seal.fd) == 0 && other.at != seal.at && memcmp(other.at, seal.at, 5000) == 0,
     "who has the descriptor has it too");
  bursar_seal_end(&seal);
  OK(other.at[4999] == 'w', "and keeps it when the first gives it back");
  bursar_seal_end(&other);

  struct bursar_seal unsealed;
  if (bursar_seal_begin(&unsealed, 100) != 0)
    abort();
  OK(bursar_seal_attach(&other, unsealed.fd) == -EPERM, "what is not sealed is not trusted");
  bursar_seal_end(&unsealed);
  OK(bursar_seal_attach(&other, 0) < 0 && bursar_seal_attach(&other, -1) == -EBADF, "nor what is no such file");
}

static void test_a_descriptor_that_was_closed(void) {
  struct bursar_seal seal = made(100);
  OK(bursar_seal_held(&seal), "held");
  int number = seal.fd;
  (void)close(number);
  OK(!bursar_seal_held(&seal), "closed by somebody");
  int null = open("/dev/null", O_RDONLY), other = dup2(null, number);
  OK(other == number && !bursar_seal_held(&seal), "the number is another file's");
  OK(seal.at[99] == 'w', "the memory stays");
  bursar_seal_end(&seal);
  OK(fcntl(other, F_GETFD) != -1, "and the other file stays open");
  (void)close(other);
  (void)close(null);
}

static void test_limits(void) {
  struct bursar_seal seal;
  struct rlimit was, low;
  getrlimit(RLIMIT_FSIZE, &was);
  low = was;
  low.rlim_cur = 8192;
  setrlimit(RLIMIT_FSIZE, &low);
  OK(bursar_seal_begin(&seal, 8193) == -EFBIG, "a limit on files is an error, and no SIGXFSZ");
  setrlimit(RLIMIT_FSIZE, &was);
  getrlimit(RLIMIT_NOFILE, &was);
  low = was;
  low.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &low);
  OK(bursar_seal_begin(&seal, 1) == -EMFILE, "no descriptor left: an error");
  setrlimit(RLIMIT_NOFILE, &was);
  OK(bursar_seal_begin(&seal, (size_t)-1) == -EFBIG, "more than there can be: an error");
}

int main(void) {
  test_pieces_are_aligned_and_readable_at_once();
  test_nothing_makes_it_writable();
  test_attached();
  test_a_descriptor_that_was_closed();
  test_limits();
  return tap_done();
}
