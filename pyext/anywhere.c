#include "anywhere.h"

#include "compat.h"
#include "frames.h"

__thread bool bursar_anywhere_inside __attribute__((tls_model("initial-exec")));

void *bursar_anywhere_book(void *p, size_t size, unsigned domain) {
  if (!p || bursar_anywhere_inside || !bursar_account.active)
    return p;
  bursar_anywhere_inside = true;
  uint32_t tag = bursar_holds_main_gil() ? bursar_frames_tag(domain) : 0;
  if (tag)
    bursar_account_alloc_gil(p, size, tag, domain);
  else
    bursar_account_alloc_free(p, size, domain);
  bursar_anywhere_inside = false;
  return p;
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
