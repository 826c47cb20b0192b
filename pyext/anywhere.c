#include "anywhere.h"

#include "account/hot.h"
#include "compat.h"
#include "frames.h"
#include "native/patch.h"
#include "native_books.h"

__thread bool bursar_anywhere_inside __attribute__((tls_model("initial-exec")));

void *bursar_anywhere_book(void *p, size_t size, unsigned domain) {
  if (!p || bursar_anywhere_inside || !bursar_account.active)
    return p;
  bursar_anywhere_inside = true;
  if (BURSAR_UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
  uint32_t tag = !bursar_holds_main_gil()          ? 0
                 : domain >= BURSAR_DOMAINS_PYTHON ? bursar_frames_native_tag(domain)
                                                   : bursar_frames_tag(domain);
  if (!tag)
    bursar_account_alloc_free(p, size, domain);
  else if (!bursar_hot_alloc(p, size, tag, domain))
    bursar_account_alloc_gil(p, size, tag, domain);
  bursar_anywhere_inside = false;
  return p;
}

void bursar_anywhere_end(void *p) {
  struct bursar_record record;
  if (!bursar_account.active)
    return;
  const uint32_t *cell = ((uintptr_t)p & 15) == 0 ? bursar_live_cell(p) : NULL;
  uint32_t number = cell ? __atomic_load_n(cell, __ATOMIC_RELAXED) >> BURSAR_CELL_SHIFT : 0;
  if (number && bursar_holds_main_gil() && !bursar_anywhere_inside && bursar_hot_free(p, bursar_account_domain(number)))
    return;
  if (bursar_live_take(p, &record))
    bursar_anywhere_retire(p, record, bursar_account_domain(record.number));
}

void bursar_anywhere_retire(const void *p, struct bursar_record record, unsigned domain) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  if (bursar_holds_main_gil())
    bursar_account_retire_gil(p, record, domain);
  else
    bursar_account_retire_free(p, record, domain);
  bursar_anywhere_inside = was;
}
