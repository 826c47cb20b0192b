#include "wiping.h"

#include <stdio.h>
#include <string.h>

#include "anywhere.h"
#include "ledger/layout.h"
#include "modes.h"
#include "native/native.h"
#include "native/wiping.h"
#include "native_books.h"
#include "numpy.h"
#include "scope.h"
#include "secret/wipe.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define INLINE inline __attribute__((always_inline))

_Static_assert(sizeof(struct bursar_wiping_allocator) == sizeof(PyMemAllocatorEx) &&
                   sizeof(struct bursar_wiping_arenas) == sizeof(PyObjectArenaAllocator),
               "wiping.h says what they are");

/* Python's debug hooks, in front of the allocator that they call. */
struct debug_hooks {
  char domain;
  PyMemAllocatorEx under;
};

static bool has_pools;      /* pymalloc serves Python's objects */
static bool debug;          /* behind Python's debug hooks */
static const char *beneath; /* what books that are open now were put over */

const char *bursar_wiping_allocator_name(void) {
  const char *name = _PyMem_GetCurrentAllocatorName();
  if (!name && bursar_native_table.pools[0])
    name = bursar_native_table.pools;
  if (name) /* NULL: hooks of the books are there still, over what it was before */
    beneath = name;
  return name;
}

/* --- hooks for blocks of scopes ---------------------------------------------------------------------------------------- */

static unsigned scopes; /* that wipe, open now */
/* A thread's own: interpreters with GILs of their own run beside each other. */
static __thread struct {
  const PyThreadState *thread; /* whose context was looked at last */
  uint64_t context_ver;
  bool wipes;
} here __attribute__((tls_model("initial-exec")));

static struct bursar_marks *marks(void) { return bursar_native_table.marks; }

void bursar_wiping_follow(void) {
  if (!scopes && !here.wipes)
    return;
  const PyThreadState *thread = bursar_thread();
  here.thread = thread;
  here.context_ver = thread ? thread->context_ver : 0;
  here.wipes = scopes && thread && thread->interp == PyInterpreterState_Main() && bursar_scope_wipes();
  *bursar_native_table.scoped() = here.wipes;
}

static __attribute__((noinline)) bool follow(void) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true; /* looking must not be booked */
  bursar_wiping_follow();
  bursar_anywhere_inside = was;
  return here.wipes;
}

static INLINE bool inside(void) {
  const PyThreadState *thread = bursar_thread();
  if (UNLIKELY(thread != here.thread) || UNLIKELY(thread->context_ver != here.context_ver))
    return follow();
  return here.wipes;
}

bool bursar_wiping_wants(const void *p) {
  uint32_t which = __atomic_load_n(&bursar_native_table.wipes, __ATOMIC_RELAXED);
  return which == BURSAR_WIPES_ALL || (which && (here.wipes || bursar_marks_has(marks(), p)));
}

/* What malloc serves was marked by its hook. */
static __attribute__((noinline)) void *begun(void *p) {
  if (bursar_wiping_pool(p))
    bursar_marks_put(marks(), p);
  return p;
}

static __attribute__((noinline)) void ended(void *p) {
  size_t bytes = bursar_wiping_pool(p);
  if (!bytes)
    return;
  (void)bursar_marks_take(marks(), p);
  bursar_wipe(p, bytes);
}

static __attribute__((noinline)) void *moved(unsigned domain, void *ctx, void *p, size_t size) {
  size_t bytes = bursar_wiping_pool(p);
  if (!bytes)
    return bursar_wiping_under[domain].realloc(ctx, p, size);
  void *q = bursar_wiping_move(domain, ctx, p, bytes, size);
  if (q && q != p)
    (void)bursar_marks_take(marks(), p);
  return q ? begun(q) : NULL;
}

/* Outside of such scopes the allocator is jumped to. */
#define HOOKS(name, domain)                                                                                            \
  static __attribute__((noinline)) void *name##_malloc_inside(void *ctx, size_t size) {                                \
    return begun(bursar_wiping_under[domain].malloc(ctx, size));                                                       \
  }                                                                                                                    \
  static __attribute__((noinline)) void *name##_calloc_inside(void *ctx, size_t count, size_t size) {                  \
    return begun(bursar_wiping_under[domain].calloc(ctx, count, size));                                                \
  }                                                                                                                    \
  static void *name##_malloc(void *ctx, size_t size) {                                                                 \
    return UNLIKELY(inside()) ? name##_malloc_inside(ctx, size) : bursar_wiping_under[domain].malloc(ctx, size);       \
  }                                                                                                                    \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {                                                   \
    return UNLIKELY(inside()) ? name##_calloc_inside(ctx, count, size)                                                 \
                              : bursar_wiping_under[domain].calloc(ctx, count, size);                                  \
  }                                                                                                                    \
  static void *name##_realloc(void *ctx, void *p, size_t size) {                                                       \
    bool in = scopes && inside();                                                                                      \
    return UNLIKELY(in) || UNLIKELY(bursar_marks_has(marks(), p)) ? moved(domain, ctx, p, size)                        \
                                                                  : bursar_wiping_under[domain].realloc(ctx, p, size); \
  }                                                                                                                    \
  static void name##_free(void *ctx, void *p) {                                                                        \
    if (UNLIKELY(here.wipes) || UNLIKELY(bursar_marks_has(marks(), p)))                                                \
      ended(p);                                                                                                        \
    bursar_wiping_under[domain].free(ctx, p);                                                                          \
  }
HOOKS(obj, BURSAR_WIPING_OBJ)
HOOKS(mem, BURSAR_WIPING_MEM)
#undef HOOKS

/* --- which hooks stand ---------------------------------------------------------------------------------------------------- */

static const struct {
  PyMemAllocatorDomain python;
  unsigned domain;
  struct bursar_wiping_allocator hooks;
} domains[BURSAR_WIPING_DOMAINS] = {
    [BURSAR_WIPING_OBJ] = {PYMEM_DOMAIN_OBJ, BURSAR_DOMAIN_OBJ, {NULL, obj_malloc, obj_calloc, obj_realloc, obj_free}},
    [BURSAR_WIPING_MEM] = {PYMEM_DOMAIN_MEM, BURSAR_DOMAIN_MEM, {NULL, mem_malloc, mem_calloc, mem_realloc, mem_free}}};

enum set {
  NONE,   /* what stood there before */
  SCOPED, /* a wiping scope is open */
  ENDING, /* some of its blocks are left */
  ALL
};

/* Where the hooks are or shall be: below those of books, and below Python's debug hooks, which would hand out places inside
 * of blocks; else on top, in *top. */
static PyMemAllocatorEx *place_of(unsigned i, PyMemAllocatorEx *top) {
  PyMemAllocatorEx *lowest = bursar_modes_lowest(domains[i].domain);
  PyMem_GetAllocator(domains[i].python, top);
  if (debug)
    return &((struct debug_hooks *)(lowest ? lowest->ctx : top->ctx))->under;
  return lowest ? lowest : top;
}

/* Function by function, where they stand: a call that reads one of the old and one of the new gets two that fit. */
static void put(PyMemAllocatorEx *place, const struct bursar_wiping_allocator *from) {
  place->malloc = from->malloc;
  place->calloc = from->calloc;
  place->realloc = from->realloc;
  place->free = from->free;
}

static void choose_one(unsigned i, enum set set) {
  struct bursar_wiping_allocator *under = &bursar_wiping_under[i], all, to;
  PyMemAllocatorEx top, *place = place_of(i, &top);
  if (!under->free)
    memcpy(under, place, sizeof *under);
  to = all = *under;
  bursar_wiping_over(i, &all);
  if (place->free != under->free && place->free != domains[i].hooks.free && place->free != all.free)
    return; /* somebody has wrapped what stands: that is right in any case */
  if (set == ALL)
    to = all;
  else if (set != NONE)
    to = domains[i].hooks;
  if (set == ENDING) {
    to.malloc = under->malloc;
    to.calloc = under->calloc;
  }
  put(place, &to);
  if (place == &top)
    PyMem_SetAllocator(domains[i].python, &top);
}

static void choose(enum set set) {
  for (unsigned i = 0; has_pools && i < BURSAR_WIPING_DOMAINS; i++)
    choose_one(i, set);
}

/* --- what is wiped ----------------------------------------------------------------------------------------------------------- */

static bool looked, all_wiped;

static void guard_arenas(void) {
  PyObjectArenaAllocator arenas;
  struct bursar_wiping_arenas same;
  PyObject_GetArenaAllocator(&arenas);
  memcpy(&same, &arenas, sizeof same);
  bursar_wiping_over_arenas(&same, false);
  memcpy(&arenas, &same, sizeof arenas);
  PyObject_SetArenaAllocator(&arenas);
}

/* Whose blocks are there?  NULL, or why they cannot be wiped. */
static const char *look(void) {
  const char *name = bursar_modes_lowest(BURSAR_DOMAIN_OBJ) ? beneath : _PyMem_GetCurrentAllocatorName();
  all_wiped = !name && bursar_native_table.pools[0]; /* the preload's hooks are where it put them */
  bursar_native_books_reach();
  if (!bursar_native_books_there() || !bursar_native_table.usable)
    return "what malloc serves cannot be wiped here: run the program by bursar run --wipe";
  bursar_numpy_wipe();
  if (all_wiped || (name && (strcmp(name, "malloc") == 0 || strcmp(name, "malloc_debug") == 0))) {
    looked = true;
    return NULL;
  }
  if (!name || strncmp(name, "pymalloc", 8) != 0)
    return "Python's objects cannot be wiped: they come from an allocator that bursar does not know";
  has_pools = looked = true;
  debug = strstr(name, "_debug") != NULL;
  snprintf(bursar_native_table.pools, sizeof bursar_native_table.pools, "%s", debug ? "" : name);
  guard_arenas();
  return NULL;
}

const char *bursar_wiping_start(void) {
  const char *why = looked ? NULL : look();
  if (why)
    return why;
  (void)bursar_native_wipe(BURSAR_WIPES_ALL);
  all_wiped = true;
  choose(ALL);
  return NULL;
}

const char *bursar_wiping_scope_begins(void) {
  const char *why = looked ? NULL : look();
  if (why)
    return why;
  if (scopes++ == 0 && !all_wiped) {
    (void)bursar_native_wipe(BURSAR_WIPES_MARKED);
    choose(SCOPED);
  }
  return NULL;
}

static const char *lost_some(void) {
  static uint64_t told;
  uint64_t lost = __atomic_load_n(&marks()->lost, __ATOMIC_RELAXED);
  bool more = lost != told;
  told = lost;
  return more ? "some blocks of wiping scopes will not be wiped: there was no address space to note them (ulimit -v)"
              : NULL;
}

const char *bursar_wiping_scope_ends(void) {
  if (--scopes || all_wiped)
    return lost_some();
  bursar_wiping_follow(); /* one that was never left, but collected */
  bool left = __atomic_load_n(&marks()->count, __ATOMIC_RELAXED) != 0;
  choose(left ? ENDING : NONE);
  if (!left)
    (void)bursar_native_wipe(BURSAR_WIPES_NONE);
  return lost_some();
}
