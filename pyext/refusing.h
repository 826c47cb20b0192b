/* refusing.h: hooks over those of the books, once a scope has a budget: they refuse what its entry may not hold.
 *
 * Blocks of Python's domains and of NumPy's above 512 bytes can be refused: CPython bears a NULL there.  Of smaller ones every
 * 32 KiB are looked at, and where an entry is far above its limit with what cannot be refused, MemoryError is raised between two
 * instructions.  malloc is refused to libraries alone that were seen to bear it.  Nothing is refused in a collection, an import, or while an exception is set.
 *
 * They keep the allocator's context and its free, so what they stand on may be changed function by function.
 * Threads: any; without the GIL only malloc's blocks are refused.  Class H, but for what installs. */
#ifndef BURSAR_PYEXT_REFUSING_H
#define BURSAR_PYEXT_REFUSING_H

#include "compat.h"
#include "numpy.h"

/* A scope with a budget was entered: the hooks are put in.  Main GIL, as the three that follow. */
void bursar_refusing_expect(void);
/* What is set for the process has changed: where it has a limit, the hooks are put in and what is resident is looked at. */
void bursar_refusing_follow_process(void);
/* From the start on; one below what is held already is not kept, which is said. */
void bursar_refusing_limit_process(int64_t bytes);
/* ... and taken out, with the books. */
void bursar_refusing_remove(void);
/* PyMem_GetAllocator and PyMem_SetAllocator for what these hooks may stand on. */
void bursar_refusing_get(PyMemAllocatorDomain domain, PyMemAllocatorEx *out);
void bursar_refusing_set(PyMemAllocatorDomain domain, const PyMemAllocatorEx *hook);
/* NumPy's hooks with these in front, if they are in. */
struct bursar_numpy_hooks bursar_refusing_numpy(struct bursar_numpy_hooks hooks);

/* While this is set in a thread it is refused nothing. */
extern __thread bool bursar_refusing_spares __attribute__((tls_model("initial-exec")));

/* See to it that somebody listens who calls on_soft: a thread of Python's.  0, or -1 with an exception. */
int bursar_refusing_listen(void);
/* Whether somebody does. */
void bursar_refusing_listens(bool listens);
/* Scopes whose soft limit was passed (strong references, under the main GIL), the oldest first: NULL where there is none. */
PyObject *bursar_refusing_told(void);
/* What is readable once there is one; -1: none could be had. */
int bursar_refusing_bell(void);

/* For tests: the block of this number, among those that an entry with a hard limit could be refused, is refused whatever it
 * holds; 0: none.  Returns what was left of the number before. */
uint64_t bursar_refusing_plant(uint64_t number);

#endif
