/* safetensors.h: the container of a model: names, types, shapes and places of its tensors, as a file's header says them.
 *
 *   8 bytes: the header's length   the header: JSON, padded with blanks   the tensors' bytes, without a hole
 *
 * Nothing in a header is trusted: what the format forbids is refused, and so is what it does not know.
 * Ownership: as each says.  Threads: a parsed container may be read by any.  Errors: BURSAR_FAILED with a line that names
 * the file and the place in it.  Safety class N. */
#ifndef BURSAR_MODEL_SAFETENSORS_H
#define BURSAR_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/escape.h"
#include "model/dtype.h"
#include "model/source.h"

#define BURSAR_SAFETENSORS_HEADER_MOST 100000000u /* bytes, as the format has it */
#define BURSAR_SAFETENSORS_LENGTH 8u              /* of the header's length, which stands before it */

struct bursar_tensor {
  struct bursar_text name;
  const uint64_t *shape;
  uint64_t from, to; /* its bytes, from the first tensor's on */
  uint32_t rank;
  uint32_t dtype;
};

struct bursar_safetensors_pair {
  struct bursar_text key, value;
};

struct bursar_safetensors {
  const struct bursar_tensor *tensors; /* in the order of their bytes */
  const struct bursar_safetensors_pair *metadata;
  size_t count, metadata_count;
  uint64_t data_at;    /* in the file */
  uint64_t data_bytes; /* of all tensors */
};

/* Reads a header of so many bytes, which becomes the container's (malloc), also where it fails; `data_bytes` follow it.  `path`
 * is for errors.  The caller frees *out. */
int bursar_safetensors_parse(char *header, size_t bytes, uint64_t data_bytes, const char *path,
                             struct bursar_safetensors **out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* The same from where it begins. */
int bursar_safetensors_read(const struct bursar_source *source, struct bursar_safetensors **out,
                            struct bursar_error *error) __attribute__((warn_unused_result));
/* NULL: there is none of that name. */
const struct bursar_tensor *bursar_safetensors_find(const struct bursar_safetensors *container,
                                                    struct bursar_text name);
void bursar_safetensors_free(struct bursar_safetensors *container);

/* Gives each tensor its place (name, dtype and shape are the caller's) and appends the length and the header, of `least`
 * bytes together at least.  They are put into the order of their alignment, unless their bytes are there in the given one
 * (`in_order`).  Twice the same name is an error, as is a header that is too long. */
int bursar_safetensors_header(struct bursar_tensor *tensors, size_t count, bool in_order, size_t least,
                              const struct bursar_safetensors_pair *metadata, size_t metadata_count,
                              struct bursar_buffer *out, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
