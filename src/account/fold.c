#include "account/fold.h"

#include <string.h>

#include "account/account.h"
#include "account/hot.h"
#include "account/journal.h"
#include "account/stacks.h"
#include "base/pool.h"

#define ROOT_SITES (BURSAR_SITE_FIRST + BURSAR_NODE_FIRST * BURSAR_DOMAIN_COUNT) /* never folded */
#define WORTH_IT 16u /* at least one site in so many must go, else it is not tried again for a while */
#define PATIENCE 64u /* ticks until the next try then */

static struct bursar_writer *writer(void) { return &bursar_account.writer; }
static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static struct bursar_node *nodes(void) { return (struct bursar_node *)(void *)writer()->base[BURSAR_REGION_NODES]; }
static struct bursar_site_facts *facts(void) {
  return (struct bursar_site_facts *)(void *)writer()->base[BURSAR_REGION_SITE_FACTS];
}

static bool holds_nothing(uint32_t index) {
  const struct bursar_site *site = &bursar_account.sites[index];
  return site->allocs == site->frees + __atomic_load_n(&facts()[index].remote_frees, __ATOMIC_RELAXED);
}

static bool vacant(uint32_t index) { return facts()[index].folded_into != 0; }

/* The number of allocations up to which about half of the candidates go. */
static uint64_t threshold(uint32_t *candidates) {
  uint32_t by_size[64] = {0}, total = 0, below = 0;
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i) && holds_nothing(i)) {
      by_size[63 - __builtin_clzll(bursar_account.sites[i].allocs | 1)]++;
      total++;
    }
  *candidates = total;
  for (unsigned bits = 0; bits < 63; bits++) {
    below += by_size[bits];
    if (below * 2 >= total)
      return ((uint64_t)2 << bits) - 1;
  }
  return UINT64_MAX;
}

static void merge(uint32_t from, uint32_t into) {
  struct bursar_site *a = &bursar_account.sites[from], *b = &bursar_account.sites[into];
  /* Both must have saved what they held at the peak and at the tick before they change. */
  if (a->epoch != BURSAR_BOOKS->epoch)
    bursar_journal_touch(a);
  if (b->epoch != BURSAR_BOOKS->epoch)
    bursar_journal_touch(b);
  b->alloc_bytes += a->alloc_bytes;
  b->allocs += a->allocs;
  b->free_bytes += a->free_bytes;
  b->frees += a->frees;
  b->peak_bytes += a->peak_bytes;
  b->peak_blocks = b->peak_blocks + a->peak_blocks < b->peak_blocks ? UINT32_MAX : b->peak_blocks + a->peak_blocks;
  b->temporaries += a->temporaries;
  facts()[into].remote_free_bytes += facts()[from].remote_free_bytes;
  facts()[into].remote_frees += facts()[from].remote_frees;
  memset(a, 0, sizeof *a);
  facts()[from] = (struct bursar_site_facts){.domain = facts()[from].domain, .folded_into = into};
}

static uint32_t ancestor_site(uint32_t index) {
  uint32_t node = facts()[index].node, found = 0;
  while (!found && node >= BURSAR_NODE_FIRST) {
    node = nodes()[node].parent;
    found = bursar_stacks_site_of(node, facts()[index].domain);
  }
  return found;
}

/* The journal's records of folded sites would be taken for those of whoever gets the place: they name site 0 instead, whose
 * past is in the ticks. */
static void drop_records(void) {
  unsigned half = counts()->journal;
  struct bursar_undo *undo = (struct bursar_undo *)(void *)writer()->base[half ? BURSAR_REGION_UNDO_B : BURSAR_REGION_UNDO_A];
  for (uint32_t i = 0; i < counts()->undos[half]; i++)
    if (undo[i].site && vacant(undo[i].site)) {
      counts()->lost_undos += undo[i].bytes != 0;
      undo[i] = (struct bursar_undo){0};
    }
}

/* Moves the nodes that are needed together, in order, so that callers keep smaller indices. */
static bool compact_nodes(void) {
  uint32_t n = counts()->nodes, next = BURSAR_NODE_FIRST;
  uint32_t *moved = bursar_pool_take(n * sizeof *moved);
  if (!moved)
    return false;
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
  bursar_pool_give(moved, n * sizeof *moved);
  return true;
}

static bool region_full(enum bursar_region region, uint32_t used, size_t each) {
  return (uint64_t)(used + used / 64 + 64) * each > writer()->limit[region] || (writer()->full && used * each + 64 * each > writer()->have[region]);
}

void bursar_fold_if_full(void) {
  static uint64_t not_before;
  if (!region_full(BURSAR_REGION_NODES, counts()->nodes, sizeof(struct bursar_node)) &&
      !(region_full(BURSAR_REGION_SITES, counts()->sites, sizeof(struct bursar_site)) && !bursar_stacks_vacant()))
    return;
  if (BURSAR_BOOKS->tick < not_before)
    return;
  uint32_t candidates, folded = 0;
  uint64_t limit = threshold(&candidates);
  if (candidates < counts()->sites / WORTH_IT) {
    not_before = BURSAR_BOOKS->tick + PATIENCE;
    return;
  }
  counts()->folding = 1;
  BURSAR_IN_ORDER();
  for (uint32_t i = ROOT_SITES; i < counts()->sites; i++)
    if (!vacant(i) && holds_nothing(i) && bursar_account.sites[i].allocs <= limit) {
      counts()->folded_allocs += bursar_account.sites[i].allocs;
      merge(i, ancestor_site(i));
      folded++;
    }
  counts()->folded_sites += folded;
  drop_records();
  (void)compact_nodes();
  bursar_stacks_rebuild();
  BURSAR_IN_ORDER();
  counts()->folding = 0;
  bursar_account.provider.stacks_moved();
}
