/* pieces.h: which stretch of anonymous memory is what: ranges in order of address, none of which overlaps another.
 *
 * What was said first holds: a later piece gets what is left of its range.
 * Ownership: the caller's struct; its memory from _init to _free.  Errors: pieces beyond what there is room for are left
 * out, and `cut` is set.  No heap, no lock.  Threads: one at a time.  Safety class F. */
#ifndef BURSAR_MEMORY_PIECES_H
#define BURSAR_MEMORY_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bursar_pieces_kind {
  BURSAR_PIECES_STACK, /* a thread's */
  BURSAR_PIECES_HEAP,  /* malloc's, of a thread */
  BURSAR_PIECES_BSS,   /* a library's zeroed data */
  BURSAR_PIECES_ARENA, /* pymalloc's */
  BURSAR_PIECES_CHUNK, /* malloc's, mapped on its own */
  BURSAR_PIECES_MAP,   /* booked as a mapping */
  BURSAR_PIECES_KINDS
};

struct bursar_pieces_one {
  uint64_t from, to;
  uint32_t kind;
};

struct bursar_pieces {
  struct bursar_pieces_one *at;
  size_t count;
  bool cut;
};

/* 0 or -ENOMEM. */
int bursar_pieces_init(struct bursar_pieces *out) __attribute__((warn_unused_result));
void bursar_pieces_free(struct bursar_pieces *pieces);
void bursar_pieces_add(struct bursar_pieces *pieces, uint64_t from, uint64_t to, enum bursar_pieces_kind kind);
/* The one that has this address; NULL: none. */
const struct bursar_pieces_one *bursar_pieces_at(const struct bursar_pieces *pieces, uint64_t at);
/* The first stretch of [*from, *to) that is no piece's.  False: there is none. */
bool bursar_pieces_gap(const struct bursar_pieces *pieces, uint64_t *from, uint64_t *to);

#endif
