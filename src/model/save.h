/* save.h: a file that is there whole, or not at all.
 *
 * Bytes go to a file without a name (where the filesystem has such; else to one beside it), which takes the place of the old one
 * when all of them are on the disk.  Whoever has the old one open or mapped keeps it.  Where the path is a link, what it
 * points to is replaced.
 * Ownership: the caller's struct, ended by _commit or _abandon.  Errors: a line that names the file; then only _abandon is
 * left.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_MODEL_SAVE_H
#define BURSAR_MODEL_SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct bursar_save {
  int fd;         /* -1: ended */
  char *path;     /* of the file itself, links followed */
  char *part;     /* the name beside it, while there is one */
  uint64_t bytes; /* written so far */
};

int bursar_save_begin(const char *path, struct bursar_save *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* So many bytes will be written: a disk that has not as much is an error now. */
int bursar_save_expect(struct bursar_save *save, uint64_t bytes, struct bursar_error *error)
    __attribute__((warn_unused_result));
int bursar_save_write(struct bursar_save *save, const void *bytes, size_t length, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Bytes that were written, anew. */
int bursar_save_overwrite(struct bursar_save *save, uint64_t at, const void *bytes, size_t length,
                          struct bursar_error *error) __attribute__((warn_unused_result));
/* On the disk, and in its place. */
int bursar_save_commit(struct bursar_save *save, struct bursar_error *error) __attribute__((warn_unused_result));
/* Nothing is left of it.  Also of one that was ended. */
void bursar_save_abandon(struct bursar_save *save);

#endif
