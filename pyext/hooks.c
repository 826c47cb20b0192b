#include "hooks.h"

#include <string.h>
#include "account/answer.h"
#include "account/charges.h"
#include "account/count.h"
#include "account/fold.h"
#include "account/hot.h"
#include "account/scopes.h"

#include "anywhere.h"
#include "frames.h"
#include "modes.h"
#include "native/patch.h"
#include "native_books.h"
#include "refusing.h"
#include "scope.h"
#include "wiping.h"

/* The allocators that were there.  Our own keep their contexts, so that a call which reads a half-replaced allocator (RAW
 * is called without the GIL) still fits. */
static PyMemAllocatorEx under[BURSAR_DOMAINS_PYTHON];
static bool installed[BURSAR_DOMAINS_PYTHON];
static bool many_gils; /* interpreters with GILs of their own have been seen: frees must look whose they are */

static const PyMemAllocatorDomain python_domain[BURSAR_DOMAINS_PYTHON] = {[BURSAR_DOMAIN_OBJ] = PYMEM_DOMAIN_OBJ,
                                                                          [BURSAR_DOMAIN_MEM] = PYMEM_DOMAIN_MEM,
                                                                          [BURSAR_DOMAIN_RAW] = PYMEM_DOMAIN_RAW};

static void expect_many_gils(void);

/* --- OBJ and MEM: under a GIL ----------------------------------------------------------------------------------------- */

/* Sizes below this never reach another domain inside pymalloc (but for want of memory, when the block is booked twice and
 * the second booking finds and ends the first), so they need no note that we are inside. */
static size_t plain_size;

static __attribute__((noinline)) void *book_slowly(void *p, size_t size, unsigned domain) {
  if (!bursar_account.active)
    return p;
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  if (BURSAR_UNLIKELY(bursar_patch_due()))
    bursar_native_books_modules_came();
  if (BURSAR_UNLIKELY(bursar_anywhere_postponed))
    bursar_anywhere_catch_up();
  uint32_t tag = bursar_frames_tag(domain);
  if (!tag) {
    expect_many_gils();
    bursar_fold_hold_off();
    bursar_account_alloc_free(p, size, domain + 1, domain, 0); /* of another interpreter: no stack of ours */
    bursar_fold_let_go();
  } else {
    if (bursar_scope_moved())
      bursar_scope_follow();
    if (!bursar_hot_alloc(p, size, tag, domain))
      bursar_account_alloc_gil(p, size, tag, domain);
  }
  bursar_anywhere_inside = was;
  return p;
}

static __attribute__((noinline)) void *book_rarity(void *p, size_t size, uint32_t tag, unsigned domain) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_account_alloc_gil(p, size, tag, domain);
  bursar_anywhere_inside = was;
  return p;
}

static inline __attribute__((always_inline)) void *book_at(void *p, size_t size, uint32_t tag, unsigned domain,
                                                           bool scoped) {
  if (BURSAR_UNLIKELY(!bursar_hot_alloc_in(p, size, tag, domain, scoped)))
    return book_rarity(p, size, tag, domain);
  return p;
}

static inline __attribute__((always_inline)) void *near(void *p, size_t size, unsigned domain, bool scoped) {
  uint32_t tag = bursar_frames_tag_near(domain);
  return BURSAR_LIKELY(tag) ? book_at(p, size, tag, domain, scoped) : book_slowly(p, size, domain);
}
static __attribute__((noinline)) void *book_near(void *p, size_t size, unsigned domain) {
  return near(p, size, domain, false);
}
static __attribute__((noinline)) void *book_near_scoped(void *p, size_t size, unsigned domain) {
  return near(p, size, domain, true);
}

/* The context may have changed since the thread last allocated (a task's turn), and with it the scope.  Two sets of hooks, so
 * that whoever enters no scope does not ask. */
static inline __attribute__((always_inline)) void *book(void *p, size_t size, unsigned domain, bool scoped) {
  if (BURSAR_UNLIKELY(!p))
    return p;
  if (scoped && BURSAR_UNLIKELY(bursar_scope_stale()))
    return book_slowly(p, size, domain);
  uint32_t tag = bursar_frames_tag_seen(domain);
  if (BURSAR_LIKELY(tag))
    return book_at(p, size, tag, domain, scoped);
  return scoped ? book_near_scoped(p, size, domain) : book_near(p, size, domain);
}

static inline __attribute__((always_inline)) void *guarded_malloc(size_t size, unsigned domain, bool scoped) {
  bursar_anywhere_inside = true;
  void *p = under[domain].malloc(under[domain].ctx, size);
  bursar_anywhere_inside = false;
  return book(p, size, domain, scoped);
}

static inline __attribute__((always_inline)) void *hooked_calloc(size_t count, size_t size, unsigned domain,
                                                                 bool scoped) {
  bursar_anywhere_inside = true;
  void *p = under[domain].calloc(under[domain].ctx, count, size);
  bursar_anywhere_inside = false;
  return book(p, count * size, domain, scoped); /* no overflow: it was served */
}

static __attribute__((noinline)) void free_rarity(void *p, unsigned domain) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_account_free_gil(p, domain);
  bursar_anywhere_inside = was;
  under[domain].free(under[domain].ctx, p);
}

static __attribute__((noinline)) void free_emptied(void *p, unsigned domain, uint32_t scope) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  bursar_scopes_emptied(scope);
  bursar_anywhere_inside = was;
  under[domain].free(under[domain].ctx, p);
}

static inline __attribute__((always_inline)) void hooked_free(void *p, unsigned domain, bool scoped) {
  uint32_t scope;
  enum bursar_ended ended = bursar_hot_free_in(p, domain, scoped, &scope);
  if (BURSAR_UNLIKELY(ended == BURSAR_NOT_ENDED))
    free_rarity(p, domain);
  else if (scoped && BURSAR_UNLIKELY(ended == BURSAR_ENDED_EMPTY))
    free_emptied(p, domain, scope);
  else
    under[domain].free(under[domain].ctx, p);
}

/* The old entry is retired before the call, since the address may be handed out again inside it, and put back where the
 * call fails. */
static inline __attribute__((always_inline)) void *hooked_realloc(void *p, size_t size, unsigned domain, bool scoped) {
  struct bursar_record old;
  bool known = p && bursar_live_take(p, &old);
  bursar_anywhere_inside = true;
  void *q = under[domain].realloc(under[domain].ctx, p, size);
  if (known && !q)
    (void)bursar_live_put(p, old);
  else if (known)
    bursar_account_retire_gil(p, old, domain);
  bursar_anywhere_inside = false;
  return book(q, size, domain, scoped);
}

/* One set of them: name, domain, whether scopes are asked for. */
#define HOOKS(name, domain, scoped)                                                                                \
  static __attribute__((noinline)) void *name##_malloc_guarded(size_t size) {                                      \
    return guarded_malloc(size, domain, scoped);                                                                   \
  }                                                                                                                \
  static void *name##_malloc(void *ctx, size_t size) {                                                             \
    if (BURSAR_UNLIKELY(size - 1 >= plain_size))                                                                   \
      return name##_malloc_guarded(size);                                                                          \
    return book(under[domain].malloc(under[domain].ctx, size), size, domain, scoped);                              \
  }                                                                                                                \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {                                               \
    return hooked_calloc(count, size, domain, scoped);                                                             \
  }                                                                                                                \
  static void *name##_realloc(void *ctx, void *p, size_t size) { return hooked_realloc(p, size, domain, scoped); } \
  static void name##_free(void *ctx, void *p) { hooked_free(p, domain, scoped); }
HOOKS(obj, BURSAR_DOMAIN_OBJ, false)
HOOKS(mem, BURSAR_DOMAIN_MEM, false)
HOOKS(obj_scoped, BURSAR_DOMAIN_OBJ, true)
HOOKS(mem_scoped, BURSAR_DOMAIN_MEM, true)
#undef HOOKS

/* --- RAW, and everything once there are several GILs: any thread -------------------------------------------------------- */

static void any_free(void *p, unsigned domain) {
  if (p)
    bursar_anywhere_end(p);
  under[domain].free(under[domain].ctx, p);
}

static void *any_realloc(void *p, size_t size, unsigned domain, bool outermost) {
  struct bursar_record old;
  bool known = p && outermost && bursar_anywhere_lift(p, &old);
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *q = under[domain].realloc(under[domain].ctx, p, size);
  bursar_anywhere_inside = was;
  if (known && !q)
    bursar_anywhere_put_back(p, old);
  else if (known)
    bursar_anywhere_drop(p, old);
  return bursar_anywhere_book(q, size, domain);
}

static void *raw_malloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[BURSAR_DOMAIN_RAW].malloc(under[BURSAR_DOMAIN_RAW].ctx, size);
  bursar_anywhere_inside = was;
  return bursar_anywhere_book(p, size, BURSAR_DOMAIN_RAW);
}
static void *raw_calloc(void *ctx, size_t count, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = under[BURSAR_DOMAIN_RAW].calloc(under[BURSAR_DOMAIN_RAW].ctx, count, size);
  bursar_anywhere_inside = was;
  return bursar_anywhere_book(p, count * size, BURSAR_DOMAIN_RAW);
}
static void *raw_realloc(void *ctx, void *p, size_t size) {
  return any_realloc(p, size, BURSAR_DOMAIN_RAW, !bursar_anywhere_inside);
}
static void raw_free(void *ctx, void *p) { any_free(p, BURSAR_DOMAIN_RAW); }

static void careful_obj_free(void *ctx, void *p) { any_free(p, BURSAR_DOMAIN_OBJ); }
static void *careful_obj_realloc(void *ctx, void *p, size_t size) {
  return any_realloc(p, size, BURSAR_DOMAIN_OBJ, true);
}
static void careful_mem_free(void *ctx, void *p) { any_free(p, BURSAR_DOMAIN_MEM); }
static void *careful_mem_realloc(void *ctx, void *p, size_t size) {
  return any_realloc(p, size, BURSAR_DOMAIN_MEM, true);
}

/* --- pymalloc's arenas: where their blocks are counted, they are not ----------------------------------------------------- */

static PyObjectArenaAllocator under_arenas;
static bool blocks_count;

static void *arena_alloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = was || blocks_count;
  void *p = under_arenas.alloc(under_arenas.ctx, size);
  bursar_anywhere_inside = was;
  if (!bursar_modes_arena(p, size) && p) {
    under_arenas.free(under_arenas.ctx, p, size);
    p = NULL;
  }
  if (p) {
    bursar_charges_discard(p, size); /* of malloc's blocks, whose ends were not seen */
    bursar_answer_arena((int64_t)size);
  }
  return p;
}

static void arena_free(void *ctx, void *p, size_t size) {
  bursar_count_unmark(p, size);
  bursar_charges_discard(p, size);
  bursar_answer_arena(-(int64_t)size);
  under_arenas.free(under_arenas.ctx, p, size);
}

/* Once: what a program sets on top of it stays. */
void bursar_hooks_guard_arenas(uint32_t domains) {
  blocks_count = domains & (1u << BURSAR_DOMAIN_OBJ | 1u << BURSAR_DOMAIN_MEM);
  if (under_arenas.alloc)
    return;
  PyObject_GetArenaAllocator(&under_arenas);
  PyObjectArenaAllocator guarded = {under_arenas.ctx, arena_alloc, arena_free};
  PyObject_SetArenaAllocator(&guarded);
}

/* --- in and out --------------------------------------------------------------------------------------------------------- */

static const PyMemAllocatorEx ours[BURSAR_DOMAINS_PYTHON] = {
    [BURSAR_DOMAIN_OBJ] = {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free},
    [BURSAR_DOMAIN_MEM] = {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free},
    [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free},
};

/* Once a scope was entered. */
static const PyMemAllocatorEx ours_scoped[BURSAR_DOMAINS_PYTHON] = {
    [BURSAR_DOMAIN_OBJ] = {NULL, obj_scoped_malloc, obj_scoped_calloc, obj_scoped_realloc, obj_scoped_free},
    [BURSAR_DOMAIN_MEM] = {NULL, mem_scoped_malloc, mem_scoped_calloc, mem_scoped_realloc, mem_scoped_free},
    [BURSAR_DOMAIN_RAW] = {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free},
};
static bool scoped;

static bool on_top(unsigned domain) {
  PyMemAllocatorEx now;
  bursar_refusing_get(python_domain[domain], &now);
  return now.malloc == ours[domain].malloc || now.malloc == ours_scoped[domain].malloc;
}

static void set(unsigned domain) {
  PyMemAllocatorEx hook = scoped ? ours_scoped[domain] : ours[domain];
  hook.ctx = under[domain].ctx;
  if (many_gils && domain == BURSAR_DOMAIN_OBJ) {
    hook.free = careful_obj_free;
    hook.realloc = careful_obj_realloc;
  } else if (many_gils && domain == BURSAR_DOMAIN_MEM) {
    hook.free = careful_mem_free;
    hook.realloc = careful_mem_realloc;
  }
  bursar_refusing_set(python_domain[domain], &hook);
}

static void set_again(void) {
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    if (installed[domain] && on_top(domain))
      set(domain);
}

/* An interpreter with a GIL of its own has begun to allocate: from now on a free may run beside the main GIL's holder. */
static void expect_many_gils(void) {
  if (many_gils)
    return;
  many_gils = true;
  bursar_answer_expect_many_gils();
  set_again();
}

void bursar_hooks_expect_scopes(void) {
  if (scoped)
    return;
  scoped = true;
  set_again();
}

void bursar_hooks_install(uint32_t domains) {
  const char *name = bursar_wiping_allocator_name();
  bursar_hooks_guard_arenas(domains);
  plain_size = name && strncmp(name, "pymalloc", 8) == 0 ? 512 - 4 * sizeof(size_t)
                                                         : 0; /* debug hooks add three words */
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++) {
    if (installed[domain] || !(domains >> domain & 1))
      continue;
    bursar_refusing_get(python_domain[domain], &under[domain]);
    set(domain);
    installed[domain] = true;
  }
}

void bursar_hooks_remove(void) {
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    if (installed[domain] && on_top(domain)) {
      bursar_refusing_set(python_domain[domain], &under[domain]);
      installed[domain] = false;
    }
}

PyMemAllocatorEx *bursar_hooks_lowest(unsigned domain) { return installed[domain] ? &under[domain] : NULL; }

bool bursar_hooks_left(void) {
  for (unsigned domain = 0; domain < BURSAR_DOMAINS_PYTHON; domain++)
    if (installed[domain])
      return true;
  return false;
}
