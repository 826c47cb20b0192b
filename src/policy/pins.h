/* pins.h: arenas of pymalloc's that stay although they are mostly free, and the sites of the blocks that hold them.
 *
 * An arena goes back to the system when its last pool is empty: one block in a thousand keeps all of it.
 * Under the one GIL of the process, mode exact's books open.  The caller's struct, its memory from _find to _free.
 * Class N: it takes a pass over arenas and live blocks. */
#ifndef BURSAR_POLICY_PINS_H
#define BURSAR_POLICY_PINS_H

#include <stddef.h>
#include <stdint.h>

struct bursar_pins_site {
  uint32_t number;     /* of the site */
  uint32_t arenas, in; /* mostly free ones in which it has blocks; the last of them, for counting */
  uint64_t bytes;      /* of its blocks in them */
  uint64_t free_bytes; /* in those arenas, whoever else has blocks there */
};

struct bursar_pins {
  uint32_t arenas, mostly_free;
  uint64_t arena_bytes, free_bytes; /* in all arenas; in those that are mostly free */
  struct bursar_pins_site *sites;   /* those with most free bytes first */
  uint32_t site_count;
  void *memory;
  size_t memory_bytes;
};

/* 0, or a negative errno: the mappings cannot be read, no memory. */
int bursar_pins_find(struct bursar_pins *out) __attribute__((warn_unused_result));
void bursar_pins_free(struct bursar_pins *pins);

#endif
