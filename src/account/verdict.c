#include "account/verdict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "account/account.h"
#include "account/hot.h"
#include "account/live.h"
#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "ledger/leaks.h"
#include "prim/prim.h"

#define NAMES 65536u    /* those beyond are not judged */
#define FIRST_POINT 64u /* calls; a name that is entered less often needs no series */
#define SPACING 8u      /* calls between the first points */
#define RECENT_MAX 64
#define UNKNOWN UINT64_MAX
#define LOOKED 300u /* calls after an alarm that are surveyed, and calls that an idle moment is waited for */

/* Of a name, beside the ledger.  Under the lock. */
static struct name {
  uint64_t due;        /* calls at which the next point is; 0: at the first */
  uint64_t ripe;       /* calls since which a collection is wanted; 0: none is */
  uint64_t before;     /* full collections that had run by then; UNKNOWN */
  uint64_t survey;     /* calls at which what survived is to be looked at; 0: not */
  uint64_t swept;      /* calls at which the last collection ran that was asked for */
  uint32_t length;     /* of its chain */
  uint16_t head, tail; /* of kept entries, the first ended first */
  uint16_t series;     /* index in the region, + 1; 0: none */
  bool full;           /* there is no room for one */
  bool traced;
  bool told; /* where it leaks */
} names_of[NAMES];
static uint16_t next_of[BURSAR_SCOPE_SLOTS], previous_of[BURSAR_SCOPE_SLOTS];
static uint32_t ended_at[BURSAR_SCOPE_SLOTS]; /* the low word of the calls of its name then */
static bool kept[BURSAR_SCOPE_SLOTS];
static uint32_t traced;                 /* names */
static uint32_t names_used, slots_used; /* of these: what was never used is no memory */
static uint64_t seen, seen_ns, look_ns; /* of the process: what was seen last, when, and the least it cost; atomic */
static int64_t open_entries, most_open; /* now, and at most so far */
static uint32_t threshold = BURSAR_LEAKS_THRESHOLD, warmup = BURSAR_LEAKS_WARMUP;

bool bursar_verdict_due, bursar_verdict_tracing;

static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
static struct bursar_scope *slots(void) { return bursar_account.scopes; }
static struct bursar_scope_name *scope_names(void) {
  return (struct bursar_scope_name *)(void *)bursar_account.writer.base[BURSAR_REGION_SCOPE_NAMES];
}
static struct bursar_leaks *all_series(void) {
  return (struct bursar_leaks *)(void *)bursar_account.writer.base[BURSAR_REGION_LEAKS];
}
static struct name *name_of(const struct bursar_leaks *series) { return &names_of[series->name]; }
static uint64_t now(void) { return bursar_prim_now() - bursar_account.started_ns; }
static uint64_t calls_of(const struct bursar_leaks *series) { return scope_names()[series->name].calls; }

void bursar_verdict_start(void) {
  memset(names_of, 0, names_used * sizeof *names_of);
  memset(kept, 0, slots_used * sizeof *kept);
  names_used = slots_used = traced = 0;
  open_entries = most_open = 0;
  seen_ns = 0;
  bursar_verdict_due = bursar_verdict_tracing = false;
}

void bursar_verdict_stop(void) { bursar_verdict_due = bursar_verdict_tracing = false; }

void bursar_verdict_set(uint32_t *bytes, uint32_t *calls, bool begun) {
  const uint32_t old_threshold = threshold, old_warmup = warmup;
  bursar_lock_take();
  threshold = *bytes;
  warmup = *calls;
  for (uint32_t i = 0; begun && bursar_account.active && i < counts()->leaks; i++) {
    all_series()[i].threshold = threshold;
    all_series()[i].warmup = warmup;
  }
  *bytes = old_threshold;
  *calls = old_warmup;
  bursar_lock_give();
}

/* --- kept entries ------------------------------------------------------------------------------------------------------- */

static void keep(struct name *name, uint32_t slot, uint64_t calls) {
  ended_at[slot] = (uint32_t)calls;
  kept[slot] = true;
  slots_used = slot < slots_used ? slots_used : slot + 1;
  previous_of[slot] = name->tail;
  next_of[slot] = 0;
  if (name->tail)
    next_of[name->tail] = (uint16_t)slot;
  else
    name->head = (uint16_t)slot;
  name->tail = (uint16_t)slot;
  name->length++;
}

void bursar_verdict_begun(void) { most_open = ++open_entries > most_open ? open_entries : most_open; }

/* So many of the last calls do not count: where several run at once, their callers have the results still. */
static uint32_t recent(void) {
  return most_open > RECENT_MAX ? RECENT_MAX : most_open > 1 ? (uint32_t)most_open - 1 : 0;
}

void bursar_verdict_gone(uint32_t slot) {
  if (!kept[slot])
    return;
  struct name *name = &names_of[slots()[slot].name];
  uint16_t before = previous_of[slot], after = next_of[slot];
  kept[slot] = false;
  if (before)
    next_of[before] = after;
  else
    name->head = after;
  if (after)
    previous_of[after] = before;
  else
    name->tail = before;
  name->length--;
}

static int64_t held_by(uint32_t slot) {
  const struct bursar_scope *scope = &slots()[slot];
  return scope->live_bytes + __atomic_load_n(&scope->free_live_bytes, __ATOMIC_RELAXED);
}

static int64_t least_of(int64_t bytes, uint64_t cap) { return bytes < (int64_t)cap ? bytes : (int64_t)cap; }

/* What was folded into the name counts in full: of how many calls that is nobody knows. */
static struct bursar_leaks_point point_of(const struct bursar_leaks *series, struct bursar_verdict_around around) {
  const struct bursar_scope_name *scope = &scope_names()[series->name];
  struct bursar_leaks_point point = {
      .calls = scope->calls, .descriptors = around.descriptors, .threads = around.threads};
  if (scope->slot)
    point.bytes = point.capped = held_by(scope->slot);
  for (uint32_t slot = names_of[series->name].head; slot && (uint32_t)point.calls - ended_at[slot] >= recent();
       slot = next_of[slot]) {
    point.bytes += held_by(slot);
    point.capped += least_of(held_by(slot), series->cap);
  }
  return point;
}

/* Not again before so many times what it cost have gone by: what was seen is near enough until then. */
#define LOOK_COSTS 25u
#define LOOK_COSTS_MOST 50000u /* ns: where it was interrupted, that is no cost */

static uint64_t look(uint64_t before) {
  union {
    struct bursar_verdict_around around;
    uint64_t word;
  } now_seen = {{bursar_prim_descriptors(), bursar_prim_threads()}};
  uint64_t after = bursar_prim_now(), least = __atomic_load_n(&look_ns, __ATOMIC_RELAXED);
  if (!least)
    least = LOOK_COSTS_MOST;
  __atomic_store_n(&look_ns, after - before < least ? after - before : least, __ATOMIC_RELAXED);
  __atomic_store_n(&seen, now_seen.word, __ATOMIC_RELAXED);
  __atomic_store_n(&seen_ns, after, __ATOMIC_RELAXED);
  return now_seen.word;
}

struct bursar_verdict_around bursar_verdict_look_around(uint32_t name) {
  union {
    uint64_t word;
    struct bursar_verdict_around around;
  } out = {.around = {-1, -1}};
  uint64_t calls = scope_names()[name].calls + 1;
  if (name >= NAMES || calls < (names_of[name].due ? names_of[name].due : FIRST_POINT))
    return out.around;
  uint64_t before = bursar_prim_now(), since = before - __atomic_load_n(&seen_ns, __ATOMIC_RELAXED);
  bool again = since >= LOOK_COSTS * __atomic_load_n(&look_ns, __ATOMIC_RELAXED);
  out.word = again ? look(before) : __atomic_load_n(&seen, __ATOMIC_RELAXED);
  return out.around;
}

/* --- what becomes of it -------------------------------------------------------------------------------------------------- */

static void begin(struct bursar_leaks *series) {
  series->begun++;
  BURSAR_IN_ORDER();
}
static void done(struct bursar_leaks *series) {
  BURSAR_IN_ORDER();
  series->done = series->begun;
}

static void turn(struct bursar_leaks *series, enum bursar_leaks_state state, int64_t bytes) {
  series->state = state;
  series->since_calls = calls_of(series);
  series->since_ns = now();
  series->since_bytes = bytes;
  name_of(series)->ripe = 0;
}

static void ripen(struct bursar_leaks *series) {
  name_of(series)->ripe = calls_of(series);
  name_of(series)->before = UNKNOWN;
  bursar_verdict_due = true;
}

static double threshold_of(const struct bursar_leaks *series, enum bursar_leaks_what what) {
  return what == BURSAR_LEAKS_OF_BYTES || what == BURSAR_LEAKS_OF_CAPPED ? series->threshold : BURSAR_LEAKS_COUNTED;
}

static struct bursar_leaks_found judge(const struct bursar_leaks *series, enum bursar_leaks_what what) {
  struct bursar_leaks_found found;
  bursar_leaks_judge(series->point, series->points, what, threshold_of(series, what), series->warmup, false, &found);
  return found;
}

static void tell(const struct bursar_leaks *series, const char *text, double bytes) {
  uint32_t string = bursar_stacks_string(text, strlen(text));
  bursar_scopes_tell(BURSAR_EVENT_VERDICT, series->name, bytes > 0 ? (uint64_t)(bytes + 0.5) : 0, string);
}

static void trace(struct name *name, bool on) {
  traced += (uint32_t)on - (uint32_t)name->traced;
  name->traced = on;
  bursar_verdict_tracing = traced != 0;
}

static void alarm(struct bursar_leaks *series) {
  char text[200];
  bool capped = !(series->flags & BURSAR_LEAKS_BYTES);
  struct bursar_leaks_found bytes = judge(series, capped ? BURSAR_LEAKS_OF_CAPPED : BURSAR_LEAKS_OF_BYTES);
  int at = snprintf(text, sizeof text, "leaks");
  if (series->flags & (BURSAR_LEAKS_BYTES | BURSAR_LEAKS_CAPPED))
    at += snprintf(text + at, sizeof text - (size_t)at, "%s %.0f bytes", capped ? " at least" : "", bytes.rate);
  if (series->flags & BURSAR_LEAKS_DESCRIPTORS)
    at += snprintf(text + at, sizeof text - (size_t)at, "%s %.2g descriptors", at > 5 ? " and" : "",
                   judge(series, BURSAR_LEAKS_OF_DESCRIPTORS).rate);
  if (series->flags & BURSAR_LEAKS_THREADS)
    at += snprintf(text + at, sizeof text - (size_t)at, "%s %.2g threads", at > 5 ? " and" : "",
                   judge(series, BURSAR_LEAKS_OF_THREADS).rate);
  (void)snprintf(text + at, sizeof text - (size_t)at, " a call%s",
                 series->flags & BURSAR_LEAKS_UNCHECKED ? ", unless it is garbage: no collection has said" : "");
  turn(series, BURSAR_LEAKS_ALARM, series->point[series->points - 1].bytes);
  series->sites = 0;
  series->looked_ns = 0;
  struct name *name = name_of(series);
  name->survey = bursar_account.mode == BURSAR_MODE_EXACT ? series->since_calls
                                                          : series->since_calls + LOOKED + recent();
  trace(name, bursar_account.mode != BURSAR_MODE_EXACT);
  bursar_verdict_due = true;
  if (series->flags & BURSAR_LEAKS_UNCHECKED)
    ripen(series);
  tell(series, text, series->flags & (BURSAR_LEAKS_BYTES | BURSAR_LEAKS_CAPPED) ? bytes.rate : 0);
}

static void end(struct bursar_leaks *series) {
  bool was = series->state == BURSAR_LEAKS_ALARM;
  turn(series, BURSAR_LEAKS_NONE, 0);
  series->flags = 0;
  name_of(series)->survey = 0;
  trace(name_of(series), false);
  if (was)
    tell(series, "leaks no more", 0);
}

static uint32_t bit_of(enum bursar_leaks_what what) { return 1u << what; }

/* Nothing can be found where less came than the threshold since half the calls: most points end here. */
static bool may_grow(const struct bursar_leaks *series, enum bursar_leaks_what what) {
  const struct bursar_leaks_point *last = &series->point[series->points - 1], *at = series->point;
  while (at->calls < last->calls / 2)
    at++;
  return bursar_leaks_of(last, what) - bursar_leaks_of(at, what) >
         threshold_of(series, what) * (double)(last->calls - at->calls) / 2;
}

static bool grows(const struct bursar_leaks *series, enum bursar_leaks_what what) {
  return may_grow(series, what) && judge(series, what).grows;
}

static void suspect(struct bursar_leaks *series) {
  uint32_t flags = 0;
  for (unsigned what = 0; what < BURSAR_LEAKS_WHATS; what++)
    if (grows(series, what))
      flags |= bit_of(what);
  if (!flags)
    return;
  series->flags = flags;
  turn(series, BURSAR_LEAKS_SUSPECTED, series->point[series->points - 1].bytes);
}

/* It is one if it goes on for a quarter of the calls that came before: what filled up was full by then. */
static void doubt(struct bursar_leaks *series) {
  bool grows = false;
  uint64_t calls = calls_of(series);
  for (unsigned what = 0; what < BURSAR_LEAKS_WHATS; what++) {
    struct bursar_leaks_found found = {0};
    if (!(series->flags & bit_of(what)))
      continue;
    if (may_grow(series, what))
      found = judge(series, what);
    if (!found.goes_on)
      series->flags &= ~bit_of(what);
    grows = grows || found.grows;
  }
  if (!series->flags) {
    turn(series, BURSAR_LEAKS_NONE, 0);
  } else if (grows && calls >= series->since_calls + series->since_calls / 4 && !name_of(series)->ripe) {
    ripen(series);
  }
}

static void watch(struct bursar_leaks *series) {
  for (unsigned what = 0; what < BURSAR_LEAKS_WHATS; what++)
    if (series->flags & bit_of(what) ? judge(series, what).stopped : grows(series, what))
      series->flags ^= bit_of(what);
  if (!(series->flags & ~BURSAR_LEAKS_UNCHECKED))
    end(series);
}

/* After twice the calls, where it grew again, the question is the same. */
static void watch_garbage(struct bursar_leaks *series) {
  if (judge(series, BURSAR_LEAKS_OF_BYTES).stands)
    end(series);
  else if (calls_of(series) >= 2 * series->since_calls && !name_of(series)->ripe &&
           (grows(series, BURSAR_LEAKS_OF_BYTES) || grows(series, BURSAR_LEAKS_OF_CAPPED)))
    ripen(series);
}

static void add_point(struct bursar_leaks *series, struct bursar_leaks_point point) {
  struct name *name = name_of(series);
  begin(series);
  if (series->points == BURSAR_LEAKS_POINTS) {
    series->points = bursar_leaks_thin(series->point, series->points);
    series->spacing *= 2;
  }
  series->point[series->points++] = point;
  name->due = point.calls + (series->spacing > name->length / 64 ? series->spacing : name->length / 64);
  if (point.calls >= series->warmup)
    switch ((enum bursar_leaks_state)series->state) {
      case BURSAR_LEAKS_NONE: suspect(series); break;
      case BURSAR_LEAKS_SUSPECTED: doubt(series); break;
      case BURSAR_LEAKS_ALARM: watch(series); break;
      case BURSAR_LEAKS_CYCLES: watch_garbage(series); break;
    }
  if (name->survey && point.calls >= name->survey)
    bursar_verdict_due = true;
  if (name->traced && point.calls >= series->since_calls + LOOKED)
    trace(name, false);
  done(series);
}

static struct bursar_leaks *series_new(uint32_t index) {
  uint32_t at = counts()->leaks;
  if (at >= UINT16_MAX ||
      bursar_writer_room(&bursar_account.writer, BURSAR_REGION_LEAKS, (at + 1ull) * sizeof(struct bursar_leaks)) != 0)
    return NULL;
  struct bursar_leaks *series = &all_series()[at];
  memset(series, 0, sizeof *series);
  series->name = index;
  series->threshold = threshold;
  series->warmup = warmup;
  series->spacing = SPACING;
  series->cap = (uint64_t)threshold * BURSAR_LEAKS_CAP;
  BURSAR_IN_ORDER();
  counts()->leaks = at + 1;
  names_of[index].series = (uint16_t)(at + 1);
  return series;
}

void bursar_verdict_ended(uint32_t index, uint32_t slot, bool keeps, struct bursar_verdict_around around) {
  struct name *name = index < NAMES ? &names_of[index] : NULL;
  uint64_t calls = scope_names()[index].calls;
  open_entries--;
  if (!name)
    return;
  names_used = index < names_used ? names_used : index + 1;
  if (keeps)
    keep(name, slot, calls);
  if (calls < (name->due ? name->due : FIRST_POINT) || name->full || !index)
    return;
  struct bursar_leaks *series = name->series ? &all_series()[name->series - 1] : series_new(index);
  if (!series)
    name->full = true;
  else
    add_point(series, point_of(series, around));
}

/* --- what is to be done ---------------------------------------------------------------------------------------------------- */

static enum bursar_verdict_work work_for(struct bursar_leaks *series, uint64_t full) {
  struct name *name = name_of(series);
  uint64_t calls = calls_of(series);
  bool idle = open_entries <= 0;
  if (name->ripe && name->before == UNKNOWN)
    name->before = full;
  if (name->ripe && full > name->before)
    return BURSAR_VERDICT_COLLECTED;
  if (name->ripe && idle)
    return BURSAR_VERDICT_COLLECT;
  if (name->ripe && calls >= name->ripe + LOOKED && series->state == BURSAR_LEAKS_SUSPECTED) {
    begin(series);
    series->flags |= BURSAR_LEAKS_UNCHECKED;
    alarm(series);
    done(series);
  }
  if (!name->survey || calls < name->survey)
    return BURSAR_VERDICT_NOTHING;
  if (idle && name->swept < name->survey) {
    name->swept = calls;
    return BURSAR_VERDICT_SWEEP;
  }
  return idle || calls >= name->survey + LOOKED ? BURSAR_VERDICT_SURVEY : BURSAR_VERDICT_NOTHING;
}

enum bursar_verdict_work bursar_verdict_next(uint64_t full, uint32_t *which) {
  enum bursar_verdict_work work = BURSAR_VERDICT_NOTHING;
  bool waiting = false;
  bursar_lock_take();
  for (uint32_t i = 0; bursar_account.active && i < counts()->leaks && !work; i++) {
    struct bursar_leaks *series = &all_series()[i];
    work = work_for(series, full);
    *which = i;
    waiting = waiting || name_of(series)->ripe || name_of(series)->survey;
  }
  bursar_verdict_due = work || waiting;
  bursar_lock_give();
  return work;
}

#define PARTS 8u

/* How much more is held than `from` held: or what the calls since then hold, where those of each eighth of them do, since garbage
 * was held then too.  What a cache keeps is of the last calls alone. */
static double left_since(const struct bursar_leaks *series, enum bursar_leaks_what what, uint64_t calls, double from,
                         const struct bursar_leaks_point *after) {
  double part[PARTS] = {0}, all = 0, least = INFINITY;
  uint64_t span = after->calls - calls - recent();
  for (uint32_t slot = name_of(series)->head; slot && span && span < after->calls; slot = next_of[slot]) {
    uint64_t age = (uint32_t)after->calls - ended_at[slot];
    if (age < recent() || age - recent() >= span)
      continue;
    uint64_t cap = what == BURSAR_LEAKS_OF_CAPPED ? series->cap : INT64_MAX;
    part[(age - recent()) * PARTS / span] += (double)least_of(held_by(slot), cap);
  }
  for (uint32_t i = 0; i < PARTS; i++) {
    all += part[i];
    least = part[i] < least ? part[i] : least;
  }
  double more = bursar_leaks_of(after, what) - from;
  return least >= all / PARTS / 4 && all > more ? all : more;
}

static void freed(struct bursar_leaks *series, int64_t bytes) {
  bool was = series->state == BURSAR_LEAKS_ALARM;
  turn(series, BURSAR_LEAKS_CYCLES, bytes);
  series->flags = 0;
  name_of(series)->survey = 0;
  trace(name_of(series), false);
  if (was)
    tell(series, "leaks no more: a collection freed what grew", 0);
}

static void stays(struct bursar_leaks *series, bool ran) {
  if (series->state != BURSAR_LEAKS_ALARM) {
    series->flags |= ran ? 0 : BURSAR_LEAKS_UNCHECKED;
    alarm(series);
  } else if (ran) {
    series->flags &= ~BURSAR_LEAKS_UNCHECKED;
    tell(series, "leaks, and it is no garbage: a collection left it", 0);
  }
}

void bursar_verdict_collected(uint32_t which, bool ran) {
  struct bursar_leaks *series = &all_series()[which];
  struct bursar_verdict_around around = {bursar_prim_descriptors(), bursar_prim_threads()};
  const uint32_t of_bytes = BURSAR_LEAKS_BYTES | BURSAR_LEAKS_CAPPED;
  bursar_lock_take();
  struct bursar_leaks_point after = point_of(series, around);
  const struct bursar_leaks_point *from = series->point;
  bool again = series->state == BURSAR_LEAKS_CYCLES;
  for (uint64_t calls = again ? series->since_calls : judge(series, BURSAR_LEAKS_OF_BYTES).from;
       from < &series->point[series->points - 1] && from->calls < calls;)
    from++;
  begin(series);
  name_of(series)->ripe = 0;
  name_of(series)->swept = after.calls;
  if (again)
    series->flags |= of_bytes;
  for (unsigned what = 0; ran && what < BURSAR_LEAKS_WHATS; what++) {
    double held = again && what == BURSAR_LEAKS_OF_BYTES ? (double)series->since_bytes : bursar_leaks_of(from, what);
    double left = bit_of(what) & of_bytes ? left_since(series, what, from->calls, held, &after)
                                          : bursar_leaks_of(&after, what) - held;
    if (left < threshold_of(series, what) * (double)(after.calls - from->calls))
      series->flags &= ~bit_of(what);
  }
  if (series->flags & ~BURSAR_LEAKS_UNCHECKED)
    stays(series, ran);
  else
    freed(series, after.bytes);
  done(series);
  bursar_lock_give();
}

/* --- the survey ------------------------------------------------------------------------------------------------------------ */

/* Blocks by site and entry: hashed, of a power of two places.  Those for which there is none are left out. */
#define PLACES 65536u
struct held {
  uint32_t number; /* the site's index + 1; 0: none */
  uint32_t slot;   /* of its entry, the outermost of the name */
  uint64_t bytes, blocks;
};
struct bursar_verdict_table {
  uint32_t used;
  uint16_t entry[BURSAR_SCOPE_SLOTS]; /* by slot: the entry that is looked at which it is in; 0: none */
  struct held held[PLACES];
};

void bursar_verdict_add(struct bursar_verdict_table *table, uint32_t number, uint32_t slot, uint64_t bytes) {
  uint32_t entry = slot < BURSAR_SCOPE_SLOTS ? table->entry[slot] : 0;
  if (!entry || !number || table->used >= PLACES / 4 * 3)
    return;
  uint32_t at = (number * 0x9E3779B1u ^ entry * 0x85EBCA77u) >> 16;
  while (table->held[at].number && (table->held[at].number != number || table->held[at].slot != entry))
    at = (at + 1) % PLACES;
  struct held *held = &table->held[at];
  table->used += !held->number;
  held->number = number;
  held->slot = entry;
  held->bytes += bytes;
  held->blocks++;
}

static void add_live(const void *p, struct bursar_record record, void *context) {
  (void)p;
  if (record.scope)
    bursar_verdict_add(context, record.number, record.scope, record.size);
}

static void each_live(struct bursar_verdict_table *table) { bursar_live_each(add_live, table); }

/* Which calls: in mode exact those of the later half and after, elsewhere those whose stacks were kept. */
struct looked {
  uint64_t first, calls;
};
static struct looked looked_at(const struct bursar_leaks *series) {
  bool exact = bursar_account.mode == BURSAR_MODE_EXACT;
  uint64_t first = exact ? series->since_calls / 2 : series->since_calls, calls = calls_of(series) - first;
  calls = calls > recent() ? calls - recent() : 1;
  return (struct looked){first, exact || calls < LOOKED ? calls : LOOKED};
}

/* The place of an entry among them; as large as they are, or larger, where it is none. */
static uint32_t place_in(struct looked looked, uint32_t slot) { return ended_at[slot] - 1 - (uint32_t)looked.first; }

static uint32_t choose(struct bursar_verdict_table *table, const struct bursar_leaks *series, struct looked looked) {
  uint32_t chosen = 0;
  for (uint32_t slot = name_of(series)->head; slot; slot = next_of[slot]) {
    if (place_in(looked, slot) >= looked.calls)
      continue;
    table->entry[slot] = (uint16_t)slot;
    chosen++;
  }
  for (uint32_t slot = 1; slot < counts()->scopes; slot++) {
    uint32_t at = slot;
    while (at && !table->entry[at])
      at = slots()[at].state == BURSAR_SCOPE_VACANT ? 0 : slots()[at].parent;
    table->entry[slot] = at ? table->entry[at] : 0;
  }
  return chosen;
}

static void describe(uint32_t number, struct bursar_leaks_site *site) {
  const struct bursar_writer *writer = &bursar_account.writer;
  const struct bursar_site_facts *facts =
      (const struct bursar_site_facts *)(const void *)writer->base[BURSAR_REGION_SITE_FACTS] + (number - 1);
  const struct bursar_node *nodes = (const struct bursar_node *)(const void *)writer->base[BURSAR_REGION_NODES];
  const struct bursar_code *codes = (const struct bursar_code *)(const void *)writer->base[BURSAR_REGION_CODES];
  site->domain = facts->domain;
  site->depth = 0;
  for (uint32_t at = facts->node; at >= BURSAR_NODE_FIRST && site->depth < BURSAR_LEAKS_DEPTH; at = nodes[at].parent) {
    const struct bursar_code *code = &codes[nodes[at].code];
    bool native = nodes[at].flags & BURSAR_NODE_NATIVE;
    site->frame[site->depth++] =
        (struct bursar_leaks_frame){native ? 0 : code->name, code->file, nodes[at].line, nodes[at].flags};
  }
}

/* What is left by calls of each eighth is no garbage of the last ones; then of many calls, and of many bytes: what is of a few
 * calls alone comes last, however large. */
struct ranked {
  struct bursar_leaks_site site;
  uint64_t steady; /* bytes in the eighth that has least */
  uint32_t number;
};
static bool comes_before(const struct ranked *a, const struct ranked *b, uint64_t many) {
  if (a->steady != b->steady)
    return a->steady > b->steady;
  if ((a->site.calls >= many) != (b->site.calls >= many))
    return a->site.calls >= many;
  return a->site.bytes > b->site.bytes;
}

static void sift(struct held *held, uint32_t at, uint32_t count) {
  struct held moved = held[at];
  for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && held[child + 1].number > held[child].number)
      child++;
    if (held[child].number <= moved.number)
      break;
    held[at] = held[child];
  }
  held[at] = moved;
}

static void order_by_site(struct held *held, uint32_t count) {
  for (uint32_t i = count / 2; i-- > 0;)
    sift(held, i, count);
  for (uint32_t i = count; i-- > 1;) {
    struct held first = held[0];
    held[0] = held[i];
    held[i] = first;
    sift(held, 0, i);
  }
}

/* Of one site. */
static struct ranked rank(const struct held *held, uint32_t count, struct looked looked) {
  struct ranked out = {.site.oldest_ns = UINT64_MAX, .number = held->number};
  uint64_t part[PARTS] = {0};
  for (uint32_t i = 0; i < count; i++) {
    uint64_t ended_ns = slots()[held[i].slot].ended_ns;
    out.site.bytes += held[i].bytes;
    out.site.blocks += held[i].blocks;
    out.site.calls++;
    out.site.oldest_ns = ended_ns < out.site.oldest_ns ? ended_ns : out.site.oldest_ns;
    part[place_in(looked, held[i].slot) * PARTS / looked.calls] += held[i].bytes;
  }
  out.steady = part[0];
  for (uint32_t i = 1; i < PARTS; i++)
    out.steady = part[i] < out.steady ? part[i] : out.steady;
  return out;
}

static void write_sites(struct bursar_leaks *series, const struct held *held, uint32_t count, uint64_t entries,
                        struct looked looked) {
  struct ranked best[BURSAR_LEAKS_SITES];
  uint32_t have = 0;
  uint64_t many = entries / 8 > 3 ? entries / 8 : 3;
  for (uint32_t i = 0, next; i < count; i = next) {
    for (next = i; next < count && held[next].number == held[i].number;)
      next++;
    struct ranked site = rank(&held[i], next - i, looked);
    bool full = have == BURSAR_LEAKS_SITES;
    uint32_t at = full ? have - 1 : have++;
    if (full && comes_before(&best[at], &site, many))
      continue;
    for (; at > 0 && comes_before(&site, &best[at - 1], many); at--)
      best[at] = best[at - 1];
    best[at] = site;
  }
  for (uint32_t i = 0; i < have; i++) {
    series->site[i] = best[i].site;
    describe(best[i].number, &series->site[i]);
  }
  series->sites = have;
}

/* A string of the ledger's, cut: what was interned lies in one piece. */
static int text_of(uint32_t string, const char **text) {
  const char *at = (const char *)bursar_account.writer.base[BURSAR_REGION_STRINGS] + string;
  uint32_t bytes = 1;
  *text = "?";
  if (string) {
    memcpy(&bytes, at, sizeof bytes);
    *text = at + sizeof bytes;
  }
  return bytes < 400 ? (int)bytes : 400;
}

/* Once after an alarm, of what survives most: the line of Python that made it. */
static void tell_where(struct bursar_leaks *series, struct name *name) {
  const struct bursar_leaks_site *site = &series->site[0];
  const char *function, *file;
  char text[1024];
  uint32_t at = 0;
  while (series->sites && at < site->depth && site->frame[at].flags & BURSAR_NODE_NATIVE)
    at++;
  if (name->told || series->state != BURSAR_LEAKS_ALARM || !series->sites || at == site->depth)
    return;
  name->told = true;
  int length = text_of(site->frame[at].function, &function), path = text_of(site->frame[at].file, &file);
  snprintf(text, sizeof text, "%.*s (%.*s:%u): %llu bytes of %llu calls survive", length, function, path, file,
           site->frame[at].line, (unsigned long long)site->bytes, (unsigned long long)site->calls);
  tell(series, text, (double)site->bytes);
}

bool bursar_verdict_surveys(void) {
  bool some = false;
  bursar_lock_take();
  for (uint32_t i = 0; bursar_account.active && i < counts()->leaks; i++)
    some = some || name_of(&all_series()[i])->survey;
  bursar_lock_give();
  return some;
}

void bursar_verdict_survey(uint32_t which, void (*each)(struct bursar_verdict_table *table)) {
  struct bursar_leaks *series = &all_series()[which];
  struct bursar_verdict_table *table = bursar_prim_reserve(sizeof *table, true);
  struct name *name = name_of(series);
  bursar_lock_take();
  name->survey = 0;
  if (table) {
    struct looked looked = looked_at(series);
    uint32_t entries = choose(table, series, looked);
    (each ? each : each_live)(table);
    uint32_t count = 0;
    for (uint32_t i = 0; i < PLACES; i++)
      if (table->held[i].number)
        table->held[count++] = table->held[i];
    order_by_site(table->held, count);
    begin(series);
    write_sites(series, table->held, count, entries, looked);
    series->looked_first = looked.first;
    series->looked_calls = looked.calls;
    series->looked_ns = now();
    done(series);
    tell_where(series, name);
    /* Mode exact has what is held at the alarm already, and looks again at the calls after it. */
    if (bursar_account.mode == BURSAR_MODE_EXACT && calls_of(series) < series->since_calls + LOOKED)
      name->survey = series->since_calls + LOOKED;
  }
  bursar_lock_give();
  if (table)
    bursar_prim_release(table, sizeof *table);
}

/* --- whose stacks are kept ------------------------------------------------------------------------------------------------- */

bool bursar_verdict_traces(uint32_t slot) {
  for (; slot; slot = slots()[slot].parent)
    if (slots()[slot].name < NAMES && names_of[slots()[slot].name].traced)
      return true;
  return false;
}
