#include "account/journal.h"

#include <string.h>

#include "account/account.h"
#include "account/hot.h"
#include "account/lock.h"
#include "account/stacks.h"
#include "base/pool.h"
#include "prim/prim.h"

#define FIRST_INTERVAL 10000000ull /* 10 ms */
#define LOOK_EVERY 256             /* small events between two looks at the clock: what a rest may be off by */
#define UNDO_AHEAD 4096u           /* records for which there is room when an interval opens, if the ledger allows */

static uint64_t last_look, last_tick, last_whole; /* since the start */
static uint64_t whole_interval;                   /* no two whole ticks are closer than this */
static uint64_t noted;                            /* events at the last tick */
static uint64_t high;                             /* greatest total seen since the last tick */
static uint64_t full_at;                          /* 1 + the tick after which there was no room for another record */

static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static enum bursar_region ticks_region(unsigned half) { return half ? BURSAR_REGION_TICKS_B : BURSAR_REGION_TICKS_A; }
static enum bursar_region undo_region(unsigned half) { return half ? BURSAR_REGION_UNDO_B : BURSAR_REGION_UNDO_A; }
static struct bursar_tick *ticks(unsigned half) {
  return (struct bursar_tick *)(void *)bursar_account.writer.base[ticks_region(half)];
}
static struct bursar_undo *undos(unsigned half) {
  return (struct bursar_undo *)(void *)bursar_account.writer.base[undo_region(half)];
}
static bool room(enum bursar_region region, uint64_t bytes) {
  return bursar_writer_room(&bursar_account.writer, region, bytes) == 0;
}

static uint32_t clamp32(uint64_t value) { return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value; }

/* A forgotten one keeps its totals, and no records: what sites held before the next whole tick is not known. */
enum fate { WHOLE, TOTALS, FORGOTTEN, DROPPED };

/* The tick at the end of __main__ is named by reports: it stays whole. */
static bool is_end(const struct bursar_tick *tick) {
  return (tick->flags & BURSAR_TICK_END) && tick->serial == counts()->end_tick;
}
static bool is_whole(const struct bursar_tick *tick) { return !(tick->flags & BURSAR_TICK_TOTALS); }

/* Too many ticks: one of each two goes, a whole one last. */
static enum fate fate_by_number(const struct bursar_tick *all, uint32_t n, uint32_t i, uint64_t *unused) {
  (void)unused;
  enum fate kept = is_whole(&all[i]) ? WHOLE : TOTALS;
  const struct bursar_tick *other = &all[i ^ 1];
  if (!i || (i ^ 1) >= n || is_end(&all[i]))
    return kept;
  if (is_whole(&all[i]) != is_whole(other))
    return is_whole(&all[i]) ? kept : DROPPED;
  return i % 2 == 0 ? kept : DROPPED;
}

/* Too many records: of the whole ticks, those that stand closer to the one before than whole ones are to come now keep
 * their totals alone.  *next is the earliest time at which one stays. */
static enum fate fate_by_records(const struct bursar_tick *all, uint32_t n, uint32_t i, uint64_t *next) {
  (void)n;
  if (!is_whole(&all[i]) || (all[i].time_ns < *next && !is_end(&all[i])))
    return TOTALS;
  *next = all[i].time_ns + whole_interval;
  return WHOLE;
}

/* Too many records in two intervals alone: what was before the second is given up.  *seen counts whole ticks. */
static enum fate fate_of_oldest(const struct bursar_tick *all, uint32_t n, uint32_t i, uint64_t *seen) {
  (void)n;
  *seen += is_whole(&all[i]);
  return *seen < 2 ? FORGOTTEN : is_whole(&all[i]) ? WHOLE : TOTALS;
}

typedef enum fate fate_of(const struct bursar_tick *all, uint32_t n, uint32_t i, uint64_t *state);

/* Copies the journal into its other half as the fates say.  Of the records of intervals that become one, the first of each
 * site stays: what it held at the earlier tick. */
static bool rewrite(fate_of *decide) {
  unsigned from = counts()->journal, to = !from;
  uint32_t n = counts()->ticks[from], records = counts()->undos[from], kept = 0, out = 0, stamp = 1;
  uint64_t state = 0;
  size_t seen_bytes = (size_t)counts()->sites * sizeof(uint32_t);
  if (!room(ticks_region(to), (uint64_t)n * sizeof(struct bursar_tick)) ||
      !room(undo_region(to), (uint64_t)records * sizeof(struct bursar_undo)))
    return false;
  uint32_t *seen = bursar_pool_take(seen_bytes);
  if (!seen)
    return false;
  const struct bursar_tick *in_tick = ticks(from);
  const struct bursar_undo *in = undos(from);
  for (uint32_t i = 0; i < n; i++) {
    enum fate fate = decide(in_tick, n, i, &state);
    if (fate != DROPPED) {
      struct bursar_tick *tick = &ticks(to)[kept++];
      *tick = in_tick[i];
      tick->first_undo = out;
      tick->flags |= fate == WHOLE ? 0 : BURSAR_TICK_TOTALS;
      stamp += fate == WHOLE;
    } else if (ticks(to)[kept - 1].high < in_tick[i].high) {
      ticks(to)[kept - 1].high = in_tick[i].high;
    }
    if (fate == FORGOTTEN)
      continue;
    for (uint32_t k = in_tick[i].first_undo, end = i + 1 < n ? in_tick[i + 1].first_undo : records; k < end; k++) {
      if (seen[in[k].site] == stamp)
        continue;
      seen[in[k].site] = stamp;
      undos(to)[out++] = in[k];
    }
  }
  bursar_pool_give(seen, seen_bytes);
  /* Records come after all ticks that are not whole: those stand, inexactly, for the next whole one. */
  counts()->ticks[to] = kept;
  counts()->undos[to] = out;
  __atomic_store_n(&counts()->journal, to, __ATOMIC_RELEASE);
  return true;
}

/* Whole ticks that fate_by_records would thin out, and all of them. */
static uint32_t whole_ticks(bool in_the_way) {
  unsigned half = counts()->journal;
  uint32_t n = counts()->ticks[half], found = 0;
  uint64_t next = 0;
  for (uint32_t i = 0; i < n; i++) {
    bool whole = is_whole(&ticks(half)[i]);
    found += whole && !(in_the_way && fate_by_records(ticks(half), n, i, &next) == WHOLE);
  }
  return found;
}

/* Fewer whole ticks; at last one, without the records that a site made again since their interval became part of that.
 * False: nothing is to be gained, or there is no memory. */
static bool thin_out(void) {
  while (!whole_ticks(true) && whole_interval <= last_tick)
    whole_interval *= 2;
  if (whole_ticks(true))
    return rewrite(fate_by_records);
  if (whole_ticks(false) > 1)
    return rewrite(fate_of_oldest);
  uint32_t before = counts()->undos[counts()->journal];
  return rewrite(fate_by_records) && counts()->undos[counts()->journal] < before;
}

/* --- folding -------------------------------------------------------------------------------------------------------- */

/* Sites that are one now, by the index of that one. */
struct together {
  uint64_t bytes;
  uint32_t blocks;
  uint32_t born; /* index of the tick after which the first of them was made */
  uint32_t seen; /* 1 + the interval in which one of them changed, as far as is known */
};

struct folding {
  const uint32_t *into;
  struct bursar_past *past;
  struct together *together;
  uint32_t *first_born, *next_born; /* by interval, by site: sites that were made in it and joined older ones */
  uint32_t *changed;                /* in the interval at hand */
  uint32_t changes;
};

static uint32_t folded_into(const struct folding *f, uint32_t site) {
  return f->into[site + 1] ? f->into[site + 1] - 1 : site;
}

/* The last tick that was there when a site was made, as readers find it. */
static uint32_t born(const struct bursar_tick *all, uint32_t n, uint32_t created) {
  uint32_t low = 0, end = n;
  while (low < end) {
    uint32_t middle = (low + end) / 2;
    if ((uint32_t)all[middle].serial <= created)
      low = middle + 1;
    else
      end = middle;
  }
  return low ? low - 1 : 0;
}

static void join_all(struct folding *f, const struct bursar_tick *all, uint32_t n, uint32_t sites) {
  for (uint32_t i = 0; i < sites; i++)
    f->together[i].born = UINT32_MAX;
  for (uint32_t i = 0; i < sites; i++) {
    if (f->past[i].created == BURSAR_PAST_NONE)
      continue;
    struct together *one = &f->together[folded_into(f, i)];
    uint32_t since = born(all, n, f->past[i].created);
    one->bytes += f->past[i].bytes;
    one->blocks += f->past[i].blocks;
    one->born = since < one->born ? since : one->born;
  }
  for (uint32_t i = 0; i < sites; i++) {
    if (f->past[i].created == BURSAR_PAST_NONE)
      continue;
    uint32_t into = folded_into(f, i), since = born(all, n, f->past[i].created);
    struct bursar_site_facts *facts =
        (struct bursar_site_facts *)(void *)bursar_account.writer.base[BURSAR_REGION_SITE_FACTS] + into;
    if (f->past[i].created < facts->created)
      facts->created = f->past[i].created;
    if (since > f->together[into].born) {
      f->next_born[i] = f->first_born[since];
      f->first_born[since] = i + 1;
    }
  }
}

/* Going back in time, the site held this before its change. */
static void go_back(struct folding *f, uint32_t site, uint64_t bytes, uint32_t blocks, uint32_t interval) {
  if (site < BURSAR_SITE_FIRST || f->past[site].created == BURSAR_PAST_NONE)
    return;
  uint32_t into = folded_into(f, site);
  struct together *one = &f->together[into];
  one->bytes += bytes - f->past[site].bytes;
  one->blocks += blocks - f->past[site].blocks;
  f->past[site].bytes = bytes;
  f->past[site].blocks = blocks;
  if (one->seen != interval + 1) {
    one->seen = interval + 1;
    f->changed[f->changes++] = into;
  }
}

/* From the last interval to the first, into the other half from its end; then to its beginning.  What does not fit there
 * is the oldest past: of that the totals stay. */
static void rewrite_folded(struct folding *f, unsigned from, unsigned to, uint32_t capacity) {
  uint32_t n = counts()->ticks[from], records = counts()->undos[from], at = capacity;
  struct bursar_undo *out = undos(to);
  bool full = false;
  memcpy(ticks(to), ticks(from), n * sizeof(struct bursar_tick));
  /* Of the interval at hand, whatever ticks of totals are in it: its first record of a site says all. */
  uint32_t whole = n;
  for (uint32_t i = n; i-- > 0;) {
    uint32_t end = i + 1 < n ? ticks(from)[i + 1].first_undo : records, before = at;
    for (uint32_t k = end; k-- > ticks(from)[i].first_undo;)
      go_back(f, undos(from)[k].site, undos(from)[k].bytes, undos(from)[k].blocks, whole);
    for (uint32_t site = f->first_born[i]; site; site = f->next_born[site - 1])
      go_back(f, site - 1, 0, 0, whole);
    ticks(to)[i].first_undo = at;
    if (i && !is_whole(&ticks(from)[i]))
      continue;
    for (uint32_t k = 0; k < f->changes && !full; k++) {
      const struct together *one = &f->together[f->changed[k]];
      if (one->born >= i)
        continue; /* readers know that it held nothing */
      full = !at;
      if (!full)
        out[--at] = (struct bursar_undo){f->changed[k], one->blocks, one->bytes};
    }
    at = full ? before : at;
    ticks(to)[i].first_undo = at;
    ticks(to)[i].flags |= full ? BURSAR_TICK_TOTALS : 0;
    f->changes = 0;
    whole = i;
  }
  for (uint32_t i = 0; i < n; i++)
    ticks(to)[i].first_undo -= at;
  memmove(out, out + at, (capacity - at) * sizeof *out);
  counts()->ticks[to] = n;
  counts()->undos[to] = capacity - at;
  __atomic_store_n(&counts()->journal, to, __ATOMIC_RELEASE);
}

/* Without memory to work out what the sites that are one now held together: of the past the totals stay. */
static void forget_sites(void) {
  unsigned half = counts()->journal;
  for (uint32_t i = 0; i < counts()->ticks[half]; i++) {
    ticks(half)[i].flags |= BURSAR_TICK_TOTALS;
    ticks(half)[i].first_undo = 0;
  }
  counts()->undos[half] = 0;
  counts()->lost_undos++;
}

/* No more records than these will there be: in an interval one for each record and each site that was made in it, which may
 * have joined an older one, and at most one for each site that is left. */
static uint64_t records_folded(const uint32_t *into, const struct bursar_past *past, uint32_t sites) {
  static uint32_t made[BURSAR_TICKS_MAX];
  unsigned half = counts()->journal;
  uint32_t n = counts()->ticks[half], left = 0;
  uint64_t sum = 0;
  memset(made, 0, sizeof made);
  for (uint32_t i = 0; i < sites; i++)
    if (past[i].created != BURSAR_PAST_NONE) {
      made[born(ticks(half), n, past[i].created)]++;
      left += !into[i + 1];
    }
  uint64_t most = 0;
  for (uint32_t i = n; i-- > 0;) {
    uint32_t end = i + 1 < n ? ticks(half)[i + 1].first_undo : counts()->undos[half];
    most += (uint64_t)(end - ticks(half)[i].first_undo) + made[i];
    if (i && !is_whole(&ticks(half)[i]))
      continue;
    sum += most < left ? most : left;
    most = 0;
  }
  return sum;
}

void bursar_journal_fold(const uint32_t *into, struct bursar_past *past, uint32_t sites) {
  uint32_t capacity = (uint32_t)(bursar_account.writer.limit[undo_region(0)] / sizeof(struct bursar_undo));
  while (records_folded(into, past, sites) > capacity && thin_out())
    ;
  unsigned from = counts()->journal, to = !from;
  size_t together = sites * sizeof(struct together), list = sites * sizeof(uint32_t),
         by_tick = BURSAR_TICKS_MAX * sizeof(uint32_t);
  struct folding f = {.into = into,
                      .past = past,
                      .together = bursar_pool_take(together),
                      .first_born = bursar_pool_take(by_tick),
                      .next_born = bursar_pool_take(list),
                      .changed = bursar_pool_take(list)};
  if (f.together && f.first_born && f.next_born && f.changed &&
      room(ticks_region(to), (uint64_t)counts()->ticks[from] * sizeof(struct bursar_tick)) &&
      room(undo_region(to), (uint64_t)capacity * sizeof(struct bursar_undo))) {
    join_all(&f, ticks(from), counts()->ticks[from], sites);
    rewrite_folded(&f, from, to, capacity);
  } else {
    forget_sites();
  }
  bursar_pool_give(f.together, together);
  bursar_pool_give(f.first_born, by_tick);
  bursar_pool_give(f.next_born, list);
  bursar_pool_give(f.changed, list);
}

/* --- room ------------------------------------------------------------------------------------------------------------ */

/* An interval has a record of each site at most, and there is room for so many: what makes this fail is the disk. */
static bool undo_room(uint32_t more) {
  if (full_at == BURSAR_BOOKS->tick + 1 && more == 1)
    return false; /* asked before in this interval */
  for (;;) {
    unsigned half = counts()->journal;
    uint64_t bytes = ((uint64_t)counts()->undos[half] + more) * sizeof(struct bursar_undo);
    if (room(undo_region(half), bytes))
      return true;
    if (bytes <= bursar_account.writer.limit[undo_region(half)] || !thin_out())
      break;
  }
  full_at = BURSAR_BOOKS->tick + 1;
  return false;
}

static void record(const struct bursar_site *site) {
  struct bursar_holding now = bursar_stacks_sites_now(site);
  unsigned half = counts()->journal;
  if (((uint64_t)counts()->undos[half] + 1) * sizeof(struct bursar_undo) >
      bursar_account.writer.have[undo_region(half)]) {
    if (!undo_room(1)) {
      counts()->lost_undos++;
      return;
    }
    half = counts()->journal;
  }
  uint32_t at = counts()->undos[half];
  undos(half)[at] = (struct bursar_undo){bursar_stacks_site_index(site), clamp32(now.blocks), now.bytes};
  BURSAR_IN_ORDER();
  counts()->undos[half] = at + 1;
}

void bursar_journal_touch(struct bursar_site *site) {
  const struct bursar_books *books = BURSAR_BOOKS;
  bursar_lock_take();
  if (site->tick != (uint32_t)books->tick) {
    record(site);
    site->tick = (uint32_t)books->tick;
  }
  uint64_t lane = site->epoch & BURSAR_EPOCH_FREE;
  if ((site->epoch ^ lane) < books->peak_epoch) {
    struct bursar_holding peak = bursar_stacks_sites_at_peak(site);
    site->peak_bytes = peak.bytes;
    site->peak_blocks = clamp32(peak.blocks);
  }
  BURSAR_IN_ORDER();
  __atomic_store_n(&site->epoch, books->epoch | lane, __ATOMIC_RELAXED); /* threads without the GIL look at it */
  bursar_lock_give();
}

/* What other threads add to meanwhile: the frees are read first, so that no block has gone that did not come. */
static uint64_t difference(const uint64_t *more, const uint64_t *less) {
  uint64_t gone = __atomic_load_n(less, __ATOMIC_ACQUIRE);
  return __atomic_load_n(more, __ATOMIC_RELAXED) - gone;
}

/* What lane FREE holds is saved with each peak, unless it has not moved since. */
static void save_free_lane(struct bursar_books *books) {
  static uint64_t saved;
  uint64_t events = __atomic_load_n(&bursar_account.free_events, __ATOMIC_ACQUIRE);
  if (events == saved)
    return;
  saved = events;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_site *site = &bursar_account.sites[domain];
    books->peak_free_bytes[domain] = difference(&site->alloc_bytes, &site->free_bytes);
    books->peak_free_blocks[domain] = difference(&site->allocs, &site->frees);
  }
}

/* The hot path looks at it without the lock. */
static void set_epoch(uint64_t epoch) { __atomic_store_n(&BURSAR_BOOKS->epoch, epoch, __ATOMIC_RELAXED); }

void bursar_journal_peak(uint64_t total) {
  struct bursar_books *books = BURSAR_BOOKS;
  save_free_lane(books);
  uint64_t now = bursar_prim_now_coarse() - bursar_account.started_ns; /* may be behind the start, or the last look */
  books->peak_ns = (int64_t)now > (int64_t)last_look ? now : last_look;
  set_epoch(books->epoch + 1);
  __atomic_store_n(&books->peak_epoch, books->epoch, __ATOMIC_RELAXED);
  BURSAR_IN_ORDER(); /* until the peak itself is written a reader sees live above it, and takes now as the peak */
  __atomic_store_n(&books->peak, total, __ATOMIC_RELAXED);
  if (total > high)
    high = total;
}

static struct bursar_tick totals_now(uint64_t now, uint32_t flags) {
  const struct bursar_books *books = BURSAR_BOOKS;
  struct bursar_tick tick = {.serial = books->tick, .time_ns = now, .flags = flags};
  struct bursar_tally all = bursar_account_totals();
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_site *site = &bursar_account.sites[domain];
    tick.free_bytes[domain] = difference(&site->alloc_bytes, &site->free_bytes);
    tick.live[domain] = bursar_account_live_of(domain);
  }
  uint64_t total = (uint64_t)bursar_account_live();
  tick.allocs = all.allocs;
  tick.alloc_bytes = all.alloc_bytes;
  tick.high = high > total ? high : total;
  high = total;
  return tick;
}

static uint64_t events(void) {
  struct bursar_tally all = bursar_account_totals();
  return all.allocs + all.frees;
}

/* `since` is when the state that the tick notes came to be. */
static uint64_t note(uint64_t since, uint64_t now, uint32_t flags) {
  struct bursar_books *books = BURSAR_BOOKS;
  if (counts()->ticks[counts()->journal] == BURSAR_TICKS_MAX) {
    if (!rewrite(fate_by_number))
      return 0;
    counts()->tick_interval_ns *= 2;
  }
  bool whole = flags || !last_whole || now - last_whole >= whole_interval;
  uint64_t most = bursar_account.writer.limit[undo_region(0)] / sizeof(struct bursar_undo);
  if (whole)
    (void)undo_room(most / 4 < UNDO_AHEAD ? (uint32_t)(most / 4) : UNDO_AHEAD);
  unsigned half = counts()->journal;
  uint32_t at = counts()->ticks[half];
  if (!room(ticks_region(half), ((uint64_t)at + 1) * sizeof(struct bursar_tick)))
    return 0;
  struct bursar_tick tick = totals_now(since, whole || !at ? flags : flags | BURSAR_TICK_TOTALS);
  tick.serial += !(tick.flags & BURSAR_TICK_TOTALS);
  tick.first_undo = counts()->undos[half];
  ticks(half)[at] = tick;
  BURSAR_IN_ORDER();
  counts()->ticks[half] = at + 1;
  BURSAR_IN_ORDER();
  last_tick = since;
  noted = events();
  if (tick.serial != books->tick) {
    books->tick = tick.serial;
    set_epoch(books->epoch + 1);
    last_whole = since;
  }
  bursar_stacks_room_ahead();
  __atomic_store_n(&bursar_account.fold_due, true, __ATOMIC_RELAXED);
  return tick.serial;
}

uint64_t bursar_journal_tick(uint32_t flags) {
  bursar_lock_take();
  uint64_t now = bursar_prim_now() - bursar_account.started_ns, serial = note(now, now, flags);
  bursar_lock_give();
  return serial;
}

static void look(void) {
  uint64_t total = (uint64_t)bursar_account_live();
  if (total > high)
    high = total;
  /* The coarse clock moves every few milliseconds, and may be behind the start, or the last tick. */
  uint64_t before = last_look, now = bursar_prim_now_coarse() - bursar_account.started_ns;
  if (now == before || (int64_t)now < (int64_t)before)
    return;
  last_look = now;
  uint64_t interval = counts()->tick_interval_ns;
  if (now - before >= interval && events() != noted)
    (void)note(before > last_tick ? before : last_tick, now, 0); /* the program rested, with what it holds now */
  else if ((int64_t)(now - last_tick) >= (int64_t)interval)
    (void)bursar_journal_tick(0);
}

void bursar_journal_look(void) {
  bursar_lock_take();
  look();
  bursar_lock_give();
}

void bursar_journal_count_down(void) { bursar_account.countdown = bursar_account.within > 1 ? 0 : LOOK_EVERY; }

int bursar_journal_start(void) {
  last_look = last_tick = last_whole = high = full_at = 0;
  counts()->tick_interval_ns = whole_interval = FIRST_INTERVAL;
  bursar_journal_count_down();
  BURSAR_BOOKS->epoch = 1;
  return bursar_journal_tick(0) ? 0 : -1;
}
