#include "policy/rest.h"

#include "prim/prim.h"

uint32_t bursar_rest_scopes;
static uint64_t began; /* the last rest */
static uint64_t count;

/* The time stands before the number falls: nobody takes an old rest for this one. */
void bursar_rest_left(void) {
  uint32_t open = bursar_rest_open();
  do {
    if (!open)
      return;
    if (open == 1) {
      __atomic_store_n(&began, bursar_prim_now_coarse(), __ATOMIC_RELAXED);
      (void)__atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    }
  } while (!__atomic_compare_exchange_n(&bursar_rest_scopes, &open, open - 1, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
}

uint64_t bursar_rest_since(void) {
  if (!bursar_rest_count() || bursar_rest_open())
    return 0;
  uint64_t from = __atomic_load_n(&began, __ATOMIC_RELAXED), now = bursar_prim_now_coarse();
  return bursar_rest_open() ? 0 : now > from ? now - from : 1;
}

uint64_t bursar_rest_count(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

void bursar_rest_after_fork(void) {
  __atomic_store_n(&began, bursar_prim_now_coarse(), __ATOMIC_RELAXED);
  __atomic_store_n(&bursar_rest_scopes, 0, __ATOMIC_SEQ_CST);
}
