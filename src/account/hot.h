/* hot.h: booking, inline: what each allocation and each free costs.
 *
 * No allocation, no lock, no system call, errno kept; the number of instructions is pinned by a test.  Lane GIL only.
 * The order of the stores is a promise to the reader: see struct bursar_books. */
#ifndef BURSAR_ACCOUNT_HOT_H
#define BURSAR_ACCOUNT_HOT_H

#include "account/account.h"

#define BURSAR_LIKELY(x) __builtin_expect(!!(x), 1)
#define BURSAR_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The compiler may not move stores to the ledger across this; the processor does not (a killed process leaves its
 * stores in program order). */
#define BURSAR_IN_ORDER() __asm__ volatile("" ::: "memory")

static inline struct bursar_site *bursar_hot_site(uint32_t tag) {
  return (struct bursar_site *)((char *)bursar_account.numbered + (tag & ~BURSAR_CELL_LOW));
}

static inline void bursar_hot_credit(struct bursar_site *site, uint64_t intent, size_t size, unsigned domain) {
  struct bursar_books *books = BURSAR_BOOKS;
  books->intent = intent;
  BURSAR_IN_ORDER();
  site->alloc_bytes += size;
  BURSAR_IN_ORDER();
  site->allocs++;
  BURSAR_IN_ORDER();
  books->gil[domain].alloc_bytes += size;
  BURSAR_IN_ORDER();
  books->gil[domain].allocs++;
  BURSAR_IN_ORDER();
  books->live += size;
}

static inline void bursar_hot_debit(struct bursar_site *site, uint64_t intent, size_t size, unsigned domain) {
  struct bursar_books *books = BURSAR_BOOKS;
  books->intent = intent;
  BURSAR_IN_ORDER();
  site->free_bytes += size;
  BURSAR_IN_ORDER();
  site->frees++;
  BURSAR_IN_ORDER();
  books->gil[domain].free_bytes += size;
  BURSAR_IN_ORDER();
  books->gil[domain].frees++;
  BURSAR_IN_ORDER();
  books->live -= size;
}

/* A piece of a mapping: the block stays. */
static inline void bursar_hot_shrink(struct bursar_site *site, uint64_t intent, size_t size, unsigned domain) {
  struct bursar_books *books = BURSAR_BOOKS;
  books->intent = intent;
  BURSAR_IN_ORDER();
  site->free_bytes += size;
  BURSAR_IN_ORDER();
  books->gil[domain].free_bytes += size;
  BURSAR_IN_ORDER();
  books->live -= size;
}

/* The site must be touched first: what it held is to be saved, or it is lane FREE's.  Lane FREE changes both, under the lock. */
static inline bool bursar_hot_stale(const struct bursar_site *site) {
  return __atomic_load_n(&site->epoch, __ATOMIC_RELAXED) != __atomic_load_n(&BURSAR_BOOKS->epoch, __ATOMIC_RELAXED);
}

/* Lane FREE moves it by atomic adds. */
static inline int64_t bursar_hot_trigger(void) { return __atomic_load_n(&bursar_account.trigger, __ATOMIC_RELAXED); }

/* Both halves below decide before they change anything, and leave what is rare to a call in tail position: so the hooks
 * keep no more in registers than the pointer and the size. */

/* A block of a scope begins: it counts in its entry, and in those around it. */
static inline __attribute__((always_inline)) void bursar_hot_charge_to(struct bursar_scope *scope, size_t size) {
  scope->blocks++;
  for (;;) {
    scope->live_bytes += (int64_t)size;
    scope->allocated_bytes += size;
    scope->allocations++;
    int64_t live = scope->live_bytes + __atomic_load_n(&scope->free_live_bytes, __ATOMIC_RELAXED);
    if (live > (int64_t)scope->peak_bytes)
      scope->peak_bytes = (uint64_t)live;
    if (BURSAR_LIKELY(!scope->parent))
      return;
    scope = &bursar_account.scopes[scope->parent];
  }
}

static inline __attribute__((always_inline)) void bursar_hot_charge(uint32_t slot, size_t size) {
  bursar_hot_charge_to(&bursar_account.scopes[slot], size);
}

/* ... and ends.  True: nothing is charged to its entry any more, which has ended: say so to bursar_scopes_emptied. */
static inline __attribute__((always_inline)) bool bursar_hot_discharge(uint32_t slot, size_t size) {
  struct bursar_scope *own = &bursar_account.scopes[slot], *scope = own;
  own->blocks--;
  for (;;) {
    scope->live_bytes -= (int64_t)size;
    if (BURSAR_LIKELY(!scope->parent))
      break;
    scope = &bursar_account.scopes[scope->parent];
  }
  return BURSAR_UNLIKELY(own->state != BURSAR_SCOPE_OPEN) && own->blocks <= 0;
}

/* Books p, just allocated, at the site.  True: done; false: call bursar_account_alloc_gil instead (nothing is booked).
 * `scoped` (a constant): the thread at hand may be in a scope. */
static inline __attribute__((always_inline)) bool bursar_hot_alloc_in(void *p, size_t size, uint32_t tag,
                                                                      unsigned domain, bool scoped) {
  uintptr_t address = (uintptr_t)p;
  uint32_t *leaf = bursar_live_leaf(address);
  uint32_t slot = scoped ? bursar_account.scope : 0;
  uint64_t limit = slot ? bursar_account.scoped_limit : bursar_account.plain_limit;
  if (BURSAR_UNLIKELY(size - 17 >= limit || (address & 15) || !leaf) || BURSAR_UNLIKELY(--bursar_account.countdown < 0))
    return false;
  uint32_t *cell = leaf + ((address >> 4) & (BURSAR_LEAF_CELLS - 1));
  struct bursar_site *site = bursar_hot_site(tag);
  /* A cell that is taken: a block's end was never seen.  Another epoch: what the site held must be saved first. */
  uint64_t entry;
  memcpy(&entry, cell, sizeof entry);
  if (BURSAR_UNLIKELY(entry) || BURSAR_UNLIKELY(bursar_hot_stale(site)))
    return false;
  entry = (uint64_t)size << 32 | tag;
  bursar_account.last = p;
  bursar_hot_credit(site, entry, size, domain);
  if (slot) {
    entry = bursar_live_scoped(size, slot) | tag | BURSAR_CELL_SCOPED;
    bursar_hot_charge(slot, size);
  }
  memcpy(cell, &entry, sizeof entry);
  return true;
}
static inline __attribute__((always_inline)) bool bursar_hot_alloc(void *p, size_t size, uint32_t tag,
                                                                   unsigned domain) {
  return bursar_hot_alloc_in(p, size, tag, domain, false);
}

enum bursar_ended { BURSAR_NOT_ENDED, BURSAR_ENDED, BURSAR_ENDED_EMPTY };

/* Books the end of p, before it is freed.  Ended: done, or not ours; not: call bursar_account_free_gil instead; empty: call
 * bursar_scopes_emptied.  `scoped`: as above. */
static inline __attribute__((always_inline)) enum bursar_ended bursar_hot_free_in(void *p, unsigned domain, bool scoped,
                                                                                  uint32_t *emptied) {
  uintptr_t address = (uintptr_t)p;
  uint32_t *leaf = bursar_live_leaf(address);
  if (BURSAR_UNLIKELY(!leaf))
    return (address & 15) == 0 ? BURSAR_ENDED : BURSAR_NOT_ENDED;
  uint32_t *cell = leaf + ((address >> 4) & (BURSAR_LEAF_CELLS - 1));
  uint64_t entry;
  memcpy(&entry, cell, sizeof entry);
  uint32_t tag = (uint32_t)entry;
  bool in_scope = scoped && (tag & BURSAR_CELL_LOW) == (BURSAR_CELL_BIG | BURSAR_CELL_SCOPED);
  if (BURSAR_UNLIKELY(((tag & BURSAR_CELL_LOW) != BURSAR_CELL_BIG && !in_scope) || (address & 15)))
    return BURSAR_NOT_ENDED;
  struct bursar_site *site = bursar_hot_site(tag);
  /* A new peak, or time to look at the clock, or a site whose past must be saved (lane FREE's are always so). */
  if (BURSAR_UNLIKELY((int64_t)BURSAR_BOOKS->live > bursar_hot_trigger()) ||
      BURSAR_UNLIKELY(--bursar_account.countdown < 0) || BURSAR_UNLIKELY(bursar_hot_stale(site)))
    return BURSAR_NOT_ENDED;
  if (BURSAR_UNLIKELY(p == bursar_account.last)) {
    bursar_account.last = NULL;
    site->temporaries++;
  }
  uint64_t nothing = 0;
  memcpy(cell, &nothing, sizeof nothing);
  if (!in_scope) {
    bursar_hot_debit(site, entry, (size_t)(entry >> 32), domain);
    return BURSAR_ENDED;
  }
  size_t size = (size_t)bursar_live_scoped_size(entry);
  bursar_hot_debit(site, (uint64_t)size << 32 | tag, size, domain);
  *emptied = bursar_live_scope(entry);
  return bursar_hot_discharge(*emptied, size) ? BURSAR_ENDED_EMPTY : BURSAR_ENDED;
}
static inline __attribute__((always_inline)) bool bursar_hot_free(void *p, unsigned domain) {
  uint32_t none;
  return bursar_hot_free_in(p, domain, false, &none) == BURSAR_ENDED;
}

#endif
