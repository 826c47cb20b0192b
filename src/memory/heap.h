/* heap.h: malloc's heaps (glibc's) as they lie there: chunk behind chunk, each with its size before it.
 *
 * They are walked in copies, through peek.h, without malloc's locks: a chain that other threads change meanwhile is seen to
 * break, and then nothing is said about that heap.
 * Ownership: the caller's.  No heap, no lock.  Threads: any.  Safety class F. */
#ifndef BURSAR_MEMORY_HEAP_H
#define BURSAR_MEMORY_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/regions.h"
#include "prim/peek.h"

#define BURSAR_HEAP_BUFFER 65536u

struct bursar_heap {
  uint64_t arena;         /* address of the arena that it belongs to; 0: the main one */
  uint64_t used_bytes;    /* chunks in use, headers included; what threads cache counts as in use */
  uint64_t free_bytes;    /* free chunks, the last one included */
  uint64_t free_resident; /* of those, resident */
  uint64_t returnable;    /* what malloc_trim(0) would give back of it */
  uint64_t chunks;
  uint64_t top; /* address of the last chunk */
};

/* The main heap, which sbrk made: [from, to) of the region.  False: the chain does not hold. */
bool bursar_heap_main(const struct bursar_peek *peek, const struct bursar_regions_one *region, char *buffer,
                      struct bursar_heap *out);
/* A thread's, at a multiple of 64 MiB; `to` is where what is mapped ends.  Without `walk_it` only out->arena is found.  False: it
 * was not walked; with out->arena 0 it is none. */
bool bursar_heap_thread(const struct bursar_peek *peek, const struct bursar_regions_one *region, uint64_t from,
                        uint64_t to, bool walk_it, char *buffer, struct bursar_heap *out);
/* One chunk, as it lies there.  What a thread caches counts as in use. */
struct bursar_heap_chunk {
  uint64_t at, bytes; /* its head included, which is 16 bytes */
  bool used;
};
/* The chunk that `address` lies in.  *cursor: 0 at first; later a chunk at or before it, where the walk goes on for higher
 * addresses.  [from, to) is the main heap, or one of a thread's.  False: it is not known. */
bool bursar_heap_find(const struct bursar_peek *peek, const struct bursar_regions_one *region, uint64_t from,
                      uint64_t to, bool main, uint64_t address, char *buffer, uint64_t *cursor,
                      struct bursar_heap_chunk *out);
/* The pages that a trim gives back of a free chunk: whole ones, behind its head. */
uint64_t bursar_heap_given_back(const struct bursar_regions_one *region, uint64_t at, uint64_t size);
/* The last chunk of the main heap: all but what is needed for one more smallest chunk. */
uint64_t bursar_heap_given_back_top(const struct bursar_regions_one *region, uint64_t at, uint64_t size);
/* The bytes of a chunk that was mapped on its own at `at`, its first 16 bytes being `words`; 0: there is none. */
uint64_t bursar_heap_mapped(uint64_t at, const uint64_t words[2], uint64_t to);

#endif
