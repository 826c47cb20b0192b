/* pool.h: private memory that does not come from malloc, for what lives behind the hooks.
 *
 * Blocks are powers of two; freed ones are kept for reuse, never given back.  The caller remembers sizes.
 * Threads: one at a time (the main GIL's holder).  Errors: NULL where the system has no memory.  Class H, but that a
 * new chunk costs a system call. */
#ifndef BURSAR_BASE_POOL_H
#define BURSAR_BASE_POOL_H

#include <stddef.h>

/* Zeroed memory of at least `bytes`. */
void *bursar_pool_take(size_t bytes);
/* `bytes` as asked for.  NULL is allowed. */
void bursar_pool_give(void *at, size_t bytes);
/* Bytes taken from the system so far, for bursar's own line in reports. */
size_t bursar_pool_footprint(void);

#endif
