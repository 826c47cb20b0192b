#include "account/live.h"

#include "prim/prim.h"

#define TOP_BYTES ((size_t)BURSAR_TOP_ENTRIES * sizeof(uint32_t *))
#define LARGE_SHIFT 9
#define LARGE_RECORDS \
  ((1u << (BURSAR_LEAF_SHIFT - LARGE_SHIFT)) + 1) /* the last is for blocks that begin behind the one before */
#define CELL_BYTES ((size_t)BURSAR_LEAF_CELLS * sizeof(uint32_t))
#define LARGE_AT (CELL_BYTES + BURSAR_LEAF_PAD * sizeof(uint32_t))
#define LARGE_BYTES ((size_t)LARGE_RECORDS * sizeof(struct large))
#define LEAF_BYTES (LARGE_AT + LARGE_BYTES)
#define ADDRESS_END ((uintptr_t)1 << 47)
_Static_assert(LARGE_AT % BURSAR_PRIM_PAGE == 0, "cells and records are given back by the page");
_Static_assert(BURSAR_SMALL_MAX + 1 > (1u << LARGE_SHIFT) - 16, "a large block covers a multiple");

uint32_t **bursar_live_top;

/* A leaf: the cells, a pad, the records of large blocks. */
struct large {
  uint32_t tag;  /* as a cell's; 0: none */
  uint32_t back; /* granules from the block's beginning to the address that names the record; its scope << 16 */
  uint64_t size;
};

/* The pad, behind the cells that a last block may spill into: all leaves, so that they can be walked. */
struct leaf_link {
  uint32_t *next;
  uint64_t index;
  uint32_t *
      tiny; /* for each cell, what a block of up to 16 bytes has no room for there: scope << 16 | size; NULL: none yet */
};
#define LINK(leaf) ((struct leaf_link *)(void *)((leaf) + BURSAR_LEAF_CELLS + 8))
static uint32_t *leaves;
_Static_assert(8 * sizeof(uint32_t) + sizeof(struct leaf_link) <= BURSAR_LEAF_PAD * sizeof(uint32_t), "pad");

/* --- blocks that are not aligned: an open-addressing hash behind a leaf lock ------------------------------------- */

struct odd {
  uintptr_t address; /* 0 empty, 1 removed */
  uint64_t size;
  uint32_t number;
  uint16_t watched;
  uint16_t scope;
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
    *slot = (struct odd){address, record.size, record.number, record.watched, (uint16_t)record.scope};
    done = true;
  }
  unlock_odds();
  return done;
}

static struct bursar_record decode_odd(const struct odd *slot) {
  return (struct bursar_record){
      .size = slot->size, .number = slot->number, .watched = slot->watched != 0, .scope = slot->scope};
}

static bool odd_take(uintptr_t address, struct bursar_record *out) {
  lock_odds();
  struct odd *slot = odd_find(address);
  if (slot) {
    *out = decode_odd(slot);
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

/* To ThreadSanitizer, which does not see it given back, the memory of a leaf that came second is that of the next one there. */
__attribute__((no_sanitize_thread)) static uint32_t *new_leaf(uintptr_t address) {
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

static uint32_t *leaf_made(const void *p) {
  uint32_t *leaf = bursar_live_leaf((uintptr_t)p);
  return leaf ? leaf : new_leaf((uintptr_t)p);
}

static uint32_t *tiny_of(const uint32_t *leaf) { return __atomic_load_n(&LINK(leaf)->tiny, __ATOMIC_ACQUIRE); }

/* Only where scopes hold such blocks is there an address space for it. */
static uint32_t *tiny_made(uint32_t *leaf) {
  uint32_t *tiny = tiny_of(leaf), *none = NULL;
  if (tiny || !(tiny = bursar_prim_reserve(CELL_BYTES, true)))
    return tiny;
  if (__atomic_compare_exchange_n(&LINK(leaf)->tiny, &none, tiny, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return tiny;
  bursar_prim_release(tiny, CELL_BYTES); /* another thread was first */
  return none;
}

static uint32_t cell_index(const void *p) { return ((uintptr_t)p >> 4) & (BURSAR_LEAF_CELLS - 1); }

static uint32_t *cell_in(uint32_t *leaf, const void *p) { return leaf + cell_index(p); }

static struct large *larges(uint32_t *leaf) { return (struct large *)(void *)((char *)leaf + LARGE_AT); }

/* The record that a large block at p would have. */
static struct large *large_in(uint32_t *leaf, const void *p) {
  uintptr_t within = (uintptr_t)p & (((uintptr_t)1 << BURSAR_LEAF_SHIFT) - 1);
  return larges(leaf) + ((within + (1u << LARGE_SHIFT) - 1) >> LARGE_SHIFT);
}

#define BACK_BITS 0xffffu
static uint32_t back_of(const void *p) { return (uint32_t)(-(uintptr_t)p & ((1u << LARGE_SHIFT) - 1)) >> 4; }

/* The record of the large block at p; NULL where there is none. */
static struct large *large_find(const void *p) {
  uint32_t *leaf = bursar_live_leaf((uintptr_t)p);
  struct large *large = leaf ? large_in(leaf, p) : NULL;
  if (!large || !__atomic_load_n(&large->tag, __ATOMIC_ACQUIRE))
    return NULL;
  /* Whoever asks may not hold the block: it may be gone, and its record another's. */
  return (__atomic_load_n(&large->back, __ATOMIC_RELAXED) & BACK_BITS) == back_of(p) ? large : NULL;
}

#define SIZE_MARK 62u
#define SIZE_BITS 1023u
#define SCOPE_SHIFT 16

static struct bursar_record decode(const uint32_t *leaf, uint32_t at) {
  const uint32_t *cell = leaf + at;
  uint32_t low = __atomic_load_n(cell, __ATOMIC_RELAXED);
  struct bursar_record record = {.number = low >> BURSAR_CELL_SHIFT};
  if ((low & BURSAR_CELL_LOW) == BURSAR_CELL_TINY) {
    uint32_t rest = tiny_of(leaf)[at];
    record.size = rest & SIZE_BITS;
    record.scope = rest >> SCOPE_SHIFT;
    return record;
  }
  if (!(low & BURSAR_CELL_BIG)) {
    record.size = low & BURSAR_CELL_LOW;
    return record;
  }
  record.watched = (low & BURSAR_CELL_WATCHED) != 0;
  if ((low & BURSAR_CELL_LOW) == SIZE_MARK)
    record.number = 0; /* a size, left behind by a block whose end was not seen */
  else if (low & BURSAR_CELL_SCOPED) {
    record.size = cell[1] >> BURSAR_CELL_SHIFT & SIZE_BITS;
    record.scope = cell[1] >> SCOPE_SHIFT;
  } else if (record.number) /* else a size as well */
    record.size = cell[1];
  return record;
}

static struct bursar_record decode_large(const struct large *large) {
  uint32_t tag = __atomic_load_n(&large->tag, __ATOMIC_ACQUIRE);
  return (struct bursar_record){.size = large->size,
                                .number = tag >> BURSAR_CELL_SHIFT,
                                .watched = (tag & BURSAR_CELL_WATCHED) != 0,
                                .scope = __atomic_load_n(&large->back, __ATOMIC_RELAXED) >> SCOPE_SHIFT};
}

/* A size left behind would look like a block to whoever gets that granule next. */
static void erase(uint32_t *cell) {
  uint32_t low = __atomic_load_n(cell, __ATOMIC_RELAXED);
  if ((low & BURSAR_CELL_BIG) && low >> BURSAR_CELL_SHIFT)
    cell[1] = 0;
  __atomic_store_n(cell, 0, __ATOMIC_RELAXED);
}

int bursar_live_init(void) {
  if (!bursar_live_top)
    bursar_live_top = bursar_prim_reserve(TOP_BYTES, true);
  return bursar_live_top ? 0 : -1;
}

void bursar_live_drop(void) {
  /* A thread without the GIL may be looking something up: the leaves stay where they are, empty. */
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next) {
    bursar_prim_discard(leaf, CELL_BYTES);
    bursar_prim_discard(larges(leaf), LARGE_BYTES);
    if (tiny_of(leaf))
      bursar_prim_discard(tiny_of(leaf), CELL_BYTES);
  }
  lock_odds();
  if (odds)
    bursar_prim_discard(odds, odd_slots * sizeof *odds);
  odd_used = 0;
  unlock_odds();
}

void bursar_live_after_fork(void) { __atomic_clear(&odd_lock, __ATOMIC_RELEASE); }

static void put_small(uint32_t *cell, struct bursar_record record) {
  if (record.size <= 16) {
    *cell = record.number << BURSAR_CELL_SHIFT | (uint32_t)record.size;
    return;
  }
  cell[1] = record.scope ? record.scope << SCOPE_SHIFT | (uint32_t)record.size << BURSAR_CELL_SHIFT | SIZE_MARK
                         : (uint32_t)record.size;
  *cell = record.number << BURSAR_CELL_SHIFT | BURSAR_CELL_BIG | (record.watched ? BURSAR_CELL_WATCHED : 0) |
          (record.scope ? BURSAR_CELL_SCOPED : 0);
}

bool bursar_live_put(const void *p, struct bursar_record record) {
  if (!aligned(p))
    return odd_put((uintptr_t)p, record);
  uint32_t *leaf = leaf_made(p);
  if (!leaf)
    return false;
  if (record.size <= 16 && record.scope) {
    uint32_t *tiny = tiny_made(leaf);
    if (!tiny)
      return false;
    tiny[cell_index(p)] = record.scope << SCOPE_SHIFT | (uint32_t)record.size;
    *cell_in(leaf, p) = record.number << BURSAR_CELL_SHIFT | BURSAR_CELL_TINY;
    return true;
  }
  if (record.size <= BURSAR_SMALL_MAX) {
    put_small(cell_in(leaf, p), record);
    return true;
  }
  struct large *large = large_in(leaf, p);
  uint32_t watched = record.watched ? BURSAR_CELL_WATCHED : 0;
  large->size = record.size;
  __atomic_store_n(&large->back, back_of(p) | record.scope << SCOPE_SHIFT, __ATOMIC_RELAXED);
  __atomic_store_n(&large->tag, record.number << BURSAR_CELL_SHIFT | BURSAR_CELL_BIG | watched, __ATOMIC_RELEASE);
  return true;
}

bool bursar_live_take(const void *p, struct bursar_record *out) {
  if (!aligned(p))
    return odd_take((uintptr_t)p, out);
  uint32_t *leaf = bursar_live_leaf((uintptr_t)p);
  if (!leaf)
    return false;
  if (__atomic_load_n(cell_in(leaf, p), __ATOMIC_RELAXED)) {
    *out = decode(leaf, cell_index(p));
    erase(cell_in(leaf, p));
    return true;
  }
  struct large *large = large_find(p);
  if (!large)
    return false;
  *out = decode_large(large);
  __atomic_store_n(&large->tag, 0, __ATOMIC_RELAXED);
  return true;
}

static bool holds_small(const void *p) {
  uint32_t *cell = bursar_live_cell(p);
  return cell && __atomic_load_n(cell, __ATOMIC_RELAXED); /* another thread may be freeing it just now */
}

bool bursar_live_holds(const void *p) {
  if (!aligned(p)) {
    lock_odds();
    bool found = odd_find((uintptr_t)p) != NULL;
    unlock_odds();
    return found;
  }
  return holds_small(p) || large_find(p);
}

/* The block whose cells the address falls into: one that began there or just before. */
static const void *owner(const void *p) {
  if (!holds_small(p))
    return NULL;
  /* A size looks like a record: only from an empty cell on is it known which is which. */
  const uint32_t *cell = bursar_live_cell(p), *at = cell, *next;
  const uint32_t *leaf = cell - (((uintptr_t)p >> 4) & (BURSAR_LEAF_CELLS - 1));
  while (at > leaf && at[-1])
    at--;
  for (;; at = next) {
    bool sized = (*at & BURSAR_CELL_BIG) && *at >> BURSAR_CELL_SHIFT;
    next = at + (sized ? 2 : 1);
    if (next > cell)
      return (const char *)p - (cell - at) * 16;
  }
}

const void *bursar_live_in_the_way(const void *p, uint64_t size) {
  if (!aligned(p))
    return bursar_live_holds(p) ? p : NULL;
  const void *block = owner(p);
  if (block || size <= 16)
    return block;
  return size <= BURSAR_SMALL_MAX ? owner((const void *)((uintptr_t)p + 16)) : bursar_live_large_in_the_way(p);
}

const void *bursar_live_large_in_the_way(const void *p) {
  if (!aligned(p))
    return NULL;
  uint32_t *leaf = bursar_live_leaf((uintptr_t)p);
  const struct large *large = leaf ? large_in(leaf, p) : NULL;
  if (!large || !__atomic_load_n(&large->tag, __ATOMIC_ACQUIRE))
    return NULL;
  return (const void *)((uintptr_t)p + back_of(p) * 16u - (large->back & BACK_BITS) * 16u);
}

/* Another thread may be freeing the block just now: it must not come back by being marked. */
static bool mark(uint32_t *at) {
  uint32_t low = __atomic_load_n(at, __ATOMIC_RELAXED);
  do
    if (!(low & BURSAR_CELL_BIG))
      return false;
  while (!__atomic_compare_exchange_n(at, &low, low | BURSAR_CELL_BIG | BURSAR_CELL_WATCHED, true, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED));
  return true;
}

bool bursar_live_watch(const void *p) {
  if (!aligned(p))
    return false;
  uint32_t *cell = holds_small(p) ? bursar_live_cell(p) : NULL;
  struct large *large = cell ? NULL : large_find(p);
  return cell ? mark(cell) : large && mark(&large->tag);
}

#define PAGE_CELLS (BURSAR_PRIM_PAGE / sizeof(uint32_t))
#define LEAF_PAGES (BURSAR_LEAF_CELLS / PAGE_CELLS)
#define PAGE_LARGES (BURSAR_PRIM_PAGE / sizeof(struct large))

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

static void renumber(uint32_t *at, const uint32_t *numbers, uint32_t count) {
  uint32_t low = __atomic_load_n(at, __ATOMIC_RELAXED), number = low >> BURSAR_CELL_SHIFT;
  if (number < count && numbers[number])
    (void)__atomic_compare_exchange_n(at, &low, (low & BURSAR_CELL_LOW) | numbers[number] << BURSAR_CELL_SHIFT, false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void renumber_leaf(uint32_t *leaf, const uint32_t *numbers, uint32_t count) {
  unsigned char touched[LEAF_PAGES];
  bursar_prim_resident(leaf, CELL_BYTES, touched);
  for (uint32_t i = 0; (i = skip_empty(leaf, touched, i)) < BURSAR_LEAF_CELLS; i++) {
    if (!__atomic_load_n(&leaf[i], __ATOMIC_RELAXED))
      continue;
    uint64_t size = decode(leaf, i).size;
    renumber(&leaf[i], numbers, count);
    i += size > 16 ? (uint32_t)((size + 15) / 16 - 1) : 0;
  }
}

static void renumber_larges(struct large *all, const uint32_t *numbers, uint32_t count) {
  unsigned char touched[LARGE_BYTES / BURSAR_PRIM_PAGE + 1];
  bursar_prim_resident(all, LARGE_BYTES, touched);
  for (uint32_t i = 0; i < LARGE_RECORDS; i++)
    if (touched[i / PAGE_LARGES] & 1)
      renumber(&all[i].tag, numbers, count);
    else
      i += PAGE_LARGES - 1;
}

void bursar_live_renumber(const uint32_t *numbers, uint32_t count) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next) {
    renumber_leaf(leaf, numbers, count);
    renumber_larges(larges(leaf), numbers, count);
  }
  lock_odds();
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1 && odds[i].number < count && numbers[odds[i].number])
      odds[i].number = numbers[odds[i].number];
  unlock_odds();
}

static void rescope_leaf(uint32_t *leaf, const uint16_t *scopes, uint32_t count) {
  unsigned char touched[LEAF_PAGES];
  bursar_prim_resident(leaf, CELL_BYTES, touched);
  for (uint32_t i = 0; (i = skip_empty(leaf, touched, i)) < BURSAR_LEAF_CELLS; i++) {
    if (!leaf[i])
      continue;
    struct bursar_record record = decode(leaf, i);
    if (record.scope && record.scope < count && scopes[record.scope]) {
      uint32_t *at = record.size > 16 ? &leaf[i + 1] : &tiny_of(leaf)[i];
      *at = (*at & ((1u << SCOPE_SHIFT) - 1)) | (uint32_t)scopes[record.scope] << SCOPE_SHIFT;
    }
    i += record.size > 16 ? (uint32_t)((record.size + 15) / 16 - 1) : 0;
  }
}

void bursar_live_rescope(const uint16_t *scopes, uint32_t count) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next) {
    rescope_leaf(leaf, scopes, count);
    for (uint32_t i = 0; i < LARGE_RECORDS; i++) {
      struct large *large = &larges(leaf)[i];
      uint32_t scope = large->tag ? large->back >> SCOPE_SHIFT : 0;
      if (scope && scope < count && scopes[scope])
        large->back = (large->back & BACK_BITS) | (uint32_t)scopes[scope] << SCOPE_SHIFT;
    }
  }
  lock_odds();
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1 && odds[i].scope < count && scopes[odds[i].scope])
      odds[i].scope = scopes[odds[i].scope];
  unlock_odds();
}

void bursar_live_each(void (*visit)(const void *p, struct bursar_record record, void *context), void *context) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next) {
    uintptr_t first = (uintptr_t)LINK(leaf)->index << BURSAR_LEAF_SHIFT;
    for (uint32_t i = 0; i < BURSAR_LEAF_CELLS; i++) {
      if (!leaf[i])
        continue;
      struct bursar_record record = decode(leaf, i);
      visit((const void *)(first + ((uintptr_t)i << 4)), record, context);
      i += record.size > 16 ? (uint32_t)((record.size + 15) / 16 - 1) : 0;
    }
    for (uint32_t i = 0; i < LARGE_RECORDS; i++)
      if (larges(leaf)[i].tag)
        visit(
            (const void *)(first + ((uintptr_t)i << LARGE_SHIFT) - (uintptr_t)(larges(leaf)[i].back & BACK_BITS) * 16),
            decode_large(&larges(leaf)[i]), context);
  }
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1)
      visit((const void *)odds[i].address, decode_odd(&odds[i]), context);
}

static void each_large(uint32_t *leaf, uint64_t above, void (*visit)(const void *, struct bursar_record, void *),
                       void *context) {
  unsigned char touched[LARGE_BYTES / BURSAR_PRIM_PAGE + 1];
  struct large *all = larges(leaf);
  uintptr_t first = (uintptr_t)LINK(leaf)->index << BURSAR_LEAF_SHIFT;
  bursar_prim_resident(all, LARGE_BYTES, touched);
  for (uint32_t i = 0; i < LARGE_RECORDS; i++) {
    if (!(touched[i / PAGE_LARGES] & 1))
      i += PAGE_LARGES - 1;
    else if (__atomic_load_n(&all[i].tag, __ATOMIC_ACQUIRE) && all[i].size > above)
      visit((const void *)(first + ((uintptr_t)i << LARGE_SHIFT) - (uintptr_t)(all[i].back & BACK_BITS) * 16),
            decode_large(&all[i]), context);
  }
}

void bursar_live_large_each(uint64_t above, void (*visit)(const void *p, struct bursar_record record, void *context),
                            void *context) {
  for (uint32_t *leaf = leaves; leaf; leaf = LINK(leaf)->next)
    each_large(leaf, above, visit, context);
  lock_odds();
  for (size_t i = 0; i < odd_slots; i++)
    if (odds[i].address > 1 && odds[i].size > above)
      visit((const void *)odds[i].address, decode_odd(&odds[i]), context);
  unlock_odds();
}
