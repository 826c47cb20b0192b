#include "native/wiping.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "memory/pools.h"
#include "prim/peek.h"
#include "prim/prim.h"
#include "secret/wipe.h"

#ifdef __SSE2__
  #include <emmintrin.h>
#endif

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE inline __attribute__((always_inline))

#define GRANULE 14 /* log2 of BURSAR_POOLS_BYTES */
#define LEAF 32    /* log2 of the addresses that a leaf tells of */

enum { NOT_LOOKED_AT, POOL, OTHER };

static unsigned char *leaves[1u << (47 - LEAF)];
static bool all_known; /* no arena is older than our hook: what is not marked is no pool's */
struct bursar_wiping_allocator bursar_wiping_under[BURSAR_WIPING_DOMAINS];
static struct bursar_wiping_arenas under_arenas;

/* --- which addresses are pools' -------------------------------------------------------------------------------------------- */

static unsigned char *leaf_of(uintptr_t at) {
  return at >> 47 ? NULL : __atomic_load_n(&leaves[at >> LEAF], __ATOMIC_ACQUIRE);
}

static unsigned char *leaf_for(uintptr_t at) {
  unsigned char *leaf = leaf_of(at), *none = NULL;
  if (leaf || at >> 47)
    return leaf;
  size_t bytes = (size_t)1 << (LEAF - GRANULE);
  leaf = bursar_prim_reserve(bytes, true);
  if (leaf &&
      !__atomic_compare_exchange_n(&leaves[at >> LEAF], &none, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    bursar_prim_release(leaf, bytes); /* another interpreter's arena came first */
    leaf = none;
  }
  return leaf;
}

static unsigned char *granule_in(unsigned char *leaf, uintptr_t at) { return &leaf[(uint32_t)at >> GRANULE]; }

/* Those that lie wholly in the range: pools are no others. */
static bool mark(void *p, size_t bytes, unsigned char what) {
  const uintptr_t pool = BURSAR_POOLS_BYTES, to = (uintptr_t)p + bytes;
  for (uintptr_t at = ((uintptr_t)p + pool - 1) & ~(pool - 1); at + pool <= to; at += pool) {
    unsigned char *leaf = what == POOL ? leaf_for(at) : leaf_of(at);
    if (leaf)
      __atomic_store_n(granule_in(leaf, at), what, __ATOMIC_RELAXED);
    else if (what == POOL)
      return false;
  }
  return true;
}

/* An arena from before, or malloc's: the head of a pool proves itself. */
static __attribute__((noinline)) bool look(const void *p) {
  uintptr_t pool = (uintptr_t)p & ~(uintptr_t)(BURSAR_POOLS_BYTES - 1);
  unsigned char head[BURSAR_POOLS_HEADER], *leaf = p ? leaf_for(pool) : NULL;
  struct bursar_pools_header header;
  const struct bursar_peek here = {.pid = 0, .pages_fd = -1, .mem_fd = -1};
  int kept = errno;
  bool is = leaf && bursar_peek_read(&here, pool, head, sizeof head) == sizeof head &&
            bursar_pools_is(pool, head, &header);
  if (leaf)
    __atomic_store_n(granule_in(leaf, pool), is ? POOL : OTHER, __ATOMIC_RELAXED);
  errno = kept;
  return is;
}

static INLINE unsigned marked(const void *p) {
  const unsigned char *leaf = __atomic_load_n(&leaves[(uintptr_t)p >> LEAF & 0x7fff], __ATOMIC_ACQUIRE);
  return leaf ? __atomic_load_n(&leaf[(uint32_t)(uintptr_t)p >> GRANULE], __ATOMIC_RELAXED) : NOT_LOOKED_AT;
}

static INLINE bool in_pool(const void *p) {
  unsigned what = marked(p);
  return what == POOL || (what == NOT_LOOKED_AT && !all_known && look(p));
}

size_t bursar_wiping_pool(const void *p) { return p && in_pool(p) ? bursar_pools_block(p) : 0; }

/* --- the hooks ----------------------------------------------------------------------------------------------------------- */

#ifdef __SSE2__
static INLINE void two(char *at) {
  _mm_store_si128((__m128i *)(void *)at, _mm_setzero_si128());
  _mm_store_si128((__m128i *)(void *)(at + 16), _mm_setzero_si128());
}

/* A whole block: a multiple of 16, of at most 512.  What is left at its end is stored over again, rather than looked at. */
static INLINE void wipe_block(void *p, size_t bytes) {
  char *at = p, *end = at + bytes;
  if (bytes > 32) {
    for (; end - at > 64; at += 64) {
      two(at);
      two(at + 32);
    }
    if (end - at > 32)
      two(at);
    two(end - 32);
  } else {
    _mm_store_si128((__m128i *)(void *)at, _mm_setzero_si128());
    _mm_store_si128((__m128i *)(void *)(end - 16), _mm_setzero_si128());
  }
  __asm__ volatile("" : : "r"(p) : "memory");
}
#else
static INLINE void wipe_block(void *p, size_t bytes) { bursar_wipe(p, bytes); }
#endif

static __attribute__((noinline)) void free_other(void *ctx, void *p, unsigned domain) {
  if (in_pool(p))
    wipe_block(p, bursar_pools_block(p));
  bursar_wiping_under[domain].free(ctx, p);
}

static INLINE void free_wiped(void *ctx, void *p, unsigned domain) {
  if (UNLIKELY(marked(p) != POOL)) {
    free_other(ctx, p, domain);
    return;
  }
  wipe_block(p, bursar_pools_block(p));
  bursar_wiping_under[domain].free(ctx, p);
}

/* What pymalloc would do, but that nothing stays behind: a block that keeps its size class stays where it is. */
void *bursar_wiping_move(unsigned domain, void *ctx, void *p, size_t has, size_t size) {
  if (size <= has && size * 4 > has * 3) {
    bursar_wipe((char *)p + size, has - size);
    return p;
  }
  void *q = bursar_wiping_under[domain].malloc(ctx, size);
  if (!q)
    return NULL;
  memcpy(q, p, size < has ? size : has);
  wipe_block(p, has);
  bursar_wiping_under[domain].free(ctx, p);
  return q;
}

static INLINE void *realloc_wiped(void *ctx, void *p, size_t size, unsigned domain) {
  return p && in_pool(p) ? bursar_wiping_move(domain, ctx, p, bursar_pools_block(p), size)
                         : bursar_wiping_under[domain].realloc(ctx, p, size);
}

static void obj_free(void *ctx, void *p) { free_wiped(ctx, p, BURSAR_WIPING_OBJ); }
static void mem_free(void *ctx, void *p) { free_wiped(ctx, p, BURSAR_WIPING_MEM); }
static void *obj_realloc(void *ctx, void *p, size_t size) { return realloc_wiped(ctx, p, size, BURSAR_WIPING_OBJ); }
static void *mem_realloc(void *ctx, void *p, size_t size) { return realloc_wiped(ctx, p, size, BURSAR_WIPING_MEM); }

static void *arena_alloc(void *ctx, size_t size) {
  void *p = under_arenas.alloc(ctx, size);
  if (p &&
      !mark(p, size, POOL)) { /* no arena rather than one whose blocks would not be wiped: pymalloc then asks malloc */
    under_arenas.free(ctx, p, size);
    return NULL;
  }
  return p;
}

static void arena_free(void *ctx, void *p, size_t size) {
  (void)mark(p, size, NOT_LOOKED_AT);
  under_arenas.free(ctx, p, size);
}

/* --- in ------------------------------------------------------------------------------------------------------------------- */

void bursar_wiping_over(unsigned domain, struct bursar_wiping_allocator *allocator) {
  bursar_wiping_under[domain] = *allocator;
  allocator->realloc = domain == BURSAR_WIPING_OBJ ? obj_realloc : mem_realloc;
  allocator->free = domain == BURSAR_WIPING_OBJ ? obj_free : mem_free;
}

void bursar_wiping_over_arenas(struct bursar_wiping_arenas *arenas, bool first) {
  if (under_arenas.alloc)
    return;
  under_arenas = *arenas;
  all_known = first;
  arenas->alloc = arena_alloc;
  arenas->free = arena_free;
}
