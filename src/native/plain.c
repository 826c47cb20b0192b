#include "native/plain.h"

#include <string.h>

#include "account/fold.h"
#include "account/journal.h"
#include "account/lock.h"
#include "account/maps.h"
#include "account/stacks.h"
#include "native/native.h"
#include "native/plain_stacks.h"
#include "prim/modules.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define LOOK_EVERY 256           /* events of a thread between two looks at what is rare */
#define LARGE ((size_t)64 << 10) /* no event of so many bytes goes undated */

static __thread struct {
  bool inside; /* this thread is in the books: nothing else that it allocates is booked */
  bool met;    /* counted in `threads` */
  bool was;    /* inside, before a fork */
  uint32_t at; /* of `recent`: the oldest */
  uint32_t events;
  const void *recent[BURSAR_RECENT_MAX]; /* the last blocks that it allocated: so many as make a temporary one */
} mine __attribute__((tls_model("initial-exec")));

static uint32_t threads; /* that allocated; atomic */
static bool woven;       /* sites have native stacks */

/* --- around an event ------------------------------------------------------------------------------------------------------ */

static __attribute__((noinline)) void meet(void) {
  mine.met = true;
  if (__atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) > 1)
    bursar_account_alone_free(false);
}

static bool enter(void) {
  if (mine.inside || !bursar_account.active)
    return false;
  mine.inside = true;
  if (UNLIKELY(!mine.met))
    meet();
  bursar_fold_hold_off();
  return true;
}

static void leave(size_t bytes) {
  bursar_fold_let_go();
  if (UNLIKELY(++mine.events % LOOK_EVERY == 0 || bytes >= LARGE ||
               __atomic_load_n(&bursar_account.fold_due, __ATOMIC_RELAXED)))
    bursar_account_between_free();
  mine.inside = false;
}

static inline __attribute__((always_inline)) uint32_t number_of(unsigned domain) {
  return woven ? bursar_plain_stacks_number(domain) : domain + 1;
}

static void remember(const void *p) {
  mine.recent[mine.at] = p;
  mine.at = mine.at + 1 < bursar_account.within ? mine.at + 1 : 0;
}

static bool was_recent(const void *p) {
  for (uint32_t i = 0; i < bursar_account.within; i++)
    if (mine.recent[i] == p) {
      mine.recent[i] = NULL;
      return true;
    }
  return false;
}

/* Before a large change is booked: until now the total was what it was. */
static void date(size_t bytes) {
  if (bytes >= LARGE)
    bursar_journal_look();
}

/* --- malloc --------------------------------------------------------------------------------------------------------------- */

static void begun(void *p, size_t bytes) {
  if (!enter())
    return;
  date(bytes);
  bursar_account_alloc_free(p, bytes, number_of(BURSAR_DOMAIN_MALLOC), BURSAR_DOMAIN_MALLOC, 0);
  remember(p);
  leave(bytes);
}

static void retire(const void *p, struct bursar_record record) {
  if (was_recent(p))
    bursar_account_temporary_free(record.number);
  date(record.size);
  bursar_account_retire_free(p, record, BURSAR_DOMAIN_MALLOC);
}

/* A handler that interrupted this thread in the books may free what they know: its address will be another block's. */
static bool enter_to_end(const void *p, bool *was) {
  if (!bursar_account.active || !bursar_live_holds(p))
    return false;
  *was = mine.inside;
  mine.inside = true;
  bursar_fold_hold_off();
  return true;
}

static void leave_end(bool was) {
  if (was)
    bursar_fold_let_go();
  else
    leave(0);
}

static void ending(void *p) {
  struct bursar_record record;
  bool was;
  if (!enter_to_end(p, &was))
    return;
  if (bursar_live_take(p, &record))
    retire(p, record);
  leave_end(was);
}

static bool lift(void *p, struct bursar_record *old) {
  bool was;
  if (!enter_to_end(p, &was))
    return false;
  bool found = bursar_live_take(p, old);
  old->generation = bursar_fold_generation;
  leave_end(was);
  return found;
}

static void drop(void *p, struct bursar_record old, void *q, size_t bytes) {
  bool was = mine.inside, failed = !q && bytes;
  mine.inside = true;
  bursar_fold_hold_off();
  old.number = bursar_fold_where(old.number, old.generation);
  if (old.number && failed)
    (void)bursar_live_put(p, old);
  else if (old.number)
    retire(p, old);
  leave_end(was);
  if (q)
    begun(q, bytes);
}

/* --- mappings ------------------------------------------------------------------------------------------------------------- */

static void retire_piece(struct bursar_piece piece) {
  struct bursar_record record = {.size = piece.bytes, .number = piece.number};
  if (piece.number)
    bursar_account_unmap_free(record, piece.ends, BURSAR_DOMAIN_MMAP);
}

static void mapped(void *at, size_t asked) {
  size_t bytes = bursar_maps_whole_pages(asked);
  if (!enter())
    return;
  date(bytes);
  uint32_t number = bursar_account_map_free(bytes, number_of(BURSAR_DOMAIN_MMAP), BURSAR_DOMAIN_MMAP, 0);
  if (number)
    (void)bursar_maps_put((uintptr_t)at, (struct bursar_piece){.bytes = bytes, .number = number, .ends = true});
  remember(NULL);
  leave(bytes);
}

static void unmapping(void *at, size_t asked) {
  size_t bytes = bursar_maps_whole_pages(asked);
  struct bursar_piece piece;
  if (!enter())
    return;
  date(bytes);
  while (bursar_maps_cut((uintptr_t)at, bytes, &piece))
    retire_piece(piece);
  leave(bytes);
}

/* A piece as a record: `watched` says whether the block ends with it. */
static bool lift_map(void *at, size_t bytes, struct bursar_record *old) {
  struct bursar_piece piece;
  if (!enter())
    return false;
  bool found = bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece);
  if (found)
    *old = (struct bursar_record){
        .size = piece.bytes, .number = piece.number, .watched = piece.ends, .generation = bursar_fold_generation};
  leave(0);
  if (found)
    unmapping(at, bytes); /* a remap of several is none */
  return found;
}

static void drop_map(void *at, size_t old_bytes, struct bursar_record old, void *to, size_t bytes) {
  if (enter()) {
    struct bursar_piece piece = {old.size, bursar_fold_where(old.number, old.generation), old.watched, 0};
    if (to)
      retire_piece(piece);
    else if (piece.number)
      (void)bursar_maps_put((uintptr_t)at, piece);
    leave(0);
  }
  if (to)
    mapped(to, bytes);
}

/* --- open and closed ------------------------------------------------------------------------------------------------------ */

static void no_block(void *p, size_t bytes) {}
static void no_end(void *p) {}
static bool no_lift(void *p, struct bursar_record *old) { return false; }
static void no_drop(void *p, struct bursar_record old, void *q, size_t bytes) {}
static bool no_lift_map(void *at, size_t bytes, struct bursar_record *old) { return false; }

static struct bursar_native_books books;

static void listen_to(uint32_t domains) {
  bool blocks = domains >> BURSAR_DOMAIN_MALLOC & 1, maps = domains >> BURSAR_DOMAIN_MMAP & 1;
  books = (struct bursar_native_books){
      .begun = blocks ? begun : no_block,
      .ending = blocks ? ending : no_end,
      .lift = blocks ? lift : no_lift,
      .drop = blocks ? drop : no_drop,
      .mapped = maps ? mapped : no_block,
      .unmapping = maps ? unmapping : no_block,
      .lift_map = maps ? lift_map : no_lift_map,
      .drop_map = drop_map,
  };
  __atomic_store_n(&bursar_native_table.books, &books, __ATOMIC_RELEASE);
}

static void name_program(void) {
  char path[4096];
  bursar_lock_take();
  if (bursar_modules_program(path, sizeof path))
    bursar_account.writer.counts->main_file = bursar_stacks_string(path, strlen(path));
  bursar_lock_give();
}

int bursar_plain_open(const struct bursar_settings *settings, void (*warn)(const char *line), bool *native,
                      struct bursar_error *error) {
  const struct bursar_provider provider = {.stacks_moved = bursar_plain_stacks_moved, .warn = warn};
  struct bursar_settings own = *settings;
  own.mode = BURSAR_MODE_EXACT;
  own.phase = BURSAR_PHASE_MAIN;
  woven = own.native = *native = settings->native && bursar_plain_stacks_start();
  int status = bursar_account_start(&own, &provider, error);
  if (status != 0)
    return status;
  name_program();
  __atomic_store_n(&threads, 1, __ATOMIC_RELAXED);
  mine.met = true;
  bursar_account_alone_free(true);
  listen_to(own.domains);
  return 0;
}

bool bursar_plain_close(enum bursar_state state) {
  __atomic_store_n(&bursar_native_table.books, NULL, __ATOMIC_RELEASE);
  if (mine.inside)
    return false;
  mine.inside = true; /* a handler that comes now finds nothing to wait for */
  bool closed = bursar_account_stop_free(state);
  mine.inside = false;
  return closed;
}

void bursar_plain_before_fork(void) {
  mine.was = mine.inside;
  mine.inside = true;
  bursar_lock_take();
}

void bursar_plain_after_fork(void) {
  bursar_lock_give();
  mine.inside = mine.was;
}

void bursar_plain_in_child(void) {
  __atomic_store_n(&bursar_native_table.books, NULL, __ATOMIC_RELEASE);
  bursar_account_abandon();
  bursar_plain_stacks_after_fork();
  mine.inside = false;
}
