/* peek_linux.c: Linux behind peek.h: process_vm_readv, /proc/PID/mem, /proc/PID/pagemap. */
#include "prim/peek.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096u
#define AT_ONCE 1024u /* entries of the page map */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_FILE (1ull << 61)
#define ENTRY_EXCLUSIVE (1ull << 56)
#define RANGES_AT_ONCE 340u

/* Linux 6.7's PAGEMAP_SCAN, which older headers do not have. */
struct range {
  uint64_t from, to, categories;
};
struct scan {
  uint64_t size, flags, from, to, walked_to, ranges, ranges_room, pages_most;
  uint64_t inverted, all_of, any_of, told;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan)
#define SCAN_PRESENT 8u
#define SCAN_ZEROS 32u

static int open_proc(pid_t pid, const char *name) {
  char path[64];
  if (pid)
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
  else
    snprintf(path, sizeof path, "/proc/self/%s", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  return fd < 0 ? -errno : fd;
}

static pid_t target(const struct bursar_peek *peek) { return peek->pid ? peek->pid : getpid(); }

int bursar_peek_open(pid_t pid, struct bursar_peek *out) {
  int kept = errno, result = 0;
  char probe;
  *out = (struct bursar_peek){.pid = pid, .pages_fd = open_proc(pid, "pagemap"), .mem_fd = -1};
  if (out->pages_fd < 0 && pid)
    result = out->pages_fd;
  struct iovec here = {&probe, 1}, nowhere = {NULL, 1};
  /* Nothing is mapped at 0: EFAULT says that one may ask, anything else that one may not, or that there is no such call. */
  if (result == 0 && process_vm_readv(target(out), &here, 1, &nowhere, 1, 0) < 0 && errno != EFAULT) {
    out->mem_fd = open_proc(pid, "mem");
    result = out->mem_fd < 0 ? -EPERM : 0;
  }
  if (result < 0)
    bursar_peek_close(out);
  errno = kept;
  return result;
}

void bursar_peek_close(struct bursar_peek *peek) {
  int kept = errno;
  if (peek->pages_fd >= 0)
    close(peek->pages_fd);
  if (peek->mem_fd >= 0)
    close(peek->mem_fd);
  peek->pages_fd = peek->mem_fd = -1;
  errno = kept;
}

ssize_t bursar_peek_read(const struct bursar_peek *peek, uint64_t at, void *out, size_t bytes) {
  if (peek->direct) {
    memcpy(out, (const void *)(uintptr_t)at, bytes);
    return (ssize_t)bytes;
  }
  int kept = errno;
  struct iovec here = {out, bytes}, there = {(void *)(uintptr_t)at, bytes};
  ssize_t got = peek->mem_fd >= 0 ? pread(peek->mem_fd, out, bytes, (off_t)at)
                                  : process_vm_readv(target(peek), &here, 1, &there, 1, 0);
  if (got < 0)
    got = -errno;
  errno = kept;
  return got;
}

size_t bursar_peek_places(const struct bursar_peek *peek, uint64_t at, uint64_t step, size_t count, void *out,
                          size_t bytes) {
  struct iovec there[BURSAR_PEEK_PLACES], here = {out, bytes * count};
  int kept = errno;
  size_t read = 0;
  if (peek->direct) {
    for (; read < count; read++)
      memcpy((char *)out + read * bytes, (const void *)(uintptr_t)(at + read * step), bytes);
  } else if (peek->mem_fd >= 0) {
    while (read < count &&
           pread(peek->mem_fd, (char *)out + read * bytes, bytes, (off_t)(at + read * step)) == (ssize_t)bytes)
      read++;
  } else {
    for (size_t i = 0; i < count; i++)
      there[i] = (struct iovec){(void *)(uintptr_t)(at + i * step), bytes};
    ssize_t got = process_vm_readv(target(peek), &here, 1, there, count, 0);
    read = got > 0 ? (size_t)got / bytes : 0;
  }
  errno = kept;
  return read;
}

static void set_bits(uint64_t *bits, uint64_t from, uint64_t to) {
  while (from < to) {
    uint64_t n = 64 - from % 64 < to - from ? 64 - from % 64 : to - from;
    bits[from / 64] |= (n == 64 ? UINT64_MAX : (1ull << n) - 1) << (from % 64);
    from += n;
  }
}

/* The kernel says which ranges are resident and no zeros: it looks at no page for that, only at what maps them.  Negative
 * where it cannot. */
static ssize_t scan_pages(const struct bursar_peek *peek, uint64_t at, uint64_t count, uint64_t *bits) {
  struct range ranges[RANGES_AT_ONCE];
  struct scan scan = {.size = sizeof scan,
                      .from = at,
                      .to = at + count * PAGE,
                      .ranges = (uintptr_t)ranges,
                      .ranges_room = RANGES_AT_ONCE,
                      .inverted = SCAN_ZEROS,
                      .all_of = SCAN_PRESENT | SCAN_ZEROS,
                      .told = SCAN_PRESENT};
  ssize_t resident = 0;
  while (scan.from < scan.to) {
    int got = ioctl(peek->pages_fd, PAGEMAP_SCAN, &scan);
    if (got < 0)
      return -errno;
    for (int i = 0; i < got; i++) {
      set_bits(bits, (ranges[i].from - at) / PAGE, (ranges[i].to - at) / PAGE);
      resident += (ssize_t)((ranges[i].to - ranges[i].from) / PAGE);
    }
    if (scan.walked_to <= scan.from)
      return -EIO;
    scan.from = scan.walked_to;
  }
  return resident;
}

/* A page of zeros is nobody's: neither a file's nor exclusively ours.  So is one that a forked child still shares. */
static bool counts(uint64_t entry, bool all) {
  return (entry & ENTRY_PRESENT) && (all || (entry & (ENTRY_FILE | ENTRY_EXCLUSIVE)));
}

/* From the page map, an entry a page. */
static ssize_t read_pages(const struct bursar_peek *peek, uint64_t at, uint64_t count, bool all, uint64_t *bits) {
  uint64_t entries[AT_ONCE], first = at / PAGE;
  ssize_t resident = 0;
  for (uint64_t done = 0; done < count;) {
    uint64_t want = count - done < AT_ONCE ? count - done : AT_ONCE;
    ssize_t got = pread(peek->pages_fd, entries, want * 8, (off_t)((first + done) * 8));
    if (got <= 0)
      return got < 0 ? -errno : -EIO;
    for (uint64_t i = 0; i < (uint64_t)got / 8; i++)
      if (counts(entries[i], all)) {
        bits[(done + i) / 64] |= 1ull << ((done + i) % 64);
        resident++;
      }
    done += (uint64_t)got / 8;
  }
  return resident;
}

/* mincore() takes a page of a guard (MADV_GUARD_INSTALL, which threads' stacks have) for one that is there: a touch of it is a
 * fault.  The kernel is asked for a byte of each. */
static void leave_guards_out(uint64_t at, unsigned char *pages, uint64_t count) {
  struct iovec there[AT_ONCE];
  char bytes[AT_ONCE];
  for (uint64_t from = 0; from < count;) {
    uint64_t wanted[AT_ONCE], n = 0;
    for (uint64_t i = from; i < count; i++)
      if (pages[i] & 1) {
        wanted[n] = i;
        there[n++] = (struct iovec){(void *)(uintptr_t)(at + i * PAGE), 1};
      }
    struct iovec here = {bytes, n};
    ssize_t got = n ? process_vm_readv(getpid(), &here, 1, there, n, 0) : 0;
    if (!n || got == (ssize_t)n)
      return;
    uint64_t bad = wanted[got > 0 ? got : 0];
    pages[bad] = 0;
    from = bad + 1;
  }
}

/* Of this process alone, and pages of zeros count. */
static ssize_t ask_pages(uint64_t at, uint64_t count, uint64_t *bits) {
  unsigned char pages[AT_ONCE];
  ssize_t resident = 0;
  for (uint64_t done = 0; done < count;) {
    uint64_t want = count - done < AT_ONCE ? count - done : AT_ONCE;
    if (mincore((void *)(uintptr_t)(at + done * PAGE), want * PAGE, pages) != 0)
      return -errno;
    leave_guards_out(at + done * PAGE, pages, want);
    for (uint64_t i = 0; i < want; i++)
      if (pages[i] & 1) {
        bits[(done + i) / 64] |= 1ull << ((done + i) % 64);
        resident++;
      }
    done += want;
  }
  return resident;
}

ssize_t bursar_peek_pages(const struct bursar_peek *peek, uint64_t at, uint64_t count, bool all, uint64_t *bits) {
  size_t bytes = (count + 63) / 64 * sizeof *bits;
  int kept = errno;
  memset(bits, 0, bytes);
  ssize_t resident = peek->pages_fd < 0 ? ask_pages(at, count, bits) : scan_pages(peek, at, count, bits);
  if (resident < 0 && peek->pages_fd >= 0) {
    memset(bits, 0, bytes);
    resident = read_pages(peek, at, count, all, bits);
  }
  errno = kept;
  return resident;
}
