#include "memory/pools.h"

#include <string.h>

#define CLASSES 32u /* of 16 bytes each: up to 512 */

struct header {
  uint32_t count; /* blocks handed out */
  uint32_t unused;
  uint64_t free_block, next, previous;
  uint32_t arena, size_class, next_offset, last_offset;
};
_Static_assert(sizeof(struct header) == BURSAR_POOLS_HEADER, "as pymalloc has it");

bool bursar_pools_is(uint64_t at, const unsigned char bytes[BURSAR_POOLS_HEADER], struct bursar_pools_header *out) {
  struct header header;
  memcpy(&header, bytes, sizeof header);
  uint32_t size = (header.size_class + 1) * 16;
  if (at % BURSAR_POOLS_BYTES || header.size_class >= CLASSES || header.last_offset != BURSAR_POOLS_BYTES - size)
    return false;
  if (header.next_offset < BURSAR_POOLS_HEADER + size || header.next_offset > BURSAR_POOLS_BYTES ||
      (header.next_offset - BURSAR_POOLS_HEADER) % size ||
      header.count > (BURSAR_POOLS_BYTES - BURSAR_POOLS_HEADER) / size)
    return false;
  if (header.free_block &&
      (header.free_block < at + BURSAR_POOLS_HEADER || header.free_block >= at + BURSAR_POOLS_BYTES))
    return false;
  *out = (struct bursar_pools_header){(uint64_t)header.count * size, header.arena, size, header.next_offset,
                                      header.free_block};
  return true;
}
