/* Charges: whose each block is, beside a plain list of blocks: pools of each size class, malloc's, and arenas that come and
 * go. */
#include "account/charges.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>

#include "account/fold.h"
#include "account_model.h"

#define ENTRIES 50u
#define POOLS 40u
#define PLACES 6000u
#define POOL_BYTES 16384u

static struct account_model books;
static uint32_t slots[ENTRIES];
static int64_t held[ENTRIES], allocated[ENTRIES];

/* Nobody touches the blocks: the first pools lie across the end of a leaf, malloc's blocks elsewhere. */
struct place {
  char *p;
  size_t usable;
  int entry; /* -1: nobody's */
  bool pool;
};
static struct place places[PLACES];
static unsigned place_count;

static void find_places(void) {
  static const size_t classes[] = {16, 32, 48, 112, 512};
  char *arena = (char *)0x300000000000 - 7 * (size_t)POOL_BYTES;
  place_count = 0;
  for (unsigned pool = 0; pool < POOLS; pool++) {
    size_t size = classes[pool % 5];
    for (size_t at = 48; at + size <= POOL_BYTES && place_count < PLACES - 200; at += size * (size < 100 ? 7 : 3)) {
      places[place_count++] = (struct place){arena + (size_t)pool * POOL_BYTES + at, size, -1, true};
      if (size == 16) /* both halves of 32 bytes */
        places[place_count++] = (struct place){arena + (size_t)pool * POOL_BYTES + at + 16, size, -1, true};
    }
  }
  for (unsigned i = 0; i < 200; i++)
    places[place_count++] = (struct place){(char *)0x500000000010 + i * 32ull, i % 2 ? 24 : 5000, -1, false};
}

static bool as_held(void) {
  for (unsigned i = 0; i < ENTRIES; i++) {
    struct bursar_scope_facts facts = bursar_scopes_read(slots[i]);
    if (facts.live_bytes != held[i] || facts.allocated_bytes != (uint64_t)allocated[i] ||
        (int64_t)facts.peak_bytes < held[i])
      return false;
  }
  return true;
}

/* Without the GIL where it may be: blocks of pools never are. */
static void begin(struct place *place, unsigned entry, bool gil) {
  bursar_charges_begin(place->p, place->usable, place->pool, slots[entry], gil || place->pool);
  place->entry = (int)entry;
  held[entry] += (int64_t)place->usable;
  allocated[entry] += (int64_t)place->usable;
}

static void end(struct place *place, bool gil) {
  uint32_t slot = bursar_charges_take(place->p, place->usable, place->pool);
  bursar_charges_end(slot, place->usable, gil || place->pool);
  if (place->entry >= 0)
    held[place->entry] -= (int64_t)place->usable;
  if (slot != (place->entry < 0 ? 0 : slots[place->entry]))
    OK(false, "a block at %p was charged to %u", (void *)place->p, slot);
  place->entry = -1;
}

static void enter_all(void) {
  account_model_open_counting(&books);
  uint32_t name = bursar_scopes_name("it", 2);
  for (unsigned i = 0; i < ENTRIES; i++)
    slots[i] = bursar_scopes_enter(name, 0);
  OK(slots[ENTRIES - 1] != 0, "entries have slots");
  memset(held, 0, sizeof held);
  memset(allocated, 0, sizeof allocated);
  find_places();
}

static void leave_all(void) {
  account_model_stop(&books, BURSAR_STATE_ENDED);
  account_model_remove(&books);
}

static void test_any_order(unsigned seed) {
  enter_all();
  srand(seed);
  for (unsigned step = 0; step < 40000; step++) {
    struct place *place = &places[(unsigned)rand() % place_count];
    bool gil = rand() % 3 != 0;
    if (place->entry >= 0 || rand() % 8 == 0)
      end(place, gil); /* also what is nobody's */
    else
      begin(place, (unsigned)rand() % ENTRIES, gil);
  }
  OK(as_held(), "each entry holds its blocks");
  /* Two become one. */
  uint16_t into[ENTRIES + 1] = {0};
  into[slots[1]] = (uint16_t)slots[2];
  bursar_charges_rescope(into, ENTRIES + 1);
  bursar_scopes_charge_gil(slots[2], held[1], 0);
  bursar_scopes_charge_gil(slots[1], -held[1], 0);
  held[2] += held[1];
  held[1] = 0;
  for (unsigned i = 0; i < place_count; i++)
    if (places[i].entry == 1)
      places[i].entry = 2;
  for (unsigned i = 0; i < place_count; i++)
    end(&places[i], true);
  OK(as_held(), "and nothing once all have ended");
  for (unsigned i = 0; i < place_count; i++)
    if (bursar_charges_charged(places[i].p))
      OK(false, "a cell at %p is left", (void *)places[i].p);
  leave_all();
}

/* What is malloc's where an arena is made has ended unseen: it may not be taken for a block of the arena's. */
static void test_arenas(void) {
  enter_all();
  char *arena = (char *)0x300000000000 - 1024 * 1024 + 4096;
  bursar_charges_begin(arena - 32, 24, false, slots[0], true);
  bursar_charges_begin(arena + 64, 24, false, slots[0], true);
  bursar_charges_begin(arena + 1024 * 1024 - 32, 24, false, slots[0], true);
  bursar_charges_begin(arena + 1024 * 1024, 24, false, slots[0], true);
  bursar_charges_discard(arena, 1024 * 1024);
  OK(!bursar_charges_charged(arena + 64) && !bursar_charges_charged(arena + 1024 * 1024 - 32), "nothing is in it");
  OK(bursar_charges_charged(arena - 32) && bursar_charges_charged(arena + 1024 * 1024),
     "what is beside it is still there");
  leave_all();
}

static void test_what_has_no_cell(void) {
  enter_all();
  bursar_charges_begin((char *)0x500000000008, 5000, false, slots[0], true);
  bursar_charges_begin((char *)0x500000000010, 16, false, slots[0], true);
  bursar_charges_begin((char *)0x800000000000, 5000, false, slots[0], true);
  EQ(bursar_scopes_read(slots[0]).allocated_bytes, 0);
  bursar_charges_begin((char *)0x500000000010, 5000, false, slots[0], true);
  EQ(bursar_charges_take((char *)0x500000000018, 5000, false), 0);
  /* Its end was not seen: that is noticed where the address is met again. */
  bursar_charges_begin((char *)0x500000000010, 5000, false, slots[1], true);
  EQ(bursar_scopes_read(slots[0]).live_bytes, 0);
  EQ(bursar_scopes_read(slots[1]).live_bytes, 5000);
  leave_all();
  enter_all();
  EQ(bursar_charges_take((char *)0x500000000010, 5000, false), 0); /* new books know nothing of before */
  leave_all();
}

int main(void) {
  test_any_order(1);
  test_any_order(2);
  test_arenas();
  test_what_has_no_cell();
  return tap_done();
}
