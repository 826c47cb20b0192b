/* inflate.h: what was packed with deflate, unpacked into a file by zlib's library, which is looked for when it is first needed.
 *
 * Memory is the same whatever is unpacked, and what is unpacked is bounded by what it was packed into: no deflate makes less than
 * a thousandth of something, and beyond 4 GiB nobody's numbers are a hundredth.
 * Ownership: the caller's.  Errors: a line.  Threads: any, each with files of its own.  Class N. */
#ifndef BURSAR_MODEL_INFLATE_H
#define BURSAR_MODEL_INFLATE_H

#include "model/save.h"
#include "model/source.h"

enum bursar_inflate_how {
  BURSAR_INFLATE_RAW,  /* as in a zip file */
  BURSAR_INFLATE_ZLIB, /* with zlib's head and sum, or gzip's */
};

/* Unpacks [at, at + bytes), which ends with what was packed, and appends it. *out: how many bytes that were. */
int bursar_inflate(const struct bursar_source *source, uint64_t at, uint64_t bytes, enum bursar_inflate_how how,
                   struct bursar_save *to, uint64_t *out, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
