#include "native/places.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "account/lock.h"
#include "account/stacks.h"

/* Direct-mapped by where they begin. */
#define MODULES 512u
static struct module {
  uintptr_t from; /* 0: empty */
  uint32_t code;
} modules[MODULES];

uintptr_t bursar_places_module(uintptr_t address) {
  struct bursar_module_found found;
  return bursar_modules_find(address, &found) ? found.from : 0;
}

/* The loader has an empty name for the program itself, and may have one that begins where the program was at that time. */
static uint32_t path_of(const struct bursar_module_found *module) {
  static char path[4096 + 256];
  size_t length = strlen(module->name), before = 0;
  if (!length)
    return bursar_modules_program(path, sizeof path) ? bursar_stacks_string(path, strlen(path)) : 0;
  int kept = errno;
  if (module->name[0] != '/' && strchr(module->name, '/') && getcwd(path, 4096)) {
    before = strlen(path);
    path[before++] = '/';
  }
  errno = kept;
  if (length > sizeof path - before)
    length = sizeof path - before;
  memcpy(path + before, module->name, length);
  return bursar_stacks_string(path, before + length);
}

uint32_t bursar_places_code(const struct bursar_module_found *module) {
  struct module *known = &modules[(module->from >> 12) * 0x9E3779B1u % MODULES];
  if (known->from != module->from) {
    char id[129];
    unsigned digits = bursar_modules_build_id(module, id, sizeof id);
    bursar_lock_take();
    uint32_t build_id = digits ? bursar_stacks_string(id, digits) : 0;
    *known = (struct module){module->from, bursar_stacks_module(build_id, path_of(module))};
    bursar_lock_give();
  }
  return known->code;
}

void bursar_places_clear(void) { memset(modules, 0, sizeof modules); }
