#include "account/charges.h"

#include <errno.h>
#include <string.h>

#include "account/verdict.h"
#include "prim/prim.h"

#define PART_BYTES ((size_t)BURSAR_CHARGES_CELLS * sizeof(uint16_t))
#define LEAF_BYTES (2 * PART_BYTES)
#define LEAVES_MAX 4096u /* a TiB of heap */
#define TOP_BYTES (sizeof(uint16_t *) << (47 - BURSAR_CHARGES_LEAF))

uint16_t **bursar_charges_leaves;
struct bursar_charges_here bursar_charges_here = {.least = BURSAR_CHARGES_LEAST};

static uint16_t *known[LEAVES_MAX]; /* leaves, so that they can be walked */
static uint32_t known_count;

bool bursar_charges_start(void) {
  if (!bursar_charges_leaves)
    bursar_charges_leaves = bursar_prim_reserve(TOP_BYTES, true);
  return bursar_charges_leaves != NULL;
}

void bursar_charges_are_here(const void *thread, uint64_t context_ver, uint32_t slot) {
  bursar_charges_here = (struct bursar_charges_here){
      .thread = thread,
      .context_ver = context_ver,
      .scope = slot ? &bursar_account.scopes[slot] : NULL,
      .slot = (uint16_t)slot,
      .cell = (uint16_t)(slot | BURSAR_CHARGES_POOL),
      .least = bursar_verdict_tracing && bursar_verdict_traces(slot) ? SIZE_MAX : BURSAR_CHARGES_LEAST};
}

static uint16_t *cell_made(const void *p) {
  uint16_t *cell = bursar_charges_cell(p), *none = NULL;
  if (cell || __atomic_load_n(&known_count, __ATOMIC_RELAXED) >= LEAVES_MAX)
    return cell;
  int kept = errno;
  uint16_t *leaf = bursar_prim_reserve(LEAF_BYTES, true);
  errno = kept;
  if (!leaf)
    return NULL;
  if (!__atomic_compare_exchange_n(&bursar_charges_leaves[(uintptr_t)p >> BURSAR_CHARGES_LEAF], &none, leaf, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    bursar_prim_release(leaf, LEAF_BYTES); /* another thread was first */
    return bursar_charges_cell(p);
  }
  uint32_t at = __atomic_fetch_add(&known_count, 1, __ATOMIC_ACQ_REL);
  if (at < LEAVES_MAX)
    __atomic_store_n(&known[at], leaf, __ATOMIC_RELEASE);
  return bursar_charges_cell(p);
}

/* --- a block's slot -------------------------------------------------------------------------------------------------------- */

static bool has_cell(const void *p, size_t usable, bool pool) {
  return ((uintptr_t)p & 15) == 0 && (uintptr_t)p >> 47 == 0 && (pool || usable > 16);
}

/* Of a block of 16 bytes in the odd half of 32, or NULL. */
static uint16_t *odd_half(uint16_t *cell, const void *p, size_t usable) {
  return usable <= 16 && (uintptr_t)p & 16 ? cell + BURSAR_CHARGES_CELLS : NULL;
}

uint32_t bursar_charges_take(const void *p, size_t usable, bool pool) {
  uint16_t *cell = bursar_charges_cell(p), *odd;
  uint32_t slot;
  if (!cell || !has_cell(p, usable, pool))
    return 0;
  if ((odd = odd_half(cell, p, usable)) != NULL) {
    slot = *odd;
    *odd = 0;
    if (*cell == BURSAR_CHARGES_ODD)
      *cell = 0;
  } else {
    slot = *cell & BURSAR_CHARGES_SLOTS;
    *cell = usable <= 16 && cell[BURSAR_CHARGES_CELLS] ? BURSAR_CHARGES_ODD : 0;
  }
  return slot;
}

uint32_t bursar_charges_slot(const void *p, size_t usable, bool pool) {
  uint16_t *cell = bursar_charges_cell(p), *odd;
  if (!cell || !has_cell(p, usable, pool))
    return 0;
  return (odd = odd_half(cell, p, usable)) != NULL ? *odd : *cell & BURSAR_CHARGES_SLOTS;
}

bool bursar_charges_put(const void *p, size_t usable, bool pool, uint32_t slot, uint32_t *unseen) {
  uint16_t *cell = has_cell(p, usable, pool) ? cell_made(p) : NULL, *odd;
  *unseen = 0;
  if (!cell)
    return false;
  *unseen = bursar_charges_take(p, usable, pool);
  if ((odd = odd_half(cell, p, usable)) == NULL)
    *cell = (uint16_t)(slot | (pool ? BURSAR_CHARGES_POOL : 0));
  else
    *odd = (uint16_t)slot;
  if (!*cell)
    *cell = BURSAR_CHARGES_ODD;
  return true;
}

/* --- charging -------------------------------------------------------------------------------------------------------------- */

static void charge(uint32_t slot, int64_t bytes, int blocks, bool gil) {
  if (slot && gil)
    bursar_scopes_charge_gil(slot, bytes, blocks);
  else if (slot)
    bursar_scopes_charge_free(slot, bytes, blocks);
}

void bursar_charges_begin(const void *p, size_t usable, bool pool, uint32_t slot, bool gil) {
  uint32_t unseen;
  bool put = bursar_charges_put(p, usable, pool, slot, &unseen);
  bursar_charges_end(unseen, usable, gil);
  if (put)
    charge(slot, (int64_t)usable, 1, gil);
}

void bursar_charges_end(uint32_t slot, size_t usable, bool gil) { charge(slot, -(int64_t)usable, -1, gil); }

/* --- all of them ----------------------------------------------------------------------------------------------------------- */

void bursar_charges_drop(void) {
  bursar_charges_here.thread = NULL;
  for (uint32_t i = 0; i < known_count && i < LEAVES_MAX; i++)
    if (known[i])
      bursar_prim_discard(known[i], LEAF_BYTES);
}

/* Whole pages are given back, the rest is written over. */
static void clear(uint16_t *from, uint16_t *to) {
  uintptr_t page = BURSAR_PRIM_PAGE, begin = (uintptr_t)from, end = (uintptr_t)to;
  uintptr_t first = (begin + page - 1) & ~(page - 1), last = end & ~(page - 1);
  if (first >= last) {
    memset(from, 0, end - begin);
    return;
  }
  memset(from, 0, first - begin);
  bursar_prim_discard((void *)first, last - first);
  memset((void *)last, 0, end - last);
}

void bursar_charges_discard(const void *p, size_t bytes) {
  uintptr_t leaf_bytes = (uintptr_t)1 << BURSAR_CHARGES_LEAF, end = (uintptr_t)p + bytes, next;
  for (uintptr_t at = (uintptr_t)p; bursar_charges_leaves && at < end; at = next) {
    next = (at & ~(leaf_bytes - 1)) + leaf_bytes;
    uint16_t *from = bursar_charges_cell((const void *)at);
    size_t cells = ((next < end ? next : end) - at) >> 5;
    for (unsigned part = 0; from && part < 2; part++)
      clear(from + part * (size_t)BURSAR_CHARGES_CELLS, from + part * (size_t)BURSAR_CHARGES_CELLS + cells);
  }
}

static void rescope(uint16_t *cells, const uint16_t *scopes, uint32_t count) {
  for (size_t at = 0; at < LEAF_BYTES / sizeof *cells; at++) {
    uint32_t slot = cells[at] & BURSAR_CHARGES_SLOTS;
    if (slot && slot < count && scopes[slot])
      cells[at] = (uint16_t)(scopes[slot] | (cells[at] & BURSAR_CHARGES_POOL));
  }
}

void bursar_charges_rescope(const uint16_t *scopes, uint32_t count) {
  for (uint32_t i = 0; i < known_count && i < LEAVES_MAX; i++)
    if (known[i])
      rescope(known[i], scopes, count);
}
