#include "policy/budget.h"

#include "account/account.h"
#include "account/live.h"
#include "account/lock.h"
#include "account/scopes.h"
#include "base/pool.h"
#include "policy/rest.h"
#include "prim/prim.h"

#define FEW 32u            /* entries of a name that are gone through whenever one asks */
#define MARKED_NS 10000000 /* for so long an entry stays marked */

uint32_t bursar_budget_open;
int64_t bursar_budget_room;

static struct bursar_budget *budgets; /* by slot; pages of it that nobody has used have no memory */

static const struct bursar_scope *entry(uint32_t slot) { return &bursar_account.scopes[slot]; }

static struct bursar_budget *budget(uint32_t slot) {
  struct bursar_budget *found = budgets && slot ? &budgets[slot] : NULL;
  return found && found->serial && found->serial == entry(slot)->serial ? found : NULL;
}

const struct bursar_budget *bursar_budget_of(uint32_t slot) { return budget(slot); }

/* What whoever holds the GIL adds to plainly is read by others: old or new.  To ThreadSanitizer that is a race. */
__attribute__((no_sanitize_thread, noinline)) static int64_t live(uint32_t slot) {
  return __atomic_load_n(&entry(slot)->live_bytes, __ATOMIC_RELAXED) +
         __atomic_load_n(&entry(slot)->free_live_bytes, __ATOMIC_RELAXED);
}

static int64_t reserve(int64_t hard) { return hard / 16 < BURSAR_BUDGET_RESERVE ? hard / 16 : BURSAR_BUDGET_RESERVE; }

static int64_t lower(int64_t own, int64_t set) { return !own || (set && set < own) ? set : own; }

static int64_t named(const struct bursar_budget *of, enum bursar_limit kind) {
  return of->named ? of->named->now[kind] : 0;
}
static int64_t hard_of(const struct bursar_budget *of) { return lower(of->hard, named(of, BURSAR_LIMIT_HARD)); }
static int64_t soft_of(const struct bursar_budget *of) { return lower(of->soft, named(of, BURSAR_LIMIT_SOFT)); }

static bool is_around(uint32_t outer, uint32_t slot) {
  while (slot && slot != outer)
    slot = entry(slot)->parent;
  return slot != 0;
}

/* Is more than the limit allows?  Once refused, small blocks may have the reserve until it is all there again. */
static bool breaks(int64_t held, int64_t more, int64_t hard, bool *in_reserve) {
  int64_t limit = hard - reserve(hard);
  bool stays = __atomic_load_n(in_reserve, __ATOMIC_RELAXED) && held >= limit;
  __atomic_store_n(in_reserve, stays, __ATOMIC_RELAXED);
  return more > 0 && held > (stays && more <= BURSAR_BUDGET_SMALL ? hard : limit) - more;
}

/* --- all entries of a name ------------------------------------------------------------------------------------------------ */

/* Who is not counted in another of the same name.  All of it under the lock; the list grows under the GIL alone. */
struct member {
  uint64_t serial;
  uint32_t slot;
};
static struct members {
  struct member *list;
  uint32_t count, room;
  uint32_t generation; /* of slots */
  bool in_reserve;
  int64_t held;       /* when they were gone through last */
  uint64_t allocated; /* by the process until then */
} by_name[BURSAR_LIMITS_NAMES];

static struct members *members_of(const struct bursar_limits *named) { return &by_name[named - bursar_limits_at(0)]; }

static bool is_member(struct member member) {
  return entry(member.slot)->serial == member.serial && entry(member.slot)->state != BURSAR_SCOPE_VACANT;
}

static void drop_gone(struct members *members) {
  for (uint32_t i = 0; i < members->count;)
    if (is_member(members->list[i]))
      i++;
    else
      members->list[i] = members->list[--members->count];
}

static bool make_room(struct members *members) {
  if (members->count == members->room)
    drop_gone(members);
  if (members->count < members->room - members->room / 4)
    return true;
  uint32_t room = members->room ? 2 * members->room : FEW;
  struct member *list = bursar_pool_take(room * sizeof *list);
  if (!list)
    return members->count < members->room;
  for (uint32_t i = 0; i < members->count; i++)
    list[i] = members->list[i];
  if (members->list)
    bursar_pool_give(members->list, members->room * sizeof *list);
  members->list = list;
  members->room = room;
  return true;
}

static void add(struct members *members, uint32_t slot) {
  if (!entry(slot)->inner && make_room(members))
    members->list[members->count++] = (struct member){entry(slot)->serial, slot};
}

/* The first of them, or the first since slots were folded: those that began before are looked for. */
static void find_all(struct members *members, uint32_t name) {
  members->count = 0;
  members->generation = bursar_scopes_generation;
  for (uint32_t slot = 1; slot < bursar_account.writer.counts->scopes; slot++)
    if (entry(slot)->name == name && entry(slot)->state != BURSAR_SCOPE_VACANT)
      add(members, slot);
}

static void join(const struct bursar_limits *named, uint32_t slot) {
  struct members *members = members_of(named);
  bursar_lock_take();
  if (!named->now[BURSAR_LIMIT_SUM])
    members->generation = 0; /* where one is set later, they are looked for */
  else if (!members->list || members->generation != bursar_scopes_generation)
    find_all(members, entry(slot)->name); /* the slot among them */
  else
    add(members, slot);
  members->allocated = 0; /* what is known of them is not any more */
  bursar_lock_give();
}

static int64_t sum(const struct members *members) {
  int64_t held = 0;
  for (uint32_t i = 0; i < members->count; i++)
    held += is_member(members->list[i]) ? live(members->list[i].slot) : 0;
  return held;
}

int64_t bursar_budget_sum(const struct bursar_limits *named) {
  bursar_lock_take();
  int64_t held = sum(members_of(named));
  bursar_lock_give();
  return held;
}

/* Under the lock.  Many are only gone through where the process has allocated enough since to make a difference. */
static bool members_break(struct members *members, int64_t limit, int64_t more, int64_t *held) {
  uint64_t allocated = members->count > FEW ? bursar_account_totals().alloc_bytes : 0;
  if (members->allocated && more > 0 && members->count > FEW &&
      members->held + (int64_t)(allocated - members->allocated) < limit - reserve(limit) - more)
    return false;
  *held = members->held = sum(members);
  members->allocated = allocated;
  return breaks(*held, more, limit, &members->in_reserve);
}

static bool sum_breaks(const struct bursar_budget *of, int64_t more, bool gil, struct bursar_budget_refusal *out) {
  struct members *members = members_of(of->named);
  out->limit = of->named->now[BURSAR_LIMIT_SUM];
  bursar_lock_take();
  if (gil && members->generation != bursar_scopes_generation)
    find_all(members, entry(out->slot)->name);
  bool broken = members_break(members, out->limit, more, &out->held);
  bursar_lock_give();
  return broken;
}

/* --- the process ------------------------------------------------------------------------------------------------------- */

/* Atomic.  What is booked is an estimate in mode sample, whose error is small of what changes within 10 ms. */
static int64_t resident, booked_then; /* when that was looked at */

int64_t bursar_budget_held(void) {
  int64_t now = bursar_account_live();
  int64_t grown = __atomic_load_n(&resident, __ATOMIC_RELAXED) + now - __atomic_load_n(&booked_then, __ATOMIC_RELAXED);
  return now > grown ? now : grown;
}

void bursar_budget_seen(uint64_t bytes) {
  __atomic_store_n(&booked_then, bursar_account_live(), __ATOMIC_RELAXED);
  __atomic_store_n(&resident, (int64_t)bytes, __ATOMIC_RELAXED);
}

static uint32_t outermost(uint32_t slot) {
  while (slot && entry(slot)->parent)
    slot = entry(slot)->parent;
  return slot;
}

/* Of n entries each may have (limit - what is in none) / n.  As all together are above that, the one that holds most is. */
static uint32_t marked(void) {
  static uint64_t mark, since; /* (serial, slot); atomic */
  uint64_t now = bursar_prim_now_coarse();
  uint32_t most = bursar_scopes_slot(__atomic_load_n(&mark, __ATOMIC_RELAXED));
  if (most && entry(most)->state == BURSAR_SCOPE_OPEN && now - __atomic_load_n(&since, __ATOMIC_RELAXED) < MARKED_NS)
    return most;
  most = 0;
  for (uint32_t slot = 1; slot < bursar_account.writer.counts->scopes; slot++)
    if (entry(slot)->state == BURSAR_SCOPE_OPEN && !entry(slot)->parent && (!most || live(slot) > live(most)))
      most = slot;
  __atomic_store_n(&mark, bursar_scopes_handle(most), __ATOMIC_RELAXED);
  __atomic_store_n(&since, now, __ATOMIC_RELAXED);
  return most;
}

static bool process_breaks(uint32_t slot, int64_t more, struct bursar_budget_refusal *out) {
  int64_t limit = bursar_limits_process(), slack = limit / BURSAR_BUDGET_SLACK;
  int64_t held = limit && more > 0 ? bursar_budget_held() : 0;
  if (!limit || held <= limit - more)
    return false;
  *out = (struct bursar_budget_refusal){outermost(slot), BURSAR_BUDGET_PROCESS, limit, held};
  if (!out->slot && bursar_rest_open()) /* the server itself */
    return more > BURSAR_BUDGET_SERVER && held > limit + slack - more;
  if (more <= BURSAR_BUDGET_SMALL) /* so that what handles the failure can work */
    return held > limit + slack + BURSAR_BUDGET_OVER - more;
  return held > limit + slack - more || !bursar_rest_open() || out->slot == marked();
}

/* --- entries ------------------------------------------------------------------------------------------------------------- */

static bool have_budgets(void) {
  return budgets || (budgets = bursar_prim_reserve(BURSAR_SCOPE_SLOTS * sizeof *budgets, true));
}

bool bursar_budget_begin(uint32_t slot, int64_t hard, int64_t soft, const struct bursar_limits *named) {
  if (!have_budgets())
    return false;
  budgets[slot] = (struct bursar_budget){.serial = entry(slot)->serial, .hard = hard, .soft = soft, .named = named};
  (void)__atomic_add_fetch(&bursar_budget_open, 1, __ATOMIC_RELAXED);
  if (named)
    join(named, slot);
  return true;
}

struct bursar_budget bursar_budget_end(uint32_t slot) {
  struct bursar_budget none = {0}, *found = budget(slot);
  if (!found)
    return none;
  bursar_lock_take();
  none = *found;
  found->serial = 0;
  bursar_lock_give();
  (void)__atomic_sub_fetch(&bursar_budget_open, 1, __ATOMIC_RELAXED);
  return none;
}

void bursar_budget_forget(void) {
  if (budgets)
    bursar_prim_discard(budgets, BURSAR_SCOPE_SLOTS * sizeof *budgets);
  bursar_budget_open = 0;
  for (uint32_t i = 0; i < BURSAR_LIMITS_NAMES; i++) {
    if (by_name[i].list)
      bursar_pool_give(by_name[i].list, by_name[i].room * sizeof *by_name[i].list);
    by_name[i] = (struct members){0};
  }
}

static bool is_of_name(uint32_t slot, uint32_t name) {
  while (slot && entry(slot)->name != name)
    slot = entry(slot)->parent;
  return slot != 0;
}

bool bursar_budget_over(uint32_t slot, int64_t bytes, int64_t instead, uint32_t of, bool gil,
                        struct bursar_budget_refusal *out) {
  for (uint32_t at = slot; at; at = entry(at)->parent) {
    struct bursar_budget *found = budget(at);
    int64_t hard = found ? hard_of(found) : 0;
    *out = (struct bursar_budget_refusal){at, BURSAR_BUDGET_ENTRY, hard, live(at)};
    if (hard && breaks(out->held, bytes - (of && is_around(at, of) ? instead : 0), hard, &found->in_reserve))
      return true;
    out->whose = BURSAR_BUDGET_NAME;
    if (found && named(found, BURSAR_LIMIT_SUM) && !entry(at)->inner &&
        sum_breaks(found, bytes - (of && is_of_name(of, entry(at)->name) ? instead : 0), gil, out))
      return true;
  }
  return process_breaks(slot, bytes - instead, out);
}

bool bursar_budget_far_over(uint32_t slot, struct bursar_budget_refusal *out) {
  bursar_budget_room = BURSAR_BUDGET_ROOM;
  for (uint32_t at = slot; at; at = entry(at)->parent) {
    const struct bursar_budget *found = budget(at);
    int64_t hard = found ? hard_of(found) : 0, all = found ? named(found, BURSAR_LIMIT_SUM) : 0;
    *out = (struct bursar_budget_refusal){at, BURSAR_BUDGET_ENTRY, hard, live(at)};
    if (hard && out->held > hard + BURSAR_BUDGET_OVER)
      return true;
    if (all && !entry(at)->inner) {
      *out = (struct bursar_budget_refusal){at, BURSAR_BUDGET_NAME, all, bursar_budget_sum(found->named)};
      if (out->held > all + BURSAR_BUDGET_OVER)
        return true;
    }
  }
  int64_t limit = bursar_limits_process();
  if (!limit || !slot)
    return false;
  *out = (struct bursar_budget_refusal){outermost(slot), BURSAR_BUDGET_PROCESS, limit, bursar_budget_held()};
  return out->held > limit + BURSAR_BUDGET_OVER && out->slot == marked(); /* the sixteenth is for others */
}

uint32_t bursar_budget_soft(uint32_t slot, int64_t more) {
  for (; slot; slot = entry(slot)->parent) {
    struct bursar_budget *found = budget(slot);
    int64_t soft = found ? soft_of(found) : 0, held = live(slot) + more;
    if (!soft)
      continue;
    if (held < soft - soft / 16)
      found->told = false;
    if (held <= soft || found->told)
      continue;
    found->told = true;
    return slot;
  }
  return 0;
}

void bursar_budget_refused(const struct bursar_budget_refusal *refusal, int64_t asked, uintptr_t code, intptr_t unit) {
  struct bursar_budget *found = budget(refusal->slot);
  if (!found && refusal->slot && have_budgets()) { /* the process's limit binds who has none */
    found = &budgets[refusal->slot];
    *found = (struct bursar_budget){.serial = entry(refusal->slot)->serial};
    (void)__atomic_add_fetch(&bursar_budget_open, 1, __ATOMIC_RELAXED);
  }
  if (!found)
    return;
  bursar_lock_take();
  found->refused++;
  found->asked = asked;
  found->held = refusal->held;
  found->limit = refusal->limit;
  found->whose = refusal->whose;
  found->code = code;
  found->unit = unit;
  bool *in_reserve = refusal->whose == BURSAR_BUDGET_NAME ? &members_of(found->named)->in_reserve : &found->in_reserve;
  __atomic_store_n(in_reserve, refusal->whose != BURSAR_BUDGET_PROCESS || *in_reserve, __ATOMIC_RELAXED);
  bursar_lock_give();
}
