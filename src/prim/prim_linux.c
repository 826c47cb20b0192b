/* prim_linux.c: Linux behind prim.h.
 *
 * Everything here may run in a forked child of a program with threads, and at its exit, so it is plain system calls on
 * buffers of its own: no heap, no stdio, no locks. */
#include "prim/prim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000ull
#ifndef PR_SET_VMA
  #define PR_SET_VMA 0x53564d41
  #define PR_SET_VMA_ANON_NAME 0
#endif

static uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  int kept = errno;
  if (clock_gettime(clock, &t) != 0)
    t.tv_sec = t.tv_nsec = 0;
  errno = kept;
  return (uint64_t)t.tv_sec * NANOSECONDS + (uint64_t)t.tv_nsec;
}

int bursar_prim_no_core(void) {
  const struct rlimit none = {0, 0};
  int kept = errno;
  int result = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 ? 0 : -errno;
  errno = kept;
  return result;
}

bool bursar_prim_secure(void) { return getauxval(AT_SECURE) != 0; }

uint64_t bursar_prim_now(void) { return clock_ns(CLOCK_MONOTONIC); }

uint64_t bursar_prim_now_coarse(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }

uint64_t bursar_prim_unix_now(void) { return clock_ns(CLOCK_REALTIME); }

/* "/proc/PID/NAME", or "/proc/self/NAME" for 0.  snprintf is not promised to be safe after fork. */
static void proc_path(char out[64], pid_t pid, const char *name) {
  char digits[16];
  size_t n = 0;
  size_t at = 6;
  memcpy(out, "/proc/", at);
  if (pid == 0) {
    memcpy(out + at, "self", 4);
    at += 4;
  } else {
    for (uint32_t rest = (uint32_t)pid; rest || !n; rest /= 10)
      digits[n++] = (char)('0' + rest % 10);
    while (n)
      out[at++] = digits[--n];
  }
  out[at++] = '/';
  size_t length = strlen(name);
  memcpy(out + at, name, length + 1);
}

static int open_quietly(const char *path) {
  int fd;
  do
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : fd;
}

/* Up to `room` - 1 bytes of a small file, terminated; their number or a negative errno. */
static ssize_t slurp(const char *path, char *out, size_t room) {
  int fd = open_quietly(path);
  if (fd < 0)
    return fd;
  size_t got = 0;
  ssize_t result = 0;
  while (got < room - 1) {
    ssize_t n = read(fd, out + got, room - 1 - got);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      result = -errno;
    if (n <= 0)
      break;
    got += (size_t)n;
  }
  close(fd);
  out[got] = 0;
  return result < 0 ? result : (ssize_t)got;
}

/* Field 22 of the line.  Field 2 is the command's name in brackets, and may itself hold spaces and brackets. */
static uint64_t start_of_stat(const char *line) {
  const char *at = strrchr(line, ')');
  if (!at)
    return 0;
  at++;
  for (int field = 2; field < 22; field++) {
    at = strchr(at, ' ');
    if (!at)
      return 0;
    at++;
  }
  uint64_t value = 0;
  while (*at >= '0' && *at <= '9')
    value = value * 10 + (uint64_t)(*at++ - '0');
  return value;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return -1;
}

static void read_boot_id(uint8_t out[16]) {
  char text[64];
  memset(out, 0, 16);
  if (slurp("/proc/sys/kernel/random/boot_id", text, sizeof text) < 0)
    return;
  size_t nibble = 0;
  for (const char *at = text; *at && nibble < 32; at++) {
    int digit = hex_digit(*at);
    if (digit < 0)
      continue;
    out[nibble / 2] = (uint8_t)(out[nibble / 2] << 4 | digit);
    nibble++;
  }
}

int bursar_prim_identity(pid_t pid, struct bursar_identity *out) {
  char path[64];
  char text[1024];
  int kept = errno;
  int result = 0;
  memset(out, 0, sizeof *out);
  proc_path(path, pid, "stat");
  ssize_t got = slurp(path, text, sizeof text);
  if (got > 0) {
    out->process_start = start_of_stat(text);
  } else if (pid != 0 && kill(pid, 0) != 0 && errno == ESRCH) {
    /* /proc may be missing or hide others' processes (hidepid); the kernel itself says which it is. */
    result = -ESRCH;
  }
  struct stat space;
  proc_path(path, pid, "ns/pid");
  if (result == 0 && stat(path, &space) == 0)
    out->pid_namespace = space.st_ino;
  if (result == 0)
    read_boot_id(out->boot_id);
  errno = kept;
  return result;
}

/* The entries of a folder, but for itself and the one around it. */
static int32_t entries_of(const char *path) {
  struct entry {
    uint64_t inode, offset;
    unsigned short bytes;
    unsigned char type;
    char name[];
  };
  char room[4096] __attribute__((aligned(8)));
  int32_t count = 0;
  long got = 0;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  while (fd >= 0 && (got = syscall(SYS_getdents64, fd, room, sizeof room)) > 0)
    for (long at = 0; at < got; at += ((struct entry *)(void *)(room + at))->bytes)
      count++;
  if (fd >= 0)
    close(fd);
  return fd < 0 || got < 0 ? -1 : count - 3; /* and the descriptor that it was read by */
}

/* Since 6.2 the size of that folder says so. */
int32_t bursar_prim_descriptors(void) {
  struct stat st;
  int kept = errno;
  int32_t count = stat("/proc/self/fd", &st) != 0 ? -1
                  : st.st_size > 0                ? (int32_t)st.st_size
                                                  : entries_of("/proc/self/fd");
  errno = kept;
  return count;
}

int32_t bursar_prim_threads(void) {
  struct stat st;
  int kept = errno;
  int32_t count = stat("/proc/self/task", &st) == 0 && st.st_nlink > 2 ? (int32_t)st.st_nlink - 2 : -1;
  errno = kept;
  return count;
}

static int32_t waiting;

void bursar_prim_waits(int by) { __atomic_fetch_add(&waiting, by, __ATOMIC_RELAXED); }

bool bursar_prim_waits_for_nobody(void) {
  char text[512];
  int kept = errno;
  ssize_t got = -1;
  int fd = bursar_prim_threads() - 1 <= __atomic_load_n(&waiting, __ATOMIC_RELAXED)
               ? open("/proc/self/stat", O_RDONLY | O_CLOEXEC)
               : -1;
  if (fd >= 0) {
    got = read(fd, text, sizeof text);
    close(fd);
  }
  errno = kept;
  /* PID (the command, in which anything may be) and the state of the first thread. */
  const char *state = got > 0 ? memrchr(text, ')', (size_t)got) : NULL;
  return state && state + 2 < text + got && state[2] == 'Z';
}

/* /proc/PID/maps, line by line. */
struct maps {
  int fd;
  size_t at;
  size_t have;
  char text[4096];
  char line[4608]; /* longer ones are cut: a path has at most 4095 bytes, what is before it less than 100 */
};

/* What a line says of a file: "7f00-7f01 rw-s 00000000 08:01 1234     /path". */
struct mapped {
  bool shared;
  uint64_t major;
  uint64_t minor;
  uint64_t inode; /* 0 where there is no file */
  const char *path;
};

static int maps_open(struct maps *maps, pid_t pid) {
  char path[64];
  proc_path(path, pid, "maps");
  maps->at = maps->have = 0;
  maps->fd = open_quietly(path);
  return maps->fd < 0 ? maps->fd : 0;
}

/* 1 and maps->line, 0 at the end, or a negative errno.  A process that ends meanwhile has no more lines. */
static int maps_next(struct maps *maps) {
  size_t length = 0;
  for (;;) {
    if (maps->at == maps->have) {
      ssize_t n = read(maps->fd, maps->text, sizeof maps->text);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return n == 0 || errno == ESRCH ? 0 : -errno;
      maps->at = 0;
      maps->have = (size_t)n;
    }
    char c = maps->text[maps->at++];
    if (c == '\n') {
      maps->line[length] = 0;
      return 1;
    }
    if (length < sizeof maps->line - 1)
      maps->line[length++] = c;
  }
}

static struct mapped parse_map(const char *line) {
  struct mapped mapped = {.path = ""};
  uint64_t device[2] = {0, 0};
  const char *at = line;
  for (int skip = 0; skip < 3; skip++) {
    at = strchr(at, ' ');
    if (!at)
      return mapped;
    at++;
    if (skip == 0)
      mapped.shared = strlen(at) > 3 && at[3] == 's';
  }
  for (int i = 0; i < 2; i++, at += *at != 0)
    for (int digit; (digit = hex_digit(*at)) >= 0; at++)
      device[i] = device[i] * 16 + (uint64_t)digit;
  for (; *at >= '0' && *at <= '9'; at++)
    mapped.inode = mapped.inode * 10 + (uint64_t)(*at - '0');
  mapped.major = device[0];
  mapped.minor = device[1];
  mapped.path = at + strspn(at, " ");
  return mapped;
}

static bool maps_is(const struct mapped *mapped, dev_t device, ino_t inode) {
  if (mapped->inode == 0 || mapped->inode != (uint64_t)inode)
    return false;
  /* overlayfs and btrfs show stat() an anonymous device (major 0) that maps does not know: there the inode decides. */
  return major(device) == 0 || mapped->major == 0 || (mapped->major == major(device) && mapped->minor == minor(device));
}

int bursar_prim_maps_file(pid_t pid, dev_t device, ino_t inode) {
  struct maps maps;
  int kept = errno;
  int result = maps_open(&maps, pid);
  if (result == 0) {
    while ((result = maps_next(&maps)) > 0) {
      struct mapped mapped = parse_map(maps.line);
      if (maps_is(&mapped, device, inode))
        break;
    }
    close(maps.fd);
  }
  /* /proc may be missing or hide others' processes (hidepid): only the kernel knows that this one is gone. */
  if (result == -ESRCH || (result == -ENOENT && kill(pid, 0) != 0 && errno == ESRCH))
    result = 0;
  errno = kept;
  return result;
}

/* The kernel writes a newline in a path as \012, and nothing else. */
static bool copy_path(const char *from, char *to, size_t room) {
  size_t n = 0;
  for (; *from && n + 1 < room; n++) {
    bool newline = strncmp(from, "\\012", 4) == 0;
    to[n] = newline ? '\n' : *from;
    from += newline ? 4 : 1;
  }
  if (room)
    to[n] = 0;
  return !*from && n > 0;
}

int bursar_prim_shared_file(pid_t pid, unsigned skip, char *path, size_t room) {
  struct maps maps;
  uint64_t last = 0;
  int kept = errno;
  int result = maps_open(&maps, pid);
  if (result == 0) {
    while ((result = maps_next(&maps)) > 0) {
      struct mapped mapped = parse_map(maps.line);
      if (!mapped.shared || mapped.inode == 0 || mapped.inode == last || mapped.path[0] != '/')
        continue;
      last = mapped.inode; /* a file that is mapped in pieces is mostly mapped in a row */
      if (skip-- == 0)
        break;
    }
    close(maps.fd);
    if (result > 0 && !copy_path(parse_map(maps.line).path, path, room))
      result = -ENAMETOOLONG;
  }
  errno = kept;
  return result == -ENOENT || result == -ESRCH ? 0 : result;
}

/* By their numbers: what is called mmap may be our own hook. */
void *bursar_prim_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, at, bytes, access, flags, fd, offset);
}

int bursar_prim_munmap(void *at, size_t bytes) { return (int)syscall(SYS_munmap, at, bytes); }

void *bursar_prim_reserve(size_t bytes, bool writable) {
  int kept = errno;
  void *at = bursar_prim_mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    errno = kept;
    return NULL;
  }
  /* Both are advice: a kernel built without them serves us as well.  A huge page would turn one touched byte into
   * 2 MiB of the host's memory, and a core dump of a sparse table is large and useless. */
  (void)madvise(at, bytes, MADV_NOHUGEPAGE);
  (void)madvise(at, bytes, MADV_DONTDUMP);
  /* A name in /proc/PID/maps, since 5.17 where the kernel was built with it; elsewhere those two pieces of advice tell. */
  (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, bytes, "bursar");
  errno = kept;
  return at;
}

void bursar_prim_release(void *at, size_t bytes) {
  int kept = errno;
  if (at)
    (void)bursar_prim_munmap(at, bytes);
  errno = kept;
}

int bursar_prim_map_shared(void *at, size_t bytes, int fd, uint64_t offset) {
  int kept = errno;
  void *got = bursar_prim_mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
  int result = got == MAP_FAILED ? -errno : 0;
  errno = kept;
  return result;
}

/* Signals that a write of ours may raise in this thread, held off while it runs. */
struct held {
  sigset_t ours;
  sigset_t mask_before;
  sigset_t pending_before;
};

static void hold(struct held *held) {
  sigemptyset(&held->ours);
  sigaddset(&held->ours, SIGXFSZ);
  sigaddset(&held->ours, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &held->ours, &held->mask_before);
  sigemptyset(&held->pending_before);
  sigpending(&held->pending_before);
}

/* Takes what we raised, and only that: what was pending before belongs to the host. */
static void let_go(struct held *held) {
  const int signals[] = {SIGXFSZ, SIGPIPE};
  const struct timespec at_once = {0, 0};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    sigset_t one;
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    if (sigismember(&held->pending_before, signals[i]) == 1 || sigismember(&pending, signals[i]) != 1)
      continue;
    sigemptyset(&one);
    sigaddset(&one, signals[i]);
    while (sigtimedwait(&one, NULL, &at_once) < 0 && errno == EINTR) {}
  }
  pthread_sigmask(SIG_SETMASK, &held->mask_before, NULL);
}

/* For file systems without fallocate (NFS 3, some of FUSE): written zeros are blocks too. */
static int write_zeros(int fd, uint64_t offset, uint64_t bytes) {
  static const char zeros[16384];
  while (bytes) {
    size_t part = bytes < sizeof zeros ? (size_t)bytes : sizeof zeros;
    ssize_t n = pwrite(fd, zeros, part, (off_t)offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -ENOSPC;
    offset += (uint64_t)n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

int bursar_prim_grow(int fd, uint64_t offset, uint64_t bytes) {
  struct held held;
  int kept = errno;
  int result;
  hold(&held);
  do
    result = fallocate(fd, 0, (off_t)offset, (off_t)bytes) == 0 ? 0 : -errno;
  while (result == -EINTR);
  if (result == -EOPNOTSUPP || result == -ENOSYS)
    result = write_zeros(fd, offset, bytes);
  let_go(&held);
  errno = kept;
  return result;
}

void bursar_prim_say(int fd, const char *text, size_t bytes) {
  struct held held;
  int kept = errno;
  hold(&held);
  while (bytes) {
    ssize_t n = write(fd, text, bytes);
    if (n > 0) {
      text += n;
      bytes -= (size_t)n;
      continue;
    }
    if (n < 0 && errno == EINTR)
      continue;
    /* A terminal or pipe that another program made non-blocking: wait for room, but never for ever. */
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (n < 0 && errno == EAGAIN && poll(&room, 1, 1000) == 1 && (room.revents & POLLOUT))
      continue;
    break;
  }
  let_go(&held);
  errno = kept;
}

void bursar_prim_discard(void *at, size_t bytes) {
  int kept = errno;
  madvise(at, bytes, MADV_DONTNEED);
  errno = kept;
}

void bursar_prim_resident(const void *at, size_t bytes, unsigned char *pages) {
  int kept = errno;
  if (mincore((void *)(uintptr_t)at, bytes, pages) != 0)
    memset(pages, 1, bytes / BURSAR_PRIM_PAGE);
  errno = kept;
}
