/* Scopes: each block is charged to its entry and to those around it, and discharged there, whoever frees it and when. */
#include "account/scopes.h"
#include "tap.h"

#include <stdlib.h>

#include "account/fold.h"
#include "account_model.h"

#define BLOCKS 3000
#define ENTRIES 200
#define NAMES 6

static struct account_model model;
static uint32_t names[NAMES];

struct entry {
  uint32_t slot;
  int around; /* index of the entry around it, -1: none */
  int64_t live;
  uint64_t peak, allocated, allocations;
  unsigned name;
  bool open;
};
static struct entry entries[ENTRIES];
static unsigned entry_count;

struct block {
  char *p;
  uint64_t size;
  unsigned domain;
  int entry;
};
static struct block blocks[BLOCKS];

static const struct bursar_scope *slots(void) {
  return (const struct bursar_scope *)(const void *)bursar_account.writer.base[BURSAR_REGION_SCOPES];
}
static const struct bursar_scope_name *names_now(void) {
  return (const struct bursar_scope_name *)(const void *)bursar_account.writer.base[BURSAR_REGION_SCOPE_NAMES];
}

/* The account never touches the blocks that it books. */
static char *place(size_t i) { return (char *)0x100000000000 + i * (128 * 1024); }

static void begin(uint64_t cap) {
  char text[] = "scope 0";
  memset(blocks, 0, sizeof blocks);
  entry_count = 0;
  account_model_open(&model, cap, 0);
  for (unsigned i = 0; i < NAMES; i++) {
    text[6] = (char)('0' + i);
    names[i] = bursar_scopes_name(text, 7);
  }
}

static void finish(void) {
  bursar_account_scope_gil(0, 0);
  bursar_account_stop(BURSAR_STATE_ENDED);
  account_model_remove(&model);
}

/* --- a model --------------------------------------------------------------------------------------------------------------- */

static int any_open(uint64_t *random) {
  int at = (int)model_below(random, entry_count + 1) - 1;
  while (at >= 0 && !entries[at].open)
    at--;
  return at;
}

static void charge(int at, int64_t bytes, bool begins) {
  for (; at >= 0; at = entries[at].around) {
    struct entry *e = &entries[at];
    e->live += bytes;
    e->allocated += begins ? (uint64_t)bytes : 0;
    e->allocations += begins;
    e->peak = e->live > (int64_t)e->peak ? (uint64_t)e->live : e->peak;
  }
}

static void take(uint64_t *random, struct block *block) {
  uint64_t size = model_below(random, 3) ? model_below(random, 600) : model_below(random, 40);
  size = model_below(random, 50) ? size : model_below(random, 100000);
  int at = any_open(random);
  uint32_t slot = at < 0 ? 0 : entries[at].slot;
  unsigned domain = (unsigned)model_below(random, BURSAR_DOMAIN_COUNT);
  *block = (struct block){place((size_t)(block - blocks)), size, domain, at};
  if (!model_below(random, 8))
    block->p += 8;
  if (model_below(random, 4)) {
    bursar_account_scope_gil(slot, 0);
    model_book(block->p, size, model_site_tag((unsigned)model_below(random, 50), domain), domain);
  } else {
    bursar_fold_hold_off();
    bursar_account_alloc_free(block->p, size, domain + 1, domain, bursar_scopes_slot(bursar_scopes_handle(slot)));
    bursar_fold_let_go();
  }
  charge(at, (int64_t)size, true);
}

static void give(uint64_t *random, struct block *block) {
  bursar_account_scope_gil(0, 0);
  if (model_below(random, 4)) {
    model_unbook(block->p, block->domain);
  } else {
    struct bursar_record record = {.size = 0};
    bursar_fold_hold_off();
    if (bursar_live_take(block->p, &record))
      bursar_account_retire_free(block->p, record, block->domain);
    bursar_fold_let_go();
  }
  charge(block->entry, -(int64_t)block->size, false);
  block->p = NULL;
}

static unsigned differs(const struct entry *e, const char *when) {
  struct bursar_scope_facts facts = bursar_scopes_read(e->slot);
  if (facts.live_bytes == e->live && facts.peak_bytes == e->peak && facts.allocated_bytes == e->allocated &&
      facts.allocations == e->allocations)
    return 0;
  printf("# %s: live %lld, peak %llu, allocated %llu; should be %lld, %llu, %llu\n", when, (long long)facts.live_bytes,
         (unsigned long long)facts.peak_bytes, (unsigned long long)facts.allocated_bytes, (long long)e->live,
         (unsigned long long)e->peak, (unsigned long long)e->allocated);
  return 1;
}

static unsigned end(struct entry *e) {
  struct bursar_scope_facts facts = bursar_scopes_end(e->slot);
  e->open = false;
  return facts.live_bytes != e->live || facts.peak_bytes != e->peak || facts.allocated_bytes != e->allocated;
}

/* A name's sums: what has given up its slot, and what has one; an entry inside another of its name is part of that. */
static unsigned names_differ(void) {
  unsigned wrong = 0;
  for (unsigned name = 0; name < NAMES; name++) {
    uint64_t allocated = names_now()[names[name]].allocated_bytes, want = 0, calls = 0;
    for (uint32_t slot = 1; slot < bursar_account.writer.counts->scopes; slot++)
      if (slots()[slot].state && slots()[slot].name == names[name] && !slots()[slot].inner)
        allocated += slots()[slot].allocated_bytes + slots()[slot].free_allocated_bytes;
    for (unsigned i = 0; i < entry_count; i++) {
      bool inner = false;
      calls += entries[i].name == name && !entries[i].open;
      for (int at = entries[i].around; at >= 0; at = entries[at].around)
        inner = inner || entries[at].name == name;
      want += entries[i].name == name && !inner ? entries[i].allocated : 0;
    }
    wrong += allocated != want || names_now()[names[name]].calls != calls;
  }
  return wrong;
}

static void test_model(uint64_t seed) {
  uint64_t random = seed;
  unsigned wrong = 0;
  begin(0);
  for (unsigned i = 0; i < 60000; i++) {
    struct block *block = &blocks[model_below(&random, BLOCKS)];
    if (!model_below(&random, 200) && entry_count < ENTRIES) {
      struct entry *e = &entries[entry_count];
      *e = (struct entry){.around = any_open(&random), .name = (unsigned)model_below(&random, NAMES), .open = true};
      e->slot = bursar_scopes_enter(names[e->name], e->around < 0 ? 0 : entries[e->around].slot);
      wrong += e->slot == 0;
      entry_count++;
    } else if (!model_below(&random, 300) && entry_count) {
      struct entry *e = &entries[model_below(&random, entry_count)];
      wrong += e->open && (differs(e, "before its end") + end(e));
    } else if (block->p) {
      give(&random, block);
    } else {
      take(&random, block);
    }
    if (i % 5000 == 0)
      for (unsigned k = 0; k < entry_count; k++)
        wrong += entries[k].open && differs(&entries[k], "now");
  }
  EQ(wrong, 0);
  EQ(names_differ(), 0);
  for (unsigned i = 0; i < BLOCKS; i++)
    if (blocks[i].p)
      give(&random, &blocks[i]);
  for (unsigned k = 0; k < entry_count; k++)
    wrong += entries[k].open && (differs(&entries[k], "at last") + end(&entries[k]));
  EQ(wrong, 0);
  EQ(names_differ(), 0);
  EQ(bursar_account_live(), 0);
  finish();
}

/* --- slots run short --------------------------------------------------------------------------------------------------------- */

/* Thousands of entries that have ended and hold a block each: they become one of their name, to which the blocks belong. */
static void test_shortage(void) {
  enum { MANY = 20000 };
  static char *held[MANY];
  uint64_t bytes[NAMES] = {0};
  unsigned wrong = 0;
  begin(1);
  for (unsigned i = 0; i < MANY; i++) {
    unsigned name = i % NAMES;
    uint32_t slot = bursar_scopes_enter(names[name], 0);
    uint64_t size = 1 + i % 700;
    held[i] = place(i);
    wrong += slot == 0;
    bursar_account_scope_gil(slot, 0);
    model_book(held[i], size, model_site_tag(i % 40, 0), 0);
    bytes[name] += size;
    (void)bursar_scopes_end(slot);
  }
  EQ(wrong, 0);
  OK(bursar_account.writer.counts->folded_scopes > MANY / 2, "%llu were folded",
     (unsigned long long)bursar_account.writer.counts->folded_scopes);
  for (int round = 0; round < 2; round++) {
    for (unsigned name = 0; name < NAMES; name++) {
      int64_t live = 0;
      uint64_t allocated = names_now()[names[name]].allocated_bytes;
      for (uint32_t slot = 1; slot < bursar_account.writer.counts->scopes; slot++)
        if (slots()[slot].state && slots()[slot].name == names[name]) {
          live += slots()[slot].live_bytes;
          allocated += slots()[slot].allocated_bytes;
        }
      wrong += live != (round ? 0 : (int64_t)bytes[name]) || allocated != bytes[name];
      wrong += names_now()[names[name]].calls != (MANY + NAMES - 1 - name) / NAMES;
    }
    EQ(wrong, 0);
    for (unsigned i = 0; i < MANY && !round; i++)
      model_unbook(held[i], 0);
  }
  EQ(bursar_account_live(), 0);
  finish();
}

/* One that is out of the table while its entry becomes part of another: it is charged there. */
static void test_a_block_that_is_out_meanwhile(void) {
  enum { MANY = 100000 };
  struct bursar_record record = {.size = 0};
  begin(1);
  const uint32_t before = bursar_scopes_generation;
  unsigned i = 0;
  for (; i < MANY && bursar_scopes_generation == before; i++) {
    uint32_t slot = bursar_scopes_enter(names[i < 2 ? 0 : 1], 0);
    bursar_account_scope_gil(slot, 0);
    model_book(place(i), 100, model_site_tag(1, 0), 0);
    (void)bursar_scopes_end(slot);
    if (i == 1) {
      OK(bursar_live_take(place(i), &record) && record.scope == slot, "the second block is out");
      record.folded = bursar_scopes_generation;
    }
  }
  EQ(bursar_scopes_generation, before + 1);
  EQ(bursar_scopes_where(record.scope, before - 1), 0);
  uint32_t now = bursar_scopes_where(record.scope, record.folded);
  OK(now && now != record.scope && slots()[now].name == names[0], "its entry is part of the other of its name");
  EQ(slots()[now].live_bytes, 200);
  record.scope = now;
  bursar_account_retire_gil(place(1), record, 0);
  EQ(slots()[now].live_bytes, 100);
  EQ(slots()[now].blocks, 1);
  finish();
}

static void test_sketch(void) {
  static const uint64_t sizes[] = {1, 100, 512, 1000, 1u << 20, 3000000000u, 1ull << 39};
  begin(0);
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    uint32_t slot = bursar_scopes_enter(names[0], 0);
    bursar_account_scope_gil(slot, 0);
    model_book((char *)0x100000000000, sizes[i], model_site_tag(1, 0), 0);
    bursar_account_scope_gil(0, 0);
    model_unbook((char *)0x100000000000, 0);
    (void)bursar_scopes_end(slot);
    unsigned found = BURSAR_SKETCH;
    for (unsigned k = 0; k < BURSAR_SKETCH; k++)
      if (names_now()[names[0]].sketch[k] == 1)
        found = k;
    double low = 1, high;
    for (unsigned k = 0; k < found; k++)
      low *= 1.0905077326652577; /* 2^(1/8) */
    high = low * 1.0905077326652577;
    OK(found < BURSAR_SKETCH && (double)sizes[i] >= low * 0.999999 && (double)sizes[i] <= high * 1.000001,
       "%llu bytes are in counter %u", (unsigned long long)sizes[i], found);
    ((struct bursar_scope_name *)(uintptr_t)names_now())[names[0]].sketch[found] = 0;
  }
  finish();
}

int main(void) {
  test_model(1);
  test_model(2);
  test_shortage();
  test_a_block_that_is_out_meanwhile();
  test_sketch();
  return tap_done();
}
