/* index.h: numbers things as they are first met: a map from a key of two words, or from a text, to 0, 1, 2 …
 *
 * Both have a fixed number of entries, said at the start, and never grow beyond it.  Keys come from files that anybody
 * may have written, so the hash has a seed of the process's own.
 * Ownership: the caller's struct, memory freed by _free (a zeroed one is fine); texts are borrowed.  Threads: one at a
 * time.  Errors: -ENOMEM from _init.  Safety class N. */
#ifndef BURSAR_BASE_INDEX_H
#define BURSAR_BASE_INDEX_H

#include "base/escape.h"

#include <stdint.h>

struct bursar_index_key {
  uint64_t a, b;
};

struct bursar_index {
  struct bursar_index_key *keys; /* by number; NULL in an index of texts */
  struct bursar_text *texts;     /* by number; NULL in an index of keys */
  uint32_t *slots;               /* number + 1, 0 where free */
  uint32_t mask;
  uint32_t count;
  uint32_t most;
  uint64_t seed;
};

/* For at most `most` different keys, or texts. */
int bursar_index_init(struct bursar_index *index, uint32_t most) __attribute__((warn_unused_result));
int bursar_index_init_texts(struct bursar_index *index, uint32_t most) __attribute__((warn_unused_result));
/* The key's number, a new one where it was not met before; UINT32_MAX where the index is full. */
uint32_t bursar_index_of(struct bursar_index *index, uint64_t a, uint64_t b);
/* The text's number.  Unknown texts (bytes NULL) are one text of their own. */
uint32_t bursar_index_of_text(struct bursar_index *index, struct bursar_text text);
void bursar_index_free(struct bursar_index *index);

#endif
