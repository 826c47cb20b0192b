/* A model to convert from any bytes at all, pickle, npy or zip: what is accepted makes a container that is read again. */
#include "model/archive.h"
#include "model/convert.h"
#include "model/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char out[64];

static void must(bool holds) {
  if (!holds)
    abort();
}

static void forget(void) { (void)unlink(out); }

static void check(const struct bursar_converted *result) {
  struct bursar_archive archive;
  struct bursar_source source;
  struct bursar_error error;
  FILE *file = fopen(out, "r");
  must(file && bursar_source_of_file(fileno(file), out, &source, &error) == 0);
  must(bursar_archive_open(source, &archive, &error) == 0);
  must(archive.shown->count == result->tensors && archive.shown->data_bytes == result->bytes);
  must(archive.shown->metadata_count == result->described && archive.stored == archive.shown);
  bursar_archive_close(&archive);
  fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const more[] = {"mine.Class"};
  static int fd = -1;
  static char in[64];
  struct bursar_converted result;
  struct bursar_error error = {0};
  if (fd < 0) {
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(in, sizeof in, "/proc/self/fd/%d", fd);
    snprintf(out, sizeof out, "/dev/shm/fuzz_pickle.%d", (int)getpid());
    must(atexit(forget) == 0);
  }
  must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
  forget();
  if (bursar_convert(in, out, (struct bursar_allowed_more){more, 1}, false, &result, &error) == 0) {
    must(!result.refused.count && !result.hdf5);
    check(&result);
  } else {
    must(error.text[0] && !strchr(error.text, '\n') && access(out, F_OK) != 0);
  }
  bursar_convert_end(&result);
  return 0;
}
