/* look.h: a look into a process's memory: what each stretch of it is, and what of it is resident.
 *
 * The kernel says what is mapped and resident (regions.h); the memory itself says what is malloc's and pymalloc's (heap.h,
 * pools.h), read through peek.h and therefore without a lock and without stopping anybody.  What others know, mappings that
 * were booked, may be told in between.  Of another process it finds the same, as far as its memory may be read.
 *
 * Ownership: the caller's struct, its memory from _begin to _end.  Errors: as in regions.h; where memory may not be read,
 * the kernel's part is there alone, and inside.known says so.
 * No heap, no lock, errno kept.  Threads: any, none shares a look.  Safety class F; takes milliseconds a gigabyte. */
#ifndef BURSAR_MEMORY_LOOK_H
#define BURSAR_MEMORY_LOOK_H

#include "memory/pieces.h"
#include "memory/regions.h"
#include "prim/peek.h"

/* One of malloc's heaps, by its arena. */
struct bursar_look_heap {
  uint64_t arena; /* 0: the main one */
  uint64_t resident, free_resident, returnable;
  bool listed; /* its free chunks are told by its lists: no heap of it is gone through */
};
#define BURSAR_LOOK_HEAPS 1024u

struct bursar_look {
  struct bursar_regions regions;
  struct bursar_pieces pieces;
  struct bursar_peek peek;
  uint64_t stack_limit;
  bool inside;       /* its memory may be read */
  bool heaps_walked; /* all of them */
  bool cut;          /* there was more unknown memory than is gone through */
  bool quick;
  bool arenas_stay; /* set by who holds the one GIL of this very process: nobody else gives arenas back */
  uint32_t misses;
  uint64_t heap_bytes; /* copied so far */
  uint64_t lists_most; /* so many free chunks may still be looked up in lists */
  uint64_t arena_bytes, arena_used, chunk_bytes;
  uint64_t resident[BURSAR_PIECES_KINDS]; /* of the pieces in anonymous memory */
  struct bursar_look_heap *heaps;         /* the main one first */
  size_t heap_count;
  char *buffer;
  void *memory;
  size_t memory_bytes;
};

#define BURSAR_LOOK_INSIDE 1u /* into its memory too */
#define BURSAR_LOOK_QUICK 2u  /* no more of heaps than is copied in some milliseconds: somebody waits */

/* Reads the mappings.  `ledger`: inode of the ledger that it maps, or 0. */
int bursar_look_begin(pid_t pid, uint64_t ledger, unsigned how, struct bursar_look *out)
    __attribute__((warn_unused_result));
/* A mapping that was booked: before _scan where it goes before what is found there, after it where it takes what is left. */
void bursar_look_mapping(struct bursar_look *look, uint64_t from, uint64_t to);
/* A chunk that malloc may have mapped on its own begins there: so it is found without a search. */
void bursar_look_chunk(struct bursar_look *look, uint64_t at);
/* Finds arenas, mapped chunks, heaps. */
void bursar_look_scan(struct bursar_look *look);
/* Adds up. */
void bursar_look_sum(struct bursar_look *look);
/* Resident bytes of a block anywhere. */
uint64_t bursar_look_resident(const struct bursar_look *look, uint64_t at, uint64_t bytes);
/* Does it lie in anonymous memory that is no piece's?  After _scan. */
bool bursar_look_is_nobodys(const struct bursar_look *look, uint64_t at);
void bursar_look_end(struct bursar_look *look);

#endif
