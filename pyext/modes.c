#include "modes.h"

#include <string.h>

#include "account/account.h"
#include "account/count.h"
#include "anywhere.h"
#include "before.h"
#include "hooks.h"
#include "refusing.h"
#include "wiping.h"

PyMemAllocatorEx bursar_modes_under[3];
size_t bursar_modes_plain;

static const PyMemAllocatorDomain python_domain[BURSAR_DOMAINS_PYTHON] = {[BURSAR_DOMAIN_OBJ] = PYMEM_DOMAIN_OBJ,
                                                                          [BURSAR_DOMAIN_MEM] = PYMEM_DOMAIN_MEM,
                                                                          [BURSAR_DOMAIN_RAW] = PYMEM_DOMAIN_RAW};
static unsigned installed[BURSAR_DOMAINS_PYTHON]; /* the mode whose hook is there, 0: none */
static bool scoped;
static bool marking; /* whose an arena's blocks are is noted: mode count */

static const struct bursar_modes_hooks *hooks_of(unsigned mode) {
  return mode == BURSAR_MODE_SAMPLE ? &bursar_sampling_hooks : &bursar_counting_hooks;
}

const char *bursar_modes_refuse(unsigned mode) {
  bool left = mode != BURSAR_MODE_EXACT && bursar_hooks_left();
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    left = left || (installed[domain] && installed[domain] != mode);
  if (left)
    return "another library has wrapped Python's allocators over bursar's hooks of another mode: use the mode of "
           "before";
  /* What is under hooks that are there still (a forked child's) was looked at when they came. */
  return mode == BURSAR_MODE_COUNT && !installed[BURSAR_DOMAIN_OBJ] ? bursar_counting_refuse() : NULL;
}

static bool on_top(unsigned domain) {
  const struct bursar_modes_hooks *hooks = hooks_of(installed[domain]);
  PyMemAllocatorEx now;
  bursar_refusing_get(python_domain[domain], &now);
  return installed[domain] &&
         (now.malloc == hooks->python[domain].malloc || now.malloc == hooks->scoped[domain].malloc);
}

/* Whoever reads a half-replaced allocator gets a context that fits. */
static void set(unsigned domain, unsigned mode) {
  PyMemAllocatorEx hook = scoped ? hooks_of(mode)->scoped[domain] : hooks_of(mode)->python[domain];
  hook.ctx = bursar_modes_under[domain].ctx;
  bursar_refusing_set(python_domain[domain], &hook);
  installed[domain] = mode;
}

const char *bursar_modes_install(unsigned mode, uint32_t domains) {
  const char *name = bursar_wiping_allocator_name(), *refused = NULL;
  bursar_hooks_guard_arenas(domains);
  if (!installed[BURSAR_DOMAIN_OBJ]) /* debug hooks add three words */
    bursar_modes_plain = name && strncmp(name, "pymalloc", 8) == 0 ? 512 - 4 * sizeof(size_t) : 0;
  marking = mode == BURSAR_MODE_COUNT && bursar_modes_plain;
  if (mode == BURSAR_MODE_COUNT) {
    bursar_anywhere_inside = true;
    refused = bursar_before_start(marking);
    bursar_anywhere_inside = false;
  }
  if (refused)
    return refused;
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++) {
    if (installed[domain] || !(domains >> domain & 1))
      continue;
    bursar_refusing_get(python_domain[domain], &bursar_modes_under[domain]);
    set(domain, mode);
  }
  return NULL;
}

void bursar_modes_remove(void) {
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    if (on_top(domain)) {
      bursar_refusing_set(python_domain[domain], &bursar_modes_under[domain]);
      installed[domain] = 0;
      marking = false;
    }
}

void bursar_modes_expect_scopes(void) {
  if (scoped)
    return;
  scoped = true;
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    if (on_top(domain))
      set(domain, installed[domain]);
}

/* Hooks of scopes look at what they got: it may be RAW's from now on. */
bool bursar_modes_arena(const void *p, size_t bytes) {
  bool usable = p && (!marking || bursar_count_mark_pools(p, bytes));
  if (!usable && marking)
    bursar_modes_expect_scopes();
  return usable;
}

PyMemAllocatorEx *bursar_modes_lowest(unsigned domain) {
  return installed[domain] ? &bursar_modes_under[domain] : bursar_hooks_lowest(domain);
}
