/* numpy.h: NumPy's data: a hook in its default allocator (NEP 49).
 *
 * A handler that is set by NEP 49's call holds for one context alone, and threads begin with a fresh one.  So the functions
 * of the default handler are replaced where they stand: arrays that were made before keep their handler, as the NEP wants,
 * and it still frees what it gave.  A handler that the program itself sets is its own.
 * Main GIL.  Class N, but for bursar_numpy_met. */
#ifndef BURSAR_PYEXT_NUMPY_H
#define BURSAR_PYEXT_NUMPY_H

#include "compat.h"

/* NEP 49's functions. */
struct bursar_numpy_hooks {
  void *(*malloc)(void *ctx, size_t size);
  void *(*calloc)(void *ctx, size_t count, size_t size);
  void *(*realloc)(void *ctx, void *p, size_t size);
  void (*free)(void *ctx, void *p, size_t size);
};
extern struct bursar_numpy_hooks bursar_numpy_under; /* NumPy's own */

/* Hooks NumPy, if it is loaded, else as soon as it is: with these functions, NULL: with mode exact's. */
void bursar_numpy_open(const struct bursar_numpy_hooks *hooks);
void bursar_numpy_close(void);
/* From here on refusing.h's hooks stand in front. */
void bursar_numpy_refuse(void);
/* From here on small blocks that wiping.h wants are zeroed before they go to NumPy's cache; larger ones are malloc's. */
void bursar_numpy_wipe(void);
/* A code object was met for the first time: is NumPy on its way?  Class H. */
void bursar_numpy_met(const PyCodeObject *code);
/* The same question from modes that meet few codes, or none: asked now and then.  Main GIL, class H. */
void bursar_numpy_ask(void);

#endif
