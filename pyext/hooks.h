/* hooks.h: PEP 445: bursar around the allocators of Python's three domains, or some of them, whatever they are.
 *
 * Installed at the start of books and taken out at their end where nobody has wrapped them since; else they stay and pass
 * everything through.  A wrapped allocator may call another domain (pymalloc's large blocks are RAW's): only the outermost
 * call is booked.  Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_HOOKS_H
#define BURSAR_PYEXT_HOOKS_H

#include "compat.h"

/* Those of the mask, a bit for each enum bursar_domain. */
void bursar_hooks_install(uint32_t domains);
void bursar_hooks_remove(void);
/* From here on allocations ask which scope they are in (scope.h). */
void bursar_hooks_expect_scopes(void);
/* What stands below ours now; NULL: they are not set. */
PyMemAllocatorEx *bursar_hooks_lowest(unsigned domain);
/* Could some of them not be taken out? */
bool bursar_hooks_left(void);
/* Keeps pymalloc's arenas out of the mappings, where blocks of these domains are counted; tells count.h of their end. */
void bursar_hooks_guard_arenas(uint32_t domains);

#endif
