#include "before.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "memory/heap.h"
#include "memory/look.h"
#include "memory/pools.h"

#define POOL_BYTES ((uint64_t)BURSAR_POOLS_BYTES)

_Static_assert(BURSAR_POOLS_BYTES == 1u << BURSAR_COUNT_GRANULE, "a granule is a pool's size");
_Static_assert(BURSAR_HEAP_BUFFER >= BURSAR_POOLS_BYTES, "a pool fits the look's buffer");

struct bursar_marks bursar_before_marks;

static uint64_t pool_of(const void *p) { return (uint64_t)(uintptr_t)p & ~(POOL_BYTES - 1); }

static void mark_handed_out(uint64_t pool, const struct bursar_pools_header *header) {
  for (uint64_t at = pool + BURSAR_POOLS_HEADER; at < pool + header->next_offset; at += header->size)
    bursar_marks_put(&bursar_before_marks, (const void *)(uintptr_t)at);
}

/* `bytes`: a copy of the pool. */
static void unmark_free(uint64_t pool, const struct bursar_pools_header *header, const unsigned char *bytes) {
  uint64_t block = header->free_block;
  for (uint32_t most = BURSAR_POOLS_BYTES / header->size; most && block > pool && block - pool <= POOL_BYTES - 8;
       most--) {
    (void)bursar_marks_take(&bursar_before_marks, (const void *)(uintptr_t)block);
    memcpy(&block, bytes + (block - pool), sizeof block);
  }
}

static bool go_through_pool(const struct bursar_look *look, uint64_t pool) {
  unsigned char *bytes = (unsigned char *)look->buffer;
  struct bursar_pools_header header;
  unsigned owner = BURSAR_COUNT_OLD_UNUSED;
  if (bursar_peek_read(&look->peek, pool, bytes, POOL_BYTES) == (ssize_t)POOL_BYTES &&
      bursar_pools_is(pool, bytes, &header)) {
    owner = header.used ? BURSAR_COUNT_OLD : BURSAR_COUNT_POOL;
    if (header.used + header.size > POOL_BYTES - BURSAR_POOLS_HEADER) {
      owner = BURSAR_COUNT_OLD_FULL;
    } else if (header.used) {
      mark_handed_out(pool, &header);
      unmark_free(pool, &header, bytes);
    }
  }
  return bursar_count_mark((const void *)(uintptr_t)pool, owner);
}

static int go_through(struct bursar_look *look) {
  bursar_look_scan(look);
  look->peek.direct = false; /* an arena may end before the last of its pools would */
  if (look->cut)
    return -EOVERFLOW;
  for (size_t i = 0; i < look->pieces.count; i++) {
    const struct bursar_pieces_one *piece = &look->pieces.at[i];
    if (piece->kind != BURSAR_PIECES_ARENA)
      continue;
    for (uint64_t pool = (piece->from + POOL_BYTES - 1) & ~(POOL_BYTES - 1); pool < piece->to; pool += POOL_BYTES)
      if (!go_through_pool(look, pool))
        return -ENOMEM;
  }
  return bursar_before_marks.lost ? -ENOMEM : 0;
}

const char *bursar_before_start(bool pools) {
  struct bursar_look look;
  bursar_count_forget();
  bursar_marks_clear(&bursar_before_marks);
  if (!pools)
    return NULL;
  int status = bursar_look_begin(0, 0, BURSAR_LOOK_INSIDE | BURSAR_LOOK_QUICK, &look);
  if (status == 0) {
    status = look.inside ? go_through(&look) : -EPERM;
    bursar_look_end(&look);
  }
  return status == -ENOMEM      ? "no address space for mode count (ulimit -v): raise it"
         : status == -EOVERFLOW ? "this process has too much memory to find Python's arenas in it, as mode count must: "
                                  "use mode sample, or start earlier"
         : status < 0 ? "mode count must find Python's arenas in /proc/self, which cannot be read: use mode sample"
                      : NULL;
}

/* What was no pool when arenas were gone through is one now, or it is behind an arena's end, where anything may be, even
 * nothing. */
static bool became_pool(const void *p) {
  unsigned char bytes[BURSAR_POOLS_HEADER];
  struct bursar_pools_header header;
  struct bursar_peek peek;
  if (bursar_peek_open(0, &peek) != 0)
    return false;
  bool is = bursar_peek_read(&peek, pool_of(p), bytes, sizeof bytes) == (ssize_t)sizeof bytes &&
            bursar_pools_is(pool_of(p), bytes, &header) && bursar_count_mark(p, BURSAR_COUNT_POOL);
  bursar_peek_close(&peek);
  return is;
}

bool bursar_before_is_since(const void *p) {
  return bursar_before_is_surely_since(p) || (bursar_count_owner(p) == BURSAR_COUNT_OLD_UNUSED && became_pool(p));
}

void bursar_before_forget(const void *p) {
  unsigned owner = bursar_count_owner(p);
  const void *pool = (const void *)(uintptr_t)pool_of(p);
  struct bursar_pools_header header;
  if (owner == BURSAR_COUNT_OLD_FULL && bursar_pools_is(pool_of(p), pool, &header)) {
    mark_handed_out(pool_of(p), &header);
    (void)bursar_count_mark(p, owner = BURSAR_COUNT_OLD);
  }
  if (owner != BURSAR_COUNT_OLD)
    return;
  (void)bursar_marks_take(&bursar_before_marks, p);
  if (!bursar_marks_any(&bursar_before_marks, pool, POOL_BYTES))
    (void)bursar_count_mark(p, BURSAR_COUNT_POOL); /* all that was there before has gone */
}
