/* live.h: the table of live blocks.
 *
 * Small blocks, up to 512 bytes: 4 bytes for each 16 bytes of address space that is in use.  A block's site is written as a
 * number, its index + 1, so that an empty cell is 0.  A block at p owns the cell of its first granule, and the next one too
 * where it is longer than 16 bytes:
 *
 *     cell(p)      number << 6 | BIG | flags          cell(p + 16)   size                17 to 512 bytes
 *     cell(p)      number << 6 | size                                                     0 to 16 bytes (number is never 0 here)
 *
 * A block that a scope is charged for is BIG | SCOPED, and has its scope beside the size: scope << 16 | size << 6 | 62, which
 * no first cell looks like; one of up to 16 bytes has no room for that, is marked TINY, and has both in a second table of cells.
 *
 * Larger blocks: 16 bytes for each 512.  A block of more than 496 bytes covers an address that is a multiple of 512, and no
 * other block covers that: its first such address names its record.  (In the cells above they would touch a page of the
 * table for each 16 KiB of the heap, for the sake of 8 bytes.)
 *
 * Two levels, a leaf for 16 MiB of addresses: one 32 TiB reservation would save a load and a test, and would break every
 * program that sets RLIMIT_AS for itself.  Blocks that are not 16-aligned (8-byte classes of other mallocs) live in a
 * small hash beside it.
 *
 * Threads: a block's cells belong to whoever holds the block; leaves and the hash are safe from all threads.
 * Errors: where the system has no memory for a leaf, blocks there go unseen and are counted.  Class H. */
#ifndef BURSAR_ACCOUNT_LIVE_H
#define BURSAR_ACCOUNT_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BURSAR_CELL_SHIFT 6
#define BURSAR_CELL_LOW 63u
#define BURSAR_CELL_BIG 32u
#define BURSAR_CELL_WATCHED 1u /* with BIG: somebody wants to hear of its end */
#define BURSAR_CELL_SCOPED 2u  /* with BIG */
#define BURSAR_CELL_TINY 31u
#define BURSAR_SCOPE_SLOTS (1u << 16)

#define BURSAR_LEAF_SHIFT 24
#define BURSAR_LEAF_CELLS (1u << (BURSAR_LEAF_SHIFT - 4))
#define BURSAR_LEAF_PAD 1024u /* cells, a page: a block that starts at a leaf's end may spill its size here */
#define BURSAR_SMALL_MAX 512u
#define BURSAR_TOP_ENTRIES (1u << (47 - BURSAR_LEAF_SHIFT))

struct bursar_record {
  uint64_t size;
  uint32_t number; /* the site's index + 1 */
  bool watched;
  uint32_t generation; /* of the sites (fold.h), for whoever keeps it while they may move */
  uint32_t scope;      /* slot of the scope that is charged for it (scopes.h); 0: none */
  uint32_t folded;     /* how often ended scopes had been folded (scopes.h), as with generation */
  uint64_t usable;     /* not in the table: what that is charged, in modes that charge usable bytes */
};

extern uint32_t **bursar_live_top; /* NULL until bursar_live_init, then never again */

/* Leaves are added by any thread, and never go. */
static inline uint32_t *bursar_live_leaf(uintptr_t address) {
  return __atomic_load_n(&bursar_live_top[address >> BURSAR_LEAF_SHIFT], __ATOMIC_ACQUIRE);
}

/* The cell of an aligned address below 2^47; NULL where no block was ever booked near it. */
static inline uint32_t *bursar_live_cell(const void *p) {
  uintptr_t address = (uintptr_t)p;
  uint32_t *leaf = bursar_live_leaf(address);
  return leaf ? leaf + ((address >> 4) & (BURSAR_LEAF_CELLS - 1)) : NULL;
}

/* The two cells of a block that a scope is charged for, as one word: its upper half, what that says. */
static inline uint64_t bursar_live_scoped(uint64_t size, uint32_t scope) {
  return (uint64_t)scope << 48 | size << 38 | (uint64_t)62 << 32;
}
static inline uint64_t bursar_live_scoped_size(uint64_t entry) { return entry >> 38 & 1023; }
static inline uint32_t bursar_live_scope(uint64_t entry) { return (uint32_t)(entry >> 48); }

/* 0, or -1 where there is no address space.  Class N. */
int bursar_live_init(void) __attribute__((warn_unused_result));
/* Forgets every block and gives the memory back; the address space stays, and lookups go on finding nothing.  Class F. */
void bursar_live_drop(void);
/* In a forked child: no other thread holds the hash any more.  Class F. */
void bursar_live_after_fork(void);

/* Books a block of any size at any address.  False where it could not be kept. */
bool bursar_live_put(const void *p, struct bursar_record record);
/* Takes a block out.  False where it is unknown; then *out is untouched. */
bool bursar_live_take(const void *p, struct bursar_record *out);
/* Marks the block so that its end is told.  False: it has no room for a mark, or is none. */
bool bursar_live_watch(const void *p);
/* A block that is booked where one of that size at p is about to be: its end was never seen.  NULL: none (any more).  A
 * small block does not find a large one that it lies in, nor a large one another with a record elsewhere. */
const void *bursar_live_in_the_way(const void *p, uint64_t size);
/* The same, among large blocks alone: for whoever holds a large block at p and not the main GIL. */
const void *bursar_live_large_in_the_way(const void *p);
/* Writes scopes[n] for each block's scope n, where that is not 0.  Main GIL, and nobody else is in the books. */
void bursar_live_rescope(const uint16_t *scopes, uint32_t count);
/* Is a block booked here? */
bool bursar_live_holds(const void *p);
/* Writes numbers[n] for each block's number n, where that is not 0.  Main GIL; blocks that other threads free or take at that
 * moment are left alone. */
void bursar_live_renumber(const uint32_t *numbers, uint32_t count);
/* Calls visit for each live block; stops the world for nobody: for tests and reports under the GIL.  Class N. */
void bursar_live_each(void (*visit)(const void *p, struct bursar_record record, void *context), void *context);
/* The same for blocks above that many bytes alone, 512 or more, and those at odd addresses; passes over what was never touched.
 * Other threads may end blocks meanwhile. */
void bursar_live_large_each(uint64_t above, void (*visit)(const void *p, struct bursar_record record, void *context),
                            void *context);

#endif
