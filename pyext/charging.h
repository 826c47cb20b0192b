/* charging.h: scopes in the modes sample and count: what begins in one is charged to it, in usable bytes, and what was charged
 * is discharged where it ends.
 *
 * Hooks of OBJ and MEM do so only once a scope was entered (modes.h swaps them); the others ask bursar_charging_on.
 * Class H. */
#ifndef BURSAR_PYEXT_CHARGING_H
#define BURSAR_PYEXT_CHARGING_H

#include <string.h>

#include "account/charges.h"
#include "account/count.h"
#include "account/maps.h"
#include "memory/pools.h"

#include "anywhere.h"
#include "compat.h"

extern bool bursar_charging_on; /* a scope was entered in one of these modes; never taken back */

/* The rare halves of what follows. */
struct bursar_scope *bursar_charging_follow(void);
void bursar_charging_pool_begins_slowly(void *p, size_t usable);
void bursar_charging_ends(void *p);
void bursar_charging_emptied(uint32_t slot);

/* The entry that the running thread is in; NULL: none, or it is another interpreter's.  Under a GIL. */
static inline __attribute__((always_inline)) struct bursar_scope *bursar_charging_scope(void) {
  const PyThreadState *thread = bursar_thread();
  if (BURSAR_UNLIKELY(thread != bursar_charges_here.thread) ||
      BURSAR_UNLIKELY(thread->context_ver != bursar_charges_here.context_ver))
    return bursar_charging_follow();
  return bursar_charges_here.scope;
}

/* A block of OBJ's or MEM's begins in a pool.  Under a GIL. */
static inline __attribute__((always_inline)) void bursar_charging_pool_begins(void *p, size_t usable) {
  struct bursar_scope *scope = bursar_charging_scope();
  if (scope && BURSAR_UNLIKELY(!bursar_charges_begin_here(p, usable, scope)))
    bursar_charging_pool_begins_slowly(p, usable);
}

/* One of OBJ's or MEM's ends; `usable`: its size if it is a pool's, or 0: not known yet.  Under a GIL. */
static inline __attribute__((always_inline)) void bursar_charging_any_ends(void *p, size_t usable) {
  uint16_t *cell = bursar_charges_charged(p);
  uint32_t emptied;
  if (!cell)
    return;
  if (BURSAR_UNLIKELY(!(*cell & BURSAR_CHARGES_POOL)) ||
      BURSAR_UNLIKELY((usable = usable ? usable : bursar_pools_block(p)) <= 16))
    bursar_charging_ends(p);
  else if (BURSAR_UNLIKELY((emptied = bursar_charges_end_here(cell, usable)) != 0))
    bursar_charging_emptied(emptied);
}

/* What is charged for a block, and the slot; 0: nothing, or its size is not known.  Main GIL. */
size_t bursar_charging_of(void *p, uint32_t *slot);

/* One of malloc's begins, or ends.  Any thread. */
void bursar_charging_malloc_begins(void *p);
void bursar_charging_malloc_ends(void *p);

/* The end of a block that may be put back: a realloc.  Any thread. */
struct bursar_charged {
  size_t usable;
  uint32_t slot; /* 0: nothing was charged */
  bool pool;
};
struct bursar_charged bursar_charging_lift(void *p);
void bursar_charging_put_back(void *p, struct bursar_charged lifted);
void bursar_charging_drop(struct bursar_charged lifted);
/* The same under a GIL, of OBJ's and MEM's. */
static inline __attribute__((always_inline)) struct bursar_charged bursar_charging_lift_gil(void *p) {
  uint16_t *cell = bursar_charges_charged(p);
  struct bursar_charged lifted = {0};
  if (!cell)
    return lifted;
  if (BURSAR_UNLIKELY(!(*cell & BURSAR_CHARGES_POOL)) || BURSAR_UNLIKELY((lifted.usable = bursar_pools_block(p)) <= 16))
    return bursar_charging_lift(p);
  lifted.slot = *cell & BURSAR_CHARGES_SLOTS;
  lifted.pool = true;
  *cell = 0;
  return lifted;
}
static inline __attribute__((always_inline)) void bursar_charging_drop_gil(struct bursar_charged lifted) {
  if (!lifted.pool)
    bursar_charging_drop(lifted);
  else if (lifted.slot && BURSAR_UNLIKELY(bursar_hot_discharge(lifted.slot, lifted.usable)))
    bursar_charging_emptied(lifted.slot);
}
/* The same in a record, for src/native's hooks. */
void bursar_charging_lift_native(void *p, struct bursar_record *old);
void bursar_charging_drop_native(void *p, const struct bursar_record *old, bool ended);

/* A mapping: the slot that is charged for it, 0: none; and a piece of it ends.  While folding is held off, or under the main
 * GIL (`gil`). */
uint32_t bursar_charging_map_begins(size_t bytes, bool gil);
void bursar_charging_map_ends(struct bursar_piece piece, bool gil);

/* From here on hooks charge.  Main GIL. */
void bursar_charging_expect(void);

#endif
