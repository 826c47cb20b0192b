#include "native/marks.h"

#include "prim/prim.h"

#define LEAF_BYTES ((size_t)1 << (BURSAR_MARKS_LEAF - 7)) /* a bit for each 16 bytes */

static uint64_t *leaf_for(struct bursar_marks *marks, uintptr_t at) {
  uint64_t **place = &marks->leaves[at >> BURSAR_MARKS_LEAF], *leaf = __atomic_load_n(place, __ATOMIC_ACQUIRE),
           *none = NULL;
  if (leaf)
    return leaf;
  leaf = bursar_prim_reserve(LEAF_BYTES, true);
  if (leaf && !__atomic_compare_exchange_n(place, &none, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    bursar_prim_release(leaf, LEAF_BYTES); /* another thread came first */
    leaf = none;
  }
  return leaf;
}

void bursar_marks_put(struct bursar_marks *marks, const void *p) {
  uintptr_t at = (uintptr_t)p;
  uint64_t *leaf = at >> 47 ? NULL : leaf_for(marks, at), bit = 1ull << (at >> 4 & 63);
  if (!leaf)
    __atomic_fetch_add(&marks->lost, 1, __ATOMIC_RELAXED);
  else if (!(__atomic_fetch_or(&leaf[(uint32_t)at >> 10], bit, __ATOMIC_RELAXED) & bit))
    __atomic_fetch_add(&marks->count, 1, __ATOMIC_RELAXED);
}

bool bursar_marks_take(struct bursar_marks *marks, const void *p) {
  if (!bursar_marks_has(marks, p))
    return false;
  uint64_t *leaf = marks->leaves[(uintptr_t)p >> BURSAR_MARKS_LEAF & 0x7fff], bit = 1ull << ((uintptr_t)p >> 4 & 63);
  __atomic_fetch_and(&leaf[(uint32_t)(uintptr_t)p >> 10], ~bit, __ATOMIC_RELAXED);
  __atomic_fetch_sub(&marks->count, 1, __ATOMIC_RELAXED);
  return true;
}

bool bursar_marks_any(const struct bursar_marks *marks, const void *p, size_t bytes) {
  const uint64_t *leaf = __atomic_load_n(&marks->leaves[(uintptr_t)p >> BURSAR_MARKS_LEAF & 0x7fff], __ATOMIC_ACQUIRE);
  uint64_t any = 0;
  for (size_t i = 0; leaf && i < bytes >> 10; i++)
    any |= __atomic_load_n(&leaf[((uint32_t)(uintptr_t)p >> 10) + i], __ATOMIC_RELAXED);
  return any != 0;
}

void bursar_marks_clear(struct bursar_marks *marks) {
  for (size_t i = 0; i < sizeof marks->leaves / sizeof *marks->leaves; i++)
    if (marks->leaves[i])
      bursar_prim_discard(marks->leaves[i], LEAF_BYTES);
  marks->count = 0;
  marks->lost = 0;
}
