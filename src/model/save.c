#include "model/save.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT_ONCE (1u << 30) /* a write of more is cut by the kernel */

static int fail(struct bursar_error *error, const char *path, int why) {
  return bursar_error_set(error, BURSAR_FAILED, "cannot write %.800s: %s", path, strerror(why));
}

/* --- where ----------------------------------------------------------------------------------------------------------- */

/* "." where the path has no folder; malloc. */
static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* A name beside the file that nobody has; malloc. */
static char *part_of(const char *path) {
  uint64_t random = 0;
  char *part = NULL;
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  (void)!getrandom(&random, sizeof random, 0);
  if (asprintf(&part, "%.*s.%.100s.%08llx", (int)(name - path), path, name, (unsigned long long)random & 0xffffffff) <
      0)
    return NULL;
  return part;
}

/* The file that the path means: not the link to it. */
static char *meant(const char *path) {
  struct stat is;
  char *real = lstat(path, &is) == 0 && S_ISLNK(is.st_mode) ? realpath(path, NULL) : NULL;
  return real ? real : strdup(path);
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

static bool can_name_later(void) { return access("/proc/self/fd", X_OK) == 0; }

static int open_part(struct bursar_save *save, mode_t mode) {
  char *folder = folder_of(save->path);
  if (!folder)
    return -ENOMEM;
  save->fd = can_name_later() ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, mode) : -1;
  free(folder);
  if (save->fd >= 0)
    return 0;
  save->part = part_of(save->path);
  if (!save->part)
    return -ENOMEM;
  save->fd = open(save->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  return save->fd < 0 ? -errno : 0;
}

int bursar_save_begin(const char *path, struct bursar_save *out, struct bursar_error *error) {
  struct stat is;
  *out = (struct bursar_save){.fd = -1, .path = meant(path)};
  if (!out->path)
    return fail(error, path, ENOMEM);
  bool old = stat(out->path, &is) == 0;
  int status = old && !S_ISREG(is.st_mode) ? (S_ISDIR(is.st_mode) ? -EISDIR : -EINVAL) : open_part(out, 0666);
  /* Who may read the old one may read the new one. */
  if (status == 0 && old && fchmod(out->fd, is.st_mode & 0777) != 0)
    status = -errno;
  if (status == 0)
    return 0;
  bursar_save_abandon(out);
  return status == -EINVAL
             ? bursar_error_set(error, BURSAR_FAILED, "cannot write %.800s: what is there is no file", path)
             : fail(error, path, -status);
}

int bursar_save_expect(struct bursar_save *save, uint64_t bytes, struct bursar_error *error) {
  int why;
  if (bytes == 0 || bytes > INT64_MAX)
    return bytes ? fail(error, save->path, EFBIG) : 0;
  do
    why = fallocate(save->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0 ? 0 : errno;
  while (why == EINTR);
  /* Where a filesystem cannot, writing tells. */
  return why == ENOSPC || why == EFBIG || why == EDQUOT ? fail(error, save->path, why) : 0;
}

int bursar_save_write(struct bursar_save *save, const void *bytes, size_t length, struct bursar_error *error) {
  const char *at = bytes;
  while (length) {
    ssize_t done = write(save->fd, at, length < AT_ONCE ? length : AT_ONCE);
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return fail(error, save->path, done < 0 ? errno : EIO);
    at += done;
    length -= (size_t)done;
    save->bytes += (uint64_t)done;
  }
  return 0;
}

int bursar_save_overwrite(struct bursar_save *save, uint64_t at, const void *bytes, size_t length,
                          struct bursar_error *error) {
  for (size_t made = 0; made < length;) {
    ssize_t done = pwrite(save->fd, (const char *)bytes + made, length - made, (off_t)(at + made));
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return fail(error, save->path, done < 0 ? errno : EIO);
    made += (size_t)done;
  }
  return 0;
}

static int sync_folder(const char *path) {
  char *folder = folder_of(path);
  int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  free(folder);
  if (fd < 0)
    return 0; /* a folder that may be written to and not read: the kernel will see to it */
  int status = fsync(fd) == 0 || errno == EINVAL ? 0 : -errno;
  close(fd);
  return status;
}

/* A name for what had none. */
static int give_name(struct bursar_save *save) {
  char own[64];
  snprintf(own, sizeof own, "/proc/self/fd/%d", save->fd);
  for (unsigned tries = 0; tries < 100; tries++) {
    char *part = part_of(save->path);
    if (!part)
      return -ENOMEM;
    if (linkat(AT_FDCWD, own, AT_FDCWD, part, AT_SYMLINK_FOLLOW) == 0) {
      save->part = part;
      return 0;
    }
    int why = errno;
    free(part);
    if (why != EEXIST)
      return -why;
  }
  return -EEXIST;
}

int bursar_save_commit(struct bursar_save *save, struct bursar_error *error) {
  int status = fsync(save->fd) == 0 ? 0 : -errno;
  if (status == 0 && !save->part)
    status = give_name(save);
  if (status == 0 && rename(save->part, save->path) != 0)
    status = -errno;
  if (status == 0) {
    free(save->part);
    save->part = NULL;
    status = sync_folder(save->path);
  }
  if (status < 0)
    (void)fail(error, save->path, -status);
  bursar_save_abandon(save);
  return status < 0 ? BURSAR_FAILED : 0;
}

void bursar_save_abandon(struct bursar_save *save) {
  if (save->fd >= 0)
    close(save->fd);
  save->fd = -1;
  if (save->part)
    (void)unlink(save->part);
  free(save->part);
  free(save->path);
  save->part = save->path = NULL;
}
