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

void *bursar_anywhere_book(void *p, size_t size, unsigned domain) {
  if (!p || bursar_anywhere_inside || !bursar_account.active)
    return p;
  bursar_anywhere_inside = true;
  if (BURSAR_UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
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
  if (!bursar_live_holds(p))
    return;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  if (bursar_live_take(p, &record))
    retire(p, record, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = was;
}

bool bursar_anywhere_lift(void *p, struct bursar_record *out) {
  if (!bursar_account.active || !bursar_live_holds(p))
    return false;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off(), found = bursar_live_take(p, out);
  out->generation = bursar_fold_generation;
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = was;
  return found;
}

static void settle(void *p, struct bursar_record lifted, void (*how)(void *, struct bursar_record, bool)) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  lifted.number = bursar_fold_where(lifted.number, lifted.generation);
  if (lifted.number)
    how(p, lifted, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = was;
}

static void put_back(void *p, struct bursar_record lifted, bool gil) { (void)bursar_live_put(p, lifted); }

void bursar_anywhere_drop(void *p, struct bursar_record lifted) { settle(p, lifted, retire); }
void bursar_anywhere_put_back(void *p, struct bursar_record lifted) { settle(p, lifted, put_back); }
