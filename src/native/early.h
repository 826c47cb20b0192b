/* early.h: blocks for those who ask before the originals are known: the search for them allocates too.
 *
 * A fixed piece of memory, handed out from its beginning on and never taken back; NULL with ENOMEM when it is used up.
 * Threads: the process has one, this early; a second one would not break it.  Class H. */
#ifndef BURSAR_NATIVE_EARLY_H
#define BURSAR_NATIVE_EARLY_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed; `alignment` is a power of two. */
void *bursar_early_take(size_t bytes, size_t alignment);
bool bursar_early_owns(const void *p);
/* Of a block that it owns. */
size_t bursar_early_size(const void *p);

#endif
