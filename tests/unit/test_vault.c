#include "secret/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "prim/locked.h"
#include "prim/prim.h"
#include "tap.h"

static struct bursar_error error;
static bool hide; /* which of the two kinds of pages this pass is about */

static struct bursar_vault_slot take(size_t bytes) {
  struct bursar_vault_slot slot;
  if (bursar_vault_take(bytes, &slot, &error) != 0) {
    printf("Bail out! %s\n", error.text);
    exit(1);
  }
  return slot;
}

static void open_it(struct bursar_vault_slot *slot, bool write) { EQ(bursar_vault_open(slot, write, &error), 0); }
static void close_it(struct bursar_vault_slot *slot, bool write) { EQ(bursar_vault_close(slot, write, &error), 0); }
static void give_back(struct bursar_vault_slot *slot) { EQ(bursar_vault_return(slot, &error), 0); }

/* What a child that does this ends with: a signal, or 0 where it got through it. */
static int signal_of(void (*act)(volatile char *at), volatile char *at) {
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's */
    act(at);
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}
static void read_at(volatile char *at) { (void)*at; }
static void write_at(volatile char *at) { *at = 1; }

/* Whether this process may touch the byte, as the kernel sees its access: it copies on its behalf, and faults give EFAULT. */
static bool can_read(const char *at) {
  int ends[2];
  bool good = pipe(ends) == 0 && write(ends[1], at, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return good;
}
static bool can_write(char *at) {
  int zero = open("/dev/zero", O_RDONLY);
  bool good = read(zero, at, 1) == 1;
  close(zero);
  return good;
}

static void test_access_is_what_was_asked_for(void) {
  struct bursar_vault_slot slot = take(100);
  OK(!can_read(slot.data), "a new slot is closed");
  open_it(&slot, false);
  OK(can_read(slot.data) && !can_write(slot.data), "open to read");
  OK(slot.data[0] == 0 && slot.data[99] == 0, "zeros at first");
  open_it(&slot, true);
  OK(can_write(slot.data), "open to write besides");
  close_it(&slot, true);
  OK(can_read(slot.data) && !can_write(slot.data), "the writer has gone, the reader has not");
  open_it(&slot, false);
  close_it(&slot, false);
  OK(can_read(slot.data), "one of two readers has gone");
  close_it(&slot, false);
  OK(!can_read(slot.data), "closed");
  char *was = slot.data;
  give_back(&slot);
  OK(!can_read(was), "given back");
  EQ(bursar_vault_whose(&slot), BURSAR_VAULT_NOBODYS);
  EQ(bursar_vault_open(&slot, false, &error), BURSAR_MISUSE);
  HAS(error.text, "closed");
}

static void test_its_end_is_a_guard(void) {
  static const size_t sizes[] = {1, 31, 4095, 4096, 4097, 3 * 4096 + 5, 16 * 4096, 17 * 4096 + 1, 1u << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    struct bursar_vault_slot slot = take(sizes[i]);
    open_it(&slot, true);
    memset(slot.data, 'x', sizes[i]);
    OK(!can_read(slot.data + sizes[i]) && !can_write(slot.data + sizes[i]), "%zu bytes: none behind", sizes[i]);
    size_t pages = (sizes[i] + 4095) / 4096, whole = 1;
    while (whole < pages && pages <= 16)
      whole *= 2;
    if (pages > 16)
      whole = pages;
    OK(!can_read(slot.data + sizes[i] - whole * 4096 - 1), "%zu bytes: none before its pages", sizes[i]);
    close_it(&slot, true);
    give_back(&slot);
  }
}

static void test_a_write_before_it_is_noticed(void) {
  struct bursar_vault_slot slot = take(40);
  open_it(&slot, true);
  slot.data[-1] ^= 1;
  EQ(bursar_vault_close(&slot, true, &error), BURSAR_FAILED);
  HAS(error.text, "before the first byte");
  OK(!can_read(slot.data), "it is closed all the same");
  EQ(bursar_vault_return(&slot, &error), BURSAR_FAILED);

  struct bursar_vault_slot other = take(40); /* that place again */
  open_it(&other, true);
  other.data[-16] ^= 1;
  EQ(bursar_vault_return(&other, &error), BURSAR_FAILED);
}

/* A slot comes back as zeros, to whatever size is asked for next. */
static void test_what_was_given_back_is_wiped(void) {
  for (size_t bytes = 1; bytes < 3000; bytes += 700) {
    struct bursar_vault_slot slot = take(bytes);
    open_it(&slot, true);
    memset(slot.data, 0xA5, bytes);
    char *was = slot.data;
    give_back(&slot); /* while it is open, as when its owner goes */
    struct bursar_vault_slot next = take(4096);
    OK(next.data + 4096 == was + bytes, "the same place again");
    open_it(&next, false);
    size_t wrong = 0;
    for (size_t i = 0; i < 4096; i++)
      wrong += next.data[i] != 0;
    EQ(wrong, 0);
    close_it(&next, false);
    give_back(&next);
  }
}

/* Many at once are apart, and small ones use no more pages than at their most. */
static void test_many(void) {
  enum { MANY = 300 };
  static struct bursar_vault_slot slots[MANY];
  for (int i = 0; i < MANY; i++) {
    slots[i] = take((size_t)i + 1);
    if (bursar_vault_open(&slots[i], true, &error) != 0)
      OK(false, "%s", error.text);
    memset(slots[i].data, i, (size_t)i + 1);
  }
  size_t wrong = 0;
  for (int i = 0; i < MANY; i++)
    for (int k = 0; k <= i; k++)
      wrong += slots[i].data[k] != (char)i;
  EQ(wrong, 0);
  for (int i = 0; i < MANY; i++)
    wrong += bursar_vault_return(&slots[i], &error) != 0;
  EQ(wrong, 0);
}

static void test_sizes_that_cannot_be(void) {
  struct bursar_vault_slot slot;
  EQ(bursar_vault_take(0, &slot, &error), BURSAR_MISUSE);
  EQ(bursar_vault_take(BURSAR_VAULT_BYTES + 1, &slot, &error), BURSAR_MISUSE);
  EQ(bursar_vault_take(SIZE_MAX, &slot, &error), BURSAR_MISUSE);
  EQ(bursar_vault_start(true, &error), BURSAR_MISUSE);
}

static void test_a_child_has_none_of_it(void) {
  struct bursar_vault_slot slot = take(8);
  open_it(&slot, true);
  memcpy(slot.data, "secret!", 8);
  pid_t pid = fork();
  if (pid == 0) {
    int wrong = can_read(slot.data) && memcmp(slot.data, "\0\0\0\0\0\0\0", 8) != 0;
    wrong |= (bursar_vault_whose(&slot) != BURSAR_VAULT_LOST) << 1;
    wrong |= (bursar_vault_open(&slot, false, &error) != BURSAR_MISUSE) << 2;
    wrong |= (bursar_vault_close(&slot, true, &error) != 0) << 3;
    wrong |= (bursar_vault_return(&slot, &error) != 0) << 4;
    struct bursar_vault_slot own;
    wrong |= (bursar_vault_take(8, &own, &error) != 0) << 5;
    wrong |= (bursar_vault_open(&own, true, &error) != 0 || memcpy(own.data, "another", 8) == NULL) << 6;
    _exit(wrong);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EQ(status, 0);
  OK(strcmp(slot.data, "secret!") == 0, "and it is as it was here");
  if (hide)
    EQ(signal_of(read_at, slot.data), SIGSEGV);
  else
    EQ(signal_of(read_at, slot.data), 0); /* zeros, as was seen above */
  close_it(&slot, true);
  EQ(signal_of(write_at, slot.data), SIGSEGV);
  give_back(&slot);
}

/* The kernel's readers. */
static void test_who_reads_by_the_kernel(void) {
  struct bursar_vault_slot slot = take(16);
  static char open_text[16] = "for all to see.", got[16];
  open_it(&slot, true);
  memcpy(slot.data, open_text, 16);
  int fd = open("/proc/self/mem", O_RDONLY);
  EQ(pread(fd, got, 16, (off_t)(uintptr_t)open_text), 16);
  memset(got, 0, 16);
  EQ(pread(fd, got, 16, (off_t)(uintptr_t)slot.data), hide ? -1 : 16);
  struct iovec to = {got, 16}, from = {slot.data, 16};
  EQ(process_vm_readv(getpid(), &to, 1, &from, 1, 0), hide ? -1 : 16);
  close(fd);
  close_it(&slot, true);
  give_back(&slot);
}

#define THREADS 4
#define ROUNDS 3000
static struct bursar_vault_slot shared;

static void *come_and_go(void *unused) {
  size_t *wrong = calloc(1, sizeof *wrong);
  for (int i = 0; i < ROUNDS; i++) {
    struct bursar_error own = {0};
    struct bursar_vault_slot slot;
    *wrong += bursar_vault_open(&shared, i % 3 == 0, &own) != 0;
    *wrong += strcmp(shared.data, "of all threads") != 0;
    *wrong += bursar_vault_take((size_t)i % 5000 + 1, &slot, &own) != 0;
    *wrong += bursar_vault_open(&slot, true, &own) != 0;
    memset(slot.data, 1, slot.bytes);
    *wrong += bursar_vault_return(&slot, &own) != 0;
    *wrong += bursar_vault_close(&shared, i % 3 == 0, &own) != 0;
  }
  return wrong;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  shared = take(15);
  open_it(&shared, true);
  memcpy(shared.data, "of all threads", 15);
  close_it(&shared, true);
  for (int i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, come_and_go, NULL);
  for (int i = 0; i < THREADS; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    EQ(*(size_t *)wrong, 0);
    free(wrong);
  }
  OK(!can_read(shared.data), "all have left");
  give_back(&shared);
}

static void test_equal(void) {
  static const char one[] = "0123456789abcdef", same[] = "0123456789abcdef", last[] = "0123456789abcdeF",
                    first[] = "x123";
  OK(bursar_vault_equal(one, same, 16), "the same");
  OK(!bursar_vault_equal(one, last, 16), "another at the end");
  OK(!bursar_vault_equal(one, first, 4), "another at the beginning");
  OK(bursar_vault_equal(one, first, 0), "nothing is like nothing");
}

/* Last: the pool begins anew. */
static void test_the_end(void) {
  struct bursar_vault_slot kept = take(32), closed = take(32), large = take(100000);
  open_it(&kept, true);
  memset(kept.data, 7, 32);
  open_it(&large, true);
  memset(large.data, 7, 100000);
  close_it(&large, true);
  bursar_vault_wipe();
  size_t wrong = 0;
  for (size_t i = 0; i < 32; i++)
    wrong += kept.data[i] != 0;
  for (size_t i = 0; i < 100000; i++)
    wrong += large.data[i] != 0;
  EQ(wrong, 0);
  EQ(bursar_vault_whose(&kept), BURSAR_VAULT_LOST);
  EQ(bursar_vault_open(&closed, false, &error), BURSAR_MISUSE);
  close_it(&kept, true);
  give_back(&kept);
  EQ(bursar_vault_hidden(), -1);
  bursar_vault_wipe();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  #define LOCKS 0 /* they make mlock nothing */
#else
  #define LOCKS 1
#endif

/* A limit that root is free of. */
static void test_the_limit(bool hidden) {
  if (!hidden && !LOCKS)
    return;
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit limit = {40 * 4096, 40 * 4096};
    struct bursar_vault_slot slot;
    int wrong = bursar_vault_start(hidden, &error) != 0 || setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
                (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0);
    int count = 0;
    while (bursar_vault_take(8, &slot, &error) == 0 && count < 1000)
      count++;
    wrong |= (count != 40) << 1; /* 32 at once, then what there is */
    wrong |= (!strstr(error.text, "RLIMIT_MEMLOCK lets this process lock 160 KiB") || !strstr(error.text, "ulimit -l"))
             << 2;
    limit.rlim_cur = 0;
    wrong |= (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) << 3;
    wrong |= (bursar_vault_take(5000, &slot, &error) != BURSAR_FAILED || !strstr(error.text, "lock 0 B")) << 4;
    if (wrong)
      fprintf(stderr, "# %d slots, %s\n", count, error.text);
    _exit(wrong);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EQ(status, 0);
}

static void pass(bool hidden) {
  hide = hidden;
  printf("# %s\n", hidden ? "hidden pages" : "locked pages");
  EQ(bursar_vault_start(hidden, &error), 0);
  EQ(bursar_vault_hidden(), hidden);
  test_access_is_what_was_asked_for();
  test_its_end_is_a_guard();
  test_a_write_before_it_is_noticed();
  test_what_was_given_back_is_wiped();
  test_many();
  test_sizes_that_cannot_be();
  test_a_child_has_none_of_it();
  test_who_reads_by_the_kernel();
  test_threads();
  test_the_end();
}

int main(void) {
  test_equal();
  test_the_limit(false);
  test_the_limit(true);
  pass(false);
  if (bursar_locked_can_hide())
    pass(true);
  else
    printf("# no hidden pages here: this kernel has no memfd_secret\n");
  return tap_done();
}
