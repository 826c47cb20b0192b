/* A sealed file from any bytes at all: its armour, its header, and its chunks where the identity of the public vectors fits. */
#include "model/age.h"
#include "model/armor.h"
#include "model/unsealed.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
  if (!holds)
    abort();
}

static void must_say(const struct bursar_error *error) { must(error->text[0] && !strchr(error->text, '\n')); }

static struct bursar_age_keys keys;

static void begin(void) {
  static const char identity[] = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0\n";
  struct bursar_error error;
  must(bursar_age_identities_parse(identity, sizeof identity - 1, "fuzz", &keys.identities, &keys.count, &error) == 0);
}

static int file_of(const void *data, size_t size) {
  static int fd = -1;
  if (fd < 0)
    fd = memfd_create("fuzz", MFD_CLOEXEC);
  must(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
  return fd;
}

static void open_all(const void *data, size_t size) {
  struct bursar_unsealed file;
  struct bursar_error error = {0};
  if (bursar_unsealed_begin(file_of(data, size), "fuzz", &keys, &file, &error) < 0) {
    must_say(&error);
    return;
  }
  size_t bytes = file.bytes < MOST ? (size_t)file.bytes : MOST;
  char *out = malloc(bytes + 1);
  must(out);
  if (bursar_unsealed_read(&file, 0, out, bytes, 2, &error) < 0)
    must_say(&error);
  free(out);
  bursar_unsealed_end(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct bursar_armor_input *in = malloc(sizeof *in);
  char *out = malloc(MOST);
  struct bursar_error error = {0};
  must(in && out);
  if (!keys.count)
    begin();
  int status = bursar_armor_begin(in, file_of(data, size), "fuzz", &error);
  ssize_t got = status < 0 ? status : bursar_armor_read(in, out, MOST, &error);
  if (got < 0)
    must_say(&error);
  else
    open_all(out, (size_t)got);
  free(in);
  free(out);
  return 0;
}
