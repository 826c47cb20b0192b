/* wiping.h: blocks of pymalloc's pools are zeroed before they are freed, and where a realloc leaves them.
 *
 * Hooks that stand below those of the books, and for `free` and `realloc` alone: whoever allocates pays nothing.  A block is as
 * large as its pool says, so none needs a header.  Which addresses are pools' is in a byte map by granules of 16 KiB, that the hooks
 * of the arenas keep; of arenas from before them a granule is looked at once.  A block of up to 512 bytes that were taken for a
 * pool's would be wiped within itself: pymalloc hands out no smaller one that is none.  What malloc serves is native.c's.
 *
 * Threads: hooks are called under a GIL, as the allocators below are.  errno kept.  Class H, unless said otherwise. */
#ifndef BURSAR_NATIVE_WIPING_H
#define BURSAR_NATIVE_WIPING_H

#include <stdbool.h>
#include <stddef.h>

/* As PyMemAllocatorEx and PyObjectArenaAllocator are: nothing in src knows Python's headers. */
struct bursar_wiping_allocator {
  void *ctx;
  void *(*malloc)(void *ctx, size_t size);
  void *(*calloc)(void *ctx, size_t count, size_t size);
  void *(*realloc)(void *ctx, void *p, size_t size);
  void (*free)(void *ctx, void *p);
};
struct bursar_wiping_arenas {
  void *ctx;
  void *(*alloc)(void *ctx, size_t size);
  void (*free)(void *ctx, void *p, size_t size);
};

enum { BURSAR_WIPING_OBJ, BURSAR_WIPING_MEM, BURSAR_WIPING_DOMAINS };

/* What stands below the hooks of a domain; free is NULL where none were made yet. */
extern struct bursar_wiping_allocator bursar_wiping_under[BURSAR_WIPING_DOMAINS];

/* Hooks for all blocks over an allocator that has none: its context, malloc and calloc stay.  Main GIL, class N. */
void bursar_wiping_over(unsigned domain, struct bursar_wiping_allocator *allocator);
/* The same for arenas.  `first`: none has been made yet, so that all will be known. */
void bursar_wiping_over_arenas(struct bursar_wiping_arenas *arenas, bool first);

/* How large the block of a pool is; 0: it is none of a pool's. */
size_t bursar_wiping_pool(const void *p);
/* A pool's block of so many bytes, as realloc; its old place is wiped. */
void *bursar_wiping_move(unsigned domain, void *ctx, void *p, size_t has, size_t size);

#endif
