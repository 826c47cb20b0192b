/* bins.h: malloc's free chunks (glibc's), from the lists that each arena keeps of them.
 *
 * A heap is full of chunks in use, and few are free: so it is told how much is free without a pass over all of it.  The lists
 * are read through peek.h, without malloc's locks; where they change meanwhile they are seen not to hold, and nothing is said.
 * Ownership: the caller's.  No heap, no lock.  Threads: any.  Safety class F. */
#ifndef BURSAR_MEMORY_BINS_H
#define BURSAR_MEMORY_BINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "prim/peek.h"

/* The address of the main arena, which lies in the C library's data, [from, to); 0: not found.  `buffer` has `room`. */
uint64_t bursar_bins_find(const struct bursar_peek *peek, uint64_t from, uint64_t to, char *buffer, size_t room);

/* A free chunk; `top`: it is the last one, which is in no list.  False: it cannot be. */
typedef bool bursar_bins_visit(uint64_t at, uint64_t size, bool top, void *context);
/* Visits an arena's free chunks, *most at most, and takes their number off it.  False: that is no arena, its lists do not hold,
 * or there are more; what was visited then says nothing. */
bool bursar_bins_each(const struct bursar_peek *peek, uint64_t arena, uint64_t *most, bursar_bins_visit *visit,
                      void *context);

#endif
