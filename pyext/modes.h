/* modes.h: hooks of the modes sample and count, in place of hooks.h's, which are mode exact's alone.
 *
 * Each mode has functions of its own for all that can be hooked, so that none pays for another, nor asks which it is.
 * Installed at the start of books and taken out at their end where nobody has wrapped them since; else they stay, and then no
 * books of another mode can be opened.  Main GIL.  Class N. */
#ifndef BURSAR_PYEXT_MODES_H
#define BURSAR_PYEXT_MODES_H

#include "compat.h"
#include "native/native.h"
#include "numpy.h"

/* What a mode hooks with, by PEP 445's domain (a NULL context is filled in), of NumPy, and of src/native, where a NULL function
 * leaves mode exact's. */
struct bursar_modes_hooks {
  PyMemAllocatorEx python[3];
  PyMemAllocatorEx scoped[3]; /* once a scope was entered */
  struct bursar_numpy_hooks numpy;
  struct bursar_native_books native;
};

extern const struct bursar_modes_hooks bursar_sampling_hooks, bursar_counting_hooks;

/* What a hook stands on: the allocators that were there. */
extern PyMemAllocatorEx bursar_modes_under[3];
/* Sizes below this never reach another domain inside the allocator that was there. */
extern size_t bursar_modes_plain;

/* Why books of this mode (enum bursar_mode) cannot be opened, or NULL. */
const char *bursar_modes_refuse(unsigned mode);
/* NULL, or why not: the books are to be closed then. */
const char *bursar_modes_install(unsigned mode, uint32_t domains) __attribute__((warn_unused_result));
void bursar_modes_remove(void);
/* What stands below the hooks of any mode; NULL: none are set. */
PyMemAllocatorEx *bursar_modes_lowest(unsigned domain);
/* From here on hooks charge scopes (charging.h). */
void bursar_modes_expect_scopes(void);
/* pymalloc gets an arena, or NULL.  False: there is none that can be used. */
bool bursar_modes_arena(const void *p, size_t bytes);

/* Blocks that others than malloc cut (bursar.h): nobody knows their usable bytes.  Any thread, class H. */
void bursar_sampling_begun(void *p, size_t size);
void bursar_sampling_ending(void *p);
/* The block is no sample any more, though it does not end.  Any thread, class H. */
void bursar_sampling_forget(void *p);

/* Why the usable bytes of blocks cannot be known here, or NULL.  Before hooks are installed. */
const char *bursar_counting_refuse(void);

#endif
