/* patch.h: the hooks of native.h in a process that was not started with them: written into the places where its modules keep
 * the addresses of what they call.
 *
 * A place is changed where it holds the original, or where a call from it would find the original and none has been made
 * yet.  What a program copied into a variable of its own before is not seen.  The loader, the vdso and this module keep
 * theirs.  Places stay changed: while nobody keeps books a hook is a call more.
 * Threads: any, one at a time.  Class N: it takes the loader's lock. */
#ifndef BURSAR_NATIVE_PATCH_H
#define BURSAR_NATIVE_PATCH_H

#include <stdbool.h>

/* Changes all places of all modules that are loaded now; their number.  From then on `told` is called by whichever thread is about
 * to load another one. */
unsigned bursar_patch_all(void (*told)(void));
/* Has a module been loaded since, as far as is known?  Class H. */
bool bursar_patch_due(void);

#endif
