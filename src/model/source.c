#include "model/source.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "secret/wipe.h"

#define AT_ONCE (1u << 30)

void bursar_source_note(int fd, struct bursar_source_state *out) {
  struct stat is;
  *out = (struct bursar_source_state){0};
  if (fstat(fd, &is) == 0 && S_ISREG(is.st_mode))
    *out = (struct bursar_source_state){is.st_mtim.tv_sec, is.st_mtim.tv_nsec, is.st_size};
}

int bursar_source_unchanged(int fd, const char *path, const struct bursar_source_state *was,
                            struct bursar_error *error) {
  struct bursar_source_state is;
  bursar_source_note(fd, &is);
  return is.seconds == was->seconds && is.nanoseconds == was->nanoseconds && is.bytes == was->bytes
             ? 0
             : bursar_error_set(error, BURSAR_FAILED,
                                "%.500s was written to while it was read: do it again when that has ended", path);
}

int bursar_source_of_file(int fd, const char *path, struct bursar_source *out, struct bursar_error *error) {
  struct stat is;
  if (fstat(fd, &is) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.500s: %s", path, strerror(errno));
  if (!S_ISREG(is.st_mode))
    return bursar_error_set(error, BURSAR_FAILED, "%.500s is no file", path);
  *out = (struct bursar_source){.fd = fd, .path = path, .bytes = (uint64_t)is.st_size};
  bursar_source_note(fd, &out->state);
  return 0;
}

struct bursar_source bursar_source_of_sealed(struct bursar_unsealed *file) {
  struct bursar_source source = {.fd = file->fd, .path = file->path, .unsealed = file, .bytes = file->bytes};
  bursar_source_note(file->fd, &source.state);
  return source;
}

int bursar_source_read(const struct bursar_source *source, uint64_t from, void *out, size_t bytes, unsigned threads,
                       struct bursar_error *error) {
  if (source->unsealed)
    return bursar_unsealed_read(source->unsealed, from, out, bytes, threads, error);
  for (char *to = out; bytes;) {
    ssize_t got = pread(source->fd, to, bytes < AT_ONCE ? bytes : AT_ONCE, (off_t)from);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot read %.500s: %s", source->path, strerror(errno));
    if (got == 0)
      return bursar_error_set(error, BURSAR_FAILED, "%.500s has become shorter: it ends at %llu bytes", source->path,
                              (unsigned long long)from);
    to += got;
    from += (uint64_t)got;
    bytes -= (size_t)got;
  }
  return 0;
}

/* Chunks of a sealed file are larger than small pieces are: each is decrypted once. */
static int scatter_sealed(const struct bursar_source *source, uint64_t from, const struct iovec *to, size_t count,
                          struct bursar_error *error) {
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++)
    bytes += to[i].iov_len;
  char *all = malloc(bytes + 1);
  int status = all ? bursar_source_read(source, from, all, bytes, 1, error)
                   : bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  for (size_t i = 0, at = 0; status == 0 && i < count; at += to[i++].iov_len)
    memcpy(to[i].iov_base, all + at, to[i].iov_len);
  if (all)
    bursar_wipe(all, bytes);
  free(all);
  return status;
}

int bursar_source_scatter(const struct bursar_source *source, uint64_t from, struct iovec *to, size_t count,
                          struct bursar_error *error) {
  if (source->unsealed)
    return scatter_sealed(source, from, to, count, error);
  for (;;) {
    for (; count && !to->iov_len; to++, count--)
      ;
    if (!count)
      return 0;
    ssize_t got = preadv(source->fd, to, (int)(count < IOV_MAX ? count : IOV_MAX), (off_t)from);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot read %.500s: %s", source->path, strerror(errno));
    if (got == 0)
      return bursar_error_set(error, BURSAR_FAILED, "%.500s has become shorter: it ends at %llu bytes", source->path,
                              (unsigned long long)from);
    from += (uint64_t)got;
    for (; count && (size_t)got >= to->iov_len; to++, count--)
      got -= (ssize_t)to->iov_len;
    if (count) {
      to->iov_base = (char *)to->iov_base + got;
      to->iov_len -= (size_t)got;
    }
  }
}
