#include "modes.h"

#include <malloc.h>
#include <string.h>

#include "account/count.h"
#include "account/maps.h"

#include "anywhere.h"
#include "before.h"
#include "charging.h"
#include "native/patch.h"
#include "native_books.h"
#include "wiping.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE inline __attribute__((always_inline))

static PyMemAllocatorEx *const under = bursar_modes_under;

const char *bursar_counting_refuse(void) {
  const char *name = bursar_wiping_allocator_name();
  if (!name || (strcmp(name, "pymalloc") != 0 && strcmp(name, "malloc") != 0))
    return "mode count knows the sizes of blocks from Python's own allocators, and here are others (debug hooks, or "
           "another library's): use mode sample";
  if (strcmp(name, "pymalloc") != 0)
    return NULL;
  for (size_t size = 8; size <= BURSAR_POOLS_LARGEST; size += 56) {
    void *p = PyObject_Malloc(size);
    bool fits = p && bursar_pools_block(p) == ((size + 15) & ~(size_t)15);
    PyObject_Free(p);
    if (!fits)
      return "mode count does not know the pools of this Python: use mode sample";
  }
  return NULL;
}

/* --- what is rare -------------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) void together(void) {
  if (bursar_anywhere_inside || !bursar_holds_main_gil())
    return;
  bursar_anywhere_inside = true;
  if (UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
  bursar_numpy_ask();
  bursar_count_look();
  bursar_anywhere_inside = false;
}

/* --- a block's beginning and its end ------------------------------------------------------------------------------------- */

static INLINE void begins(size_t usable, unsigned domain) {
  if (UNLIKELY(bursar_count_begin(usable, domain)))
    together();
}

static INLINE void pool_begins(void *p, size_t usable, unsigned domain, bool scoped) {
  begins(usable, domain);
  if (scoped)
    bursar_charging_pool_begins(p, usable);
}

/* Of a block that may end; 0: it was there before. */
static size_t usable_of(void *p) {
  unsigned owner = p ? bursar_count_owner(p) : BURSAR_COUNT_BEFORE;
  bool pools = owner == BURSAR_COUNT_POOL || (owner >= BURSAR_COUNT_OLD && bursar_before_is_since(p));
  return pools ? bursar_pools_block(p) : owner == BURSAR_COUNT_MALLOC ? malloc_usable_size(p) : 0;
}

/* Where it could not be noted what it is, it does not count. */
static INLINE void *malloc_begins(void *p, unsigned domain, bool scoped) {
  if (!p || (UNLIKELY(bursar_count_owner(p) != BURSAR_COUNT_MALLOC) && !bursar_count_mark(p, BURSAR_COUNT_MALLOC)))
    return p;
  begins(malloc_usable_size(p), domain);
  if (UNLIKELY(scoped))
    bursar_charging_malloc_begins(p);
  return p;
}

/* With what was charged for it. */
static INLINE void any_ends(void *p, unsigned domain, bool scoped) {
  size_t usable = usable_of(p);
  if (UNLIKELY(!usable)) {
    bursar_before_forget(p);
    return;
  }
  if (UNLIKELY(scoped) && bursar_count_owner(p) == BURSAR_COUNT_MALLOC)
    bursar_charging_malloc_ends(p);
  else if (UNLIKELY(scoped))
    bursar_charging_any_ends(p, usable);
  bursar_count_end(usable, domain);
}

/* --- OBJ and MEM --------------------------------------------------------------------------------------------------------- */

/* RAW's hook notes what it gave, also inside others: what it did not give is a pool's. */
static INLINE bool is_raws(const void *p) { return p == bursar_lanes_mine.last; }

/* A block of any size.  malloc is only asked about what RAW gave, or where there are no pools at all. */
static INLINE void *settle(void *p, size_t size, unsigned domain, bool scoped) {
  if (!p)
    return p;
  bool pools = bursar_modes_plain != 0, raws = is_raws(p);
  bursar_lanes_mine.last = NULL;
  if (!pools || raws)
    return malloc_begins(p, domain, scoped);
  if (size - 1 < BURSAR_POOLS_LARGEST)
    pool_begins(p, bursar_pools_block(p), domain, scoped);
  return p;
}

static INLINE void *large_malloc(size_t size, unsigned domain, bool scoped) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].malloc(under[domain].ctx, size);
  bursar_anywhere_inside = was;
  return settle(p, size, domain, scoped);
}

static INLINE size_t pool_size(size_t size) { return (size + 15) & ~(size_t)15; }

static INLINE void *small_malloc_scoped(size_t size, unsigned domain) {
  void *p = under[domain].malloc(under[domain].ctx, size);
  if (UNLIKELY(!p || is_raws(p))) /* not even an arena could be had: RAW's hook has counted it */
    return p;
  pool_begins(p, pool_size(size), domain, true);
  return p;
}

static INLINE void *small_malloc_slowly(size_t size, unsigned domain) {
  if (bursar_count_begin_slowly(pool_size(size), domain))
    together();
  return under[domain].malloc(under[domain].ctx, size);
}

static INLINE void *hooked_calloc(size_t count, size_t size, unsigned domain, bool scoped) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].calloc(under[domain].ctx, count, size);
  bursar_anywhere_inside = was;
  return settle(p, count * size, domain, scoped);
}

/* The size before the call: the block may be gone after it. */
static INLINE void *hooked_realloc(void *p, size_t size, unsigned domain, bool scoped) {
  size_t old = usable_of(p);
  struct bursar_charged charged = {0};
  if (scoped && p)
    charged = bursar_charging_lift_gil(p);
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *q = under[domain].realloc(under[domain].ctx, p, size);
  bursar_anywhere_inside = was;
  if (scoped && !q)
    bursar_charging_put_back(p, charged);
  if (!q)
    return q;
  if (old)
    bursar_count_end(old, domain);
  else if (p)
    bursar_before_forget(p);
  if (scoped)
    bursar_charging_drop_gil(charged);
  return settle(q, size, domain, scoped);
}

static INLINE void any_free(void *p, unsigned domain, bool scoped) {
  bool was = bursar_anywhere_inside;
  any_ends(p, domain, scoped);
  bursar_anywhere_inside = true;
  under[domain].free(under[domain].ctx, p);
  bursar_anywhere_inside = was;
}

/* False: this thread has no lane yet. */
static INLINE bool pool_free(void *ctx, void *p, unsigned domain, bool scoped) {
  size_t usable = bursar_pools_block(p);
  if (UNLIKELY(!bursar_count_end_fast(usable, domain)))
    return false;
  if (scoped)
    bursar_charging_any_ends(p, usable);
  under[domain].free(ctx, p);
  return true;
}

/* One set of them: name, domain, whether scopes are charged. */
#define HOOKS(name, domain, scoped)                                                                                 \
  static __attribute__((noinline)) void *name##_malloc_large(size_t size) {                                         \
    return large_malloc(size, domain, scoped);                                                                      \
  }                                                                                                                 \
  static __attribute__((noinline)) void *name##_malloc_slowly(size_t size) {                                        \
    return small_malloc_slowly(size, domain);                                                                       \
  }                                                                                                                 \
  static __attribute__((noinline)) void name##_free_any(void *p) { any_free(p, domain, scoped); }                   \
  static __attribute__((noinline)) void name##_free_old(void *ctx, void *p) {                                       \
    if (!bursar_before_is_surely_since(p) || !pool_free(ctx, p, domain, scoped))                                    \
      name##_free_any(p);                                                                                           \
  }                                                                                                                 \
  static void *name##_malloc(void *ctx, size_t size) {                                                              \
    if (UNLIKELY(size - 1 >= bursar_modes_plain))                                                                   \
      return name##_malloc_large(size);                                                                             \
    if (scoped)                                                                                                     \
      return small_malloc_scoped(size, domain);                                                                     \
    /* Counted before it is served: the call below is then a jump.  Where memory is out, too much by this block. */ \
    if (UNLIKELY(!bursar_count_begin_fast(pool_size(size), domain)))                                                \
      return name##_malloc_slowly(size);                                                                            \
    return under[domain].malloc(ctx, size);                                                                         \
  }                                                                                                                 \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {                                                \
    return hooked_calloc(count, size, domain, scoped);                                                              \
  }                                                                                                                 \
  static void *name##_realloc(void *ctx, void *p, size_t size) { return hooked_realloc(p, size, domain, scoped); }  \
  static void name##_free(void *ctx, void *p) {                                                                     \
    if (UNLIKELY(bursar_count_owner(p) != BURSAR_COUNT_POOL))                                                       \
      name##_free_old(ctx, p);                                                                                      \
    else if (UNLIKELY(!pool_free(ctx, p, domain, scoped)))                                                          \
      name##_free_any(p);                                                                                           \
  }
HOOKS(obj, BURSAR_DOMAIN_OBJ, false)
HOOKS(mem, BURSAR_DOMAIN_MEM, false)
HOOKS(obj_scoped, BURSAR_DOMAIN_OBJ, true)
HOOKS(mem_scoped, BURSAR_DOMAIN_MEM, true)
#undef HOOKS

/* --- RAW, NumPy, malloc, all of malloc's blocks --------------------------------------------------------------------------- */

static void *raw_begins(void *p) {
  if (!bursar_anywhere_inside)
    malloc_begins(p, BURSAR_DOMAIN_RAW, bursar_charging_on);
  bursar_lanes_mine.last = p;
  return p;
}
static void *raw_malloc(void *ctx, size_t size) {
  const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = raw->malloc(raw->ctx, size);
  bursar_anywhere_inside = was;
  return raw_begins(p);
}
static void *raw_calloc(void *ctx, size_t count, size_t size) {
  const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = raw->calloc(raw->ctx, count, size);
  bursar_anywhere_inside = was;
  return raw_begins(p);
}

static void *resized(void *p, size_t size, unsigned domain, void *(*call)(void *ctx, void *p, size_t size), void *ctx) {
  struct bursar_charged charged = {0};
  if (bursar_anywhere_inside)
    return call(ctx, p, size);
  size_t old = usable_of(p);
  if (old && bursar_charging_on)
    charged = bursar_charging_lift(p);
  bursar_anywhere_inside = true;
  void *q = call(ctx, p, size);
  bursar_anywhere_inside = false;
  if (!q && size)
    bursar_charging_put_back(p, charged);
  else
    bursar_charging_drop(charged);
  if (old && q)
    bursar_count_end(old, domain);
  return malloc_begins(q, domain, bursar_charging_on);
}
static void *raw_realloc(void *ctx, void *p, size_t size) {
  void *q = resized(p, size, BURSAR_DOMAIN_RAW, under[BURSAR_DOMAIN_RAW].realloc, under[BURSAR_DOMAIN_RAW].ctx);
  bursar_lanes_mine.last = q;
  return q;
}

static void raw_free(void *ctx, void *p) {
  const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];
  if (p == bursar_lanes_mine.last)
    bursar_lanes_mine.last = NULL;
  if (bursar_anywhere_inside)
    raw->free(raw->ctx, p);
  else
    any_free(p, BURSAR_DOMAIN_RAW, bursar_charging_on);
}

static void *numpy_malloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.malloc(ctx, size);
  bursar_anywhere_inside = was;
  return was || !bursar_account.active ? p : malloc_begins(p, BURSAR_DOMAIN_NUMPY, bursar_charging_on);
}
static void *numpy_calloc(void *ctx, size_t count, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.calloc(ctx, count, size);
  bursar_anywhere_inside = was;
  return was || !bursar_account.active ? p : malloc_begins(p, BURSAR_DOMAIN_NUMPY, bursar_charging_on);
}
static void *numpy_realloc(void *ctx, void *p, size_t size) {
  return bursar_account.active ? resized(p, size, BURSAR_DOMAIN_NUMPY, bursar_numpy_under.realloc, ctx)
                               : bursar_numpy_under.realloc(ctx, p, size);
}
static void numpy_free(void *ctx, void *p, size_t size) {
  bool was = bursar_anywhere_inside;
  if (bursar_account.active && !was)
    any_ends(p, BURSAR_DOMAIN_NUMPY, bursar_charging_on);
  bursar_anywhere_inside = true;
  bursar_numpy_under.free(ctx, p, size);
  bursar_anywhere_inside = was;
}

static void native_begun(void *p, size_t size) {
  if (!bursar_anywhere_inside)
    malloc_begins(p, BURSAR_DOMAIN_MALLOC, bursar_charging_on);
}
static void native_ending(void *p) {
  if (!bursar_anywhere_inside)
    any_ends(p, BURSAR_DOMAIN_MALLOC, bursar_charging_on);
}
static bool native_lift(void *p, struct bursar_record *old) {
  if (bursar_anywhere_inside)
    return false;
  *old = (struct bursar_record){.size = usable_of(p)};
  if (bursar_charging_on)
    bursar_charging_lift_native(p, old);
  return true;
}
static void native_drop(void *p, struct bursar_record old, void *q, size_t size) {
  bursar_charging_drop_native(p, &old, q || !size);
  if (!q && size)
    return;
  if (old.size)
    bursar_count_end(old.size, BURSAR_DOMAIN_MALLOC);
  malloc_begins(q, BURSAR_DOMAIN_MALLOC, bursar_charging_on);
}

/* --- mappings ------------------------------------------------------------------------------------------------------------ */

#define MAPPED 1u /* in the table of mappings, where other modes have a site's number */

static void native_mapped(void *at, size_t asked) {
  size_t bytes = bursar_maps_whole_pages(asked);
  if (bursar_anywhere_inside)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  struct bursar_piece piece = {
      .bytes = bytes, .number = MAPPED, .ends = true, .scope = bursar_charging_map_begins(bytes, gil)};
  bool put = bursar_maps_put((uintptr_t)at, piece);
  if (!put)
    bursar_charging_map_ends(piece, gil);
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
  if (put && bursar_count_begin(bytes, BURSAR_DOMAIN_MMAP))
    together();
}

static void native_unmapping(void *at, size_t bytes) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside)
    return;
  bursar_anywhere_inside = true;
  bool gil = bursar_anywhere_hold_off();
  while (bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece)) {
    bursar_charging_map_ends(piece, gil);
    bursar_count_end(piece.bytes, BURSAR_DOMAIN_MMAP);
  }
  bursar_anywhere_let_go(gil);
  bursar_anywhere_inside = false;
}

static bool native_lift_map(void *at, size_t bytes, struct bursar_record *old) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside || !bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece))
    return false;
  *old = (struct bursar_record){.size = piece.bytes, .number = MAPPED, .watched = piece.ends, .scope = piece.scope};
  return true;
}

static void native_drop_map(void *at, size_t old_bytes, struct bursar_record old, void *to, size_t bytes) {
  struct bursar_piece piece = {.bytes = old.size, .number = MAPPED, .ends = old.watched, .scope = old.scope};
  if (!to) {
    (void)bursar_maps_put((uintptr_t)at, piece);
    return;
  }
  bool gil = bursar_anywhere_hold_off();
  bursar_charging_map_ends(piece, gil);
  bursar_anywhere_let_go(gil);
  bursar_count_end(old.size, BURSAR_DOMAIN_MMAP);
  native_mapped(to, bytes);
}

const struct bursar_modes_hooks bursar_counting_hooks = {
    .python = {[BURSAR_DOMAIN_OBJ] = {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
               [BURSAR_DOMAIN_MEM] = {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
               [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free}},
    .scoped = {[BURSAR_DOMAIN_OBJ] = {NULL, obj_scoped_malloc, obj_scoped_calloc, obj_scoped_realloc, obj_scoped_free},
               [BURSAR_DOMAIN_MEM] = {NULL, mem_scoped_malloc, mem_scoped_calloc, mem_scoped_realloc, mem_scoped_free},
               [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free}},
    .numpy = {numpy_malloc, numpy_calloc, numpy_realloc, numpy_free},
    .native = {native_begun, native_ending, native_lift, native_drop, native_mapped, native_unmapping, native_lift_map,
               native_drop_map},
};
