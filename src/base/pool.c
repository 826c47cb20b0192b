#include "base/pool.h"

#include <stdint.h>
#include <string.h>

#include "prim/prim.h"

#define CHUNK ((size_t)256 << 10)
#define SMALLEST 5u /* 32 bytes: a free block holds the link */
#define LARGEST 16u /* above 64 KiB blocks come from the system one by one */

struct vacant {
  struct vacant *next;
};

static struct vacant *vacant[LARGEST + 1];
static unsigned char *chunk, *chunk_end;
static size_t footprint;

static unsigned class_of(size_t bytes) {
  unsigned class = SMALLEST;
  while (((size_t)1 << class) < bytes)
    class++;
  return class;
}

static void *from_system(size_t bytes) {
  void *at = bursar_prim_reserve(bytes, true);
  if (at)
    footprint += bytes;
  return at;
}

void *bursar_pool_take(size_t bytes) {
  if (bytes > (size_t)1 << LARGEST)
    return from_system(bytes);
  unsigned class = class_of(bytes);
  size_t size = (size_t)1 << class;
  struct vacant *block = vacant[class];
  if (block) {
    vacant[class] = block->next;
    return memset(block, 0, size);
  }
  if ((size_t)(chunk_end - chunk) < size) {
    /* What is left of the old chunk is lost: at most one block of this size in 256 KiB. */
    chunk = from_system(CHUNK);
    if (!chunk) {
      chunk_end = NULL;
      return NULL;
    }
    chunk_end = chunk + CHUNK;
  }
  void *at = chunk;
  chunk += size;
  return at;
}

void bursar_pool_give(void *at, size_t bytes) {
  if (!at)
    return;
  if (bytes > (size_t)1 << LARGEST) {
    footprint -= bytes;
    bursar_prim_release(at, bytes);
    return;
  }
  unsigned class = class_of(bytes);
  struct vacant *block = at;
  block->next = vacant[class];
  vacant[class] = block;
}

size_t bursar_pool_footprint(void) { return footprint; }
