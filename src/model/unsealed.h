/* unsealed.h: a sealed file that is read like any other: any bytes of it, decrypted as they are asked for.
 *
 * Its last chunk is opened first, so that a file which was cut off is known before anything of it is used.  What is decrypted goes
 * straight into the caller's memory; chunks that are wanted in part go through memory that is wiped.
 * Ownership: the caller's struct, ended by _end; the descriptor stays the caller's.  Threads: any may read at once.  Errors: a
 * line that names the file and the place; then what was asked for is wiped.  Class N. */
#ifndef BURSAR_MODEL_UNSEALED_H
#define BURSAR_MODEL_UNSEALED_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/age.h"

struct bursar_unsealed {
  int fd;
  const char *path;             /* the caller's, for errors */
  struct bursar_vault_slot key; /* of the chunks */
  uint64_t at, sealed_bytes;    /* of the chunks in the file */
  uint64_t bytes;               /* of what is in them */
};

int bursar_unsealed_begin(int fd, const char *path, const struct bursar_age_keys *keys, struct bursar_unsealed *out,
                          struct bursar_error *error) __attribute__((warn_unused_result));
/* All of [from, from + bytes), by so many threads at most. */
int bursar_unsealed_read(struct bursar_unsealed *file, uint64_t from, void *out, size_t bytes, unsigned threads,
                         struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_unsealed_end(struct bursar_unsealed *file);

#endif
