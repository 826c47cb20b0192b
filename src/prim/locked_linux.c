#include "prim/locked.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "prim/prim.h"

#ifndef SYS_memfd_secret
  #define SYS_memfd_secret 447 /* on each architecture */
#endif
#ifndef MADV_WIPEONFORK
  #define MADV_WIPEONFORK 18
#endif

static int secret_file(size_t bytes) {
  int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
  if (fd < 0)
    return -errno;
  if (ftruncate(fd, (off_t)bytes) != 0) {
    int status = -errno;
    close(fd);
    return status;
  }
  return fd;
}

bool bursar_locked_can_hide(void) {
  int kept = errno;
  int fd = secret_file(BURSAR_PRIM_PAGE);
  if (fd >= 0)
    close(fd);
  errno = kept;
  return fd >= 0;
}

/* One slot in its place; fd -1: anonymous.  Touched here, so that later no fault can fail. */
static int map_slot(char *at, size_t bytes, int fd, off_t offset) {
  int flags = MAP_FIXED | (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  if (bursar_prim_mmap(at, bytes, PROT_READ | PROT_WRITE, flags, fd, offset) == MAP_FAILED)
    return -errno;
  if (fd < 0 && mlock(at, bytes) != 0)
    return errno == EPERM ? -EAGAIN : -errno; /* a limit of 0 is told as a right that is missing */
  if (madvise(at, bytes, fd >= 0 ? MADV_DONTFORK : MADV_WIPEONFORK) != 0 || madvise(at, bytes, MADV_DONTDUMP) != 0)
    return -errno;
  memset(at, 0, bytes);
  return mprotect(at, bytes, PROT_NONE) == 0 ? 0 : -errno;
}

static size_t room_of(size_t pages, size_t count) { return ((pages + 1) * count + 1) * BURSAR_PRIM_PAGE; }

/* Locked memory cannot be swapped: whoever is free of the limit could take the whole machine's by one call. */
static bool machine_has(size_t bytes) {
  struct sysinfo machine = {.mem_unit = 1};
  return sysinfo(&machine) != 0 || bytes / machine.mem_unit <= machine.totalram / 2;
}

int bursar_locked_map(size_t pages, size_t count, bool hidden, char **out) {
  int kept = errno;
  int status = 0;
  int fd = -1;
  size_t bytes = pages * BURSAR_PRIM_PAGE;
  if (!machine_has(bytes * count))
    return -ENOBUFS;
  char *room = bursar_prim_reserve(room_of(pages, count), false);
  if (!room)
    return -ENOMEM;
  if (hidden && (fd = secret_file(bytes * count)) < 0)
    status = fd;
  for (size_t i = 0; status == 0 && i < count; i++)
    status = map_slot(room + BURSAR_PRIM_PAGE + i * (bytes + BURSAR_PRIM_PAGE), bytes, fd, (off_t)(i * bytes));
  if (fd >= 0)
    close(fd); /* the mappings keep it; nobody opens it again */
  if (status == 0)
    *out = room + BURSAR_PRIM_PAGE;
  else
    bursar_prim_release(room, room_of(pages, count));
  errno = kept;
  return status;
}

void bursar_locked_unmap(char *slots, size_t pages, size_t count) {
  bursar_prim_release(slots - BURSAR_PRIM_PAGE, room_of(pages, count));
}

int bursar_locked_protect(char *slot, size_t pages, enum bursar_locked_access access) {
  static const int bits[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
  int kept = errno;
  int status = mprotect(slot, pages * BURSAR_PRIM_PAGE, bits[access]) == 0 ? 0 : -errno;
  errno = kept;
  return status;
}

void *bursar_locked_forgotten(size_t bytes) {
  int kept = errno;
  char *at = bursar_prim_reserve(bytes, true);
  if (at && madvise(at, bytes, MADV_WIPEONFORK) != 0) {
    bursar_prim_release(at, bytes);
    at = NULL;
  }
  errno = kept;
  return at;
}

uint64_t bursar_locked_limit(void) {
  struct rlimit limit;
  int kept = errno;
  bool known = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  errno = kept;
  return known ? limit.rlim_cur : UINT64_MAX;
}

int bursar_locked_random(void *out, size_t bytes) {
  int kept = errno;
  ssize_t got;
  do
    got = getrandom(out, bytes, 0); /* up to 256 bytes come whole */
  while (got < 0 && errno == EINTR);
  int status = got == (ssize_t)bytes ? 0 : got < 0 ? -errno : -EIO;
  errno = kept;
  return status;
}
