#include "native_books.h"

#include "account/fold.h"
#include "account/maps.h"
#include "account/scopes.h"
#include "anywhere.h"
#include "charging.h"
#include "compat.h"
#include "frames.h"
#include "native/native.h"
#include "native/patch.h"
#include "scope.h"

/* --- malloc -------------------------------------------------------------------------------------------------------------- */

static void begun(void *p, size_t bytes) { (void)bursar_anywhere_book(p, bytes, BURSAR_DOMAIN_MALLOC); }

static void drop(void *p, struct bursar_record old, void *q, size_t bytes) {
  if (!q && bytes) {
    bursar_anywhere_put_back(p, old);
    return;
  }
  bursar_anywhere_drop(p, old);
  begun(q, bytes);
}

/* --- mappings ------------------------------------------------------------------------------------------------------------ */

static void book_map(uintptr_t at, struct bursar_piece piece) {
  if (piece.number)
    (void)bursar_maps_put(at, piece);
}

static void retire_piece(struct bursar_piece piece, bool gil) {
  struct bursar_record record = {.size = piece.bytes, .number = piece.number, .scope = piece.scope};
  if (!piece.number)
    return;
  if (gil)
    bursar_account_unmap_gil(record, piece.ends, BURSAR_DOMAIN_MMAP);
  else
    bursar_account_unmap_free(record, piece.ends, BURSAR_DOMAIN_MMAP);
}

static void mapped(void *at, size_t asked) {
  size_t bytes = bursar_maps_whole_pages(asked);
  if (bursar_anywhere_inside || !bursar_account.active)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  struct bursar_piece piece = {.bytes = bytes, .ends = true};
  if (gil) {
    uint32_t tag = bursar_frames_native_tag(BURSAR_DOMAIN_MMAP);
    if (bursar_scope_moved())
      bursar_scope_follow();
    piece.scope = bursar_account.scope;
    piece.number = bursar_account_map_gil(bytes, tag, BURSAR_DOMAIN_MMAP);
    if (piece.number && bursar_account.mode != BURSAR_MODE_EXACT) /* there no scope is the account's business */
      piece.scope = bursar_charging_map_begins(bytes, true);
  } else {
    uint32_t number = bursar_frames_detached(BURSAR_DOMAIN_MMAP);
    piece.scope = bursar_scopes_slot(bursar_anywhere_scope);
    piece.number = bursar_account_map_free(bytes, number, BURSAR_DOMAIN_MMAP, piece.scope);
  }
  book_map((uintptr_t)at, piece);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

static void unmapping(void *at, size_t bytes) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  while (bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece))
    retire_piece(piece, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

void bursar_native_books_forget_map(void *at, size_t bytes) {
  if (bursar_account.active)
    unmapping(at, bytes);
}

/* A piece as a record: `watched` says whether the block ends with it. */
static bool lift_map(void *at, size_t bytes, struct bursar_record *old) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside)
    return false;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off(), found = bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece);
  *old = (struct bursar_record){.size = piece.bytes,
                                .number = piece.number,
                                .watched = piece.ends,
                                .generation = bursar_fold_generation,
                                .scope = piece.scope,
                                .folded = bursar_scopes_generation};
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
  if (!found)
    return false;
  unmapping(at, bytes); /* a remap of several is none */
  return true;
}

static void drop_map(void *at, size_t old_bytes, struct bursar_record old, void *to, size_t bytes) {
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  uint32_t number = bursar_fold_where(old.number, old.generation);
  struct bursar_piece piece = {old.size, number, old.watched, bursar_scopes_where(old.scope, old.folded)};
  if (!to)
    book_map((uintptr_t)at, piece);
  else
    retire_piece(piece, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
  if (to)
    mapped(to, bytes);
}

/* The table is the preload's, where there is one, and that may be another version's. */
static bool fits(void) {
  return bursar_native_table.bytes == sizeof bursar_native_table &&
         bursar_native_table.version == BURSAR_NATIVE_VERSION;
}

void bursar_native_books_claim(void) {
  if (fits() && bursar_native_table.leave)
    bursar_native_table.leave();
}

/* --- without a preload --------------------------------------------------------------------------------------------------- */

static bool asked; /* atomic: any thread may */

static int look(void *unused) {
  __atomic_store_n(&asked, false, __ATOMIC_RELAXED);
  if (bursar_patch_due())
    bursar_patch_again();
  return 0;
}

void bursar_native_books_reach(void) {
  __atomic_store_n(&asked, false, __ATOMIC_RELAXED); /* an interpreter that ended took its pending calls along */
  static bool reached;
  if (fits() && !reached)
    (void)bursar_patch_all(bursar_native_books_modules_came, bursar_native_books_there());
  reached = true;
}

/* The loader's lock is not for the middle of an allocation, nor is a module there before it was loaded: between two instructions of
 * the interpreter.  Who loads one asks, since nobody may allocate between that and the first call of it; and so does every
 * event meanwhile, in case that was too early or too often. */
void bursar_native_books_modules_came(void) {
  if (!__atomic_exchange_n(&asked, true, __ATOMIC_RELAXED) && Py_AddPendingCall(look, NULL) != 0)
    __atomic_store_n(&asked, false, __ATOMIC_RELAXED);
}

/* --- open and closed ----------------------------------------------------------------------------------------------------- */

static void no_block(void *p, size_t bytes) {}
static void no_end(void *p) {}
static bool no_lift(void *p, struct bursar_record *old) { return false; }
static bool no_lift_map(void *at, size_t bytes, struct bursar_record *old) { return false; }
static void no_drop(void *p, struct bursar_record old, void *q, size_t bytes) {}

static struct bursar_native_books books;

bool bursar_native_books_there(void) { return fits() && bursar_native_table.originals.malloc; }

/* Where another mode has functions of its own for blocks, or for mappings, it has all of them. */
static struct bursar_native_books functions(const struct bursar_native_books *other) {
  struct bursar_native_books all = {
      .begun = begun,
      .ending = bursar_anywhere_end,
      .lift = bursar_anywhere_lift,
      .drop = drop,
      .mapped = mapped,
      .unmapping = unmapping,
      .lift_map = lift_map,
      .drop_map = drop_map,
  };
  if (other && other->begun) {
    all.begun = other->begun;
    all.ending = other->ending;
    all.lift = other->lift;
    all.drop = other->drop;
  }
  if (other && other->mapped) {
    all.mapped = other->mapped;
    all.unmapping = other->unmapping;
    all.lift_map = other->lift_map;
    all.drop_map = other->drop_map;
  }
  return all;
}

void bursar_native_books_open(uint32_t domains, const struct bursar_native_books *other) {
  bool blocks = domains >> BURSAR_DOMAIN_MALLOC & 1, maps = domains >> BURSAR_DOMAIN_MMAP & 1;
  if (!blocks && !maps)
    return;
  const struct bursar_native_books all = functions(other);
  books = (struct bursar_native_books){
      .begun = blocks ? all.begun : no_block,
      .ending = blocks ? all.ending : no_end,
      .lift = blocks ? all.lift : no_lift,
      .drop = blocks ? all.drop : no_drop,
      .mapped = maps ? all.mapped : no_block,
      .unmapping = maps ? all.unmapping : no_block,
      .lift_map = maps ? all.lift_map : no_lift_map,
      .drop_map = all.drop_map,
  };
  __atomic_store_n(&bursar_native_table.books, &books, __ATOMIC_RELEASE);
}

void bursar_native_books_close(void) { __atomic_store_n(&bursar_native_table.books, NULL, __ATOMIC_RELEASE); }
