#include "memory/bins.h"

#include <string.h>

#define FLAGS 7u
#define BINS 127u
#define EMPTY_LEAST 8u /* lists of an arena that are empty: no program's chunks fill all sizes up to the largest */

/* Of glibc's malloc_state, as far as it is read: before it are a lock and flags, and until 2.42 the lists of the smallest. */
struct lists {
  uint64_t top, last_remainder;
  struct {
    uint64_t next, previous;
  } bin[BINS];
};
static const uint64_t lists_at[] = {96, 8}; /* in an arena: since 2.27, since 2.43 */
#define LAYOUTS (sizeof lists_at / sizeof *lists_at)

/* A free chunk. */
struct chunk {
  uint64_t size_before, size, next, previous;
};

/* A list's head is addressed as a chunk would be whose links those are. */
static uint64_t head_of(uint64_t lists, unsigned i) {
  return lists + offsetof(struct lists, bin) + i * 16 - offsetof(struct chunk, next);
}

static bool are_lists(const struct lists *lists, uint64_t at) {
  unsigned empty = 0;
  if (!lists->top || lists->top % 16)
    return false;
  for (unsigned i = 0; i < BINS; i++) {
    uint64_t head = head_of(at, i), next = lists->bin[i].next, previous = lists->bin[i].previous;
    if ((next == head) != (previous == head) || !next || !previous || (next != head && (next % 16 || previous % 16)))
      return false;
    empty += next == head;
  }
  return empty >= EMPTY_LEAST;
}

uint64_t bursar_bins_find(const struct bursar_peek *peek, uint64_t from, uint64_t to, char *buffer, size_t room) {
  size_t bytes = to - from < room ? (size_t)(to - from) : room;
  ssize_t got = bursar_peek_read(peek, from, buffer, bytes);
  for (size_t at = 0; (ssize_t)at < got; at += 16)
    for (unsigned i = 0; i < LAYOUTS; i++) {
      struct lists lists;
      if (at + lists_at[i] + sizeof lists > (size_t)got)
        continue;
      memcpy(&lists, buffer + at + lists_at[i], sizeof lists);
      if (are_lists(&lists, from + at + lists_at[i]))
        return from + at;
    }
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

/* Where an arena has them; 0: nowhere. */
static uint64_t read_lists(const struct bursar_peek *peek, uint64_t arena, struct lists *out) {
  for (unsigned i = 0; i < LAYOUTS; i++)
    if (bursar_peek_read(peek, arena + lists_at[i], out, sizeof *out) == (ssize_t)sizeof *out &&
        are_lists(out, arena + lists_at[i]))
      return arena + lists_at[i];
  return 0;
}

bool bursar_bins_each(const struct bursar_peek *peek, uint64_t arena, uint64_t *most, bursar_bins_visit *visit,
                      void *context) {
  /* What follows goes where data point to: the kernel answers where that is nowhere. */
  struct bursar_peek kernel = *peek;
  struct lists lists;
  uint64_t top[2];
  kernel.direct = false;
  uint64_t at = read_lists(&kernel, arena, &lists);
  if (!at || bursar_peek_read(&kernel, lists.top, top, sizeof top) != (ssize_t)sizeof top ||
      !visit(lists.top, top[1] & ~(uint64_t)FLAGS, true, context))
    return false;
  for (unsigned i = 0; i < BINS; i++)
    if (!each_of(&kernel, head_of(at, i), lists.bin[i].next, most, visit, context))
      return false;
  return true;
}
