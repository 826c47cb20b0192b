/* repack.h: a model's file packed, and the plain one made of it again.
 *
 * Memory: some blocks, and the headers, whatever the model's size.
 * Ownership: the caller's save, which it commits or abandons.  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_REPACK_H
#define BURSAR_MODEL_REPACK_H

#include "model/archive.h"
#include "model/save.h"

/* `archive` is a plain one. */
int bursar_repack_pack(const struct bursar_archive *archive, struct bursar_save *save, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* The plain file, byte for byte as it was packed. */
int bursar_repack_unpack(const struct bursar_archive *archive, struct bursar_save *save, unsigned threads,
                         struct bursar_error *error) __attribute__((warn_unused_result));

#endif
