#include "anywhere.h"

#include "account/fold.h"
#include "account/hot.h"
#include "account/scopes.h"
#include "compat.h"
#include "frames.h"
#include "native/patch.h"
#include "native_books.h"
#include "scope.h"

__thread bool bursar_anywhere_inside __attribute__((tls_model("initial-exec")));
__thread uint64_t bursar_anywhere_scope __attribute__((tls_model("initial-exec")));

static void book_detached(void *p, size_t size, unsigned domain) {
  bursar_fold_hold_off();
  bursar_account_alloc_free(p, size, bursar_frames_detached(domain), domain, bursar_scopes_slot(bursar_anywhere_scope));
  bursar_fold_let_go();
}

/* --- ends that cannot be booked where they come ------------------------------------------------------------------------ */

/* A signal handler may end a block while its thread is in the books, which are in no order then: it must neither change them
 * nor wait for who does, which would be itself.  So the block is taken out at once, since its address may be handed out again,
 * and the next event of whoever comes books its end.  So it is with what an allocator that we wrap ends by itself. */
#define POSTPONED_MAX 1024u
static struct bursar_record postponed[POSTPONED_MAX];
static char states[POSTPONED_MAX];
enum { EMPTY, AT_WORK, FULL };
bool bursar_anywhere_postponed;

static bool turns(unsigned at, char from, char to) {
  return __atomic_compare_exchange_n(&states[at], &from, to, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void postpone_at(unsigned at, struct bursar_record record) {
  postponed[at] = record;
  __atomic_store_n(&states[at], FULL, __ATOMIC_RELEASE);
  __atomic_store_n(&bursar_anywhere_postponed, true, __ATOMIC_RELEASE);
}

/* An empty place, which is the caller's then; POSTPONED_MAX: there is none. */
static unsigned place(void) {
  unsigned at = 0;
  while (at < POSTPONED_MAX && !turns(at, EMPTY, AT_WORK))
    at++;
  return at;
}

/* Without a lock: blocks at odd addresses stay, and so do those that there is no place for.  Their ends are found to be missing
 * when their addresses are handed out again. */
static bool take_out(void *p, struct bursar_record *out) {
  uint32_t generation = __atomic_load_n(&bursar_fold_generation, __ATOMIC_ACQUIRE);
  uint32_t folded = __atomic_load_n(&bursar_scopes_generation, __ATOMIC_ACQUIRE);
  bool found = ((uintptr_t)p & 15) == 0 && bursar_live_take(p, out);
  out->generation = generation;
  out->folded = folded;
  return found;
}

static void postpone(void *p) {
  struct bursar_record record;
  unsigned at = place();
  if (at == POSTPONED_MAX)
    return;
  if (take_out(p, &record))
    postpone_at(at, record);
  else
    __atomic_store_n(&states[at], EMPTY, __ATOMIC_RELEASE);
}

static void retire(void *p, struct bursar_record record, bool gil);

/* What is charged for a block that was out of the table for a while. */
static void where_now(struct bursar_record *record) {
  record->number = bursar_fold_where(record->number, record->generation);
  record->scope = bursar_scopes_where(record->scope, record->folded);
}

void bursar_anywhere_catch_up(void) {
  if (!__atomic_exchange_n(&bursar_anywhere_postponed, false, __ATOMIC_ACQUIRE))
    return;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  for (unsigned at = 0; at < POSTPONED_MAX; at++) {
    if (!turns(at, FULL, AT_WORK))
      continue;
    struct bursar_record record = postponed[at];
    __atomic_store_n(&states[at], EMPTY, __ATOMIC_RELEASE);
    bool gil = bursar_anywhere_hold_off();
    where_now(&record);
    if (record.number)
      retire(NULL, record, gil);
    bursar_anywhere_let_go(gil);
  }
  bursar_anywhere_inside = was;
}

/* --- booking ------------------------------------------------------------------------------------------------------------- */

void *bursar_anywhere_book(void *p, size_t size, unsigned domain) {
  if (!p || bursar_anywhere_inside || !bursar_account.active)
    return p;
  bursar_anywhere_inside = true;
  if (BURSAR_UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
  if (BURSAR_UNLIKELY(bursar_anywhere_postponed))
    bursar_anywhere_catch_up();
  uint32_t tag = !bursar_holds_main_gil()          ? 0
                 : domain >= BURSAR_DOMAINS_PYTHON ? bursar_frames_native_tag(domain)
                                                   : bursar_frames_tag(domain);
  if (tag && bursar_scope_moved())
    bursar_scope_follow();
  if (!tag)
    book_detached(p, size, domain);
  else if (!bursar_hot_alloc(p, size, tag, domain))
    bursar_account_alloc_gil(p, size, tag, domain);
  bursar_anywhere_inside = false;
  return p;
}

bool bursar_anywhere_hold_off(void) {
  bool gil = bursar_holds_main_gil();
  if (!gil)
    bursar_fold_hold_off();
  return gil;
}

void bursar_anywhere_let_go(bool gil) {
  if (!gil)
    bursar_fold_let_go();
}

static void retire(void *p, struct bursar_record record, bool gil) {
  unsigned domain = bursar_account_domain(record.number);
  if (gil)
    bursar_account_retire_gil(p, record, domain);
  else
    bursar_account_retire_free(p, record, domain);
}

void bursar_anywhere_end(void *p) {
  struct bursar_record record;
  if (!bursar_account.active)
    return;
  const uint32_t *cell = ((uintptr_t)p & 15) == 0 ? bursar_live_cell(p) : NULL;
  uint32_t number = cell ? __atomic_load_n(cell, __ATOMIC_RELAXED) >> BURSAR_CELL_SHIFT : 0;
  if (number && bursar_holds_main_gil() && !bursar_anywhere_inside && bursar_hot_free(p, bursar_account_domain(number)))
    return;
  if (BURSAR_UNLIKELY(bursar_anywhere_inside)) {
    postpone(p);
    return;
  }
  if (!bursar_live_holds(p))
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  if (bursar_live_take(p, &record))
    retire(p, record, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

bool bursar_anywhere_lift(void *p, struct bursar_record *out) {
  if (!bursar_account.active)
    return false;
  if (BURSAR_UNLIKELY(bursar_anywhere_inside))
    return take_out(p, out);
  if (!bursar_live_holds(p))
    return false;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off(), found = bursar_live_take(p, out);
  out->generation = bursar_fold_generation;
  out->folded = bursar_scopes_generation;
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
  return found;
}

static void settle(void *p, struct bursar_record lifted, void (*how)(void *, struct bursar_record, bool)) {
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  where_now(&lifted);
  if (lifted.number)
    how(p, lifted, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

static void put_back(void *p, struct bursar_record lifted, bool gil) { (void)bursar_live_put(p, lifted); }

void bursar_anywhere_drop(void *p, struct bursar_record lifted) {
  unsigned at = BURSAR_UNLIKELY(bursar_anywhere_inside) ? place() : POSTPONED_MAX;
  if (!bursar_anywhere_inside)
    settle(p, lifted, retire);
  else if (at < POSTPONED_MAX)
    postpone_at(at, lifted);
}

void bursar_anywhere_put_back(void *p, struct bursar_record lifted) {
  if (!bursar_anywhere_inside) {
    settle(p, lifted, put_back);
    return;
  }
  where_now(&lifted);
  if (lifted.number)
    put_back(p, lifted, false);
}
