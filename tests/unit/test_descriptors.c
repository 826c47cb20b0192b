#include "native/descriptors.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static __thread uint64_t inside; /* the watch that the thread is in */

static uint64_t here(void) { return inside; }
static void where(struct bursar_descriptors_place *out) {
  errno = EXDEV;
  *out = (struct bursar_descriptors_place){.line = 12, .inner_line = 34, .file = "app.py", .inner = "socket.py"};
}
static void *find(const char *name) { return dlsym(RTLD_DEFAULT, name); }

static int open_null(void) { return bursar_descriptors_open("/dev/null", O_RDONLY, 0); }

/* What the watch has that is open, one after another; it ends with that. */
static int left(uint64_t watch) {
  struct bursar_descriptors_noted noted;
  int count = 0;
  for (int fd = 0; (fd = bursar_descriptors_next(watch, fd, &noted)) >= 0; fd++)
    count++;
  bursar_descriptors_end(watch);
  return count;
}

static void test_only_what_a_watch_is_in(void) {
  struct bursar_descriptors_noted noted;
  uint64_t watch = bursar_descriptors_begin();
  int before = open_null();
  EQ(bursar_descriptors_count(watch), 0);
  inside = watch;
  int fd = open_null();
  EQ(bursar_descriptors_count(watch), 1);
  EQ(bursar_descriptors_next(watch, 0, &noted), fd);
  SAME(noted.kind, "device");
  SAME(noted.place.file, "app.py");
  EQ(noted.place.line, 12);
  OK(noted.caller != NULL, "it is known who called");
  EQ(bursar_descriptors_next(watch, 0, &noted), -1);
  bursar_descriptors_quiet++;
  int quiet = open_null();
  bursar_descriptors_quiet--;
  EQ(left(watch), 0);
  inside = 0;
  EQ(bursar_descriptors_close(before), 0);
  EQ(bursar_descriptors_close(fd), 0);
  EQ(bursar_descriptors_close(quiet), 0);
}

static void test_each_way_to_close(void) {
  uint64_t watch = inside = bursar_descriptors_begin();
  int pair[2];
  FILE *file = bursar_descriptors_fopen("/dev/null", "r");
  DIR *folder = bursar_descriptors_opendir("/");
  EQ(bursar_descriptors_pipe(pair), 0);
  int fd = open_null(), copy = bursar_descriptors_dup(fd), other = bursar_descriptors_fcntl(fd, F_DUPFD_CLOEXEC, 100),
      socket = bursar_descriptors_socket(AF_UNIX, SOCK_STREAM, 0);
  EQ(other, 100);
  EQ(bursar_descriptors_fcntl(fd, F_GETFD, 0), 0);
  EQ(bursar_descriptors_count(watch), 8);
  EQ(bursar_descriptors_dup2(pair[0], fd), fd); /* closes it, and opens another there */
  EQ(bursar_descriptors_dup2(fd, fd), fd);
  EQ(bursar_descriptors_dup2(-1, fd), -1);
  EQ(bursar_descriptors_count(watch), 8);
  EQ(bursar_descriptors_close(copy), 0);
  EQ(bursar_descriptors_fclose(file), 0);
  EQ(bursar_descriptors_closedir(folder), 0);
  EQ(bursar_descriptors_count(watch), 5);
  bursar_descriptors_closefrom(100);
  EQ(bursar_descriptors_count(watch), 4);
  EQ(bursar_descriptors_close_range((unsigned)socket, (unsigned)socket, 4), 0); /* on execute alone */
  EQ(bursar_descriptors_count(watch), 4);
  EQ(bursar_descriptors_close_range((unsigned)socket, (unsigned)socket, 0), 0);
  EQ(bursar_descriptors_count(watch), 3);
  EQ(bursar_descriptors_close(pair[0]) | bursar_descriptors_close(pair[1]) | bursar_descriptors_close(fd), 0);
  EQ(bursar_descriptors_count(watch), 0);
  EQ(left(watch), 0);
  inside = 0;
}

static void test_errno_stays(void) {
  uint64_t watch = inside = bursar_descriptors_begin();
  errno = 4711;
  int fd = open_null();
  EQ(errno, 4711);
  EQ(bursar_descriptors_open("/nowhere/at/all", O_RDONLY, 0), -1);
  EQ(errno, ENOENT);
  EQ(bursar_descriptors_close(-1), -1);
  EQ(errno, EBADF);
  EQ(left(watch), 1);
  inside = 0;
  close(fd);
}

/* Closed by a call that is no hook's; the number is another file's then, or nobody's. */
static void test_behind_the_hooks(void) {
  uint64_t watch = inside = bursar_descriptors_begin();
  int gone = open_null(), reused = open_null(), ours = open_null();
  close(gone);
  close(reused);
  int other = open("/", O_RDONLY | O_DIRECTORY);
  EQ(other, gone); /* the lowest number: another file's now, and the other one is nobody's */
  EQ(left(watch), 1);
  watch = inside = bursar_descriptors_begin();
  int again = open_null();
  EQ(again, reused);
  close(again);
  inside = 0;
  EQ(open_null(), again); /* by nobody that watches */
  EQ(left(watch), 0);
  close(again);
  close(ours);
  close(other);
  int pair[2], others[2];
  watch = inside = bursar_descriptors_begin();
  EQ(bursar_descriptors_pipe(pair), 0);
  inside = 0;
  close(pair[0]);
  close(pair[1]);
  EQ(pipe(others), 0);
  OK(others[0] == pair[0] && others[1] == pair[1], "two of the same kind, from the same place");
  EQ(left(watch), 0);
  close(others[0]);
  close(others[1]);
}

static void test_handing_on(void) {
  uint64_t outer = bursar_descriptors_begin(), inner = inside = bursar_descriptors_begin();
  int fd = open_null(), nobodys = open_null();
  inside = 0;
  int before = open_null();
  inside = inner;
  EQ(bursar_descriptors_dup2(before, before), before); /* opens nothing */
  EQ(bursar_descriptors_count(inner), 2);
  close(before);
  OK(bursar_descriptors_hand(fd, inner, outer), "to another watch");
  OK(!bursar_descriptors_hand(fd, inner, outer), "once");
  OK(bursar_descriptors_hand(nobodys, inner, 0), "to nobody");
  EQ(left(inner), 0);
  OK(!bursar_descriptors_hand(fd, inner, 0), "by one that has ended");
  EQ(left(outer), 1);
  inside = 0;
  close(fd);
  close(nobodys);
}

/* Its place is another's, and what it opens late is nobody's. */
static void test_an_ended_watch(void) {
  uint64_t watch = bursar_descriptors_begin();
  bursar_descriptors_end(watch);
  bursar_descriptors_end(watch);
  uint64_t next = bursar_descriptors_begin();
  OK(next != watch, "no two are the same");
  inside = watch;
  int fd = open_null();
  EQ(bursar_descriptors_count(watch), 0);
  EQ(bursar_descriptors_count(next), 0);
  EQ(left(next), 0);
  inside = 0;
  close(fd);
}

static void test_too_many(void) {
  static uint64_t all[1 << 15];
  size_t count = 0;
  while (count < sizeof all / sizeof *all && (all[count] = bursar_descriptors_begin()) != 0)
    count++;
  OK(count > 10000 && count < sizeof all / sizeof *all, "%zu at once, and then none", count);
  while (count)
    bursar_descriptors_end(all[--count]);
  uint64_t again = bursar_descriptors_begin();
  OK(again != 0, "and then again");
  bursar_descriptors_end(again);
  struct bursar_descriptors_noted noted;
  again = inside = bursar_descriptors_begin();
  int fd = open_null(), far = bursar_descriptors_dup2(fd, BURSAR_DESCRIPTORS_MAX - 1);
  EQ(far == -1 || bursar_descriptors_next(again, fd + 1, &noted) == far, 1);
  EQ(bursar_descriptors_dup2(fd, BURSAR_DESCRIPTORS_MAX) == -1 || bursar_descriptors_next(again, fd + 1, &noted) == -1,
     1);
  (void)left(again);
  inside = 0;
  bursar_descriptors_closefrom(fd);
}

/* Nobody asks from then on, until it is started again. */
static void test_leaving(void) {
  static const struct bursar_descriptors_asker asker = {here, where};
  uint64_t watch = inside = bursar_descriptors_begin();
  int before = open_null();
  bursar_descriptors_leave();
  int after = open_null();
  EQ(bursar_descriptors_count(watch), 1);
  EQ(bursar_descriptors_close(before), 0);
  EQ(bursar_descriptors_count(watch), 0);
  EQ(bursar_descriptors_start(find, &asker), 0);
  int again = open_null();
  EQ(left(watch), 1);
  inside = 0;
  close(after);
  close(again);
}

static void test_children(void) {
  uint64_t watch = inside = bursar_descriptors_begin();
  int fd = open_null(), status;
  pid_t child = fork();
  if (!child) {
    uint64_t own = inside = bursar_descriptors_begin();
    int mine = open_null();
    bool good = bursar_descriptors_count(watch) == 0 && left(own) == 1 && left(watch) == 0;
    bursar_descriptors_close(mine);
    _exit(good ? 0 : 1);
  }
  waitpid(child, &status, 0);
  EQ(status, 0);
  /* One that shares our memory, and not our descriptors. */
  child = vfork();
  if (!child) {
    bursar_descriptors_close(fd);
    (void)open_null();
    _exit(0);
  }
  waitpid(child, &status, 0);
  EQ(bursar_descriptors_count(watch), 1);
  EQ(left(watch), 1);
  inside = 0;
  close(fd);
}

/* Threads in a watch of their own, that close what others opened. */
#define THREADS 4
#define ROUNDS 3000
static int handed[THREADS];
static uint64_t watches[THREADS];
static pthread_barrier_t together;

static void *work(void *argument) {
  size_t me = (size_t)argument;
  inside = watches[me];
  for (int round = 0; round < ROUNDS; round++) {
    int kept = open_null(), mine = open_null();
    int theirs = __atomic_exchange_n(&handed[(me + (size_t)round) % THREADS], mine, __ATOMIC_ACQ_REL);
    if (theirs)
      bursar_descriptors_close(theirs);
    bursar_descriptors_close(kept);
  }
  pthread_barrier_wait(&together);
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  int sum = 0, open_still = 0;
  pthread_barrier_init(&together, NULL, THREADS);
  for (size_t i = 0; i < THREADS; i++)
    watches[i] = bursar_descriptors_begin();
  for (size_t i = 0; i < THREADS; i++)
    pthread_create(&threads[i], NULL, work, (void *)i);
  for (size_t i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  for (size_t i = 0; i < THREADS; i++) {
    sum += (int)bursar_descriptors_count(watches[i]);
    open_still += left(watches[i]);
  }
  for (size_t i = 0; i < THREADS; i++)
    bursar_descriptors_close(handed[i]);
  EQ(sum, THREADS);
  EQ(open_still, THREADS);
}

int main(void) {
  static const struct bursar_descriptors_asker asker = {here, where};
  int fd = open("/dev/null", O_RDONLY);
  close(fd);
  EQ(bursar_descriptors_start(find, &asker), 0);
  EQ(bursar_descriptors_start(find, &asker), 0);
  test_only_what_a_watch_is_in();
  test_each_way_to_close();
  test_errno_stays();
  test_behind_the_hooks();
  test_handing_on();
  test_an_ended_watch();
  test_too_many();
  test_leaving();
  test_children();
  test_threads();
  return tap_done();
}
