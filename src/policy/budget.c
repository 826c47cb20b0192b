#include "policy/budget.h"

#include "account/account.h"
#include "account/live.h"
#include "prim/prim.h"

uint32_t bursar_budget_open;
int64_t bursar_budget_room;

static struct bursar_budget *budgets; /* by slot; pages of it that nobody has used have no memory */

static const struct bursar_scope *entry(uint32_t slot) { return &bursar_account.scopes[slot]; }

static struct bursar_budget *budget(uint32_t slot) {
  struct bursar_budget *found = budgets ? &budgets[slot] : NULL;
  return found && found->serial && found->serial == entry(slot)->serial ? found : NULL;
}

const struct bursar_budget *bursar_budget_of(uint32_t slot) { return budget(slot); }

static int64_t live(uint32_t slot) {
  return entry(slot)->live_bytes + __atomic_load_n(&entry(slot)->free_live_bytes, __ATOMIC_RELAXED);
}

static int64_t reserve(int64_t hard) { return hard / 16 < BURSAR_BUDGET_RESERVE ? hard / 16 : BURSAR_BUDGET_RESERVE; }

bool bursar_budget_begin(uint32_t slot, int64_t hard, int64_t soft) {
  if (!budgets && !(budgets = bursar_prim_reserve(BURSAR_SCOPE_SLOTS * sizeof *budgets, true)))
    return false;
  budgets[slot] = (struct bursar_budget){.serial = entry(slot)->serial, .hard = hard, .soft = soft};
  bursar_budget_open++;
  return true;
}

struct bursar_budget bursar_budget_end(uint32_t slot) {
  struct bursar_budget none = {0}, *found = budget(slot);
  if (!found)
    return none;
  none = *found;
  found->serial = 0;
  bursar_budget_open--;
  return none;
}

void bursar_budget_forget(void) {
  if (budgets)
    bursar_prim_discard(budgets, BURSAR_SCOPE_SLOTS * sizeof *budgets);
  bursar_budget_open = 0;
}

static bool is_around(uint32_t outer, uint32_t slot) {
  while (slot && slot != outer)
    slot = entry(slot)->parent;
  return slot != 0;
}

uint32_t bursar_budget_over(uint32_t slot, int64_t bytes, int64_t instead, uint32_t of) {
  for (; slot; slot = entry(slot)->parent) {
    struct bursar_budget *found = budget(slot);
    if (!found || !found->hard)
      continue;
    int64_t held = live(slot), limit = found->hard - reserve(found->hard), more = bytes;
    if (of && is_around(slot, of))
      more -= instead;
    found->in_reserve = found->in_reserve && held >= limit;
    if (more > 0 && held > (found->in_reserve && more <= BURSAR_BUDGET_SMALL ? found->hard : limit) - more)
      return slot;
  }
  return 0;
}

uint32_t bursar_budget_far_over(uint32_t slot) {
  bursar_budget_room = BURSAR_BUDGET_ROOM;
  for (; slot; slot = entry(slot)->parent) {
    const struct bursar_budget *found = budget(slot);
    if (found && found->hard && live(slot) > found->hard + BURSAR_BUDGET_OVER)
      return slot;
  }
  return 0;
}

uint32_t bursar_budget_soft(uint32_t slot, int64_t more) {
  for (; slot; slot = entry(slot)->parent) {
    struct bursar_budget *found = budget(slot);
    if (!found || !found->soft)
      continue;
    int64_t held = live(slot) + more;
    if (held < found->soft - found->soft / 16)
      found->told = false;
    if (held <= found->soft || found->told)
      continue;
    found->told = true;
    return slot;
  }
  return 0;
}

void bursar_budget_refused(uint32_t slot, int64_t asked, uintptr_t code, intptr_t unit) {
  struct bursar_budget *found = budget(slot);
  if (!found)
    return;
  found->refused++;
  found->asked = asked;
  found->held = live(slot);
  found->code = code;
  found->unit = unit;
  found->in_reserve = true;
}
