/* extent.h: bytes of a file read piece by piece, whichever way they are written there.
 *
 * A pickle has an array's bytes as they are, or as a text of Latin-1 characters: as UTF-8, with escapes, or as a literal of
 * Python 2's.  They are decoded as they are read, so that nothing is ever in memory but the piece.
 * Ownership: the caller's struct; the source stays the caller's.  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_EXTENT_H
#define BURSAR_MODEL_EXTENT_H

#include "model/nodes.h"
#include "model/source.h"

struct bursar_extent_reader {
  const struct bursar_source *source;
  uint64_t at, end; /* what is still to be read */
  uint8_t form;
  size_t used, had; /* of piece */
  char piece[16384];
};

void bursar_extent_begin(struct bursar_extent_reader *reader, const struct bursar_source *source,
                         struct bursar_extent extent);
/* Up to so many decoded bytes, fewer at the end alone: how many, or a negative status. */
int64_t bursar_extent_read(struct bursar_extent_reader *reader, void *out, size_t bytes, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Reads it through for the bytes that it stands for. */
int bursar_extent_measure(const struct bursar_source *source, struct bursar_extent *extent, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
