#include "native/paths.h"

#include <stddef.h>
#include <string.h>

#include "account/lock.h"
#include "base/pool.h"

#define ROOM_FIRST 1024u
#define ROOM_MAX (1u << 20)

static uint32_t home(const struct bursar_paths *paths, uint32_t parent, uint64_t key) {
  uint64_t hash = (key ^ (uint64_t)parent << 40 ^ parent) * 0x9E3779B97F4A7C15ull;
  return (uint32_t)((hash ^ hash >> 29) * 0xD6E8FEB86659FD93ull >> 32) & (2 * paths->room - 1);
}

static void take(struct bursar_paths *paths, uint32_t number) {
  uint32_t at = home(paths, paths->items[number].parent, paths->items[number].key);
  while (paths->slots[at])
    at = (at + 1) & (2 * paths->room - 1);
  paths->slots[at] = number;
}

static bool grow_locked(struct bursar_paths *paths) {
  struct bursar_paths old = *paths;
  uint32_t bigger = old.room ? old.room * 2 : ROOM_FIRST;
  if (bigger > ROOM_MAX)
    return false;
  struct bursar_path *items = bursar_pool_take(bigger * sizeof *items);
  uint32_t *slots = bursar_pool_take(2 * bigger * sizeof *slots);
  if (!items || !slots) {
    bursar_pool_give(items, bigger * sizeof *items);
    bursar_pool_give(slots, 2 * bigger * sizeof *slots);
    return false;
  }
  if (old.room)
    memcpy(items, old.items, old.count * sizeof *items);
  *paths = (struct bursar_paths){items, slots, old.room ? old.count : BURSAR_PATHS_FIRST, bigger};
  for (uint32_t i = BURSAR_PATHS_FIRST; i < paths->count; i++)
    take(paths, i);
  bursar_pool_give(old.items, old.room * sizeof *items);
  bursar_pool_give(old.slots, 2 * old.room * sizeof *slots);
  return true;
}

/* Threads without the GIL take from the pool too. */
static __attribute__((noinline)) bool grow(struct bursar_paths *paths) {
  bursar_lock_take();
  bool grown = grow_locked(paths);
  bursar_lock_give();
  return grown;
}

uint32_t bursar_paths_of(struct bursar_paths *paths, uint32_t parent, uint64_t key, bool *fresh) {
  *fresh = false;
  if (paths->room)
    for (uint32_t at = home(paths, parent, key), number; (number = paths->slots[at]) != 0;
         at = (at + 1) & (2 * paths->room - 1))
      if (paths->items[number].key == key && paths->items[number].parent == parent)
        return number;
  if (paths->count == paths->room && !grow(paths))
    return 0;
  uint32_t number = paths->count++;
  paths->items[number] = (struct bursar_path){.key = key, .parent = parent};
  take(paths, number);
  *fresh = true;
  return number;
}

void bursar_paths_clear(struct bursar_paths *paths) {
  bursar_lock_take();
  bursar_pool_give(paths->items, paths->room * sizeof *paths->items);
  bursar_pool_give(paths->slots, 2 * paths->room * sizeof *paths->slots);
  bursar_lock_give();
  memset(paths, 0, sizeof *paths);
}
