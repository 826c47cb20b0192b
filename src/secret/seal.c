#include "secret/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prim/prim.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static void drop(int *fd) {
  if (*fd >= 0)
    (void)close(*fd);
  *fd = -1;
}

static int map(struct bursar_seal *seal, int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0)
    return -errno;
  void *at = bursar_prim_mmap(NULL, seal->bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    return -errno;
  seal->at = at;
  seal->fd = fd;
  seal->device = st.st_dev;
  seal->inode = st.st_ino;
  return 0;
}

/* A descriptor of its own, for reading: a mapping of that can never become one for writing, nor does it hinder the seal. */
static int reopen(int fd) {
  char path[32];
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int again = open(path, O_RDONLY | O_CLOEXEC);
  return again < 0 ? -errno : again;
}

int bursar_seal_begin(struct bursar_seal *seal, size_t bytes) {
  struct rlimit limit;
  memset(seal, 0, sizeof *seal);
  seal->fd = seal->writer = -1;
  if (bytes > SIZE_MAX / 2)
    return -EFBIG;
  seal->bytes = (bytes + BURSAR_PRIM_PAGE - 1) / BURSAR_PRIM_PAGE * BURSAR_PRIM_PAGE;
  seal->bytes += seal->bytes == 0 ? BURSAR_PRIM_PAGE : 0;
  /* Beyond it the system would send SIGXFSZ, which ends programs. */
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && seal->bytes > limit.rlim_cur)
    return -EFBIG;
  int status = seal->writer = memfd_create("bursar-frozen", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int reader = -1;
  if (status < 0 || ftruncate(seal->writer, (off_t)seal->bytes) != 0)
    status = -errno;
  else
    status = reader = reopen(seal->writer);
  if (status >= 0)
    status = map(seal, reader);
  if (status < 0) {
    drop(&reader);
    drop(&seal->writer);
    return status;
  }
  return 0;
}

/* Written, not stored through a mapping: where memory is short that is an error here, and no SIGBUS. */
static int put_at(struct bursar_seal *seal, size_t at, const void *from, size_t bytes) {
  if (seal->writer < 0)
    return -EPERM;
  if (at > seal->bytes || bytes > seal->bytes - at)
    return -ENOSPC;
  for (size_t done = 0; done < bytes;) {
    ssize_t n = pwrite(seal->writer, (const char *)from + done, bytes - done, (off_t)(at + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -ENOSPC;
    done += (size_t)n;
  }
  seal->used = at + bytes;
  return 0;
}

int bursar_seal_put(struct bursar_seal *seal, const void *from, size_t bytes, size_t *offset) {
  *offset = (seal->used + BURSAR_SEAL_ALIGN - 1) / BURSAR_SEAL_ALIGN * BURSAR_SEAL_ALIGN;
  return put_at(seal, *offset, from, bytes);
}

int bursar_seal_more(struct bursar_seal *seal, const void *from, size_t bytes) {
  return put_at(seal, seal->used, from, bytes);
}

int bursar_seal_close(struct bursar_seal *seal) {
  if (fcntl(seal->writer, F_ADD_SEALS, SEALS) != 0)
    return -errno;
  drop(&seal->writer);
  return 0;
}

int bursar_seal_attach(struct bursar_seal *seal, int fd) {
  struct stat st;
  memset(seal, 0, sizeof *seal);
  seal->fd = seal->writer = -1;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0)
    return -errno;
  if ((seals & SEALS) != SEALS)
    return -EPERM;
  if (fstat(fd, &st) != 0 || st.st_size <= 0)
    return -EINVAL;
  seal->bytes = seal->used = (size_t)st.st_size;
  int reader = reopen(fd); /* whose end is ours to say */
  int status = reader < 0 ? reader : map(seal, reader);
  if (status < 0)
    drop(&reader);
  return status;
}

bool bursar_seal_held(const struct bursar_seal *seal) {
  struct stat st;
  return seal->fd >= 0 && fstat(seal->fd, &st) == 0 && st.st_dev == seal->device && st.st_ino == seal->inode;
}

void bursar_seal_end(struct bursar_seal *seal) {
  if (!seal->at)
    return;
  bursar_prim_release((void *)seal->at, seal->bytes);
  if (bursar_seal_held(seal))
    drop(&seal->fd);
  drop(&seal->writer);
  seal->at = NULL;
}
