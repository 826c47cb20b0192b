#include "report/source.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (16u << 20)
#define PATH_BYTES 4096u

static bool is_source_name(const char *path, size_t length) {
  return (length > 3 && memcmp(path + length - 3, ".py", 3) == 0) ||
         (length > 4 && memcmp(path + length - 4, ".pyw", 4) == 0);
}

static int open_source(struct bursar_text file, struct stat *st) {
  char path[PATH_BYTES];
  if (!file.bytes || file.length >= sizeof path || memchr(file.bytes, 0, file.length) ||
      !is_source_name(file.bytes, file.length))
    return -1;
  memcpy(path, file.bytes, file.length);
  path[file.length] = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_size > 0 && st->st_size <= (off_t)FILE_MAX)
    return fd;
  if (fd >= 0)
    close(fd);
  return -1;
}

/* The line in [text, text + size); its length, or -1. */
static int pick_line(const char *text, size_t size, uint32_t line, char out[BURSAR_SOURCE_LINE]) {
  const char *end = text + size;
  for (uint32_t i = 1; i < line; i++) {
    text = memchr(text, '\n', (size_t)(end - text));
    if (!text)
      return -1;
    text++;
  }
  const char *stop = memchr(text, '\n', (size_t)(end - text));
  if (!stop)
    stop = end;
  while (text < stop && (*text == ' ' || *text == '\t' || *text == '\f'))
    text++;
  while (text < stop && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r'))
    stop--;
  size_t length = (size_t)(stop - text) < BURSAR_SOURCE_LINE ? (size_t)(stop - text) : BURSAR_SOURCE_LINE;
  memcpy(out, text, length);
  return (int)length;
}

int bursar_source_line(struct bursar_text file, uint32_t line, uint64_t since_unix_ns, char out[BURSAR_SOURCE_LINE],
                       bool *changed) {
  struct stat st;
  int result = -1;
  if (!line)
    return -1;
  int fd = open_source(file, &st);
  if (fd < 0)
    return -1;
  *changed = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec > since_unix_ns;
  char *text = malloc((size_t)st.st_size);
  ssize_t got = text ? pread(fd, text, (size_t)st.st_size, 0) : -1;
  if (got > 0)
    result = pick_line(text, (size_t)got, line, out);
  free(text);
  close(fd);
  return result;
}
