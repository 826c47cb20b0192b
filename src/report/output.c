#include "report/output.h"

#include "ledger/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 1 where the file begins like a ledger.  One that cannot be read might be one. */
static int is_ledger(const char *path) {
  char magic[8];
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return -errno;
  ssize_t got = pread(fd, magic, sizeof magic, 0);
  close(fd);
  return got == (ssize_t)sizeof magic && memcmp(magic, BURSAR_LEDGER_MAGIC, sizeof magic) == 0;
}

static int check_place(const char *path, struct bursar_error *error) {
  struct stat st;
  if (lstat(path, &st) != 0)
    return errno == ENOENT ? 0 : bursar_error_set(error, BURSAR_FAILED, "cannot write %s: %s", path, strerror(errno));
  if (S_ISLNK(st.st_mode))
    return bursar_error_set(error, BURSAR_FAILED, "cannot write %s: it is a link; name the file itself", path);
  if (!S_ISREG(st.st_mode))
    return bursar_error_set(error, BURSAR_FAILED, "cannot write %s: it is %s; name a file", path,
                            S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
  int ledger = is_ledger(path);
  if (ledger < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot replace %s: %s", path, strerror(-ledger));
  if (ledger)
    return bursar_error_set(error, BURSAR_FAILED, "%s is a ledger: a report never replaces one; name another file",
                            path);
  return 0;
}

int bursar_output_open(const char *path, struct bursar_output *out, struct bursar_error *error) {
  *out = (struct bursar_output){.fd = STDOUT_FILENO};
  if (!path || strcmp(path, "-") == 0)
    return 0;
  const char *slash = strrchr(path, '/');
  int folder = slash ? (int)(slash - path) + 1 : 0;
  if (!path[folder])
    return bursar_error_set(error, BURSAR_MISUSE, "cannot write '%s': name a file", path);
  int length = snprintf(out->path, sizeof out->path, "%s", path);
  int beside = snprintf(out->temporary, sizeof out->temporary, "%.*s.bursar-%ld.tmp", folder, path, (long)getpid());
  if (length >= (int)sizeof out->path || beside >= (int)sizeof out->temporary)
    return bursar_error_set(error, BURSAR_MISUSE, "the path after -o is longer than %u bytes", BURSAR_OUTPUT_PATH - 1);
  int status = check_place(path, error);
  if (status != 0)
    return status;
  out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0666);
  if (out->fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot write %s: %s", path, strerror(errno));
  return 0;
}

int bursar_output_commit(struct bursar_output *output, struct bursar_error *error) {
  if (!output->path[0])
    return 0;
  /* The place is looked at again: the report may have taken a while. */
  int status = check_place(output->path, error);
  if (close(output->fd) != 0 && status == 0)
    status = bursar_error_set(error, BURSAR_FAILED, "cannot write %s: %s", output->path, strerror(errno));
  if (status == 0 && rename(output->temporary, output->path) != 0)
    status = bursar_error_set(error, BURSAR_FAILED, "cannot write %s: %s", output->path, strerror(errno));
  if (status != 0)
    unlink(output->temporary);
  return status;
}

void bursar_output_discard(struct bursar_output *output) {
  if (!output->path[0])
    return;
  close(output->fd);
  unlink(output->temporary);
}
