#include "memory/bins.h"

#include <string.h>

#define FLAGS 7u
#define BINS 127u
#define EMPTY_LEAST 8u /* lists of an arena that are empty: no program's chunks fill all sizes up to the largest */

/* glibc's malloc_state since 2.27, as far as it is read. */
struct arena {
  uint32_t mutex, flags, have_fast, unused;
  uint64_t fast[10];
  uint64_t top, last_remainder;
  struct {
    uint64_t next, previous;
  } bin[BINS];
};

/* A free chunk. */
struct chunk {
  uint64_t size_before, size, next, previous;
};

/* A list's head is addressed as a chunk would be whose links those are. */
static uint64_t head_of(uint64_t arena, unsigned i) {
  return arena + offsetof(struct arena, bin) + i * 16 - offsetof(struct chunk, next);
}

static uint64_t word(const char *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static bool is_arena(const char *bytes, uint64_t at) {
  uint64_t top = word(bytes + offsetof(struct arena, top));
  unsigned empty = 0;
  if (!top || top % 16)
    return false;
  for (unsigned i = 0; i < BINS; i++) {
    const char *links = bytes + offsetof(struct arena, bin) + i * 16;
    uint64_t head = head_of(at, i), next = word(links), previous = word(links + 8);
    if ((next == head) != (previous == head) || !next || !previous || next % 16 || previous % 16)
      return false;
    empty += next == head;
  }
  return empty >= EMPTY_LEAST;
}

uint64_t bursar_bins_find(const struct bursar_peek *peek, uint64_t from, uint64_t to, char *buffer, size_t room) {
  size_t bytes = to - from < room ? (size_t)(to - from) : room;
  ssize_t got = bursar_peek_read(peek, from, buffer, bytes);
  for (size_t at = 0; got >= (ssize_t)sizeof(struct arena) && at <= (size_t)got - sizeof(struct arena); at += 16)
    if (is_arena(buffer + at, from + at))
      return from + at;
  return 0;
}

/* One list, whose head says where it begins. */
static bool each_of(const struct bursar_peek *peek, uint64_t head, uint64_t first, uint64_t *most,
                    bursar_bins_visit *visit, void *context) {
  uint64_t before = head;
  for (uint64_t at = first; at != head;) {
    struct chunk chunk;
    if (!*most || at % 16 || bursar_peek_read(peek, at, &chunk, sizeof chunk) != (ssize_t)sizeof chunk)
      return false;
    uint64_t size = chunk.size & ~(uint64_t)FLAGS;
    if (chunk.previous != before || size < sizeof chunk || size % 16 || !visit(at, size, false, context))
      return false;
    --*most;
    before = at;
    at = chunk.next;
  }
  return true;
}

bool bursar_bins_each(const struct bursar_peek *peek, uint64_t at, uint64_t *most, bursar_bins_visit *visit,
                      void *context) {
  /* What follows goes where data point to: the kernel answers where that is nowhere. */
  struct bursar_peek kernel = *peek;
  struct arena arena;
  uint64_t top[2];
  kernel.direct = false;
  if (bursar_peek_read(&kernel, at, &arena, sizeof arena) != (ssize_t)sizeof arena ||
      !is_arena((const char *)&arena, at) ||
      bursar_peek_read(&kernel, arena.top, top, sizeof top) != (ssize_t)sizeof top ||
      !visit(arena.top, top[1] & ~(uint64_t)FLAGS, true, context))
    return false;
  for (unsigned i = 0; i < BINS; i++)
    if (!each_of(&kernel, head_of(at, i), arena.bin[i].next, most, visit, context))
      return false;
  return true;
}
