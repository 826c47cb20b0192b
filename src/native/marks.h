/* marks.h: which blocks are to be zeroed before they are freed: those that were allocated in a wiping scope.
 *
 * A bit for each 16 bytes of addresses, so for each block; pages of bits that nothing was marked in have no memory.  There is one set
 * a process, that of whoever has the hooks of malloc (bursar_native_table).  Blocks at odd addresses are marked by the 16
 * bytes that they begin in.
 * Threads: any; a block's bit belongs to whoever holds the block.  errno kept.  Class H. */
#ifndef BURSAR_NATIVE_MARKS_H
#define BURSAR_NATIVE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BURSAR_MARKS_LEAF 32 /* log2 of the addresses that a leaf tells of */

struct bursar_marks {
  uint64_t *leaves[1u << (47 - BURSAR_MARKS_LEAF)];
  int64_t count; /* marked now */
  uint64_t lost; /* could not be marked: no address space */
};

void bursar_marks_put(struct bursar_marks *marks, const void *p);
/* Was it marked?  It is no more. */
bool bursar_marks_take(struct bursar_marks *marks, const void *p);
/* Is any in these KiB? */
bool bursar_marks_any(const struct bursar_marks *marks, const void *p, size_t bytes);
/* None is marked any more.  Nobody else may be at it. */
void bursar_marks_clear(struct bursar_marks *marks);

static inline __attribute__((always_inline)) bool bursar_marks_has(const struct bursar_marks *marks, const void *p) {
  const uint64_t *leaf = __atomic_load_n(&marks->leaves[(uintptr_t)p >> BURSAR_MARKS_LEAF & 0x7fff], __ATOMIC_ACQUIRE);
  uint32_t at = (uint32_t)(uintptr_t)p;
  return leaf && __atomic_load_n(&leaf[at >> 10], __ATOMIC_RELAXED) >> (at >> 4 & 63) & 1;
}

#endif
