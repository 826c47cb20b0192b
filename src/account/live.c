#include "account/live.h"

#include "prim/prim.h"

#define TOP_BYTES ((size_t)BURSAR_TOP_ENTRIES * sizeof(uint32_t *))
#define LEAF_BYTES (((size_t)BURSAR_LEAF_CELLS + BURSAR_LEAF_PAD) * sizeof(uint32_t))
#define ADDRESS_END ((uintptr_t)1 << 47)

uint32_t **bursar_live_top;

/* A leaf's pad, behind the cells that a last block may spill into: all leaves, so that they can be walked. */
struct leaf_link {
  uint32_t *next;
  uint64_t index;
};
#define LINK(leaf) ((struct leaf_link *)(void *)((leaf) + BURSAR_LEAF_CELLS + 8))
static uint32_t *leaves;
_Static_assert(8 * sizeof(uint32_t) + sizeof(struct leaf_link) <= BURSAR_LEAF_PAD * sizeof(uint32_t), "pad");

/* --- blocks that are not aligned: an open-addressing hash behind a leaf lock ------------------------------------- */

struct odd {
  uintptr_t address; /* 0 empty, 1 removed */
  uint64_t size;
  uint32_t number;
  uint32_t watched;
};
static struct odd *odds;
static size_t odd_slots, odd_used; /* used: with those that were removed */
static char odd_lock;

static void lock_odds(void) {
  while (__atomic_test_and_set(&odd_lock, __ATOMIC_ACQUIRE))
    ;
}
static void unlock_odds(void) { __atomic_clear(&odd_lock, __ATOMIC_RELEASE); }

static struct odd *odd_find(uintptr_t address) {
  if (!odd_slots)
    return NULL;
  size_t at = (size_t)((address >> 3) * 0x9E3779B97F4A7C15ull >> 20) & (odd_slots - 1);
  for (; odds[at].address; at = (at + 1) & (odd_slots - 1))
    if (odds[at].address == address)
      return &odds[at];
  return NULL;
}

static struct odd *odd_slot(struct odd *table, size_t slots, uintptr_t address) {
  size_t at = (size_t)((address >> 3) * 0x9E3779B97F4A7C15ull >> 20) & (slots - 1);
  while (table[at].address > 1)
    at = (at + 1) & (slots - 1);
  return &table[at];
}

static bool odd_grow(void) {
  size_t live = 0, slots = 4096;
  for (size_t i = 0; i < odd_slots; i++)
    live += odds[i].address > 1;
  while (slots < live * 4)
    slots *= 2;
  struct odd *table = bursar_prim_reserve(slots * sizeof *table, true);
  if (!table)
    return false;
  odd_used = 0;
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1) {
      *odd_slot(table, slots, odds[i].address) = odds[i];
      odd_used++;
    }
  if (odds)
    bursar_prim_release(odds, odd_slots * sizeof *odds);
  odds = table;
  odd_slots = slots;
  return true;
}

static bool odd_put(uintptr_t address, struct bursar_record record) {
  bool done = false;
  lock_odds();
  if (odd_used * 2 < odd_slots || odd_grow()) {
    struct odd *slot = odd_slot(odds, odd_slots, address);
    odd_used += slot->address == 0;
    *slot = (struct odd){address, record.size, record.number, record.watched};
    done = true;
  }
  unlock_odds();
  return done;
}

static bool odd_take(uintptr_t address, struct bursar_record *out) {
  lock_odds();
  struct odd *slot = odd_find(address);
  if (slot) {
    *out = (struct bursar_record){slot->size, slot->number, slot->watched != 0};
    slot->address = 1;
  }
  unlock_odds();
  return slot != NULL;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static bool aligned(const void *p) { return ((uintptr_t)p & 15) == 0 && (uintptr_t)p < ADDRESS_END; }

static uint64_t load64(const uint32_t *cell) {
  uint64_t value;
  memcpy(&value, cell, sizeof value);
  return value;
}

static uint32_t *new_leaf(uintptr_t address) {
  uint32_t *leaf = bursar_prim_reserve(LEAF_BYTES, true), *expected = NULL;
  if (!leaf)
    return NULL;
  uint32_t **slot = &bursar_live_top[address >> BURSAR_LEAF_SHIFT];
  LINK(leaf)->index = address >> BURSAR_LEAF_SHIFT;
  if (!__atomic_compare_exchange_n(slot, &expected, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    bursar_prim_release(leaf, LEAF_BYTES); /* another thread was first */
    return expected;
  }
  uint32_t *first = __atomic_load_n(&leaves, __ATOMIC_ACQUIRE);
  do
    LINK(leaf)->next = first;
  while (!__atomic_compare_exchange_n(&leaves, &first, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  return leaf;
}

static uint32_t *cell_made(const void *p) {
  uint32_t *cell = bursar_live_cell(p);
  if (cell)
    return cell;
  uint32_t *leaf = new_leaf((uintptr_t)p);
  return leaf ? leaf + (((uintptr_t)p >> 4) & (BURSAR_LEAF_CELLS - 1)) : NULL;
}

static struct bursar_record decode(const uint32_t *cell) {
  uint32_t low = __atomic_load_n(cell, __ATOMIC_RELAXED);
  struct bursar_record record = {.number = low >> BURSAR_CELL_SHIFT};
  if (!(low & BURSAR_CELL_BIG)) {
    record.size = low & BURSAR_CELL_LOW;
    return record;
  }
  record.watched = (low & BURSAR_CELL_WATCHED) != 0;
  if (record.number)
    record.size = low & BURSAR_CELL_HUGE ? load64(cell + 2) : cell[1];
  return record;
}

/* A size left behind would look like a block to whoever gets that granule next. */
static void erase(uint32_t *cell) {
  uint32_t low = __atomic_load_n(cell, __ATOMIC_RELAXED);
  if ((low & BURSAR_CELL_BIG) && low >> BURSAR_CELL_SHIFT) {
    cell[1] = 0;
    if (low & BURSAR_CELL_HUGE)
      cell[2] = cell[3] = 0;
  }
  __atomic_store_n(cell, 0, __ATOMIC_RELAXED);
}

int bursar_live_init(void) {
  if (!bursar_live_top)
    bursar_live_top = bursar_prim_reserve(TOP_BYTES, true);
  return bursar_live_top ? 0 : -1;
}

void bursar_live_drop(void) {
  /* A thread without the GIL may be looking something up: the leaves stay where they are, empty. */
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next)
    bursar_prim_discard(leaf, BURSAR_LEAF_CELLS * sizeof(uint32_t));
  lock_odds();
  if (odds)
    bursar_prim_discard(odds, odd_slots * sizeof *odds);
  odd_used = 0;
  unlock_odds();
}

void bursar_live_after_fork(void) { __atomic_clear(&odd_lock, __ATOMIC_RELEASE); }

bool bursar_live_put(const void *p, struct bursar_record record) {
  if (!aligned(p))
    return odd_put((uintptr_t)p, record);
  uint32_t *cell = cell_made(p);
  if (!cell)
    return false;
  uint32_t tag = record.number << BURSAR_CELL_SHIFT | (record.watched ? BURSAR_CELL_WATCHED : 0);
  if (record.size <= 16 && record.number) {
    *cell = record.number << BURSAR_CELL_SHIFT | (uint32_t)record.size;
  } else if (!record.number) {
    *cell = tag | BURSAR_CELL_BIG; /* not ours: the next cell is somebody's */
  } else if (record.size < UINT32_MAX) {
    cell[1] = (uint32_t)record.size;
    *cell = tag | BURSAR_CELL_BIG;
  } else {
    memcpy(cell + 2, &record.size, sizeof record.size);
    *cell = tag | BURSAR_CELL_BIG | BURSAR_CELL_HUGE;
  }
  return true;
}

bool bursar_live_take(const void *p, struct bursar_record *out) {
  if (!aligned(p))
    return odd_take((uintptr_t)p, out);
  uint32_t *cell = bursar_live_cell(p);
  if (!cell || !__atomic_load_n(cell, __ATOMIC_RELAXED))
    return false;
  *out = decode(cell);
  erase(cell);
  return true;
}

bool bursar_live_holds(const void *p) {
  if (!aligned(p)) {
    lock_odds();
    bool found = odd_find((uintptr_t)p) != NULL;
    unlock_odds();
    return found;
  }
  uint32_t *cell = bursar_live_cell(p);
  return cell && *cell;
}

const void *bursar_live_owner(const void *p) {
  if (!bursar_live_holds(p))
    return NULL;
  if (!aligned(p))
    return p;
  /* A size looks like a record: only from an empty cell on is it known which is which. */
  const uint32_t *cell = bursar_live_cell(p), *at = cell, *next;
  const uint32_t *leaf = cell - (((uintptr_t)p >> 4) & (BURSAR_LEAF_CELLS - 1));
  while (at > leaf && at[-1])
    at--;
  for (;; at = next) {
    bool sized = (*at & BURSAR_CELL_BIG) && *at >> BURSAR_CELL_SHIFT;
    next = at + (!sized ? 1 : *at & BURSAR_CELL_HUGE ? 4 : 2);
    if (next > cell)
      return (const char *)p - (cell - at) * 16;
  }
}

bool bursar_live_watch(const void *p) {
  if (!aligned(p))
    return false;
  uint32_t *cell = cell_made(p);
  if (!cell)
    return false;
  /* Another thread may be freeing the block just now: it must not come back by being marked. */
  uint32_t low = __atomic_load_n(cell, __ATOMIC_RELAXED);
  do
    if (low && !(low & BURSAR_CELL_BIG))
      return false;
  while (!__atomic_compare_exchange_n(cell, &low, low | BURSAR_CELL_BIG | BURSAR_CELL_WATCHED, true, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED));
  return true;
}

#define PAGE_CELLS (BURSAR_PRIM_PAGE / sizeof(uint32_t))
#define LEAF_PAGES (BURSAR_LEAF_CELLS / PAGE_CELLS)

/* The next cell from i on that may hold something.  Pages that were never touched are passed over unread. */
static uint32_t skip_empty(const uint32_t *leaf, const unsigned char *touched, uint32_t i) {
  while (i % 8 == 0 && i < BURSAR_LEAF_CELLS) {
    if (i % PAGE_CELLS == 0 && !(touched[i / PAGE_CELLS] & 1)) {
      i += PAGE_CELLS;
      continue;
    }
    if (load64(leaf + i) | load64(leaf + i + 2) | load64(leaf + i + 4) | load64(leaf + i + 6))
      break;
    i += 8;
  }
  return i;
}

static void renumber_leaf(uint32_t *leaf, const uint32_t *numbers, uint32_t count) {
  unsigned char touched[LEAF_PAGES];
  bursar_prim_resident(leaf, BURSAR_LEAF_CELLS * sizeof *leaf, touched);
  for (uint32_t i = 0; (i = skip_empty(leaf, touched, i)) < BURSAR_LEAF_CELLS; i++) {
    uint32_t low = __atomic_load_n(&leaf[i], __ATOMIC_RELAXED), number = low >> BURSAR_CELL_SHIFT;
    if (!low)
      continue;
    uint64_t size = number ? decode(leaf + i).size : 0;
    if (number < count && numbers[number])
      (void)__atomic_compare_exchange_n(&leaf[i], &low, (low & BURSAR_CELL_LOW) | numbers[number] << BURSAR_CELL_SHIFT,
                                        false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    i += size > 16 ? (uint32_t)((size + 15) / 16 - 1) : 0;
  }
}

void bursar_live_renumber(const uint32_t *numbers, uint32_t count) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next)
    renumber_leaf(leaf, numbers, count);
  lock_odds();
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1 && odds[i].number < count && numbers[odds[i].number])
      odds[i].number = numbers[odds[i].number];
  unlock_odds();
}

void bursar_live_each(void (*visit)(const void *p, struct bursar_record record, void *context), void *context) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next)
    for (uint32_t i = 0; i < BURSAR_LEAF_CELLS; i++) {
      if (!leaf[i])
        continue;
      struct bursar_record record = decode(leaf + i);
      uintptr_t address = (uintptr_t)(LINK(leaf)->index << BURSAR_LEAF_SHIFT) + ((uintptr_t)i << 4);
      if (record.number || record.size)
        visit((const void *)address, record, context);
      i += record.size > 16 ? (uint32_t)((record.size + 15) / 16 - 1) : 0;
    }
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1)
      visit((const void *)odds[i].address, (struct bursar_record){odds[i].size, odds[i].number, false}, context);
}
