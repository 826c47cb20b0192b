/* pools.h: pymalloc's memory as it lies there: arenas of 1 MiB, in pools of 16 KiB, each of which begins with a header.
 *
 * A header proves itself: its size class, the offsets in it and its list of free blocks fit each other, which other data
 * practically never do.  So arenas made before anybody listened are found too.  (CPython 3.10 to 3.14, as built by
 * default.)
 * Ownership: none.  Threads: any.  Safety class F. */
#ifndef BURSAR_MEMORY_POOLS_H
#define BURSAR_MEMORY_POOLS_H

#include <stdbool.h>
#include <stdint.h>

#define BURSAR_POOLS_BYTES 16384u
#define BURSAR_POOLS_ARENA (1u << 20)
#define BURSAR_POOLS_HEADER 48u

struct bursar_pools_header {
  uint64_t used;  /* bytes of blocks handed out, as large as their class is */
  uint32_t arena; /* its number: pools of an arena share it */
};

/* Is there a pool at this address, its first 48 bytes being `bytes`? */
bool bursar_pools_is(uint64_t at, const unsigned char bytes[BURSAR_POOLS_HEADER], struct bursar_pools_header *out);

#endif
