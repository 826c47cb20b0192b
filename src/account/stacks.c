#include "account/stacks.h"

#include <string.h>

#include "account/account.h"
#include "account/hot.h"
#include "account/sample.h"
#include "base/pool.h"

#define STRING_MAX 4096u
#define FOLD_LOOK_EVERY 4096u /* sites */
#define STRING_WORD 4u

/* A growing open-addressing hash of indices; what they stand for is in the ledger, and is compared there.  A slot has the
 * index + 1 and eight bits of the hash, so that a member is seldom read in vain: that is a cache miss.  0 is empty. */
#define SLOT_BITS 24
#define SLOT_INDEX ((1u << SLOT_BITS) - 1)
#define INDEX_LIMIT (SLOT_INDEX - 1) /* less than what a cell of the live table can name */
_Static_assert(SLOT_BITS <= 32 - BURSAR_CELL_SHIFT, "a site has a cell's number");
struct index_set {
  uint32_t *slots;
  uint32_t size; /* a power of two */
  uint32_t used;
};
static struct index_set strings, codes, nodes, sites;

static struct bursar_writer *writer(void) { return &bursar_account.writer; }
static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static const char *string_base(void) { return (const char *)writer()->base[BURSAR_REGION_STRINGS]; }
static struct bursar_code *code_base(void) { return (struct bursar_code *)(void *)writer()->base[BURSAR_REGION_CODES]; }
static struct bursar_node *node_base(void) { return (struct bursar_node *)(void *)writer()->base[BURSAR_REGION_NODES]; }
static struct bursar_site_facts *facts_base(void) {
  return (struct bursar_site_facts *)(void *)writer()->base[BURSAR_REGION_SITE_FACTS];
}

static uint32_t mix(uint64_t a, uint64_t b) {
  uint64_t h = a * 0x9E3779B97F4A7C15ull + b * 0xD6E8FEB86659FD93ull;
  h ^= h >> 32;
  return (uint32_t)(h * 0xD6E8FEB86659FD93ull >> 32);
}

static uint32_t hash_text(const char *text, size_t bytes) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < bytes; i++)
    h = (h ^ (unsigned char)text[i]) * 0x100000001b3ull;
  return (uint32_t)(h >> 32 ^ h);
}

static uint32_t rehash(const struct index_set *set, uint32_t index) {
  if (set == &nodes) {
    const struct bursar_node *node = &node_base()[index];
    return mix((uint64_t)node->parent << 32 | node->code, node->line);
  }
  if (set == &sites) {
    const struct bursar_site_facts *facts = &facts_base()[index];
    return mix(facts->node, facts->domain | (uint32_t)facts->lane << 16);
  }
  if (set == &codes) {
    const struct bursar_code *code = &code_base()[index];
    return mix((uint64_t)code->name << 32 | code->file, code->first_line);
  }
  uint32_t bytes; /* a string's index is its offset in words */
  memcpy(&bytes, string_base() + index * STRING_WORD, sizeof bytes);
  return hash_text(string_base() + index * STRING_WORD + sizeof bytes, bytes);
}

/* For a member that is not there yet, where there is room (set_ready). */
static void set_add(struct index_set *set, uint32_t hash, uint32_t index) {
  uint32_t at = hash & (set->size - 1);
  while (set->slots[at])
    at = (at + 1) & (set->size - 1);
  set->slots[at] = (hash & ~SLOT_INDEX) | (index + 1);
  set->used++;
}

static bool set_grow(struct index_set *set) {
  struct index_set bigger = {.size = set->size ? set->size * 2 : 1024};
  bigger.slots = bursar_pool_take(bigger.size * sizeof(uint32_t));
  if (!bigger.slots)
    return false;
  for (uint32_t i = 0; i < set->size; i++)
    if (set->slots[i]) {
      uint32_t index = (set->slots[i] & SLOT_INDEX) - 1;
      set_add(&bigger, rehash(set, index), index);
    }
  bursar_pool_give(set->slots, set->size * sizeof(uint32_t));
  *set = bigger;
  return true;
}

/* Is there room for one more, and can its index be written? */
static bool set_ready(struct index_set *set, uint32_t index) {
  return index < INDEX_LIMIT && (set->used * 4 < set->size * 3 || set_grow(set));
}

/* The members with that hash; others may be among them. */
#define SET_EACH(set, hash, index)                                                      \
  for (uint32_t at_ = (hash) & ((set).size - 1), index; (set).size && (set).slots[at_]; \
       at_ = (at_ + 1) & ((set).size - 1))                                              \
    if ((((set).slots[at_] ^ (hash)) >> SLOT_BITS) == 0 && (index = ((set).slots[at_] & SLOT_INDEX) - 1, true))

static bool room(enum bursar_region region, uint64_t bytes) {
  return bytes <= writer()->have[region] || bursar_writer_room(writer(), region, bytes) == 0;
}

uint32_t bursar_stacks_string(const char *text, size_t bytes) {
  if (bytes > STRING_MAX)
    bytes = STRING_MAX;
  uint32_t hash = hash_text(text, bytes), length = (uint32_t)bytes;
  SET_EACH(strings, hash, word) {
    const char *at = string_base() + word * STRING_WORD;
    if (memcmp(at, &length, sizeof length) == 0 && memcmp(at + sizeof length, text, bytes) == 0)
      return word * STRING_WORD;
  }
  uint32_t offset = counts()->string_bytes, end = offset + (uint32_t)((sizeof length + bytes + 3) & ~(size_t)3);
  if (!room(BURSAR_REGION_STRINGS, end) || !set_ready(&strings, offset / STRING_WORD))
    return 0;
  char *at = (char *)writer()->base[BURSAR_REGION_STRINGS] + offset;
  memcpy(at, &length, sizeof length);
  memcpy(at + sizeof length, text, bytes);
  BURSAR_IN_ORDER();
  counts()->string_bytes = end;
  set_add(&strings, hash, offset / STRING_WORD);
  return offset;
}

static uint32_t code_of(uint32_t name, uint32_t file, uint32_t first_line, uint32_t flags) {
  uint32_t hash = mix((uint64_t)name << 32 | file, first_line);
  SET_EACH(codes, hash, index) {
    const struct bursar_code *code = &code_base()[index];
    if (code->name == name && code->file == file && code->first_line == first_line && code->flags == flags)
      return index;
  }
  uint32_t index = counts()->codes;
  if (!room(BURSAR_REGION_CODES, ((uint64_t)index + 1) * sizeof(struct bursar_code)) || !set_ready(&codes, index))
    return 0;
  code_base()[index] = (struct bursar_code){name, file, first_line, flags};
  BURSAR_IN_ORDER();
  counts()->codes = index + 1;
  set_add(&codes, hash, index);
  return index;
}

uint32_t bursar_stacks_code(uint32_t name, uint32_t file, uint32_t first_line) {
  return code_of(name, file, first_line, 0);
}

uint32_t bursar_stacks_module(uint32_t build_id, uint32_t path) {
  return code_of(build_id, path, 0, BURSAR_CODE_MODULE);
}

/* The node that was made last, while it has no site: nobody need look for one. */
static uint32_t bare = UINT32_MAX;

static uint32_t node_of(uint32_t parent, uint32_t code, uint32_t line, uint32_t flags) {
  uint32_t hash = mix((uint64_t)parent << 32 | code, line);
  SET_EACH(nodes, hash, index) {
    const struct bursar_node *node = &node_base()[index];
    if (node->parent == parent && node->code == code && node->line == line && node->flags == flags)
      return index;
  }
  uint32_t index = counts()->nodes;
  if (!room(BURSAR_REGION_NODES, ((uint64_t)index + 1) * sizeof(struct bursar_node)) || !set_ready(&nodes, index)) {
    counts()->folded_sites++;
    return parent;
  }
  node_base()[index] = (struct bursar_node){parent, code, line, flags};
  BURSAR_IN_ORDER();
  counts()->nodes = index + 1;
  set_add(&nodes, hash, index);
  return bare = index;
}

uint32_t bursar_stacks_node(uint32_t parent, uint32_t code, uint32_t line) { return node_of(parent, code, line, 0); }

uint32_t bursar_stacks_native_node(uint32_t parent, uint32_t module, uint32_t address) {
  return node_of(parent, module, address, BURSAR_NODE_NATIVE);
}

static uint32_t site_find(uint32_t node, unsigned domain, enum bursar_lane lane) {
  if (node == bare)
    return 0;
  SET_EACH(sites, mix(node, domain | (uint32_t)lane << 16), index) {
    const struct bursar_site_facts *facts = &facts_base()[index];
    if (facts->node == node && facts->domain == domain && facts->lane == lane)
      return index;
  }
  return 0;
}

static uint32_t vacant_from; /* folded sites are at this index or above */
static uint32_t vacant_count;

uint32_t bursar_stacks_vacant(void) { return vacant_count; }

/* A place for a site: a new one, or a folded one's. */
static uint32_t site_place(void) {
  uint32_t index = counts()->sites;
  if (vacant_count) {
    while (facts_base()[vacant_from].lane != BURSAR_LANE_VACANT)
      vacant_from++;
    vacant_count--;
    return vacant_from;
  }
  if (!room(BURSAR_REGION_SITES, ((uint64_t)index + 1) * sizeof(struct bursar_site)) ||
      !room(BURSAR_REGION_SITE_FACTS, ((uint64_t)index + 1) * sizeof(struct bursar_site_facts)) ||
      (bursar_account.mode == BURSAR_MODE_SAMPLE &&
       !room(BURSAR_REGION_ESTIMATES, ((uint64_t)index + 1) * sizeof(struct bursar_estimate))))
    return UINT32_MAX;
  return index;
}

/* Ticks, after which it is looked whether sites are to be folded, grow rare in a long run: new sites ask for that themselves. */
static void count_site(void) {
  static uint32_t made;
  if (++made % FOLD_LOOK_EVERY == 0)
    __atomic_store_n(&bursar_account.fold_due, true, __ATOMIC_RELAXED);
}

static uint32_t site_add(uint32_t node, unsigned domain, enum bursar_lane lane) {
  uint32_t index = set_ready(&sites, counts()->sites) ? site_place() : UINT32_MAX;
  if (index == UINT32_MAX)
    return index;
  count_site();
  facts_base()[index] = (struct bursar_site_facts){
      .node = node, .domain = (uint16_t)domain, .lane = (uint16_t)lane, .created = (uint32_t)BURSAR_BOOKS->tick};
  /* It held nothing at the last peak, as its first touch will find; nor at the last tick, which `created` says. */
  bursar_account.sites[index] = (struct bursar_site){.epoch = index < BURSAR_SITE_FIRST ? UINT64_MAX
                                                              : lane                    ? BURSAR_EPOCH_FREE
                                                                                        : 0,
                                                     .tick = (uint32_t)BURSAR_BOOKS->tick};
  if (bursar_account.mode == BURSAR_MODE_SAMPLE)
    bursar_sample_clear(index);
  BURSAR_IN_ORDER();
  if (index == counts()->sites)
    __atomic_store_n(&counts()->sites, index + 1, __ATOMIC_RELAXED); /* threads without the GIL look at it */
  set_add(&sites, mix(node, domain | (uint32_t)lane << 16), index);
  if (node == bare)
    bare = UINT32_MAX;
  return index;
}

uint32_t bursar_stacks_site(uint32_t node, unsigned domain) {
  uint32_t index = site_find(node, domain, BURSAR_LANE_GIL);
  if (!index)
    index = site_add(node, domain, BURSAR_LANE_GIL);
  if (index == UINT32_MAX) {
    counts()->folded_sites++;
    /* Every root has a site in each domain, so the climb ends. */
    do
      node = node_base()[node].parent;
    while (!(index = site_find(node, domain, BURSAR_LANE_GIL)) && node >= BURSAR_NODE_FIRST);
    if (!index)
      index = site_find(BURSAR_NODE_UNKNOWN, domain, BURSAR_LANE_GIL);
  }
  return (index + 1) << BURSAR_CELL_SHIFT | BURSAR_CELL_BIG;
}

uint32_t bursar_stacks_site_free(uint32_t node, unsigned domain) {
  if (node == BURSAR_NODE_UNKNOWN)
    return domain + 1;
  uint32_t index = site_find(node, domain, BURSAR_LANE_FREE);
  if (!index)
    index = site_add(node, domain, BURSAR_LANE_FREE);
  if (index != UINT32_MAX)
    return index + 1;
  counts()->folded_sites++;
  return domain + 1;
}

uint32_t bursar_stacks_site_index(const struct bursar_site *site) { return (uint32_t)(site - bursar_account.sites); }

/* What other threads add to meanwhile: the frees are read first, so that no block has gone that did not come. */
static struct bursar_holding holding_free(const struct bursar_site *site) {
  uint64_t gone = __atomic_load_n(&site->free_bytes, __ATOMIC_ACQUIRE),
           ended = __atomic_load_n(&site->frees, __ATOMIC_ACQUIRE);
  return (struct bursar_holding){__atomic_load_n(&site->alloc_bytes, __ATOMIC_RELAXED) - gone,
                                 __atomic_load_n(&site->allocs, __ATOMIC_RELAXED) - ended};
}

static struct bursar_holding holding(const struct bursar_site *site, bool at_peak) {
  if (bursar_account_is_free(site))
    return holding_free(site);
  struct bursar_holding now = {site->alloc_bytes - site->free_bytes, site->allocs - site->frees};
  if (!__atomic_load_n(&bursar_account.remote_any, __ATOMIC_RELAXED))
    return now;
  const struct bursar_site_facts *facts = &facts_base()[bursar_stacks_site_index(site)];
  bool saved = at_peak && __atomic_load_n(&facts->remote_epoch, __ATOMIC_ACQUIRE) == (uint32_t)BURSAR_BOOKS->peak_epoch;
  now.bytes -= saved ? facts->remote_peak_bytes : __atomic_load_n(&facts->remote_free_bytes, __ATOMIC_RELAXED);
  now.blocks -= saved ? facts->remote_peak_frees : __atomic_load_n(&facts->remote_frees, __ATOMIC_RELAXED);
  return now;
}

struct bursar_holding bursar_stacks_sites_now(const struct bursar_site *site) { return holding(site, false); }

struct bursar_holding bursar_stacks_sites_at_peak(const struct bursar_site *site) {
  uint64_t epoch = __atomic_load_n(&site->epoch, __ATOMIC_RELAXED) & ~BURSAR_EPOCH_FREE;
  return epoch < BURSAR_BOOKS->peak_epoch ? holding(site, true)
                                          : (struct bursar_holding){site->peak_bytes, site->peak_blocks};
}

void bursar_stacks_room_ahead(void) {
  (void)room(BURSAR_REGION_STRINGS, (uint64_t)counts()->string_bytes + 16384);
  (void)room(BURSAR_REGION_CODES, ((uint64_t)counts()->codes + 256) * sizeof(struct bursar_code));
  (void)room(BURSAR_REGION_NODES, ((uint64_t)counts()->nodes + 1024) * sizeof(struct bursar_node));
  (void)room(BURSAR_REGION_SITES, ((uint64_t)counts()->sites + 256) * sizeof(struct bursar_site));
  (void)room(BURSAR_REGION_SITE_FACTS, ((uint64_t)counts()->sites + 256) * sizeof(struct bursar_site_facts));
  if (bursar_account.mode == BURSAR_MODE_SAMPLE)
    (void)room(BURSAR_REGION_ESTIMATES, ((uint64_t)counts()->sites + 256) * sizeof(struct bursar_estimate));
}

int bursar_stacks_start(void) {
  bursar_account.sites = (struct bursar_site *)(void *)writer()->base[BURSAR_REGION_SITES];
  bursar_account.numbered = bursar_account.sites - 1;
  counts()->string_bytes = 4; /* offset 0 is 'unknown', an empty string */
  if (!room(BURSAR_REGION_STRINGS, 4))
    return -1;
  memset(writer()->base[BURSAR_REGION_STRINGS], 0, 4);
  (void)bursar_stacks_code(0, 0, 0);
  if (counts()->codes != 1 || !room(BURSAR_REGION_NODES, BURSAR_NODE_FIRST * sizeof(struct bursar_node)))
    return -1;
  for (uint32_t root = 0; root < BURSAR_NODE_FIRST; root++)
    node_base()[root] = (struct bursar_node){root, 0, 0, 0};
  counts()->nodes = BURSAR_NODE_FIRST;
  /* Lane FREE's sites, then one for each root and domain, where stacks that find no room end up. */
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (site_add(BURSAR_NODE_UNKNOWN, domain, BURSAR_LANE_FREE) != domain)
      return -1;
  for (uint32_t root = 0; root < BURSAR_NODE_FIRST; root++)
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      if (site_add(root, domain, BURSAR_LANE_GIL) == UINT32_MAX)
        return -1;
  return 0;
}

static void set_clear(struct index_set *set) {
  bursar_pool_give(set->slots, set->size * sizeof(uint32_t));
  memset(set, 0, sizeof *set);
}

void bursar_stacks_rebuild(void) {
  /* In place: there may be no memory for new tables, and fewer members need no larger ones. */
  memset(nodes.slots, 0, nodes.size * sizeof(uint32_t));
  memset(sites.slots, 0, sites.size * sizeof(uint32_t));
  nodes.used = sites.used = 0;
  bare = UINT32_MAX;
  for (uint32_t i = BURSAR_NODE_FIRST; i < counts()->nodes; i++)
    set_add(&nodes, rehash(&nodes, i), i);
  vacant_count = 0;
  vacant_from = counts()->sites;
  for (uint32_t i = counts()->sites; i-- > 0;)
    if (facts_base()[i].lane == BURSAR_LANE_VACANT) {
      vacant_from = i;
      vacant_count++;
    } else {
      set_add(&sites, rehash(&sites, i), i);
    }
}

void bursar_stacks_stop(void) {
  set_clear(&strings);
  set_clear(&codes);
  set_clear(&nodes);
  set_clear(&sites);
  vacant_count = vacant_from = 0;
  bare = UINT32_MAX;
}
