/* charges.h: which entry of a scope is charged for each block, in the modes that have no table of live blocks: sample, count.
 *
 * 2 bytes for each 32 of addresses, so one sixteenth of the heap that scopes hold; pages of it that nothing was ever charged in
 * have no memory.  No two blocks begin in the same 32 bytes, but for pymalloc's of 16: there the cell is that of the even half,
 * and the odd one's is in a second part of the leaf.  Other mallocs' blocks of up to 16 bytes, and those at odd
 * addresses, are charged to nobody.
 *
 * A cell says whether a pool served the block (POOL), since malloc may not be asked about those, and the slot.  How many bytes
 * it is charged is not in here: whoever ends it knows, since its allocator does (usable bytes).  A block whose end was not seen
 * ends where its address is met again, with the bytes that begin there then, or with the arena that is made there, unnoticed.
 *
 * Threads: a block's cell belongs to whoever holds the block; blocks of pools are met under their GIL alone.  What is said to be
 * _gil needs the main GIL; the rest any, while folding is held off.  errno kept.  Class H. */
#ifndef BURSAR_ACCOUNT_CHARGES_H
#define BURSAR_ACCOUNT_CHARGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/hot.h"
#include "account/scopes.h"

#define BURSAR_CHARGES_LEAF 28
#define BURSAR_CHARGES_CELLS (1u << (BURSAR_CHARGES_LEAF - 5)) /* in a part */
#define BURSAR_CHARGES_POOL 0x8000u
#define BURSAR_CHARGES_ODD BURSAR_CHARGES_POOL /* nobody is charged, but for the odd half perhaps */
#define BURSAR_CHARGES_SLOTS 0x7fffu

extern uint16_t **bursar_charges_leaves; /* NULL until bursar_charges_start, then never again */

/* The thread state that was asked last, of which context, and the entry that was current there (NULL: none).  Under the main
 * GIL; whoever holds another finds another thread here. */
struct bursar_charges_here {
  const void *thread; /* NULL: nobody's any more */
  uint64_t context_ver;
  struct bursar_scope *scope;
  uint16_t slot, cell; /* `cell`: what those of its blocks have that are a pool's */
  size_t least; /* blocks up to so many bytes take the slow half: of 16, or all whose stacks are kept (verdict.h) */
};
#define BURSAR_CHARGES_LEAST 16u
extern struct bursar_charges_here bursar_charges_here;
void bursar_charges_are_here(const void *thread, uint64_t context_ver, uint32_t slot);

/* Once at least before a block is asked for or charged.  False: no address space.  Main GIL, class N. */
bool bursar_charges_start(void) __attribute__((warn_unused_result));
/* Forgets all, and gives the memory back; threads look again.  Class F. */
void bursar_charges_drop(void);
/* Nothing is in there: an arena begins or ends. */
void bursar_charges_discard(const void *p, size_t bytes);
/* As bursar_live_rescope. */
void bursar_charges_rescope(const uint16_t *scopes, uint32_t count);

/* The slot of the block of so many bytes that begins at p, 0: none; forgets it. */
uint32_t bursar_charges_take(const void *p, size_t usable, bool pool);
/* The same, but that it stays. */
uint32_t bursar_charges_slot(const void *p, size_t usable, bool pool);
/* The block's slot from here on.  The one of a block that was there, and whose end was not seen, to *unseen.  False: no memory. */
bool bursar_charges_put(const void *p, size_t usable, bool pool, uint32_t slot, uint32_t *unseen);
/* A block of any size begins; `gil`: the main GIL is held. */
void bursar_charges_begin(const void *p, size_t usable, bool pool, uint32_t slot, bool gil);
/* One that was taken out ends. */
void bursar_charges_end(uint32_t slot, size_t usable, bool gil);

/* The cell of an address below 2^47; NULL where nothing near it was ever charged. */
static inline __attribute__((always_inline)) uint16_t *bursar_charges_cell(const void *p) {
  uint16_t *leaf = __atomic_load_n(&bursar_charges_leaves[(uintptr_t)p >> BURSAR_CHARGES_LEAF], __ATOMIC_ACQUIRE);
  return leaf ? leaf + ((uintptr_t)p >> 5 & (BURSAR_CHARGES_CELLS - 1)) : NULL;
}

/* The cell of a block that ends, if it may be charged: asked of every block, once a scope was entered.  Else NULL. */
static inline __attribute__((always_inline)) uint16_t *bursar_charges_charged(const void *p) {
  uint16_t *cell = bursar_charges_cell(p);
  return cell && *cell ? cell : NULL;
}

/* A pool's block begins that is charged to bursar_charges_here.  False: call bursar_charges_begin instead, nothing is charged. */
static inline __attribute__((always_inline)) bool bursar_charges_begin_here(const void *p, size_t usable,
                                                                            struct bursar_scope *scope) {
  uint16_t *cell = bursar_charges_cell(p);
  if (BURSAR_UNLIKELY(usable <= bursar_charges_here.least) || BURSAR_UNLIKELY(!cell) || BURSAR_UNLIKELY(*cell))
    return false;
  *cell = bursar_charges_here.cell;
  bursar_hot_charge_to(scope, usable);
  return true;
}

/* One of more than 16 bytes ends.  The slot of an entry that may hold nothing any more: say so to bursar_scopes_emptied.
 * Else 0. */
static inline __attribute__((always_inline)) uint32_t bursar_charges_end_here(uint16_t *cell, size_t usable) {
  uint32_t slot = *cell & BURSAR_CHARGES_SLOTS;
  *cell = 0;
  return bursar_hot_discharge(slot, usable) ? slot : 0;
}

#endif
