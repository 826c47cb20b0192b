#include "modes.h"

#include "account/fold.h"
#include "account/sample.h"

#include "anywhere.h"
#include "charging.h"
#include "frames.h"
#include "hooks.h"
#include "native/patch.h"
#include "native_books.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE inline __attribute__((always_inline))

static PyMemAllocatorEx *const under = bursar_modes_under;

/* --- what is rare -------------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) void *chosen(void *p, size_t size, unsigned domain) {
  if (!bursar_account.active || bursar_anywhere_inside)
    return p;
  bursar_anywhere_inside = true;
  if (UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
  bool gil = bursar_holds_main_gil();
  if (bursar_sample_may_hold(p)) /* where it is was another block, whose end was not seen */
    bursar_sample_end(p, gil);
  if (gil) {
    bursar_numpy_ask();
    uint32_t tag = domain >= BURSAR_DOMAINS_PYTHON ? bursar_frames_native_tag(domain) : bursar_frames_tag(domain);
    bursar_sample_book_gil(p, size, tag, domain);
  } else {
    bursar_fold_hold_off();
    bursar_sample_book_free(p, size, bursar_frames_detached(domain), domain);
    bursar_fold_let_go();
  }
  bursar_anywhere_inside = false;
  return p;
}

/* Nothing is to be forgotten of a block that a signal handler frees in the midst of our work: it then stays in the books until
 * its address is used again. */
static __attribute__((noinline)) void ends_slowly(void *p) {
  if (bursar_anywhere_inside)
    return;
  bursar_anywhere_inside = true;
  bursar_sample_end(p, bursar_holds_main_gil());
  bursar_anywhere_inside = false;
}

/* --- scopes ------------------------------------------------------------------------------------------------------------ */

/* What RAW's hook gave inside others.  A block of OBJ's or MEM's that it did not give is a pool's, whatever its size: one that
 * was large and shrank in a realloc stays malloc's. */
static __thread const void *raws __attribute__((tls_model("initial-exec")));

static INLINE void charge(void *p, size_t size) {
  if (p == raws || !bursar_modes_plain)
    bursar_charging_malloc_begins(p);
  else if (size - 1 < BURSAR_POOLS_LARGEST)
    bursar_charging_pool_begins(p, bursar_pools_block(p));
  raws = NULL;
}

/* --- a block's beginning, its end, and both ------------------------------------------------------------------------------ */

static INLINE void *begins(void *p, size_t size, unsigned domain) {
  if (UNLIKELY(!p))
    return p;
  return UNLIKELY(bursar_sample_alloc(size, domain)) ? chosen(p, size, domain) : p;
}

/* Ends are not counted: what is live is known from the chosen blocks.  An address that comes down from another hook is then
 * no longer among them. */
static INLINE void ends(void *p) {
  if (UNLIKELY(bursar_sample_may_hold(p)))
    ends_slowly(p);
}

void bursar_sampling_forget(void *p) {
  if (bursar_account.active && bursar_account.mode == BURSAR_MODE_SAMPLE)
    ends(p);
}

/* Taken out, if it was chosen: else the record's number is 0. */
static void lift(void *p, struct bursar_record *out) {
  bool was = bursar_anywhere_inside;
  *out = (struct bursar_record){0};
  bursar_anywhere_inside = true;
  if (!was && bursar_sample_may_hold(p) && !bursar_sample_lift(p, out, bursar_holds_main_gil()))
    out->number = 0;
  bursar_anywhere_inside = was;
}

static void put_back(void *p, struct bursar_record old) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  if (old.number)
    bursar_sample_put_back(p, old, bursar_holds_main_gil());
  bursar_anywhere_inside = was;
}

static void drop(void *p, struct bursar_record old) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  if (old.number)
    bursar_sample_drop(p, old, bursar_holds_main_gil());
  bursar_anywhere_inside = was;
}

static void *resized(void *p, size_t size, unsigned domain, void *(*call)(void *ctx, void *p, size_t size), void *ctx) {
  struct bursar_record old = {0};
  if (bursar_anywhere_inside)
    return call(ctx, p, size);
  if (p)
    lift(p, &old);
  bursar_anywhere_inside = true;
  void *q = call(ctx, p, size);
  bursar_anywhere_inside = false;
  if (p && !q)
    put_back(p, old);
  else if (p)
    drop(p, old);
  return begins(q, size, domain);
}

/* --- OBJ and MEM --------------------------------------------------------------------------------------------------------- */

static INLINE void *large_malloc(size_t size, unsigned domain, bool scoped) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].malloc(under[domain].ctx, size);
  bursar_anywhere_inside = was;
  if (scoped)
    charge(p, size);
  return begins(p, size, domain);
}

static INLINE void *small_malloc_scoped(size_t size, unsigned domain) {
  void *p = under[domain].malloc(under[domain].ctx, size);
  if (p)
    bursar_charging_pool_begins(p, (size + 15) & ~(size_t)15);
  return begins(p, size, domain);
}

static INLINE void *small_malloc_slowly(size_t size, unsigned domain) {
  bool is_chosen = bursar_sample_alloc_slowly(size, domain);
  void *p = under[domain].malloc(under[domain].ctx, size);
  return p && is_chosen ? chosen(p, size, domain) : p;
}

static INLINE void *hooked_calloc(size_t count, size_t size, unsigned domain, bool scoped) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[domain].calloc(under[domain].ctx, count, size);
  bursar_anywhere_inside = was;
  if (scoped)
    charge(p, count * size);
  return begins(p, count * size, domain); /* no overflow: it was served */
}

static INLINE void *hooked_realloc(void *p, size_t size, unsigned domain, bool scoped) {
  if (!scoped || bursar_anywhere_inside)
    return resized(p, size, domain, under[domain].realloc, under[domain].ctx);
  struct bursar_charged charged = bursar_charging_lift_gil(p);
  void *q = resized(p, size, domain, under[domain].realloc, under[domain].ctx);
  if (q)
    bursar_charging_drop_gil(charged);
  else
    bursar_charging_put_back(p, charged);
  charge(q, size);
  return q;
}

static INLINE void hooked_free(void *p, unsigned domain, bool scoped) {
  ends(p);
  if (scoped)
    bursar_charging_any_ends(p, 0);
  under[domain].free(under[domain].ctx, p);
}

/* One set of them: name, domain, whether scopes are charged. */
#define HOOKS(name, domain, scoped)                                                                                 \
  static __attribute__((noinline)) void *name##_malloc_large(size_t size) {                                         \
    return large_malloc(size, domain, scoped);                                                                      \
  }                                                                                                                 \
  static __attribute__((noinline)) void *name##_malloc_slowly(size_t size) {                                        \
    return small_malloc_slowly(size, domain);                                                                       \
  }                                                                                                                 \
  static void *name##_malloc(void *ctx, size_t size) {                                                              \
    if (UNLIKELY(size - 1 >= bursar_modes_plain))                                                                   \
      return name##_malloc_large(size);                                                                             \
    if (scoped)                                                                                                     \
      return small_malloc_scoped(size, domain);                                                                     \
    /* Counted before it is served: the call below is then a jump.  Where memory is out, too much by this block. */ \
    if (UNLIKELY(bursar_sample_alloc_fast(size, domain)))                                                           \
      return name##_malloc_slowly(size);                                                                            \
    return under[domain].malloc(under[domain].ctx, size);                                                           \
  }                                                                                                                 \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {                                                \
    return hooked_calloc(count, size, domain, scoped);                                                              \
  }                                                                                                                 \
  static void *name##_realloc(void *ctx, void *p, size_t size) { return hooked_realloc(p, size, domain, scoped); }  \
  static void name##_free(void *ctx, void *p) { hooked_free(p, domain, scoped); }
HOOKS(obj, BURSAR_DOMAIN_OBJ, false)
HOOKS(mem, BURSAR_DOMAIN_MEM, false)
HOOKS(obj_scoped, BURSAR_DOMAIN_OBJ, true)
HOOKS(mem_scoped, BURSAR_DOMAIN_MEM, true)
#undef HOOKS

/* --- RAW, NumPy, malloc: below others ------------------------------------------------------------------------------------ */

/* Not inside another hook. */
static INLINE void *begins_below(void *p, size_t size, unsigned domain) {
  if (UNLIKELY(bursar_charging_on))
    bursar_charging_malloc_begins(p);
  return begins(p, size, domain);
}

static INLINE void discharge_below(void *p) {
  if (UNLIKELY(bursar_charging_on))
    bursar_charging_malloc_ends(p);
}

static void *resized_below(void *p, size_t size, unsigned domain, void *(*call)(void *ctx, void *p, size_t size),
                           void *ctx) {
  if (!UNLIKELY(bursar_charging_on))
    return resized(p, size, domain, call, ctx);
  struct bursar_charged charged = bursar_charging_lift(p);
  void *q = resized(p, size, domain, call, ctx);
  if (q)
    bursar_charging_drop(charged);
  else
    bursar_charging_put_back(p, charged);
  bursar_charging_malloc_begins(q);
  return q;
}

static INLINE void *raw_given(void *p, bool scoped) {
  if (scoped)
    raws = p;
  return p;
}

#define RAW_HOOKS(name, scoped)                                               \
  static void *name##_malloc(void *ctx, size_t size) {                        \
    const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];                  \
    if (bursar_anywhere_inside)                                               \
      return raw_given(raw->malloc(raw->ctx, size), scoped);                  \
    bursar_anywhere_inside = true;                                            \
    void *p = raw->malloc(raw->ctx, size);                                    \
    bursar_anywhere_inside = false;                                           \
    return begins_below(p, size, BURSAR_DOMAIN_RAW);                          \
  }                                                                           \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {          \
    const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];                  \
    if (bursar_anywhere_inside)                                               \
      return raw_given(raw->calloc(raw->ctx, count, size), scoped);           \
    bursar_anywhere_inside = true;                                            \
    void *p = raw->calloc(raw->ctx, count, size);                             \
    bursar_anywhere_inside = false;                                           \
    return begins_below(p, count * size, BURSAR_DOMAIN_RAW);                  \
  }                                                                           \
  static void *name##_realloc(void *ctx, void *p, size_t size) {              \
    const PyMemAllocatorEx *raw = &under[BURSAR_DOMAIN_RAW];                  \
    if (bursar_anywhere_inside)                                               \
      return raw_given(raw->realloc(raw->ctx, p, size), scoped);              \
    return resized_below(p, size, BURSAR_DOMAIN_RAW, raw->realloc, raw->ctx); \
  }
RAW_HOOKS(raw, false)
RAW_HOOKS(raw_scoped, true)
#undef RAW_HOOKS

static void raw_free(void *ctx, void *p) {
  ends(p);
  discharge_below(p);
  under[BURSAR_DOMAIN_RAW].free(under[BURSAR_DOMAIN_RAW].ctx, p);
}

static INLINE void *numpy_begins(void *p, size_t size) {
  if (bursar_anywhere_inside || !bursar_account.active)
    return p;
  if (UNLIKELY(bursar_charging_on))
    bursar_charging_malloc_begins(p);
  return begins(p, size, BURSAR_DOMAIN_NUMPY);
}
static void *numpy_malloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.malloc(ctx, size);
  bursar_anywhere_inside = was;
  return numpy_begins(p, size);
}
static void *numpy_calloc(void *ctx, size_t count, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.calloc(ctx, count, size);
  bursar_anywhere_inside = was;
  return numpy_begins(p, count * size);
}
static void *numpy_realloc(void *ctx, void *p, size_t size) {
  return bursar_account.active ? resized_below(p, size, BURSAR_DOMAIN_NUMPY, bursar_numpy_under.realloc, ctx)
                               : bursar_numpy_under.realloc(ctx, p, size);
}
static void numpy_free(void *ctx, void *p, size_t size) {
  if (bursar_account.active && !bursar_anywhere_inside) {
    ends(p);
    discharge_below(p);
  }
  bursar_numpy_under.free(ctx, p, size);
}

void bursar_sampling_begun(void *p, size_t size) {
  if (bursar_anywhere_inside)
    return;
  (void)begins(p, size, BURSAR_DOMAIN_MALLOC);
}
void bursar_sampling_ending(void *p) { ends(p); }

static void native_begun(void *p, size_t size) {
  if (!bursar_anywhere_inside)
    (void)begins_below(p, size, BURSAR_DOMAIN_MALLOC);
}
static void native_ending(void *p) {
  ends(p);
  discharge_below(p);
}
static bool native_lift(void *p, struct bursar_record *old) {
  if (bursar_anywhere_inside)
    return false;
  lift(p, old);
  if (UNLIKELY(bursar_charging_on))
    bursar_charging_lift_native(p, old);
  return true;
}
static void native_drop(void *p, struct bursar_record old, void *q, size_t size) {
  bursar_charging_drop_native(p, &old, q || !size);
  if (!q && size) {
    put_back(p, old);
    return;
  }
  drop(p, old);
  if (q)
    native_begun(q, size);
}

const struct bursar_modes_hooks bursar_sampling_hooks = {
    .python = {[BURSAR_DOMAIN_OBJ] = {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
               [BURSAR_DOMAIN_MEM] = {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
               [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free}},
    .scoped = {[BURSAR_DOMAIN_OBJ] = {NULL, obj_scoped_malloc, obj_scoped_calloc, obj_scoped_realloc, obj_scoped_free},
               [BURSAR_DOMAIN_MEM] = {NULL, mem_scoped_malloc, mem_scoped_calloc, mem_scoped_realloc, mem_scoped_free},
               [BURSAR_DOMAIN_RAW] = {NULL, raw_scoped_malloc, raw_scoped_calloc, raw_scoped_realloc, raw_free}},
    .numpy = {numpy_malloc, numpy_calloc, numpy_realloc, numpy_free},
    .native = {.begun = native_begun, .ending = native_ending, .lift = native_lift, .drop = native_drop},
};
