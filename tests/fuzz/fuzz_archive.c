/* A model's file from any bytes at all: opened, plain or packed, and each tensor read whole and in part. */
#include "model/archive.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TENSOR_MOST (4u << 20) /* bytes of one that is read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
  if (!holds)
    abort();
}

static void read_tensor(const struct bursar_archive *archive, const struct bursar_tensor *tensor) {
  struct bursar_error error = {0};
  uint64_t bytes = tensor->to - tensor->from, from = bytes / 3;
  if (bytes > TENSOR_MOST)
    bytes = TENSOR_MOST;
  from = from < bytes ? from : 0;
  char *whole = malloc(bytes + 1), *part = malloc(bytes + 1);
  must(whole && part);
  if (bursar_archive_read(archive, tensor, 0, whole, bytes, 3, &error) == 0) {
    if (bursar_archive_read(archive, tensor, from, part, bytes - from, 1, &error) == 0)
      must(memcmp(whole + from, part, bytes - from) == 0);
  } else {
    must(error.text[0] && !strchr(error.text, '\n'));
  }
  free(whole);
  free(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int fd = -1;
  struct bursar_archive archive;
  struct bursar_source source;
  struct bursar_error error;
  if (fd < 0)
    fd = memfd_create("fuzz", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
  must(bursar_source_of_file(fd, "fuzz", &source, &error) == 0);
  if (bursar_archive_open(source, &archive, &error) < 0) {
    must(error.text[0] && !strchr(error.text, '\n'));
    return 0;
  }
  for (size_t i = 0; i < archive.shown->count && i < 20; i++)
    read_tensor(&archive, &archive.shown->tensors[i]);
  bursar_archive_close(&archive);
  return 0;
}
