/* patch.h: the hooks of native.h and of descriptors.h in a process that was not started with them: written into the places where its modules keep
 * the addresses of what they call.
 *
 * A place is changed where it holds the original, or where a call from it would find the original and none has been made
 * yet.  Who calls functions by their names, as ctypes and cffi do, is given the hooks by dlsym; also in a process that was started
 * with them, where it looks into the C library itself.  What a program copied into a variable of its own before is not seen.  The
 * loader, the vdso and this module keep theirs.  Places stay changed: while nobody keeps books a hook is a call more.
 * Threads: any, one at a time.  Class N: it takes the loader's lock. */
#ifndef BURSAR_NATIVE_PATCH_H
#define BURSAR_NATIVE_PATCH_H

#include <stdbool.h>

#include "native/descriptors.h"

/* Changes all places of all modules that are loaded now; their number.  From then on `told` is called by whichever thread is about
 * to load another one.  `preloaded`: the process was started with the hooks. */
unsigned bursar_patch_all(void (*told)(void), bool preloaded);
/* The same for the hooks of descriptors, which it starts; where a preload has those of native.h, too.  Once is enough.  Negative: as
 * bursar_descriptors_start. */
int bursar_patch_descriptors(void (*told)(void), const struct bursar_descriptors_asker *asker);
/* Changes the places of modules that have come since, for whichever of both were asked for. */
void bursar_patch_again(void);
/* Has a module been loaded since, as far as is known?  Class H. */
bool bursar_patch_due(void);

#endif
