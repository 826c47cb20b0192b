/* wiping.h: what is freed is zeroed first: Python's pools by native/wiping.h, the rest by native/native.h.
 *
 * Either all that is freed, for ever; or what was allocated in a wiping scope, or is freed there.  Then what others do costs a
 * look at where they are, while such a scope is open, and a look at one bit while one of its blocks is left.
 * Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_WIPING_H
#define BURSAR_PYEXT_WIPING_H

#include "compat.h"

/* From here on in all of the process, for ever; what the preload does already is left to it.  NULL, or why not all of it can be. */
const char *bursar_wiping_start(void);
/* A wiping scope begins: NULL, or why it cannot; and ends: NULL, or why some of its blocks may not be wiped. */
const char *bursar_wiping_scope_begins(void);
const char *bursar_wiping_scope_ends(void);
/* The thread has entered or left a scope: is it in one that wipes? */
void bursar_wiping_follow(void);
/* Is a block of NumPy's to be zeroed, which goes to its cache?  Class H. */
bool bursar_wiping_wants(const void *p);

/* As _PyMem_GetCurrentAllocatorName, which does not know what stands below our hooks. */
const char *bursar_wiping_allocator_name(void);

#endif
