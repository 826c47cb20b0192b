/* zstd.h: what packed files need of zstd's library, which is looked for when it is first needed.
 *
 * Ownership: contexts are the caller's, ended by _end; one thread's at a time.  Errors: 0 bytes, or false; a line from _load.
 * Class N. */
#ifndef BURSAR_MODEL_ZSTD_H
#define BURSAR_MODEL_ZSTD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum bursar_zstd_how {
  BURSAR_ZSTD_LETTERS, /* how often each byte is, and nothing else: for exponents, at gigabytes a second */
  BURSAR_ZSTD_PROPER,  /* repetitions too: for trees, integers, text */
};

struct bursar_zstd {
  void *pack, *unpack; /* NULL until needed */
  int how;             /* of pack; -1: not set yet */
};

/* 0, or an error that says what to install.  The others need it. */
int bursar_zstd_load(struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_zstd_begin(struct bursar_zstd *zstd);
void bursar_zstd_end(struct bursar_zstd *zstd);
/* Room that is always enough for so many bytes. */
size_t bursar_zstd_room(size_t bytes);
/* The packed bytes; 0: they would be `room` or more, or there is no memory. */
size_t bursar_zstd_pack(struct bursar_zstd *zstd, enum bursar_zstd_how how, const void *in, size_t bytes, void *out,
                        size_t room);
/* False: it is not what was packed, or not of that many bytes. */
bool bursar_zstd_unpack(struct bursar_zstd *zstd, const void *in, size_t packed, void *out, size_t bytes);

#endif
