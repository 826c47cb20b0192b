#include "account/fold.h"

#include <sched.h>
#include <string.h>

#include "account/account.h"
#include "account/hot.h"
#include "account/journal.h"
#include "account/lock.h"
#include "account/maps.h"
#include "account/sample.h"
#include "account/stacks.h"
#include "base/pool.h"
#include "prim/prim.h"

#define ROOT_SITES (BURSAR_SITE_FIRST + BURSAR_NODE_FIRST * BURSAR_DOMAIN_COUNT) /* never folded */
#define WEIGHTS 40u /* weights are shares of 2^WEIGHTS, by their number of bits */
#define PATIENCE_NS 1000000000ull
#define PATIENCE 64u /* events for each site until the next try, where the last one made little room */

static uint32_t fold_at;    /* sites in use */
static uint64_t not_before; /* events */

/* While folding: by node the first of its sites, by site the next one, where a folded site has gone (by number), and what
 * each held before. */
static uint32_t *first_of, *next_of, *gone_to;
static struct bursar_past *past;

static struct bursar_writer *writer(void) { return &bursar_account.writer; }
static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static struct bursar_node *nodes(void) { return (struct bursar_node *)(void *)writer()->base[BURSAR_REGION_NODES]; }
static struct bursar_site_facts *facts(void) {
  return (struct bursar_site_facts *)(void *)writer()->base[BURSAR_REGION_SITE_FACTS];
}
static bool vacant(uint32_t index) { return facts()[index].lane == BURSAR_LANE_VACANT; }

uint32_t bursar_fold_generation;
static uint32_t *last_gone_to; /* of the last generation */
static size_t last_gone_bytes;

void bursar_fold_start(void) {
  fold_at = BURSAR_FOLD_AT;
  not_before = 0;
  /* A block that was taken out of the books before belongs to a ledger that is gone. */
  bursar_fold_generation += 2;
}

/* --- those who hold it off --------------------------------------------------------------------------------------------- */

static uint32_t holders;
static bool folding;

void bursar_fold_hold_off(void) {
  for (;;) {
    __atomic_fetch_add(&holders, 1, __ATOMIC_SEQ_CST);
    if (BURSAR_LIKELY(!__atomic_load_n(&folding, __ATOMIC_SEQ_CST)))
      return;
    __atomic_fetch_sub(&holders, 1, __ATOMIC_SEQ_CST);
    sched_yield();
  }
}

void bursar_fold_let_go(void) { __atomic_fetch_sub(&holders, 1, __ATOMIC_RELEASE); }

void bursar_fold_after_fork(void) {
  __atomic_store_n(&holders, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&folding, false, __ATOMIC_RELAXED);
}

void bursar_fold_keep_off(void) {
  __atomic_store_n(&folding, true, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&holders, __ATOMIC_SEQ_CST))
    sched_yield();
}

bool bursar_fold_keep_off_soon(void) {
  uint64_t until = bursar_prim_now() + PATIENCE_NS;
  __atomic_store_n(&folding, true, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&holders, __ATOMIC_SEQ_CST)) {
    if (bursar_prim_now() > until) {
      bursar_fold_let_in();
      return false;
    }
    sched_yield();
  }
  return true;
}

void bursar_fold_let_in(void) { __atomic_store_n(&folding, false, __ATOMIC_RELEASE); }

void bursar_fold_drain(void) {
  bursar_fold_keep_off();
  bursar_fold_let_in();
}

uint32_t bursar_fold_where(uint32_t number, uint32_t generation) {
  if (BURSAR_LIKELY(generation == bursar_fold_generation))
    return number;
  if (generation + 1 != bursar_fold_generation || (size_t)number * sizeof *last_gone_to >= last_gone_bytes)
    return 0;
  return last_gone_to[number] ? last_gone_to[number] : number;
}

/* --- weights ---------------------------------------------------------------------------------------------------------- */

/* By how much a part is multiplied to be a share. */
struct scales {
  double live, peak, bytes, allocs;
};

static double scale_of(double whole) { return whole > 0 ? (double)(1ull << WEIGHTS) / whole : 0; }

static unsigned weight(uint32_t index, const struct scales *scales) {
  const struct bursar_site *site = &bursar_account.sites[index];
  double most = (double)bursar_stacks_sites_now(site).bytes * scales->live;
  double others[] = {(double)bursar_stacks_sites_at_peak(site).bytes * scales->peak,
                     (double)site->alloc_bytes * scales->bytes, (double)site->allocs * scales->allocs};
  for (unsigned i = 0; i < 3; i++)
    most = others[i] > most ? others[i] : most;
  if (most < 1)
    return 0;
  if (most >=
      (double)(1ull << WEIGHTS)) /* frees of other threads can make a site hold less than nothing for a moment */
    return WEIGHTS;
  return 64u - (unsigned)__builtin_clzll((uint64_t)most);
}

/* The weight up to which three quarters of all sites are; they are folded. */
static unsigned light(const struct scales *scales) {
  uint32_t by_weight[WEIGHTS + 1] = {0}, all = 0, below = 0;
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i)) {
      by_weight[weight(i, scales)]++;
      all++;
    }
  unsigned bits = 0;
  for (; bits < WEIGHTS; bits++)
    if ((uint64_t)(below += by_weight[bits]) * 4 >= (uint64_t)all * 3)
      break;
  return bits;
}

/* --- moving ----------------------------------------------------------------------------------------------------------- */

static void merge(uint32_t from, uint32_t into) {
  struct bursar_site *a = &bursar_account.sites[from], *b = &bursar_account.sites[into];
  struct bursar_holding peak = bursar_stacks_sites_at_peak(a);
  if ((b->epoch & ~BURSAR_EPOCH_FREE) != BURSAR_BOOKS->epoch)
    bursar_journal_touch(b); /* it is about to hold more, and has to know what it held at the peak */
  b->alloc_bytes += a->alloc_bytes;
  b->allocs += a->allocs;
  b->free_bytes += a->free_bytes;
  b->frees += a->frees;
  b->peak_bytes += peak.bytes;
  uint64_t blocks = b->peak_blocks + peak.blocks;
  b->peak_blocks = blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks;
  b->temporaries += a->temporaries;
  counts()->folded_allocs += a->allocs;
  if (bursar_account.mode == BURSAR_MODE_SAMPLE)
    bursar_sample_merge(from, into);
  /* Other threads may be adding to these. */
  struct bursar_site_facts *gone = &facts()[from], *kept = &facts()[into];
  __atomic_fetch_add(&kept->remote_free_bytes, __atomic_load_n(&gone->remote_free_bytes, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
  __atomic_fetch_add(&kept->remote_frees, __atomic_load_n(&gone->remote_frees, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
  memset(a, 0, sizeof *a);
  *gone = (struct bursar_site_facts){.domain = gone->domain, .lane = BURSAR_LANE_VACANT};
  gone_to[from + 1] = into + 1; /* as the live table writes them */
}

/* Moves a site one frame outward: into the caller's site, or to be the caller's site where there is none. */
static bool move_out(uint32_t index) {
  uint32_t parent = nodes()[facts()[index].node].parent;
  for (uint32_t other = first_of[parent]; other; other = next_of[other])
    if (facts()[other].domain == facts()[index].domain && facts()[other].lane == facts()[index].lane) {
      merge(index, other);
      return true;
    }
  facts()[index].node = parent;
  next_of[index] = first_of[parent];
  first_of[parent] = index;
  return false;
}

/* Callers have smaller indices: one way through the nodes, from the last to the first, meets each site after all that was
 * folded into it. */
static uint32_t fold_below(unsigned bits, const struct scales *scales) {
  uint32_t folded = 0;
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i)) {
      next_of[i] = first_of[facts()[i].node];
      first_of[facts()[i].node] = i;
    }
  for (uint32_t node = counts()->nodes; node-- > BURSAR_NODE_FIRST;) {
    if (nodes()[node].parent < BURSAR_NODE_FIRST)
      continue;
    for (uint32_t site = first_of[node], next; site; site = next) {
      next = next_of[site];
      if (weight(site, scales) <= bits)
        folded += move_out(site);
    }
  }
  return folded;
}

/* Moves the nodes that are needed together, in order, so that callers keep smaller indices.  Reuses first_of. */
static void compact_nodes(void) {
  uint32_t n = counts()->nodes, next = BURSAR_NODE_FIRST, *moved = first_of;
  memset(moved, 0, n * sizeof *moved);
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i))
      moved[facts()[i].node] = 1;
  for (uint32_t i = n; i-- > BURSAR_NODE_FIRST;)
    if (moved[i])
      moved[nodes()[i].parent] = 1;
  for (uint32_t i = 0; i < BURSAR_NODE_FIRST; i++)
    moved[i] = i;
  for (uint32_t i = BURSAR_NODE_FIRST; i < n; i++) {
    if (!moved[i])
      continue;
    struct bursar_node node = nodes()[i];
    node.parent = moved[node.parent];
    moved[i] = next;
    nodes()[next++] = node;
  }
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i))
      facts()[i].node = moved[facts()[i].node];
  counts()->nodes = next;
}

static void remember_past(void) {
  for (uint32_t i = 0; i < counts()->sites; i++) {
    struct bursar_holding now = bursar_stacks_sites_now(&bursar_account.sites[i]);
    past[i] = (struct bursar_past){now.bytes, now.blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)now.blocks,
                                   i < BURSAR_SITE_FIRST || vacant(i) ? BURSAR_PAST_NONE : facts()[i].created};
  }
}

/* Those that are gone are followed to where they went in the end. */
static void follow_all(void) {
  uint32_t n = counts()->sites + 1;
  for (uint32_t i = 1; i < n; i++) {
    uint32_t to = gone_to[i];
    while (to && gone_to[to])
      to = gone_to[to];
    gone_to[i] = to;
  }
}

static uint32_t fold(void) {
  struct bursar_tally all = bursar_account_totals();
  struct scales scales = {scale_of((double)bursar_account_live()), scale_of((double)BURSAR_BOOKS->peak),
                          scale_of((double)all.alloc_bytes), scale_of((double)all.allocs)};
  counts()->folding = 1;
  BURSAR_IN_ORDER();
  remember_past();
  uint32_t folded = fold_below(light(&scales), &scales);
  follow_all();
  bursar_journal_fold(gone_to, past, counts()->sites);
  bursar_live_renumber(gone_to, counts()->sites + 1); /* live blocks name the sites that charged them */
  bursar_maps_renumber(gone_to, counts()->sites + 1);
  bursar_sample_renumber(gone_to, counts()->sites + 1);
  compact_nodes();
  bursar_stacks_rebuild();
  counts()->folded_sites += folded;
  BURSAR_IN_ORDER();
  counts()->folding = 0;
  bursar_pool_give(last_gone_to, last_gone_bytes);
  last_gone_to = gone_to;
  last_gone_bytes = ((size_t)counts()->sites + 1) * sizeof *gone_to;
  gone_to = NULL;
  bursar_fold_generation++;
  bursar_account.provider.stacks_moved();
  return folded;
}

static uint64_t events(void) {
  struct bursar_tally all = bursar_account_totals();
  return all.allocs + all.frees;
}

static bool nearly_full(enum bursar_region region, uint32_t items, size_t bytes) {
  return (items + items / 64 + 64ull) * bytes > writer()->limit[region];
}

static bool is_full(void) {
  uint32_t used = counts()->sites - bursar_stacks_vacant(), n = counts()->nodes;
  bool nodes_full = nearly_full(BURSAR_REGION_NODES, n, sizeof(struct bursar_node));
  bool sites_full = nearly_full(BURSAR_REGION_SITES, used, sizeof(struct bursar_site)) ||
                    nearly_full(BURSAR_REGION_SITE_FACTS, used, sizeof(struct bursar_site_facts));
  if ((used < fold_at && !nodes_full && !sites_full) || events() < not_before)
    return false;
  /* In the end what is said of it would get coarser for the sake of a moment. */
  return counts()->phase != BURSAR_PHASE_EXIT || sites_full;
}

void bursar_fold_if_full(void) {
  bursar_lock_take(); /* others make nodes and sites */
  bool full = is_full();
  bursar_lock_give();
  if (!full)
    return;
  /* They take memory for it too, and until they know that what they remember has moved, nobody books. */
  if (!bursar_fold_keep_off_soon()) {
    not_before = UINT64_MAX; /* the next try would wait as long: whatever finds no room is charged to its callers */
    return;
  }
  uint32_t used = counts()->sites - bursar_stacks_vacant(), n = counts()->nodes;
  size_t node_bytes = n * sizeof(uint32_t), site_bytes = ((size_t)counts()->sites + 1) * sizeof(uint32_t);
  first_of = bursar_pool_take(node_bytes);
  next_of = bursar_pool_take(site_bytes);
  gone_to = bursar_pool_take(site_bytes);
  past = bursar_pool_take(counts()->sites * sizeof *past);
  uint32_t folded = first_of && next_of && gone_to && past ? fold() : 0;
  bursar_pool_give(first_of, node_bytes);
  bursar_pool_give(next_of, site_bytes);
  bursar_pool_give(gone_to, site_bytes);
  bursar_pool_give(past, counts()->sites * sizeof *past);
  bursar_fold_let_in();
  /* What is of weight is kept, and as much again before the next time: so each new stack pays for a bounded share of it. */
  fold_at = 2 * (used - folded) > BURSAR_FOLD_AT ? 2 * (used - folded) : BURSAR_FOLD_AT;
  not_before = folded < used / 2 ? events() + (uint64_t)PATIENCE * used : 0;
}
