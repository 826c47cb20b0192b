#include "account/scopes.h"

#include <string.h>

#include "account/account.h"
#include "account/charges.h"
#include "account/fold.h"
#include "account/hot.h"
#include "account/live.h"
#include "account/lock.h"
#include "account/maps.h"
#include "account/stacks.h"
#include "account/verdict.h"
#include "base/pool.h"
#include "ledger/sketch.h"
#include "prim/prim.h"

static uint32_t vacant;     /* slots given up, chained by `parent` */
static uint32_t vacancies;  /* so many */
static uint32_t swept;      /* slots in use after the last sweep */
static bool working, tried; /* there is room for the first of each */
static uint64_t serial;     /* of the entry that began last */

static struct bursar_writer *writer(void) { return &bursar_account.writer; }
static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static struct bursar_scope *slots(void) { return bursar_account.scopes; }
static struct bursar_scope_name *names(void) {
  return (struct bursar_scope_name *)(void *)writer()->base[BURSAR_REGION_SCOPE_NAMES];
}
static struct bursar_event *events(void) { return (struct bursar_event *)(void *)writer()->base[BURSAR_REGION_EVENTS]; }
static bool room(enum bursar_region region, uint64_t bytes) {
  return bytes <= writer()->have[region] || bursar_writer_room(writer(), region, bytes) == 0;
}
static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static int64_t load_signed(const int64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
/* In modes sample and count a block's cell has room for fewer (charges.h). */
static uint32_t slots_max(void) {
  return bursar_account.mode == BURSAR_MODE_EXACT ? BURSAR_SCOPE_SLOTS : BURSAR_CHARGES_SLOTS;
}
static uint64_t now(void) { return bursar_prim_now() - bursar_account.started_ns; }

/* --- names --------------------------------------------------------------------------------------------------------------- */

static uint32_t name_add(uint32_t text) {
  uint32_t index = counts()->scope_names;
  if (!room(BURSAR_REGION_SCOPE_NAMES, (index + 1ull) * sizeof(struct bursar_scope_name)))
    return 0;
  names()[index] = (struct bursar_scope_name){.name = text};
  BURSAR_IN_ORDER();
  counts()->scope_names = index + 1;
  return index;
}

/* A string's place is its own: equal texts are one. */
static uint32_t name_of(uint32_t text) {
  for (uint32_t i = 1; i < counts()->scope_names; i++)
    if (names()[i].name == text)
      return i;
  return 0;
}

struct bursar_scope_history bursar_scopes_history(uint32_t name) {
  if (!working || !name || name >= counts()->scope_names || !names()[name].calls)
    return (struct bursar_scope_history){0};
  const struct bursar_scope_name *at = &names()[name];
  uint64_t peak = bursar_sketch_quantile(at, 95);
  return (struct bursar_scope_history){at->calls, peak == BURSAR_SKETCH_UNKNOWN ? at->peak_max : peak, at->time_ns};
}

/* Not before a scope is entered: most programs have none, and small disks are for their sites. */
static bool prepare(void) {
  static const char others[] = "(other scopes)";
  if (working || tried)
    return working;
  tried = true;
  bursar_account.scopes = (struct bursar_scope *)(void *)writer()->base[BURSAR_REGION_SCOPES];
  if (room(BURSAR_REGION_SCOPES, sizeof(struct bursar_scope))) {
    counts()->scopes = 1;
    (void)name_add(bursar_stacks_string(others, sizeof others - 1));
    working = counts()->scope_names == 1;
  }
  return working;
}

uint32_t bursar_scopes_name(const char *text, size_t bytes) {
  uint32_t name = 0;
  bursar_lock_take();
  if (prepare()) {
    uint32_t string = bursar_stacks_string(text, bytes);
    if (string && !(name = name_of(string)))
      name = name_add(string);
    counts()->folded_scopes += name == 0;
  }
  bursar_lock_give();
  return name;
}

uint32_t bursar_scopes_generation;
static uint16_t *last_into; /* of the last generation: where each slot's blocks went; 0: nowhere */
static size_t last_into_bytes;

uint32_t bursar_scopes_where(uint32_t slot, uint32_t generation) {
  if (generation == bursar_scopes_generation)
    return slot;
  if (generation + 1 != bursar_scopes_generation || slot * sizeof *last_into >= last_into_bytes)
    return 0;
  return last_into[slot] ? last_into[slot] : slot;
}

void bursar_scopes_start(void) {
  bursar_scopes_generation += 2;
  vacant = vacancies = swept = 0;
  working = tried = false;
  bursar_verdict_start();
}

void bursar_scopes_stop(void) {
  working = false, tried = true;
  bursar_verdict_stop();
}

/* --- entries ------------------------------------------------------------------------------------------------------------- */

/* The number of the counter for a peak of so many bytes: eight to a doubling, by comparing with the powers of 2^(1/8). */
static uint32_t sketch_at(uint64_t bytes) {
  static const uint32_t steps[BURSAR_SKETCH_OCTAVE] = {0x80000000, 0x8b95c1e3, 0x9837f051, 0xa5fed6a9,
                                                       0xb504f333, 0xc5672a11, 0xd744fccb, 0xeac0c6e7};
  if (!bytes)
    return 0;
  unsigned octave = 63u - (unsigned)__builtin_clzll(bytes), step = BURSAR_SKETCH_OCTAVE - 1;
  uint32_t mantissa = (uint32_t)(octave > 31 ? bytes >> (octave - 31) : bytes << (31 - octave));
  while (mantissa < steps[step])
    step--;
  uint32_t at = octave * BURSAR_SKETCH_OCTAVE + step;
  return at < BURSAR_SKETCH ? at : BURSAR_SKETCH - 1;
}

static bool nothing_left(const struct bursar_scope *scope) {
  return scope->state == BURSAR_SCOPE_ENDED && !scope->nested &&
         load_signed(&scope->blocks) + load_signed(&scope->free_blocks) == 0;
}

/* An ended entry that nothing is charged to any more leaves its sums to its name, and so may those around it. */
static void give_up(uint32_t slot) {
  while (slot && nothing_left(&slots()[slot])) {
    struct bursar_scope *scope = &slots()[slot];
    struct bursar_scope_name *name = &names()[scope->name];
    uint32_t parent = scope->parent;
    if (!scope->inner) {
      name->allocated_bytes += scope->allocated_bytes + load(&scope->free_allocated_bytes);
      name->allocations += scope->allocations + load(&scope->free_allocations);
    }
    bursar_verdict_gone(slot);
    *scope = (struct bursar_scope){.state = BURSAR_SCOPE_VACANT, .parent = vacant};
    vacant = slot;
    vacancies++;
    if (parent)
      slots()[parent].nested--;
    slot = parent;
  }
}

/* Entries whose last block ended in lane FREE, where nobody gives up slots. */
static void sweep(void) {
  for (uint32_t slot = 1; slot < counts()->scopes; slot++)
    give_up(slot);
  swept = counts()->scopes - vacancies; /* in use */
}

static uint32_t slot_new(void) {
  if (!vacant && counts()->scopes >= 64 && counts()->scopes >= 2 * swept)
    sweep();
  uint32_t slot = vacant;
  if (slot) {
    vacancies--;
    vacant = slots()[slot].parent;
    return slot;
  }
  slot = counts()->scopes;
  if (slot >= slots_max() || !room(BURSAR_REGION_SCOPES, (slot + 1ull) * sizeof(struct bursar_scope)))
    return 0;
  slots()[slot] = (struct bursar_scope){.state = BURSAR_SCOPE_VACANT};
  BURSAR_IN_ORDER();
  counts()->scopes = slot + 1;
  return slot;
}

/* --- where slots run short ----------------------------------------------------------------------------------------------- */

/* Takes an ended entry, in which no other is nested, out of those around it: what it holds is its name's business alone. */
static void take_out(struct bursar_scope *scope) {
  int64_t live = scope->live_bytes, free_live = load_signed(&scope->free_live_bytes);
  if (scope->parent)
    slots()[scope->parent].nested--;
  for (uint32_t at = scope->parent; at; at = slots()[at].parent) {
    slots()[at].live_bytes -= live;
    slots()[at].free_live_bytes -= free_live;
  }
  scope->parent = 0;
}

/* Moves what an entry holds to its name's slot; the first of a name becomes that slot.  True where its own is given up. */
static bool fold_into_name(uint32_t slot, uint16_t *into) {
  struct bursar_scope *scope = &slots()[slot];
  struct bursar_scope_name *name = &names()[scope->name];
  take_out(scope);
  bursar_verdict_gone(slot);
  if (!scope->inner) {
    name->allocated_bytes += scope->allocated_bytes + scope->free_allocated_bytes;
    name->allocations += scope->allocations + scope->free_allocations;
  }
  scope->allocated_bytes = scope->free_allocated_bytes = scope->allocations = scope->free_allocations = 0;
  scope->inner = 1; /* counted above */
  if (!name->slot) {
    name->slot = slot;
    scope->state = BURSAR_SCOPE_POOL;
    scope->inner = 0;
    return false;
  }
  struct bursar_scope *pool = &slots()[name->slot];
  pool->live_bytes += scope->live_bytes;
  pool->free_live_bytes += scope->free_live_bytes;
  pool->blocks += scope->blocks;
  pool->free_blocks += scope->free_blocks;
  into[slot] = (uint16_t)name->slot;
  scope->blocks = scope->free_blocks = 0;
  give_up(slot);
  return true;
}

/* Ended entries that still hold blocks are folded.  Between events, not under the lock. */
static void fold_ended(void) {
  uint32_t n = counts()->scopes, folded = 0, before;
  uint16_t *into = bursar_pool_take(n * sizeof *into);
  if (!into)
    return;
  bursar_fold_keep_off();
  do { /* those in which others were nested come after these */
    before = folded;
    for (uint32_t slot = 1; slot < n; slot++)
      if (slots()[slot].state == BURSAR_SCOPE_ENDED && !slots()[slot].nested)
        folded += fold_into_name(slot, into);
  } while (folded > before);
  counts()->folded_scopes += folded;
  if (folded) {
    bursar_live_rescope(into, n);
    bursar_charges_rescope(into, n);
    bursar_maps_rescope(into, n);
    uint16_t *older = last_into;
    size_t older_bytes = last_into_bytes;
    last_into = into;
    last_into_bytes = n * sizeof *into;
    bursar_scopes_generation++;
    into = older;
    n = (uint32_t)(older_bytes / sizeof *older);
  }
  bursar_fold_let_in();
  bursar_pool_give(into, n * sizeof *into);
}

static bool full(void) {
  bursar_lock_take();
  uint32_t n = counts()->scopes;
  bool full = !vacant && (n >= slots_max() || !room(BURSAR_REGION_SCOPES, (n + 1ull) * sizeof(struct bursar_scope)));
  if (full) {
    sweep();
    full = !vacant;
  }
  bursar_lock_give();
  return full;
}

static bool around(uint32_t slot, uint32_t name) {
  for (; slot; slot = slots()[slot].parent)
    if (slots()[slot].name == name)
      return true;
  return false;
}

uint32_t bursar_scopes_enter(uint32_t name, uint32_t parent) {
  if (working && full())
    fold_ended();
  return bursar_scopes_enter_free(name, parent);
}

uint32_t bursar_scopes_enter_free(uint32_t name, uint32_t parent) {
  if (!working)
    return 0;
  bursar_lock_take();
  uint32_t slot = slot_new();
  if (slot) {
    slots()[slot] = (struct bursar_scope){.serial = ++serial,
                                          .started_ns = now(),
                                          .name = name,
                                          .parent = parent,
                                          .state = BURSAR_SCOPE_OPEN,
                                          .inner = around(parent, name)};
    if (parent)
      slots()[parent].nested++;
    bursar_verdict_begun();
  } else {
    counts()->folded_scopes++;
  }
  bursar_lock_give();
  return slot;
}

struct bursar_scope_facts bursar_scopes_end(uint32_t slot) {
  if (!working || !slot)
    return (struct bursar_scope_facts){0};
  struct bursar_verdict_around around = bursar_verdict_look_around(slots()[slot].name);
  bursar_lock_take();
  struct bursar_scope *scope = &slots()[slot];
  struct bursar_scope_name *name = &names()[scope->name];
  struct bursar_scope_facts facts = bursar_scopes_read(slot);
  scope->ended_ns = now();
  name->calls++;
  name->peak_last = facts.peak_bytes;
  name->peak_max = facts.peak_bytes > name->peak_max ? facts.peak_bytes : name->peak_max;
  name->retained_last = facts.live_bytes > 0 ? (uint64_t)facts.live_bytes : 0;
  name->time_ns += facts.time_ns;
  name->time_max_ns = facts.time_ns > name->time_max_ns ? facts.time_ns : name->time_max_ns;
  uint32_t *counter = &name->sketch[sketch_at(facts.peak_bytes)];
  *counter += *counter < UINT32_MAX;
  scope->state = BURSAR_SCOPE_ENDED;
  bursar_verdict_ended(scope->name, slot, !scope->inner && !nothing_left(scope), around);
  give_up(slot);
  bursar_lock_give();
  return facts;
}

void bursar_scopes_look_again(uint32_t slot) {
  for (struct bursar_recent *recent = bursar_account.recents; recent; recent = recent->next)
    if (recent->scope == slot)
      recent->scope = 0, recent->context_ver = 0;
  if (bursar_charges_here.slot == slot)
    bursar_charges_here.thread = NULL;
}

struct bursar_scope_facts bursar_scopes_read(uint32_t slot) {
  const struct bursar_scope *scope = &slots()[slot];
  int64_t live = scope->live_bytes + load_signed(&scope->free_live_bytes);
  return (struct bursar_scope_facts){
      .live_bytes = live,
      .peak_bytes = live > (int64_t)scope->peak_bytes ? (uint64_t)live : scope->peak_bytes,
      .allocated_bytes = scope->allocated_bytes + load(&scope->free_allocated_bytes),
      .allocations = scope->allocations + load(&scope->free_allocations),
      .serial = scope->serial,
      .time_ns = (scope->ended_ns ? scope->ended_ns : now()) - scope->started_ns};
}

/* Under the lock. */
static void note(struct bursar_event event) {
  uint64_t capacity = writer()->limit[BURSAR_REGION_EVENTS] / sizeof event, at = counts()->events % capacity;
  if (!room(BURSAR_REGION_EVENTS, (at + 1) * sizeof event))
    return;
  event.time_ns = now();
  events()[at] = event;
  BURSAR_IN_ORDER();
  counts()->events++;
}

void bursar_scopes_event(enum bursar_event_kind kind, uint32_t slot, uint32_t text) {
  if (!working || !slot)
    return;
  bursar_lock_take();
  struct bursar_scope_facts facts = bursar_scopes_read(slot);
  note((struct bursar_event){.kind = kind,
                             .scope = slots()[slot].name,
                             .bytes = kind == BURSAR_EVENT_SCOPE_ENDED ? facts.peak_bytes
                                      : kind == BURSAR_EVENT_NOTE      ? (uint64_t)facts.live_bytes
                                                                       : 0,
                             .text = text,
                             .slot = slot});
  bursar_lock_give();
}

void bursar_scopes_tell(enum bursar_event_kind kind, uint32_t name, uint64_t bytes, uint32_t text) {
  bursar_lock_take();
  if (prepare())
    note((struct bursar_event){
        .kind = kind, .scope = name, .bytes = bytes, .text = text, .slot = name ? 0 : BURSAR_EVENT_OF_PROCESS});
  bursar_lock_give();
}

uint64_t bursar_scopes_handle(uint32_t slot) { return slot ? slots()[slot].serial << 16 | slot : 0; }

uint32_t bursar_scopes_slot(uint64_t handle) {
  uint32_t slot = handle & (BURSAR_SCOPE_SLOTS - 1);
  return slot && working && slot < counts()->scopes && load(&slots()[slot].serial) == handle >> 16 ? slot : 0;
}

/* --- charging ------------------------------------------------------------------------------------------------------------ */

void bursar_scopes_emptied(uint32_t slot) {
  bursar_lock_take();
  give_up(slot);
  bursar_lock_give();
}

static bool stands(uint32_t slot) {
  return working && slot < counts()->scopes && slots()[slot].state != BURSAR_SCOPE_VACANT;
}

void bursar_scopes_charge_gil(uint32_t slot, int64_t bytes, int blocks) {
  if (!stands(slot))
    return;
  if (blocks > 0) {
    bursar_hot_charge(slot, (size_t)bytes);
  } else if (blocks < 0) {
    if (bursar_hot_discharge(slot, (size_t)-bytes))
      bursar_scopes_emptied(slot);
  } else {
    for (uint32_t at = slot; at; at = slots()[at].parent)
      slots()[at].live_bytes += bytes;
  }
}

void bursar_scopes_charge_free(uint32_t slot, int64_t bytes, int blocks) {
  struct bursar_scope *scope = &slots()[slot];
  if (!stands(slot))
    return;
  __atomic_fetch_add(&scope->free_blocks, blocks, __ATOMIC_RELAXED);
  for (uint32_t at = slot; at; at = scope->parent) {
    scope = &slots()[at];
    int64_t live = __atomic_add_fetch(&scope->free_live_bytes, bytes, __ATOMIC_RELAXED) +
                   __atomic_load_n(&scope->live_bytes, __ATOMIC_RELAXED);
    if (blocks <= 0)
      continue;
    __atomic_fetch_add(&scope->free_allocated_bytes, (uint64_t)bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&scope->free_allocations, 1, __ATOMIC_RELAXED);
    uint64_t peak = load(&scope->peak_bytes);
    while (live > (int64_t)peak && !__atomic_compare_exchange_n(&scope->peak_bytes, &peak, (uint64_t)live, false,
                                                                __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      ;
  }
  /* Its slot is given up by the next end of a block under the GIL, or of its entry: not here, where others look at it. */
}
