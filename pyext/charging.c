#include "charging.h"

#include <malloc.h>

#include "account/fold.h"
#include "modes.h"
#include "scope.h"
#include "tracing.h"

bool bursar_charging_on;

struct bursar_scope *bursar_charging_follow(void) {
  const PyThreadState *thread = bursar_thread();
  if (!thread || thread->interp != PyInterpreterState_Main())
    return NULL;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_scope_follow();
  bursar_anywhere_inside = was;
  return bursar_charges_here.scope;
}

/* Takes out a block that is about to end: what its cell says is how its bytes can be known. */
static struct bursar_charged take(void *p) {
  const uint16_t *cell = bursar_charges_charged(p);
  struct bursar_charged taken = {.pool = cell && *cell & BURSAR_CHARGES_POOL};
  if (!cell)
    return taken;
  taken.usable = taken.pool ? bursar_pools_block(p) : malloc_usable_size(p);
  taken.slot = bursar_charges_take(p, taken.usable, taken.pool);
  return taken;
}

size_t bursar_charging_of(void *p, uint32_t *slot) {
  const uint16_t *cell = bursar_charging_on && (uintptr_t)p >> 47 == 0 ? bursar_charges_charged(p) : NULL;
  size_t usable = !cell ? 0 : *cell & BURSAR_CHARGES_POOL ? bursar_pools_block(p) : malloc_usable_size(p);
  if (usable <= 16 || !(*slot = *cell & BURSAR_CHARGES_SLOTS))
    return 0;
  return usable;
}

static bool may_be_charged(const void *p) { return (uintptr_t)p >> 47 == 0 && bursar_charges_charged(p); }

/* Under the main GIL the thread is in the scope of its context; else where it was last found under it. */
static uint32_t slot_here(bool gil) {
  if (!gil)
    return bursar_scopes_slot(bursar_anywhere_scope);
  return bursar_charging_scope() ? bursar_charges_here.slot : 0;
}

/* --- blocks ------------------------------------------------------------------------------------------------------------- */

/* The block of malloc's that this thread charged last. */
static __thread const void *mallocs __attribute__((tls_model("initial-exec")));

/* Where pymalloc had no memory for a pool, an arena or the table of arenas, RAW's hook has charged it. */
void bursar_charging_pool_begins_slowly(void *p, size_t usable) {
  bool was = bursar_anywhere_inside;
  if (p == mallocs) {
    mallocs = NULL;
    return;
  }
  bursar_anywhere_inside = true;
  bursar_charges_begin(p, usable, true, bursar_charges_here.slot, true);
  if (bursar_charges_here.least > BURSAR_CHARGES_LEAST)
    bursar_tracing_begins(p, usable, true, bursar_charges_here.slot, true);
  bursar_anywhere_inside = was;
}

void bursar_charging_emptied(uint32_t slot) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_scopes_emptied(slot);
  bursar_anywhere_inside = was;
}

void bursar_charging_malloc_begins(void *p) {
  if (!p || bursar_anywhere_inside || !bursar_account.active)
    return;
  bool gil = bursar_holds_main_gil();
  if (!gil && !bursar_anywhere_scope)
    return;
  bursar_anywhere_inside = true;
  if (!gil)
    bursar_fold_hold_off();
  uint32_t slot = slot_here(gil);
  mallocs = slot ? p : NULL;
  if (slot)
    bursar_charges_begin(p, malloc_usable_size(p), false, slot, gil);
  if (slot && bursar_verdict_tracing && bursar_verdict_traces(slot))
    bursar_tracing_begins(p, malloc_usable_size(p), false, slot, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

void bursar_charging_malloc_ends(void *p) {
  if (may_be_charged(p))
    bursar_charging_ends(p);
}

/* Not of a block that a signal handler frees in the midst of our work. */
void bursar_charging_ends(void *p) {
  if (bursar_anywhere_inside || !bursar_account.active)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  struct bursar_charged taken = take(p);
  bursar_charges_end(taken.slot, taken.usable, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

struct bursar_charged bursar_charging_lift(void *p) {
  struct bursar_charged lifted = {0};
  if (bursar_anywhere_inside || !may_be_charged(p))
    return lifted;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  lifted = take(p);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
  return lifted;
}

void bursar_charging_put_back(void *p, struct bursar_charged lifted) {
  uint32_t unseen;
  if (!lifted.slot)
    return;
  bool gil = bursar_anywhere_hold_off();
  if (bursar_account.active)
    (void)bursar_charges_put(p, lifted.usable, lifted.pool, lifted.slot, &unseen);
  bursar_anywhere_let_go(gil);
}

void bursar_charging_drop(struct bursar_charged lifted) {
  if (!lifted.slot)
    return;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  bursar_charges_end(lifted.slot, lifted.usable, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = was;
}

void bursar_charging_lift_native(void *p, struct bursar_record *old) {
  struct bursar_charged lifted = bursar_charging_lift(p);
  old->usable = lifted.usable;
  old->scope = lifted.slot;
}

void bursar_charging_drop_native(void *p, const struct bursar_record *old, bool ended) {
  struct bursar_charged lifted = {.usable = old->usable, .slot = old->scope};
  if (ended)
    bursar_charging_drop(lifted);
  else
    bursar_charging_put_back(p, lifted);
}

/* --- mappings ----------------------------------------------------------------------------------------------------------- */

static void charge_map(uint32_t slot, int64_t bytes, int blocks, bool gil) {
  if (slot && gil)
    bursar_scopes_charge_gil(slot, bytes, blocks);
  else if (slot)
    bursar_scopes_charge_free(slot, bytes, blocks);
}

uint32_t bursar_charging_map_begins(size_t bytes, bool gil) {
  uint32_t slot = bursar_charging_on ? slot_here(gil) : 0;
  charge_map(slot, (int64_t)bytes, 1, gil);
  return slot;
}

void bursar_charging_map_ends(struct bursar_piece piece, bool gil) {
  charge_map(piece.scope, -(int64_t)piece.bytes, -(int)piece.ends, gil);
}

void bursar_charging_expect(void) {
  if (!bursar_charges_leaves) /* nobody is charged: sizes are not known */
    return;
  __atomic_store_n(&bursar_charging_on, true, __ATOMIC_RELEASE);
  bursar_modes_expect_scopes();
}
