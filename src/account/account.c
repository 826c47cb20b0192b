#include "account/account.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "account/answer.h"
#include "account/charges.h"
#include "account/count.h"
#include "account/fold.h"
#include "account/hot.h"
#include "account/journal.h"
#include "account/lanes.h"
#include "account/lock.h"
#include "account/maps.h"
#include "account/sample.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "base/pool.h"
#include "prim/prim.h"

#define MARKS 32

struct bursar_account bursar_account;
union bursar_account_page bursar_account_page __attribute__((aligned(BURSAR_PAGE)));

static struct {
  bool open;
  int64_t peak;
} marks[MARKS];
static unsigned open_marks;
static bool between; /* somebody is in bursar_account_between_free; atomic */

static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }
/* Threads without the GIL ask too. */
static uint32_t site_count(void) { return __atomic_load_n(&counts()->sites, __ATOMIC_RELAXED); }
static uint64_t since_start(void) { return bursar_prim_now() - bursar_account.started_ns; }

/* Of a site by its number, its index + 1. */
static struct bursar_site_facts *facts_of(uint32_t number) {
  return (struct bursar_site_facts *)(void *)bursar_account.writer.base[BURSAR_REGION_SITE_FACTS] + (number - 1);
}

/* What whoever holds the GIL adds to plainly, read by others: aligned words with one writer, so old or new.  Not for
 * ThreadSanitizer, to which a plain add is a race. */
__attribute__((no_sanitize_thread, noinline)) static uint64_t glance(const uint64_t *at) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
static uint64_t load(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static void add(uint64_t *at, uint64_t value) { __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

/* trigger is level less what lane FREE holds, so the difference is what it holds. */
int64_t bursar_account_live(void) {
  if (bursar_account.mode == BURSAR_MODE_COUNT)
    return bursar_count_live();
  return (int64_t)glance(&BURSAR_BOOKS->live) + __atomic_load_n(&bursar_account.level, __ATOMIC_RELAXED) -
         __atomic_load_n(&bursar_account.trigger, __ATOMIC_RELAXED);
}

/* Frees are read first: no block has gone that did not come. */
uint64_t bursar_account_live_of(unsigned domain) {
  const struct bursar_books *books = BURSAR_BOOKS;
  uint64_t gone = glance(&books->gil[domain].free_bytes) + glance(&books->remote[domain].free_bytes) +
                  glance(&books->free_lane[domain].free_bytes);
  return glance(&books->gil[domain].alloc_bytes) + glance(&books->free_lane[domain].alloc_bytes) - gone;
}

/* In modes other than exact threads count in lanes of their own; but mode sample books mappings, as mode exact does, and counts
 * the ends of chosen blocks alone. */
static void add_lanes(unsigned domain, struct bursar_tally *all) {
  const struct bursar_books *books = BURSAR_BOOKS;
  struct bursar_tally lanes = bursar_lanes_sum(domain);
  all->alloc_bytes += lanes.alloc_bytes;
  all->allocs += lanes.allocs;
  all->free_bytes += lanes.free_bytes;
  all->frees += lanes.frees;
  if (bursar_account.mode == BURSAR_MODE_SAMPLE)
    all->frees += glance(&books->gil[domain].frees) + glance(&books->remote[domain].frees) +
                  glance(&books->free_lane[domain].frees);
}

struct bursar_tally bursar_account_totals(void) {
  const struct bursar_books *books = BURSAR_BOOKS;
  struct bursar_tally all = {0};
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_tally *parts[] = {&books->gil[domain], &books->free_lane[domain], &books->remote[domain]};
    if (bursar_account.mode == BURSAR_MODE_COUNT ||
        (bursar_account.mode == BURSAR_MODE_SAMPLE && domain != BURSAR_DOMAIN_MMAP)) {
      add_lanes(domain, &all);
      continue;
    }
    for (unsigned i = 0; i < 3; i++) {
      all.alloc_bytes += glance(&parts[i]->alloc_bytes);
      all.allocs += glance(&parts[i]->allocs);
      all.free_bytes += glance(&parts[i]->free_bytes);
      all.frees += glance(&parts[i]->frees);
    }
  }
  return all;
}

/* --- start and stop ----------------------------------------------------------------------------------------------- */

static void fill_header(const struct bursar_settings *settings) {
  struct bursar_header *header = bursar_account.writer.header;
  struct bursar_identity identity;
  memset(&identity, 0, sizeof identity);
  (void)bursar_prim_identity(0, &identity);
  header->mode = bursar_account.mode;
  header->python = settings->python_hex;
  header->pid = (uint32_t)getpid();
  header->uid = (uint32_t)getuid();
  header->process_start = identity.process_start;
  header->pid_namespace = identity.pid_namespace;
  memcpy(header->boot_id, identity.boot_id, sizeof header->boot_id);
  header->started_unix_ns = bursar_prim_unix_now();
  header->started_mono_ns = bursar_account.started_ns;
  header->temporary_within = bursar_account.within;
  header->parent_pid = settings->parent_pid;
  header->domains = settings->domains;
  header->version = settings->native ? BURSAR_LEDGER_VERSION_NATIVE : BURSAR_LEDGER_VERSION;
  snprintf(header->python_version, sizeof header->python_version, "%s",
           settings->python_version ? settings->python_version : "");
  snprintf(header->bursar_version, sizeof header->bursar_version, "%s", BURSAR_VERSION);
}

/* What is booked inline: not what goes into a ring of last blocks, and not what a scope is charged for. */
static void set_limits(void) {
  bursar_account.scoped_limit = bursar_account.within > 1 ? 0 : BURSAR_SMALL_MAX - 16;
  bursar_account.plain_limit = bursar_account.scope ? 0 : bursar_account.scoped_limit;
}

/* What a mode has beside the account itself.  0, or a status with an error. */
static int start_mode(const struct bursar_settings *settings, struct bursar_error *error) {
  if (bursar_account.mode == BURSAR_MODE_EXACT)
    return 0;
  if (!settings->sizes || !bursar_charges_start())
    bursar_scopes_stop();
  int status = bursar_lanes_open(&bursar_account.writer, error);
  if (status != 0 || bursar_account.mode != BURSAR_MODE_SAMPLE)
    return status;
  bursar_account.writer.header->interval = settings->interval ? settings->interval : BURSAR_SAMPLE_INTERVAL;
  if (bursar_sample_start(settings->interval, settings->seed) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "no address space for the table of samples (ulimit -v): raise it");
  return 0;
}

static void stop_mode(void) {
  bursar_sample_stop();
  bursar_writer_drop_lanes(&bursar_account.writer);
}

int bursar_account_start(const struct bursar_settings *settings, const struct bursar_provider *provider,
                         struct bursar_error *error) {
  struct bursar_account *account = &bursar_account;
  if (account->active)
    return bursar_error_set(error, BURSAR_MISUSE, "the books are already open");
  /* The ledger of an earlier start stayed mapped, for threads that were in the middle of an event when it was stopped. */
  bursar_writer_close(&account->writer);
  memset(&bursar_account_page, 0, sizeof bursar_account_page);
  if (bursar_live_init() != 0)
    return bursar_error_set(error, BURSAR_FAILED,
                            "no address space for the table of live blocks (ulimit -v): raise it");
  account->mode = (uint8_t)(settings->mode ? settings->mode : BURSAR_MODE_EXACT);
  int status = account->mode == BURSAR_MODE_SAMPLE
                   ? bursar_writer_open_sampling(&account->writer, settings->path, settings->cap, BURSAR_BOOKS, error)
                   : bursar_writer_open(&account->writer, settings->path, settings->cap, BURSAR_BOOKS, error);
  if (status != 0)
    return status;
  account->provider = *provider;
  account->started_ns = bursar_prim_now();
  account->within = settings->within ? settings->within : 1;
  if (account->within > BURSAR_RECENT_MAX)
    account->within = BURSAR_RECENT_MAX;
  account->scope = 0;
  set_limits();
  account->root = BURSAR_NODE_STARTUP;
  account->trigger = account->level = 0;
  bursar_account_alone_free(false);
  account->last = NULL;
  account->remote_any = account->fold_due = false;
  for (struct bursar_recent *recent = account->recents; recent; recent = recent->next)
    bursar_account_forget_gil(recent);
  bursar_fold_start();
  memset(marks, 0, sizeof marks);
  open_marks = 0;
  fill_header(settings);
  if (bursar_stacks_start() != 0 || bursar_journal_start() != 0) {
    bursar_stacks_stop();
    bursar_writer_close(&account->writer);
    return bursar_error_set(error, BURSAR_FAILED,
                            "no room for the ledger %s: free some disk space or choose another place with -o",
                            settings->path);
  }
  bursar_scopes_start();
  status = start_mode(settings, error);
  if (status != 0) {
    bursar_stacks_stop();
    bursar_writer_close(&account->writer);
    return status;
  }
  bursar_answer_start();
  account->provider.stacks_moved();
  account->active = true;
  bursar_account_phase((enum bursar_phase)settings->phase);
  __atomic_store_n(&counts()->state, BURSAR_STATE_OPEN, __ATOMIC_RELEASE);
  return 0;
}

void bursar_account_stop(enum bursar_state state) {
  struct bursar_account *account = &bursar_account;
  if (!account->active)
    return;
  account->active = false;
  counts()->stopped_ns = since_start();
  __atomic_store_n(&counts()->state, state, __ATOMIC_RELEASE);
  /* Frees find nothing from here on, allocations find no stack: the hooks pass everything through. */
  account->provider.stacks_moved();
  stop_mode();
  bursar_live_drop();
  bursar_charges_drop();
  bursar_maps_drop();
  bursar_stacks_stop();
  bursar_scopes_stop();
}

void bursar_account_abandon(void) {
  bursar_live_after_fork();
  bursar_maps_after_fork();
  bursar_fold_after_fork();
  __atomic_store_n(&between, false, __ATOMIC_RELAXED);
  bursar_lock_after_fork();
  bursar_lanes_after_fork();
  bursar_sample_after_fork();
  bursar_count_after_fork();
  bool was = bursar_account.active;
  bursar_account.active = false;
  bursar_writer_close(&bursar_account.writer);
  bursar_account.sites = bursar_account.numbered = NULL;
  if (was) {
    bursar_account.provider.stacks_moved();
    bursar_sample_stop();
    bursar_live_drop();
    bursar_charges_drop();
    bursar_maps_drop();
    bursar_stacks_stop();
  }
  bursar_scopes_stop();
}

static void break_off(void) {
  if (!bursar_account.active)
    return;
  bursar_account_stop(BURSAR_STATE_BROKEN);
  bursar_account.provider.warn(
      "the ledger can grow no further (disk full, a file size limit, or the file was removed): the "
      "books stopped, the program goes on");
}

void bursar_account_phase(enum bursar_phase phase) {
  struct bursar_counts *c = counts();
  if (!bursar_account.active || c->phase == (uint32_t)phase)
    return;
  bursar_lock_take();
  if (phase == BURSAR_PHASE_MAIN) {
    if (!c->main_began_ns)
      c->main_began_ns = since_start();
    c->main_ended_ns = c->end_tick = 0; /* a prompt: what looked like the end was not */
  } else if (phase == BURSAR_PHASE_EXIT) {
    bursar_journal_look();
    c->end_tick = bursar_journal_tick(BURSAR_TICK_END);
    c->main_ended_ns = since_start();
  }
  c->phase = (uint32_t)phase;
  bursar_account.root = phase == BURSAR_PHASE_STARTUP ? BURSAR_NODE_STARTUP
                        : phase == BURSAR_PHASE_MAIN  ? BURSAR_NODE_MAIN
                                                      : BURSAR_NODE_EXIT;
  bursar_account.provider.stacks_moved();
  bursar_lock_give();
}

/* --- lane GIL ------------------------------------------------------------------------------------------------------ */

/* Both move by the same amount; lane FREE, in between, sees a total that is off by it for an instant.  Under the lock. */
static void relevel(void) {
  int64_t level = (int64_t)BURSAR_BOOKS->peak;
  for (int i = 0; open_marks && i < MARKS; i++)
    if (marks[i].open && marks[i].peak < level)
      level = marks[i].peak;
  int64_t rise = level - bursar_account.level;
  if (!rise)
    return;
  __atomic_store_n(&bursar_account.level, level, __ATOMIC_RELAXED);
  __atomic_fetch_add(&bursar_account.trigger, rise, __ATOMIC_RELAXED);
}

static void new_high(void) {
  bursar_lock_take();
  int64_t total = bursar_account_live();
  if (total > (int64_t)BURSAR_BOOKS->peak)
    bursar_journal_peak((uint64_t)total);
  for (int i = 0; open_marks && i < MARKS; i++)
    if (marks[i].open && total > marks[i].peak)
      marks[i].peak = total;
  relevel();
  bursar_lock_give();
}

/* --temporary-within above 1: is p among its thread's last allocations?  Which thread's is not known, so all are asked. */
static bool was_recent(const void *p) {
  for (struct bursar_recent *recent = bursar_account.recents; recent; recent = recent->next)
    for (uint32_t i = 0; recent->ring && i < bursar_account.within; i++)
      if (recent->ring[i] == p) {
        recent->ring[i] = NULL;
        return true;
      }
  return false;
}

static void remember(const void *p) {
  struct bursar_recent *recent = bursar_account.recent;
  if (bursar_account.within == 1) {
    bursar_account.last = p;
  } else if (recent && recent->ring) {
    recent->ring[recent->at] = p;
    recent->at = (recent->at + 1) % bursar_account.within;
  }
}

/* Before an event is booked.  The books may have broken off afterwards. */
static void look(void) {
  bursar_journal_count_down();
  bursar_journal_look();
  bursar_answer_if_asked();
  if (bursar_account.writer.failed)
    break_off();
}

/* The rare things a free meets: a new peak, the clock. */
static void pause_gil(void) {
  if ((int64_t)BURSAR_BOOKS->live > bursar_hot_trigger())
    new_high();
  if (bursar_account.countdown < 0)
    look();
}

/* The block of a parked thread's last allocation is watched; its end may make it a temporary. */
static bool was_parked(const void *p) {
  for (struct bursar_recent *recent = bursar_account.recents; recent; recent = recent->next)
    if (recent->last == p) {
      recent->last = NULL;
      bursar_account.parked -= recent->unwatched;
      recent->unwatched = false;
      return true;
    }
  return false;
}

void bursar_account_forget_gil(struct bursar_recent *recent) {
  recent->last = NULL;
  recent->scope = 0;
  recent->context_ver = 0;
  bursar_account.parked -= recent->unwatched;
  recent->unwatched = false;
  if (recent->ring)
    memset(recent->ring, 0, BURSAR_RECENT_MAX * sizeof *recent->ring);
}

void bursar_account_scope_gil(uint32_t slot, uint64_t context_ver) {
  bursar_account.scope = slot;
  bursar_account.context_ver = context_ver;
  set_limits();
}

void bursar_account_switch_gil(struct bursar_recent *recent) {
  struct bursar_account *account = &bursar_account;
  if (account->recent == recent)
    return;
  if (account->recent) {
    account->recent->scope = account->scope;
    account->recent->context_ver = account->context_ver;
  }
  bursar_account_scope_gil(recent ? recent->scope : 0, recent ? recent->context_ver : 0);
  if (account->recent && account->last) {
    account->recent->unwatched =
        !bursar_live_watch(account->last); /* too small for a mark: all ends are looked at then */
    account->parked += account->recent->unwatched;
    account->recent->last = account->last;
  }
  account->last = recent ? recent->last : NULL;
  account->recent = recent;
  if (!recent)
    return;
  recent->last = NULL;
  account->parked -= recent->unwatched;
  recent->unwatched = false;
  if (account->within > 1 && !recent->ring)
    recent->ring = bursar_pool_take(BURSAR_RECENT_MAX * sizeof *recent->ring);
}

static uint64_t intent_of(uint32_t number, uint64_t size) {
  return (size < UINT32_MAX ? size : UINT32_MAX) << 32 | number << BURSAR_CELL_SHIFT | BURSAR_CELL_BIG;
}

static void note_parked(const void *p, const struct bursar_record *record, struct bursar_site *site) {
  if ((record->watched || bursar_account.parked) && was_parked(p))
    site->temporaries++;
}

static void note_temporary(const void *p, struct bursar_site *site) {
  if (bursar_account.within > 1 ? was_recent(p) : p == bursar_account.last) {
    bursar_account.last = NULL;
    site->temporaries++;
  }
}

static void retire_free_part(struct bursar_record record, bool ends, unsigned domain);

/* `ends` is false for a piece of a mapping: its bytes go, the block stays. */
static void retire_part(const void *p, struct bursar_record record, bool ends, unsigned domain) {
  bool ours = record.number && bursar_account.active && record.number <= site_count(); /* else a size, left behind */
  if (!ours)
    return;
  struct bursar_site *site = &bursar_account.numbered[record.number];
  if (p)
    note_parked(p, &record, site);
  if ((int64_t)BURSAR_BOOKS->live > bursar_hot_trigger() || --bursar_account.countdown < 0)
    pause_gil();
  if (record.scope)
    bursar_scopes_charge_gil(record.scope, -(int64_t)record.size, -(int)ends);
  if (bursar_account_is_free(site)) {
    retire_free_part(record, ends, domain);
    return;
  }
  if (bursar_account.active && record.size > BURSAR_SMALL_MAX) /* no large change goes undated */
    look();
  if (!bursar_account.active) /* the books broke off just now */
    return;
  if (bursar_hot_stale(site))
    bursar_journal_touch(site);
  if (p)
    note_temporary(p, site);
  if (ends)
    bursar_hot_debit(site, intent_of(record.number, record.size), record.size, domain);
  else
    bursar_hot_shrink(site, intent_of(record.number, record.size), record.size, domain);
}

static void retire(const void *p, struct bursar_record record, unsigned domain) {
  retire_part(p, record, true, domain);
}

/* Between events, when no site is on its way from a lookup to its booking. */
static void after_event(void) {
  if (BURSAR_LIKELY(!__atomic_load_n(&bursar_account.fold_due, __ATOMIC_RELAXED)) || !bursar_account.active)
    return;
  __atomic_store_n(&bursar_account.fold_due, false, __ATOMIC_RELAXED);
  bursar_fold_if_full();
}

void bursar_account_retire_gil(const void *p, struct bursar_record record, unsigned domain) {
  retire(p, record, domain);
  after_event();
}

/* What hot.h turns down most often: a plain block, but a scope is charged for it, or there is a new peak (while a program
 * grows), or its site is of another epoch. */
static bool free_plain(void *p, unsigned domain) {
  uint32_t *cell = ((uintptr_t)p & 15) == 0 && bursar_account.active ? bursar_live_cell(p) : NULL;
  uint64_t entry;
  if (!cell)
    return false;
  memcpy(&entry, cell, sizeof entry);
  struct bursar_site *site = bursar_hot_site((uint32_t)entry);
  unsigned kind = (uint32_t)entry & BURSAR_CELL_LOW;
  bool scoped = kind == (BURSAR_CELL_BIG | BURSAR_CELL_SCOPED);
  if ((kind != BURSAR_CELL_BIG && !scoped) || bursar_account_is_free(site))
    return false;
  bursar_account.countdown -= scoped; /* hot.h has counted the others */
  if ((int64_t)BURSAR_BOOKS->live > bursar_hot_trigger() || bursar_account.countdown < 0)
    pause_gil();
  if (!bursar_account.active) /* the books broke off just now */
    return true;
  if (bursar_hot_stale(site))
    bursar_journal_touch(site);
  note_temporary(p, site);
  uint64_t nothing = 0;
  memcpy(cell, &nothing, sizeof nothing);
  size_t size = scoped ? bursar_live_scoped_size(entry) : (size_t)(entry >> 32);
  bursar_hot_debit(site, (uint64_t)size << 32 | (uint32_t)entry, size, domain);
  if (scoped)
    bursar_scopes_charge_gil(bursar_live_scope(entry), -(int64_t)size, -1);
  after_event();
  return true;
}

void bursar_account_free_gil(void *p, unsigned domain) {
  struct bursar_record record;
  if (bursar_live_top && free_plain(p, domain))
    return;
  if (bursar_live_top && bursar_live_take(p, &record))
    bursar_account_retire_gil(p, record, domain);
}

unsigned bursar_account_domain(uint32_t number) {
  return bursar_account.active && number && number <= site_count() ? facts_of(number)->domain : BURSAR_DOMAIN_RAW;
}

uint32_t bursar_account_map_gil(size_t size, uint32_t tag, unsigned domain) {
  if (bursar_account.active)
    look();
  if (!bursar_account.active)
    return 0;
  uint32_t number = tag >> BURSAR_CELL_SHIFT;
  struct bursar_site *site = &bursar_account.numbered[number];
  if (bursar_hot_stale(site))
    bursar_journal_touch(site);
  remember(NULL);
  bursar_hot_credit(site, intent_of(number, size), size, domain);
  if (bursar_account.scope)
    bursar_scopes_charge_gil(bursar_account.scope, (int64_t)size, 1);
  return number;
}

void bursar_account_unmap_gil(struct bursar_record piece, bool ends, unsigned domain) {
  retire_part(NULL, piece, ends, domain);
  after_event();
}

/* Where this was, another block is now, though its end was never seen: somebody freed it behind the hooks. */
static bool end_unseen(const void *block) {
  struct bursar_record record;
  if (!block || !bursar_live_take(block, &record))
    return false;
  counts()->reused_blocks += record.number && record.number <= site_count();
  retire(block, record, bursar_account_domain(record.number));
  return true;
}

void bursar_account_alloc_gil(void *p, size_t size, uint32_t tag, unsigned domain) {
  if (!bursar_account.active)
    return;
  uint32_t number = tag >> BURSAR_CELL_SHIFT;
  struct bursar_site *site = &bursar_account.numbered[number];
  if (size > BURSAR_SMALL_MAX || --bursar_account.countdown < 0) /* hot.h counts plain blocks alone */
    look();
  if (!bursar_account.active)
    return;
  if (bursar_hot_stale(site))
    bursar_journal_touch(site);
  if (bursar_hot_alloc_in(p, size, tag, domain, true)) /* it was only the epoch, or the clock */
    return;
  while (end_unseen(bursar_live_in_the_way(p, size)))
    ;
  if (!bursar_live_put(p, (struct bursar_record){.size = size, .number = number, .scope = bursar_account.scope}))
    return;
  if (bursar_hot_stale(site))
    bursar_journal_touch(site);
  remember(p);
  bursar_hot_credit(site, intent_of(number, size), size, domain);
  if (bursar_account.scope)
    bursar_scopes_charge_gil(bursar_account.scope, (int64_t)size, 1);
  after_event();
}

/* --- lane FREE ----------------------------------------------------------------------------------------------------- */

/* A peak that lane FREE makes must be so much above the last one: it would touch all sites again for a few bytes. */
#define PEAK_SHIFT 12
#define STOP_NS 1000000000ull
#define FREE_LOOK_EVERY 256 /* events of lane FREE between two looks at the clock */

void bursar_account_alone_free(bool alone) {
  __atomic_store_n(&bursar_account.peak_shift, alone ? 63 : PEAK_SHIFT, __ATOMIC_RELAXED);
}

/* Before a free there was more: the greatest total may be the one that it ends. */
static void free_lane_high(uint64_t total) {
  uint64_t peak = load(&BURSAR_BOOKS->peak), seen = load(&BURSAR_BOOKS->free_high);
  if ((int64_t)total > (int64_t)(peak + (peak >> __atomic_load_n(&bursar_account.peak_shift, __ATOMIC_RELAXED))))
    new_high();
  while ((int64_t)total > (int64_t)seen && !__atomic_compare_exchange_n(&BURSAR_BOOKS->free_high, &seen, total, false,
                                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    ;
}

/* Before a free is booked, and after an allocation is. */
static void free_lane_moved(int64_t bytes) {
  if (bytes < 0)
    free_lane_high((uint64_t)bursar_account_live());
  __atomic_fetch_sub(&bursar_account.trigger, bytes, __ATOMIC_RELAXED);
  if (__atomic_fetch_add(&bursar_account.free_events, 1, __ATOMIC_RELAXED) % FREE_LOOK_EVERY == 0)
    bursar_journal_look();
}

static void touch_free(struct bursar_site *site) {
  if (BURSAR_UNLIKELY((load(&site->epoch) & ~BURSAR_EPOCH_FREE) < load(&BURSAR_BOOKS->epoch)))
    bursar_journal_touch(site);
}

static void credit_free(uint32_t number, size_t size, unsigned domain, uint32_t scope) {
  struct bursar_site *site = &bursar_account.numbered[number];
  struct bursar_tally *tally = &BURSAR_BOOKS->free_lane[domain];
  touch_free(site);
  add(&site->alloc_bytes, size);
  add(&site->allocs, 1);
  add(&tally->alloc_bytes, size);
  add(&tally->allocs, 1);
  free_lane_moved((int64_t)size);
  if (scope)
    bursar_scopes_charge_free(scope, (int64_t)size, 1);
}

void bursar_account_alloc_free(void *p, size_t size, uint32_t number, unsigned domain, uint32_t scope) {
  if (!bursar_account.active)
    return;
  struct bursar_record old; /* its end was not seen, and it may be of another domain */
  const void *other = size > BURSAR_SMALL_MAX ? bursar_live_large_in_the_way(p) : NULL;
  if (bursar_live_take(p, &old) && old.number && old.number <= site_count())
    bursar_account_retire_free(p, old, facts_of(old.number)->domain);
  if (other && bursar_live_take(other, &old) && old.number && old.number <= site_count())
    bursar_account_retire_free(other, old, facts_of(old.number)->domain);
  if (!bursar_live_put(p, (struct bursar_record){.size = size, .number = number, .scope = scope}))
    return;
  credit_free(number, size, domain, scope);
}

/* The first free outside the GIL after a peak: what such frees were at the peak is saved before it counts. */
static void save_remote_peak(struct bursar_site_facts *facts) {
  uint32_t epoch = (uint32_t)load(&BURSAR_BOOKS->peak_epoch);
  if (__atomic_load_n(&facts->remote_epoch, __ATOMIC_ACQUIRE) == epoch)
    return;
  __atomic_store_n(&facts->remote_peak_bytes, load(&facts->remote_free_bytes), __ATOMIC_RELAXED);
  __atomic_store_n(&facts->remote_peak_frees, (uint32_t)load(&facts->remote_frees), __ATOMIC_RELAXED);
  __atomic_store_n(&facts->remote_epoch, epoch, __ATOMIC_RELEASE);
}

static void retire_free_part(struct bursar_record record, bool ends, unsigned domain) {
  if (!bursar_account.active || !record.number || record.number > site_count())
    return;
  struct bursar_site *site = &bursar_account.numbered[record.number];
  struct bursar_tally *tally;
  free_lane_moved(-(int64_t)record.size);
  if (bursar_account_is_free(site)) {
    tally = &BURSAR_BOOKS->free_lane[domain];
    touch_free(site);
    add(&site->free_bytes, record.size);
    add(&site->frees, ends);
  } else {
    struct bursar_site_facts *facts = facts_of(record.number);
    __atomic_store_n(&bursar_account.remote_any, true, __ATOMIC_RELAXED);
    save_remote_peak(facts);
    tally = &BURSAR_BOOKS->remote[domain];
    add(&facts->remote_free_bytes, record.size);
    add(&facts->remote_frees, ends);
  }
  add(&tally->free_bytes, record.size);
  add(&tally->frees, ends);
}

static void retire_free(struct bursar_record record, bool ends, unsigned domain) {
  if (record.scope && bursar_account.active)
    bursar_scopes_charge_free(record.scope, -(int64_t)record.size, -(int)ends);
  retire_free_part(record, ends, domain);
}

void bursar_account_retire_free(const void *p, struct bursar_record record, unsigned domain) {
  retire_free(record, true, domain);
}

void bursar_account_temporary_free(uint32_t number) {
  if (bursar_account.active && number && number <= site_count())
    add(&bursar_account.numbered[number].temporaries, 1);
}

void bursar_account_between_free(void) {
  if (__atomic_exchange_n(&between, true, __ATOMIC_ACQUIRE))
    return;
  if (bursar_account.active) {
    bursar_journal_look();
    bursar_answer_if_asked();
  }
  if (bursar_account.active && bursar_account.writer.failed && bursar_fold_keep_off_soon()) {
    break_off();
    bursar_fold_let_in();
  }
  after_event();
  __atomic_store_n(&between, false, __ATOMIC_RELEASE);
}

bool bursar_account_stop_free(enum bursar_state state) {
  uint64_t until = bursar_prim_now() + STOP_NS;
  while (__atomic_exchange_n(&between, true, __ATOMIC_ACQUIRE)) {
    if (bursar_prim_now() > until)
      return false;
    sched_yield();
  }
  bool alone = bursar_fold_keep_off_soon();
  if (alone) {
    bursar_account_stop(state);
    bursar_fold_let_in();
  }
  __atomic_store_n(&between, false, __ATOMIC_RELEASE);
  return alone;
}

uint32_t bursar_account_map_free(size_t size, uint32_t number, unsigned domain, uint32_t scope) {
  if (!bursar_account.active)
    return 0;
  credit_free(number, size, domain, scope);
  return number;
}

void bursar_account_unmap_free(struct bursar_record piece, bool ends, unsigned domain) {
  retire_free(piece, ends, domain);
}

/* --- marks ---------------------------------------------------------------------------------------------------------- */

int bursar_account_mark(void) {
  for (int i = 0; i < MARKS; i++)
    if (!marks[i].open) {
      bursar_lock_take();
      marks[i].open = true;
      open_marks++;
      marks[i].peak = bursar_account_live();
      relevel();
      bursar_lock_give();
      return i;
    }
  return -1;
}

int64_t bursar_account_unmark(int mark) {
  if (mark < 0 || mark >= MARKS || !marks[mark].open)
    return -1;
  new_high();
  bursar_lock_take();
  marks[mark].open = false;
  open_marks--;
  relevel();
  bursar_lock_give();
  return marks[mark].peak;
}
