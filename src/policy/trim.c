#include "policy/trim.h"

#include <dlfcn.h>
#include <stddef.h>

#include "memory/look.h"
#include "prim/prim.h"

#define PER_MIB_AT_FIRST 150000u /* ns: twice what half a gigabyte took (78,000); learned from there on */
#define LEARN_FROM (8u << 20)    /* a small one says little of a large one */

static uint64_t per_mib = PER_MIB_AT_FIRST;

typedef int trimmer(size_t pad);

/* Not every C library has it. */
static trimmer *find(void) {
  trimmer *found;
  *(void **)(void *)&found = dlsym(RTLD_DEFAULT, "malloc_trim");
  return found;
}

uint64_t bursar_trim_returnable(void) {
  struct bursar_look look;
  if (!find() || bursar_look_begin(0, 0, BURSAR_LOOK_INSIDE, &look) != 0)
    return BURSAR_TRIM_UNKNOWN;
  uint64_t bytes = 0;
  for (size_t i = 0; i < look.heap_count; i++)
    bytes += look.heaps[i].returnable;
  bool known = look.inside && look.heaps_walked;
  bursar_look_end(&look);
  return known ? bytes : BURSAR_TRIM_UNKNOWN;
}

uint64_t bursar_trim_cost(uint64_t bytes) {
  return (bytes >> 20) * __atomic_load_n(&per_mib, __ATOMIC_RELAXED) + PER_MIB_AT_FIRST;
}

uint64_t bursar_trim_run(uint64_t bytes) {
  trimmer *trim = find();
  uint64_t from = bursar_prim_now();
  if (trim)
    (void)trim(0);
  uint64_t took = bursar_prim_now() - from;
  if (trim && bytes != BURSAR_TRIM_UNKNOWN && bytes >= LEARN_FROM) {
    uint64_t now = took / (bytes >> 20), before = __atomic_load_n(&per_mib, __ATOMIC_RELAXED);
    /* At once where it is more, slowly where it is less: a promise too short holds somebody up. */
    __atomic_store_n(&per_mib, now > before ? now : (7 * before + now) / 8, __ATOMIC_RELAXED);
  }
  return took;
}
