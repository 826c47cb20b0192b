#include "account/sample.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "account/account.h"
#include "account/fold.h"
#include "prim/prim.h"

#define ENTRIES_FIRST 4096u
#define ENTRIES_MAX (1u << 24)
#define STICKY 255

struct entry {
  uintptr_t p; /* 0: empty */
  uint64_t size;
  uint32_t number;
  uint32_t reserved;
};

unsigned char bursar_sample_pages[BURSAR_SAMPLE_PAGES] = {0};

static bool on;
static double interval;
static uint64_t seed, threads_seeded;
static uint32_t serial; /* of these books */

/* Under the lock. */
static bool locked;
static struct entry *entries;
static uint32_t entries_size, entries_used; /* the first a power of two */

static void lock(void) {
  while (__atomic_exchange_n(&locked, true, __ATOMIC_ACQUIRE))
    sched_yield();
}
static void unlock(void) { __atomic_store_n(&locked, false, __ATOMIC_RELEASE); }

/* --- chance ----------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z) { /* the finalizer of splitmix64 */
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

/* Bytes without a point before the next one: the whole part of an exponential, which is below s exactly as often as s bytes
 * have a point. */
static int64_t gap(struct bursar_lanes_thread *me) {
  if (me->serial != serial) {
    me->serial = serial;
    me->random = mix(seed + mix(__atomic_add_fetch(&threads_seeded, 1, __ATOMIC_RELAXED)));
  }
  uint64_t dice = mix(me->random += 0x9E3779B97F4A7C15ull);
  return (int64_t)(-log(((double)(dice >> 11) + 1) * 0x1p-53) * interval);
}

struct bursar_weight bursar_sample_weigh(const void *p, uint64_t size) {
  double s = (double)size, p1 = -expm1(-s / interval), missed = 1 - p1, bytes = s / p1, whole = floor(bytes);
  double rest = bytes - whole, dice = (double)(mix((uintptr_t)p ^ size << 48 ^ seed) >> 11) * 0x1p-53;
  struct bursar_weight weight = {.bytes = (uint64_t)whole + (dice < rest),
                                 .blocks = 1 / p1,
                                 .variance = bytes * bytes * missed + rest * (1 - rest),
                                 .blocks_variance = missed / (p1 * p1)};
  return weight;
}

/* --- which blocks ----------------------------------------------------------------------------------------------------- */

static unsigned char *page_of(uintptr_t p) { return &bursar_sample_pages[(p >> 12) & (BURSAR_SAMPLE_PAGES - 1)]; }

static uint32_t slot_of(uintptr_t p) { return (uint32_t)(mix(p) >> 32) & (entries_size - 1); }

static struct entry *find(uintptr_t p) {
  for (uint32_t at = slot_of(p);; at = (at + 1) & (entries_size - 1))
    if (entries[at].p == p || !entries[at].p)
      return &entries[at];
}

static bool grow(void) {
  struct entry *old = entries;
  uint32_t old_size = entries_size, size = old ? old_size * 2 : ENTRIES_FIRST;
  struct entry *bigger = size > ENTRIES_MAX ? NULL : bursar_prim_reserve(size * sizeof *bigger, true);
  if (!bigger)
    return false;
  entries = bigger;
  entries_size = size;
  for (uint32_t i = 0; old && i < old_size; i++)
    if (old[i].p)
      *find(old[i].p) = old[i];
  if (old)
    bursar_prim_release(old, old_size * sizeof *old);
  return true;
}

static bool put(uintptr_t p, uint64_t size, uint32_t number) {
  if (entries_used * 4 >= entries_size * 3 && !grow())
    return false;
  *find(p) = (struct entry){.p = p, .size = size, .number = number};
  entries_used++;
  unsigned char *page = page_of(p), marked = *page;
  __atomic_store_n(page, (unsigned char)(marked < STICKY ? marked + 1 : marked), __ATOMIC_RELAXED);
  return true;
}

/* What comes behind an entry that goes moves up, so that lookups need no marks of what was there. */
static void remove_entry(struct entry *gone) {
  uint32_t hole = (uint32_t)(gone - entries);
  for (uint32_t at = (hole + 1) & (entries_size - 1); entries[at].p; at = (at + 1) & (entries_size - 1)) {
    uint32_t home = slot_of(entries[at].p);
    if (((at - home) & (entries_size - 1)) < ((at - hole) & (entries_size - 1)))
      continue;
    entries[hole] = entries[at];
    hole = at;
  }
  entries[hole].p = 0;
  entries_used--;
}

static bool take(uintptr_t p, struct bursar_record *out) {
  struct entry *entry = entries_size && p ? find(p) : NULL;
  if (!entry || !entry->p)
    return false;
  *out = (struct bursar_record){.size = entry->size, .number = entry->number, .generation = bursar_fold_generation};
  remove_entry(entry);
  unsigned char *page = page_of(p), marked = *page;
  if (marked < STICKY)
    __atomic_store_n(page, marked - 1, __ATOMIC_RELAXED);
  return true;
}

/* --- estimates -------------------------------------------------------------------------------------------------------- */

static struct bursar_estimate *estimate_of(uint32_t number) {
  return (struct bursar_estimate *)(void *)bursar_account.writer.base[BURSAR_REGION_ESTIMATES] + (number - 1);
}

/* Copy on write, as the account does it with bytes: what it was at the peak, and at the end. */
static void save(struct bursar_estimate *estimate) {
  uint64_t peak = __atomic_load_n(&BURSAR_BOOKS->peak_epoch, __ATOMIC_RELAXED);
  uint32_t end = (uint32_t)bursar_account.writer.counts->end_tick;
  if (estimate->peak_epoch != peak) {
    estimate->peak_blocks = estimate->live_blocks;
    estimate->peak_variance = estimate->live_variance;
    estimate->peak_blocks_variance = estimate->live_blocks_variance;
    estimate->peak_epoch = peak;
  }
  if (estimate->end_tick != end) {
    estimate->end_blocks = estimate->live_blocks;
    estimate->end_variance = estimate->live_variance;
    estimate->end_blocks_variance = estimate->live_blocks_variance;
    estimate->end_tick = end;
  }
}

static void add(uint32_t number, const struct bursar_weight *weight) {
  struct bursar_estimate *estimate = estimate_of(number);
  save(estimate);
  estimate->live_blocks += weight->blocks;
  estimate->live_variance += weight->variance;
  estimate->live_blocks_variance += weight->blocks_variance;
  estimate->allocs += weight->blocks;
  estimate->alloc_variance += weight->variance;
  estimate->allocs_variance += weight->blocks_variance;
  estimate->live_samples++;
}

static void subtract(uint32_t number, const struct bursar_weight *weight) {
  struct bursar_estimate *estimate = estimate_of(number);
  save(estimate);
  bool last = --estimate->live_samples == 0; /* then nothing is left of what was rounded */
  estimate->live_blocks = last ? 0 : estimate->live_blocks - weight->blocks;
  estimate->live_variance = last ? 0 : estimate->live_variance - weight->variance;
  estimate->live_blocks_variance = last ? 0 : estimate->live_blocks_variance - weight->blocks_variance;
}

void bursar_sample_clear(uint32_t index) {
  memset(estimate_of(index + 1), 0, sizeof(struct bursar_estimate));
  estimate_of(index + 1)->peak_epoch = BURSAR_BOOKS->peak_epoch; /* it held nothing then */
  estimate_of(index + 1)->end_tick = (uint32_t)bursar_account.writer.counts->end_tick;
}

void bursar_sample_merge(uint32_t from, uint32_t into) {
  struct bursar_estimate *a = estimate_of(from + 1), *b = estimate_of(into + 1);
  if (!on)
    return;
  save(a);
  save(b);
  b->live_blocks += a->live_blocks;
  b->live_variance += a->live_variance;
  b->live_blocks_variance += a->live_blocks_variance;
  b->allocs += a->allocs;
  b->alloc_variance += a->alloc_variance;
  b->allocs_variance += a->allocs_variance;
  b->peak_blocks += a->peak_blocks;
  b->peak_variance += a->peak_variance;
  b->peak_blocks_variance += a->peak_blocks_variance;
  b->end_blocks += a->end_blocks;
  b->end_variance += a->end_variance;
  b->end_blocks_variance += a->end_blocks_variance;
  b->live_samples += a->live_samples;
  bursar_sample_clear(from);
}

void bursar_sample_renumber(const uint32_t *numbers, uint32_t count) {
  lock();
  for (uint32_t i = 0; i < entries_size; i++)
    if (entries[i].p && entries[i].number < count && numbers[entries[i].number])
      entries[i].number = numbers[entries[i].number];
  unlock();
}

/* --- counting --------------------------------------------------------------------------------------------------------- */

bool bursar_sample_alloc_slowly(size_t size, unsigned domain) {
  struct bursar_lanes_thread *me = &bursar_lanes_mine;
  struct bursar_thread_lane *lane = bursar_lanes_take();
  if (!lane) {
    if (!me->serial)
      me->shared_countdown = gap(me);
    me->countdown = -1;
    lane = bursar_lanes_share();
    lane->alloc_bytes[domain] += size;
    lane->allocs[domain]++;
    bursar_lanes_unshare();
    bool chosen = (me->shared_countdown -= (int64_t)size) < 0;
    if (chosen)
      me->shared_countdown = gap(me);
    return chosen && on;
  }
  lane->alloc_bytes[domain] += size;
  lane->allocs[domain]++;
  bool chosen = me->serial != 0; /* else this thread has not drawn yet */
  if (!chosen)
    chosen = (me->countdown = gap(me) - (int64_t)size) < 0;
  if (chosen)
    me->countdown = gap(me);
  return chosen && on;
}

/* --- booking ---------------------------------------------------------------------------------------------------------- */

static void hold_off(bool gil) {
  if (!gil)
    bursar_fold_hold_off();
}
static void let_go(bool gil) {
  if (!gil)
    bursar_fold_let_go();
}

/* Between the two of them no site moves, but by what the account itself does at an end under the GIL. */
static void retire(const void *p, struct bursar_record record, bool gil) {
  struct bursar_weight weight = bursar_sample_weigh(p, record.size);
  struct bursar_record piece = {.size = weight.bytes, .number = record.number};
  unsigned domain = bursar_account_domain(record.number);
  uint32_t generation = bursar_fold_generation;
  if (gil)
    bursar_account_unmap_gil(piece, true, domain);
  else
    bursar_account_unmap_free(piece, true, domain);
  lock();
  uint32_t number = on && bursar_account.active ? bursar_fold_where(record.number, generation) : 0;
  if (number)
    subtract(number, &weight);
  unlock();
}

/* What the account has booked.  While folding is held off, or under the main GIL. */
static void keep(const void *p, size_t size, uint32_t number, const struct bursar_weight *weight, bool gil) {
  if (!number)
    return;
  lock();
  bool open = on && bursar_account.active, kept = open && put((uintptr_t)p, size, number);
  if (open)
    add(number, weight);
  unlock();
  if (!open || kept)
    return;
  __atomic_fetch_add(&bursar_account.writer.counts->lost_samples, 1, __ATOMIC_RELAXED);
  retire(p, (struct bursar_record){.size = size, .number = number}, gil);
}

void bursar_sample_book_gil(const void *p, size_t size, uint32_t tag, unsigned domain) {
  struct bursar_weight weight = bursar_sample_weigh(p, size);
  keep(p, size, bursar_account_map_gil(weight.bytes, tag, domain), &weight, true);
  if (__atomic_load_n(&bursar_account.fold_due, __ATOMIC_RELAXED) && bursar_account.active) {
    __atomic_store_n(&bursar_account.fold_due, false, __ATOMIC_RELAXED);
    bursar_fold_if_full();
  }
}

void bursar_sample_book_free(const void *p, size_t size, uint32_t number, unsigned domain) {
  struct bursar_weight weight = bursar_sample_weigh(p, size);
  keep(p, size, bursar_account_map_free(weight.bytes, number, domain, 0), &weight, false);
}

bool bursar_sample_lift(const void *p, struct bursar_record *out, bool gil) {
  hold_off(gil);
  lock();
  bool found = on && take((uintptr_t)p, out);
  unlock();
  let_go(gil);
  return found;
}

void bursar_sample_drop(const void *p, struct bursar_record lifted, bool gil) {
  hold_off(gil);
  lifted.number = bursar_fold_where(lifted.number, lifted.generation);
  if (on && lifted.number)
    retire(p, lifted, gil);
  let_go(gil);
}

void bursar_sample_put_back(const void *p, struct bursar_record lifted, bool gil) {
  hold_off(gil);
  lifted.number = bursar_fold_where(lifted.number, lifted.generation);
  lock();
  bool kept = on && lifted.number && put((uintptr_t)p, lifted.size, lifted.number);
  unlock();
  if (on && lifted.number && !kept)
    retire(p, lifted, gil);
  let_go(gil);
}

void bursar_sample_end(const void *p, bool gil) {
  struct bursar_record record;
  hold_off(gil);
  lock();
  bool found = on && take((uintptr_t)p, &record);
  unlock();
  if (found)
    retire(p, record, gil);
  let_go(gil);
}

/* --- start and stop --------------------------------------------------------------------------------------------------- */

int bursar_sample_start(uint32_t bytes, uint64_t given) {
  int kept = errno;
  interval = bytes ? bytes : BURSAR_SAMPLE_INTERVAL;
  seed = given;
  if (!given && getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
    seed = mix(bursar_prim_now()); /* early in a boot */
  errno = kept;
  threads_seeded = 0;
  if (!entries && !grow())
    return -1;
  __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
  bursar_lanes_mine.countdown = -1; /* this thread draws anew, so that a seed is a sequence for ever; others go on */
  bursar_lanes_mine.serial = 0;
  __atomic_store_n(&on, true, __ATOMIC_RELEASE);
  return 0;
}

void bursar_sample_stop(void) {
  lock();
  if (on) {
    on = false;
    bursar_prim_discard(entries, entries_size * sizeof *entries);
    entries_used = 0;
    memset(bursar_sample_pages, 0, sizeof bursar_sample_pages);
  }
  unlock();
}

void bursar_sample_after_fork(void) { unlock(); }
