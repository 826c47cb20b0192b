#include "account/maps.h"

#include <stddef.h>
#include <string.h>

#include "prim/prim.h"

#define FIRST_ROOM 1024u
#define MOST (1u << 22) /* the kernel's own limit is 65,530 unless somebody raised it */

/* In order of address; none overlaps another. */
static struct range {
  uintptr_t from, to;
  uint32_t number;
  bool ends;
  uint32_t scope;
} *ranges;
static uint32_t used, room;
static char lock;

static void take_lock(void) {
  while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE))
    ;
}
static void give_lock(void) { __atomic_clear(&lock, __ATOMIC_RELEASE); }

/* The first range that ends behind the address. */
static uint32_t find(uintptr_t at) {
  uint32_t low = 0, high = used;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (ranges[middle].to <= at)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static bool grow(void) {
  uint32_t bigger = room ? room * 2 : FIRST_ROOM;
  struct range *table = bigger > MOST ? NULL : bursar_prim_reserve(bigger * sizeof *table, true);
  if (!table)
    return false;
  if (room)
    memcpy(table, ranges, used * sizeof *table);
  bursar_prim_release(ranges, room * sizeof *table);
  ranges = table;
  room = bigger;
  return true;
}

static bool insert(uint32_t index, struct range range) {
  if (used == room && !grow())
    return false;
  memmove(ranges + index + 1, ranges + index, (used - index) * sizeof *ranges);
  ranges[index] = range;
  used++;
  return true;
}

static void erase(uint32_t index) {
  used--;
  memmove(ranges + index, ranges + index + 1, (used - index) * sizeof *ranges);
}

bool bursar_maps_put(uintptr_t at, struct bursar_piece piece) {
  take_lock();
  bool done = insert(find(at), (struct range){at, at + piece.bytes, piece.number, piece.ends, piece.scope});
  give_lock();
  return done;
}

bool bursar_maps_cut(uintptr_t at, uint64_t bytes, struct bursar_piece *out) {
  uintptr_t end = at + bytes < at ? UINTPTR_MAX : at + bytes;
  take_lock();
  uint32_t index = find(at);
  struct range *range = ranges + index;
  bool found = index < used && range->from < end;
  if (found) {
    uintptr_t from = range->from > at ? range->from : at, to = range->to < end ? range->to : end;
    struct range rest = {to, range->to, range->number, false, range->scope};
    *out = (struct bursar_piece){to - from, range->number, false, range->scope};
    if (from > range->from) {
      range->to = from;
      if (rest.from < rest.to && !insert(index + 1, rest)) /* no memory: the rest is taken for gone */
        out->bytes += rest.to - rest.from;
    } else if (to < range->to) {
      range->from = to;
    } else {
      out->ends = range->ends;
      erase(index);
    }
  }
  give_lock();
  return found;
}

void bursar_maps_renumber(const uint32_t *numbers, uint32_t count) {
  take_lock();
  for (uint32_t i = 0; i < used; i++)
    if (ranges[i].number < count && numbers[ranges[i].number])
      ranges[i].number = numbers[ranges[i].number];
  give_lock();
}

void bursar_maps_rescope(const uint16_t *scopes, uint32_t count) {
  take_lock();
  for (uint32_t i = 0; i < used; i++)
    if (ranges[i].scope < count && scopes[ranges[i].scope])
      ranges[i].scope = scopes[ranges[i].scope];
  give_lock();
}

void bursar_maps_drop(void) {
  take_lock();
  used = 0;
  give_lock();
}

void bursar_maps_after_fork(void) { give_lock(); }

void bursar_maps_each(void (*visit)(uintptr_t from, uintptr_t to, void *context), void *context) {
  take_lock();
  for (uint32_t i = 0; i < used; i++)
    visit(ranges[i].from, ranges[i].to, context);
  give_lock();
}
