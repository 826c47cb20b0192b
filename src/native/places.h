/* places.h: what the ledger calls the modules of native code, remembered.
 *
 * Threads: one at a time.  Class H, but that the first sight of a module costs system calls.  errno kept. */
#ifndef BURSAR_NATIVE_PLACES_H
#define BURSAR_NATIVE_PLACES_H

#include <stdint.h>

#include "prim/modules.h"

/* Where the module of an address begins; 0: it is none's. */
uintptr_t bursar_places_module(uintptr_t address);
/* The module's code: its build id and path. */
uint32_t bursar_places_code(const struct bursar_module_found *module);
/* Modules are gone, or codes are. */
void bursar_places_clear(void);

#endif
