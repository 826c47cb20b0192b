#include "modes.h"

#include <malloc.h>
#include <string.h>

#include "account/count.h"
#include "account/maps.h"

#include "anywhere.h"
#include "native/patch.h"
#include "native_books.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE inline __attribute__((always_inline))

/* pymalloc's pools, in all versions from 3.10 on: 16 KiB, and where the size class stands in their heads.  Both are tried out
 * before they are relied on. */
#define POOL_BYTES ((uintptr_t)1 << BURSAR_COUNT_GRANULE)
#define POOL_CLASS_AT 36
#define POOL_LARGEST 512u

static PyMemAllocatorEx *const under = bursar_modes_under;

static INLINE size_t pool_size(const void *p) {
  uint32_t size_class;
  memcpy(&size_class, (const char *)((uintptr_t)p & ~(POOL_BYTES - 1)) + POOL_CLASS_AT, sizeof size_class);
  return ((size_t)size_class + 1) << 4;
}

const char *bursar_counting_refuse(void) {
  const char *name = _PyMem_GetCurrentAllocatorName();
  if (!name || (strcmp(name, "pymalloc") != 0 && strcmp(name, "malloc") != 0))
    return "mode count knows the sizes of blocks from Python's own allocators, and here are others (debug hooks, or "
           "another library's): use mode sample";
  if (strcmp(name, "pymalloc") != 0)
    return NULL;
  for (size_t size = 8; size <= POOL_LARGEST; size += 56) {
    void *p = PyObject_Malloc(size);
    bool fits = p && pool_size(p) == ((size + 15) & ~(size_t)15);
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

static __attribute__((noinline)) bool mark(const void *p, unsigned owner) { return bursar_count_mark(p, owner); }

/* --- a block's beginning and its end ------------------------------------------------------------------------------------- */

static INLINE void begins(void *p, size_t usable, unsigned domain, unsigned owner) {
  if (UNLIKELY(bursar_count_owner(p) != owner) && !mark(p, owner))
    return;
  if (UNLIKELY(bursar_count_begin(usable, domain)))
    together();
}

static INLINE void end_of(size_t usable, unsigned domain) {
  if (UNLIKELY(bursar_count_end(usable, domain)))
    together();
}

static INLINE void *malloc_begins(void *p, unsigned domain) {
  if (p)
    begins(p, malloc_usable_size(p), domain, BURSAR_COUNT_MALLOC);
  return p;
}

/* Of a block that ends; 0: it was there before. */
static size_t usable_of(void *p) {
  unsigned owner = p ? bursar_count_owner(p) : BURSAR_COUNT_BEFORE;
  return owner == BURSAR_COUNT_POOL ? pool_size(p) : owner == BURSAR_COUNT_MALLOC ? malloc_usable_size(p) : 0;
}

/* --- OBJ and MEM --------------------------------------------------------------------------------------------------------- */

/* RAW's hook notes what it gave, also inside others: what it did not give is a pool's. */
static INLINE bool is_raws(const void *p) { return p == bursar_lanes_mine.last; }

/* A block of any size.  malloc is only asked about what RAW gave, or where there are no pools at all. */
static void *settle(void *p, size_t size, unsigned domain) {
  if (!p)
    return p;
  bool pools = bursar_modes_plain != 0, raws = is_raws(p);
  bursar_lanes_mine.last = NULL;
  if (!pools || raws)
    return malloc_begins(p, domain);
  if (size - 1 < POOL_LARGEST)
    begins(p, pool_size(p), domain, BURSAR_COUNT_POOL);
  return p;
}

static __attribute__((noinline)) void *malloc_large(size_t size, unsigned domain) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].malloc(under[domain].ctx, size);
  bursar_anywhere_inside = was;
  return settle(p, size, domain);
}

static INLINE void *hooked_malloc(size_t size, unsigned domain) {
  if (UNLIKELY(size - 1 >= bursar_modes_plain))
    return malloc_large(size, domain);
  void *p = under[domain].malloc(under[domain].ctx, size);
  if (UNLIKELY(!p || is_raws(p))) /* not even an arena could be had: RAW's hook has counted it */
    return p;
  begins(p, (size + 15) & ~(size_t)15, domain, BURSAR_COUNT_POOL);
  return p;
}

static void *hooked_calloc(size_t count, size_t size, unsigned domain) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].calloc(under[domain].ctx, count, size);
  bursar_anywhere_inside = was;
  return settle(p, count * size, domain);
}

/* The size before the call: the block may be gone after it. */
static void *hooked_realloc(void *p, size_t size, unsigned domain) {
  size_t old = usable_of(p);
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *q = under[domain].realloc(under[domain].ctx, p, size);
  bursar_anywhere_inside = was;
  if (!q)
    return q;
  if (old)
    end_of(old, domain);
  return settle(q, size, domain);
}

static __attribute__((noinline)) void free_large(void *p, unsigned domain) {
  bool was = bursar_anywhere_inside;
  size_t usable = usable_of(p);
  if (usable)
    end_of(usable, domain);
  bursar_anywhere_inside = true;
  under[domain].free(under[domain].ctx, p);
  bursar_anywhere_inside = was;
}

static INLINE void hooked_free(void *p, unsigned domain) {
  if (UNLIKELY(bursar_count_owner(p) != BURSAR_COUNT_POOL)) {
    free_large(p, domain);
    return;
  }
  end_of(pool_size(p), domain);
  under[domain].free(under[domain].ctx, p);
}

static void *obj_malloc(void *ctx, size_t size) { return hooked_malloc(size, BURSAR_DOMAIN_OBJ); }
static void *obj_calloc(void *ctx, size_t count, size_t size) { return hooked_calloc(count, size, BURSAR_DOMAIN_OBJ); }
static void *obj_realloc(void *ctx, void *p, size_t size) { return hooked_realloc(p, size, BURSAR_DOMAIN_OBJ); }
static void obj_free(void *ctx, void *p) { hooked_free(p, BURSAR_DOMAIN_OBJ); }

static void *mem_malloc(void *ctx, size_t size) { return hooked_malloc(size, BURSAR_DOMAIN_MEM); }
static void *mem_calloc(void *ctx, size_t count, size_t size) { return hooked_calloc(count, size, BURSAR_DOMAIN_MEM); }
static void *mem_realloc(void *ctx, void *p, size_t size) { return hooked_realloc(p, size, BURSAR_DOMAIN_MEM); }
static void mem_free(void *ctx, void *p) { hooked_free(p, BURSAR_DOMAIN_MEM); }

/* --- RAW, NumPy, malloc, all of malloc's blocks --------------------------------------------------------------------------- */

static void *raw_begins(void *p) {
  if (!bursar_anywhere_inside)
    malloc_begins(p, BURSAR_DOMAIN_RAW);
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
  if (bursar_anywhere_inside)
    return call(ctx, p, size);
  size_t old = usable_of(p);
  bursar_anywhere_inside = true;
  void *q = call(ctx, p, size);
  bursar_anywhere_inside = false;
  if (old && q)
    end_of(old, domain);
  return malloc_begins(q, domain);
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
    free_large(p, BURSAR_DOMAIN_RAW);
}

static void *numpy_malloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.malloc(ctx, size);
  bursar_anywhere_inside = was;
  return was || !bursar_account.active ? p : malloc_begins(p, BURSAR_DOMAIN_NUMPY);
}
static void *numpy_calloc(void *ctx, size_t count, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.calloc(ctx, count, size);
  bursar_anywhere_inside = was;
  return was || !bursar_account.active ? p : malloc_begins(p, BURSAR_DOMAIN_NUMPY);
}
static void *numpy_realloc(void *ctx, void *p, size_t size) {
  return bursar_account.active ? resized(p, size, BURSAR_DOMAIN_NUMPY, bursar_numpy_under.realloc, ctx)
                               : bursar_numpy_under.realloc(ctx, p, size);
}
static void numpy_free(void *ctx, void *p, size_t size) {
  bool was = bursar_anywhere_inside;
  size_t usable = bursar_account.active && !was ? usable_of(p) : 0;
  if (usable)
    end_of(usable, BURSAR_DOMAIN_NUMPY);
  bursar_anywhere_inside = true;
  bursar_numpy_under.free(ctx, p, size);
  bursar_anywhere_inside = was;
}

static void native_begun(void *p, size_t size) {
  if (!bursar_anywhere_inside)
    malloc_begins(p, BURSAR_DOMAIN_MALLOC);
}
static void native_ending(void *p) {
  size_t usable = bursar_anywhere_inside ? 0 : usable_of(p);
  if (usable)
    end_of(usable, BURSAR_DOMAIN_MALLOC);
}
static bool native_lift(void *p, struct bursar_record *old) {
  if (bursar_anywhere_inside)
    return false;
  *old = (struct bursar_record){.size = usable_of(p)};
  return true;
}
static void native_drop(void *p, struct bursar_record old, void *q, size_t size) {
  if (!q && size)
    return;
  if (old.size)
    end_of(old.size, BURSAR_DOMAIN_MALLOC);
  malloc_begins(q, BURSAR_DOMAIN_MALLOC);
}

/* --- mappings ------------------------------------------------------------------------------------------------------------ */

#define MAPPED 1u /* in the table of mappings, where other modes have a site's number */

static void native_mapped(void *at, size_t bytes) {
  if (bursar_anywhere_inside)
    return;
  if (bursar_maps_put((uintptr_t)at,
                      (struct bursar_piece){.bytes = bursar_maps_whole_pages(bytes), .number = MAPPED, .ends = true}) &&
      bursar_count_begin(bursar_maps_whole_pages(bytes), BURSAR_DOMAIN_MMAP))
    together();
}

static void native_unmapping(void *at, size_t bytes) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside)
    return;
  while (bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece))
    end_of(piece.bytes, BURSAR_DOMAIN_MMAP);
}

static bool native_lift_map(void *at, size_t bytes, struct bursar_record *old) {
  struct bursar_piece piece;
  if (bursar_anywhere_inside || !bursar_maps_cut((uintptr_t)at, bursar_maps_whole_pages(bytes), &piece))
    return false;
  *old = (struct bursar_record){.size = piece.bytes, .number = MAPPED, .watched = piece.ends};
  return true;
}

static void native_drop_map(void *at, size_t old_bytes, struct bursar_record old, void *to, size_t bytes) {
  if (!to) {
    (void)bursar_maps_put((uintptr_t)at,
                          (struct bursar_piece){.bytes = old.size, .number = MAPPED, .ends = old.watched});
    return;
  }
  end_of(old.size, BURSAR_DOMAIN_MMAP);
  native_mapped(to, bytes);
}

const struct bursar_modes_hooks bursar_counting_hooks = {
    .python = {[BURSAR_DOMAIN_OBJ] = {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
               [BURSAR_DOMAIN_MEM] = {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
               [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free}},
    .numpy = {numpy_malloc, numpy_calloc, numpy_realloc, numpy_free},
    .native = {native_begun, native_ending, native_lift, native_drop, native_mapped, native_unmapping, native_lift_map,
               native_drop_map},
};
