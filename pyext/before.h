/* before.h: what Python's pools held before the books began, for mode count.
 *
 * A block of a pool is counted when it is asked for, so that nobody sees where it lies; where it ends, its granule
 * (account/count.h) says that it was a pool's.  Arenas made since are marked as they come.  Those that were there are gone
 * through once, and each block that was handed out then is marked: its end is not counted.  The blocks of a full pool are
 * marked when the first of them ends.
 * Errors: no memory for a mark makes a block from before one of since.  Under a GIL.  Class H, unless said otherwise. */
#ifndef BURSAR_PYEXT_BEFORE_H
#define BURSAR_PYEXT_BEFORE_H

#include <stdbool.h>

#include "account/count.h"
#include "native/marks.h"

extern struct bursar_marks bursar_before_marks; /* blocks from before in pools that were not full */

/* Forgets what was known, and goes through the arenas, if there are any (`pools`).  NULL, or why that cannot be done.  Before the
 * books open.  Main GIL.  Class N: takes milliseconds a gigabyte. */
const char *bursar_before_start(bool pools);
/* Of an address in an arena from before (BURSAR_COUNT_OLD and so on): is it a pool's block that began since? */
bool bursar_before_is_since(const void *p);
/* The same, quickly; false where it takes more. */
static inline bool bursar_before_is_surely_since(const void *p) {
  return bursar_count_owner(p) == BURSAR_COUNT_OLD && !bursar_marks_has(&bursar_before_marks, p);
}
/* The block is none from before any more: it ends, or was resized. */
void bursar_before_forget(const void *p);

#endif
