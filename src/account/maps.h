/* maps.h: the table of live mappings: ranges of pages, of which any part may end.
 *
 * A mapping is counted as one block.  A piece that is cut off takes its bytes with it; the block ends with the last piece,
 * of one that was cut in two with the first part.
 * Threads: any (a leaf lock).  Errors: where there is no memory, a mapping goes unseen.  Class H. */
#ifndef BURSAR_ACCOUNT_MAPS_H
#define BURSAR_ACCOUNT_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/layout.h"

/* A piece of a mapping: its site's number, whether the block ends with it, and the scope that is charged for it. */
struct bursar_piece {
  uint64_t bytes;
  uint32_t number;
  bool ends;
  uint32_t scope; /* slot; 0: none */
};

/* The kernel maps whole pages. */
static inline size_t bursar_maps_whole_pages(size_t bytes) {
  return (bytes + BURSAR_PAGE - 1) & ~(size_t)(BURSAR_PAGE - 1);
}

/* Nothing is mapped there yet, as far as the table knows.  False: no memory. */
bool bursar_maps_put(uintptr_t at, struct bursar_piece piece);
/* Takes out the first piece that lies in [at, at + bytes).  False: there is none. */
bool bursar_maps_cut(uintptr_t at, uint64_t bytes, struct bursar_piece *out);
/* As bursar_live_renumber, _drop and _after_fork. */
void bursar_maps_renumber(const uint32_t *numbers, uint32_t count);
void bursar_maps_rescope(const uint16_t *scopes, uint32_t count);
void bursar_maps_drop(void);
void bursar_maps_after_fork(void);
/* Calls visit for each range, under the lock: it may not map anything that is listened to.  Class N. */
void bursar_maps_each(void (*visit)(uintptr_t from, uintptr_t to, void *context), void *context);

#endif
