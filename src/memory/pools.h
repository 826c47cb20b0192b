/* pools.h: pymalloc's memory as it lies there: arenas of 1 MiB, in pools of 16 KiB, each of which begins with a header.
 *
 * A header proves itself: its size class, the offsets in it and its list of free blocks fit each other, which other data
 * practically never do.  So arenas made before anybody listened are found too.  (CPython 3.10 to 3.14, as built by
 * default.)
 * Ownership: none.  Threads: any.  Safety class F. */
#ifndef BURSAR_MEMORY_POOLS_H
#define BURSAR_MEMORY_POOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BURSAR_POOLS_BYTES 16384u
#define BURSAR_POOLS_ARENA (1u << 20)
#define BURSAR_POOLS_HEADER 48u
#define BURSAR_POOLS_LARGEST 512u /* bytes of a block */
#define BURSAR_POOLS_CLASS_AT 36  /* in the header: the size of the pool's blocks, in sixteens less one */

struct bursar_pools_header {
  uint64_t used;        /* bytes of blocks handed out, as large as their class is */
  uint32_t arena;       /* its number: pools of an arena share it */
  uint32_t size;        /* of its blocks */
  uint32_t next_offset; /* blocks from here on were never handed out */
  uint64_t free_block;  /* the first of those that came back; each begins with the next one's address */
};

/* Is there a pool at this address, its first 48 bytes being `bytes`? */
bool bursar_pools_is(uint64_t at, const unsigned char bytes[BURSAR_POOLS_HEADER], struct bursar_pools_header *out);

/* How large a block is that is known to be a pool's.  Class H. */
static inline __attribute__((always_inline)) size_t bursar_pools_block(const void *p) {
  uint32_t size_class;
  uintptr_t pool = (uintptr_t)p & ~(uintptr_t)(BURSAR_POOLS_BYTES - 1);
  memcpy(&size_class, (const void *)(pool + BURSAR_POOLS_CLASS_AT), sizeof size_class);
  return ((size_t)size_class + 1) << 4;
}

#endif
