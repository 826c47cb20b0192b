/* source.h: where a model's bytes come from: a file, or what is in a sealed one.
 *
 * Ownership: the caller's struct, which owns nothing.  Threads: any may read at once.  Errors: a line.  Class N. */
#ifndef BURSAR_MODEL_SOURCE_H
#define BURSAR_MODEL_SOURCE_H

#include <stdint.h>
#include <sys/uio.h>

#include "model/unsealed.h"

/* Of a file, to be compared with what it is afterwards. */
struct bursar_source_state {
  int64_t seconds, nanoseconds; /* of its last change */
  int64_t bytes;
};
void bursar_source_note(int fd, struct bursar_source_state *out);
/* An error where it was written to meanwhile. */
int bursar_source_unchanged(int fd, const char *path, const struct bursar_source_state *was, struct bursar_error *error)
    __attribute__((warn_unused_result));

struct bursar_source {
  int fd;
  struct bursar_source_state state; /* when it was opened */
  const char *path;                 /* for errors */
  struct bursar_unsealed *unsealed; /* NULL: the file itself */
  uint64_t bytes;
};

int bursar_source_of_file(int fd, const char *path, struct bursar_source *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
struct bursar_source bursar_source_of_sealed(struct bursar_unsealed *file);
/* All of [from, from + bytes): fewer are an error. */
int bursar_source_read(const struct bursar_source *source, uint64_t from, void *out, size_t bytes, unsigned threads,
                       struct bursar_error *error) __attribute__((warn_unused_result));
/* The same into several pieces of memory, one behind the other.  The pieces may be changed by it. */
int bursar_source_scatter(const struct bursar_source *source, uint64_t from, struct iovec *to, size_t count,
                          struct bursar_error *error) __attribute__((warn_unused_result));

#endif
