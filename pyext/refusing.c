#include "refusing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "account/fold.h"
#include "account/live.h"
#include "account/lock.h"
#include "account/scopes.h"
#include "account/stacks.h"
#include "anywhere.h"
#include "charging.h"
#include "codes.h"
#include "native/native.h"
#include "native_books.h"
#include "policy/budget.h"
#include "prim/modules.h"
#include "scope.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SMALL 512u /* CPython bears no refusal of smaller ones */
#define SMALL_MEM BURSAR_BEARS_MEM
#define DOMAINS 3
#define TOLD_MAX 64u

static PyMemAllocatorEx under[DOMAINS]; /* by PyMemAllocatorDomain */
static struct bursar_numpy_hooks under_numpy;
static bool installed;

static PyObject *told[TOLD_MAX];
static unsigned told_first, told_count;
static int bell = -1;

/* --- may it be refused? ---------------------------------------------------------------------------------------------------- */

static bool is_import(const PyCodeObject *code) {
  static const char sign[] = "<frozen importlib._bootstrap"; /* and _bootstrap_external */
  const PyObject *file = code->co_filename;
  return PyUnicode_IS_COMPACT_ASCII(file) && PyUnicode_GET_LENGTH(file) >= (Py_ssize_t)sizeof sign - 1 &&
         memcmp(((const PyASCIIObject *)file) + 1, sign, sizeof sign - 1) == 0;
}

static bool imports(const PyThreadState *thread) {
  for (const bursar_frame *frame = bursar_frame_top(thread); frame; frame = bursar_frame_caller(frame)) {
    const PyCodeObject *code = bursar_frame_code(frame);
    if (code && is_import(code))
      return true;
  }
  return false;
}

/* Without the GIL it is another thread that collects, or C code that a finalizer has called. */
static bool bears_refusal(const PyThreadState *thread, bool gil) {
  return !bursar_thread_fails(thread) && !(gil && bursar_thread_collects(thread)) && !imports(thread);
}

/* --- what is said of it -------------------------------------------------------------------------------------------------- */

static PyCodeObject *code_here(const PyThreadState *thread, bursar_position *position) {
  PyCodeObject *code = NULL;
  for (const bursar_frame *frame = bursar_frame_top(thread); frame && !code; frame = bursar_frame_caller(frame)) {
    code = bursar_frame_code(frame);
    *position = bursar_frame_position(frame);
  }
  return code;
}

/* "function (file.py:12)" as a string of the ledger; without the GIL the line is not known: 0. */
static uint32_t place_text(PyCodeObject *code, bursar_position position, bool gil) {
  char text[256];
  const PyObject *file = code->co_filename, *name = code->co_name;
  struct bursar_code_memo *memo = gil ? bursar_codes_find(code) : NULL;
  if (!PyUnicode_IS_COMPACT_ASCII(file) || !PyUnicode_IS_COMPACT_ASCII(name))
    return 0;
  int bytes = snprintf(text, sizeof text, "%s (%s:%u)", (const char *)((const PyASCIIObject *)name + 1),
                       (const char *)((const PyASCIIObject *)file + 1), memo ? bursar_codes_line(memo, position) : 0);
  bursar_lock_take();
  uint32_t string = bursar_stacks_string(text, bytes < (int)sizeof text ? (size_t)bytes : sizeof text - 1);
  bursar_lock_give();
  return string;
}

static void tell_soft(uint32_t slot) {
  PyObject *scope = bursar_scope_with(slot);
  struct bursar_scope_facts facts = bursar_scopes_read(slot);
  bursar_scopes_tell(BURSAR_EVENT_SOFT, bursar_account.scopes[slot].name,
                     facts.live_bytes > 0 ? (uint64_t)facts.live_bytes : 0, 0);
  if (!scope || told_count == TOLD_MAX || bell < 0)
    return;
  told[(told_first + told_count++) % TOLD_MAX] = Py_NewRef(scope);
  uint64_t one = 1;
  (void)!write(bell, &one, sizeof one);
}

PyObject *bursar_refusing_told(void) {
  if (!told_count)
    return NULL;
  PyObject *first = told[told_first];
  told_first = (told_first + 1) % TOLD_MAX;
  told_count--;
  return first;
}

int bursar_refusing_bell(void) {
  if (bell < 0)
    bell = eventfd(0, EFD_CLOEXEC);
  return bell;
}

/* --- the questions ------------------------------------------------------------------------------------------------------- */

/* What a thread is in, and what it was refused; without the GIL as it was last seen under it. */
struct asking {
  bool gil;
  PyThreadState *thread;
  uint32_t slot;
};

/* False: nothing is refused here.  Else folding is held off until done(). */
static bool ask(struct asking *asking, bool gil_only) {
  if (!__atomic_load_n(&bursar_budget_open, __ATOMIC_RELAXED) || bursar_anywhere_inside || !bursar_account.active)
    return false;
  bool gil = bursar_holds_main_gil();
  PyThreadState *thread = gil ? bursar_thread() : gil_only ? NULL : bursar_thread_detached();
  if (!thread || thread->interp != PyInterpreterState_Main())
    return false;
  bursar_anywhere_inside = true;
  if (!gil)
    bursar_fold_hold_off();
  *asking = (struct asking){gil, thread, gil ? bursar_scope_slot() : bursar_scopes_slot(bursar_anywhere_scope)};
  return true;
}

static void done(const struct asking *asking) {
  bursar_anywhere_let_go(asking->gil);
  bursar_anywhere_inside = false;
}

static void note(uint32_t by, int64_t asked, const struct asking *asking) {
  bursar_position position = {0};
  PyCodeObject *code = code_here(asking->thread, &position);
  bursar_budget_refused(by, asked, (uintptr_t)code, code ? bursar_code_unit(code, position) : -1);
  bursar_scopes_tell(BURSAR_EVENT_REFUSED, bursar_account.scopes[by].name, (uint64_t)asked,
                     code ? place_text(code, position, asking->gil) : 0);
}

/* What is charged for a block, and to which entry; 0: nobody, or it is not known.  Main GIL. */
static int64_t charged(void *p, uint32_t *slot) {
  struct bursar_record record;
  if (bursar_account.mode != BURSAR_MODE_EXACT)
    return (int64_t)bursar_charging_of(p, slot);
  if (((uintptr_t)p & 15) || !bursar_live_take(p, &record))
    return 0;
  *slot = record.scope;
  return bursar_live_put(p, record) && record.scope ? (int64_t)record.size : 0;
}

/* For tests: the so-manieth block that can be refused is, whatever is held.  0: none. */
static uint64_t planted;

uint64_t bursar_refusing_plant(uint64_t number) {
  uint64_t before = planted;
  planted = number;
  return before;
}

/* The entry whose limit a block would be above; 0: it may begin. */
static uint32_t over(uint32_t slot, int64_t bytes, int64_t instead, uint32_t of) {
  if (!slot)
    return 0;
  uint32_t by = bursar_budget_over(slot, bytes, instead, of);
  const struct bursar_budget *own = planted ? bursar_budget_of(slot) : NULL;
  return by || !own || !own->hard || --planted ? by : slot;
}

/* A block of so many bytes begins; `p` ends with it, or NULL. */
static __attribute__((noinline)) bool refuses(size_t bytes, void *p) {
  struct asking asking;
  int kept = errno;
  if (!ask(&asking, true))
    return false;
  uint32_t slot = asking.slot, of = 0, soft;
  int64_t more = bytes < PTRDIFF_MAX ? (int64_t)bytes : PTRDIFF_MAX, instead = slot && p ? charged(p, &of) : 0;
  uint32_t by = planted && !bears_refusal(asking.thread, asking.gil) ? 0 : over(slot, more, instead, of);
  bool no = by && bears_refusal(asking.thread, asking.gil);
  if (no)
    note(by, more, &asking);
  else if (slot && (soft = bursar_budget_soft(slot, of == slot ? more - instead : more)) != 0)
    tell_soft(soft);
  done(&asking);
  errno = kept;
  return no;
}

static __attribute__((noinline)) void look(void) {
  struct asking asking;
  int kept = errno;
  bursar_budget_room = BURSAR_BUDGET_ROOM;
  if (!ask(&asking, true))
    return;
  uint32_t slot = asking.slot, by = slot ? bursar_budget_far_over(slot) : 0, soft;
  if (slot && (soft = bursar_budget_soft(slot, 0)) != 0)
    tell_soft(soft);
  if (by && bears_refusal(asking.thread, asking.gil) && bursar_thread_interrupt(asking.thread, PyExc_MemoryError))
    note(by, 0, &asking);
  done(&asking);
  errno = kept;
}

/* C code that was seen to bear a NULL from malloc, and to make an exception of it: most aborts. */
static bool bears_null(const void *caller) {
  static const char *const known[] = {"libc10.so", "libtorch_cpu.so", "libarrow.so", "libhdf5"};
  struct bursar_module_found module;
  if (!bursar_modules_find((uintptr_t)caller, &module))
    return false;
  const char *base = strrchr(module.name, '/');
  base = base ? base + 1 : module.name;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strncmp(base, known[i], strlen(known[i])) == 0)
      return true;
  return false;
}

/* malloc's: any thread.  What a realloc gives back is not seen: it asks for the whole. */
static bool native_refuses(size_t bytes, const void *caller) {
  struct asking asking;
  int kept = errno;
  if (!ask(&asking, false))
    return false;
  int64_t more = bytes < PTRDIFF_MAX ? (int64_t)bytes : PTRDIFF_MAX;
  bool no = bears_null(caller) && bears_refusal(asking.thread, asking.gil);
  uint32_t by = no ? over(asking.slot, more, 0, 0) : 0;
  if (by)
    note(by, more, &asking);
  done(&asking);
  errno = kept;
  return by != 0;
}

/* --- the hooks ------------------------------------------------------------------------------------------------------------- */

/* What is rare is in functions of its own, in tail position: so a small block costs two compares and a subtraction. */
#define HOOKS(name, domain, least)                                                                              \
  static __attribute__((noinline)) void *name##_malloc_large(void *ctx, size_t size) {                          \
    return refuses(size, NULL) ? NULL : under[domain].malloc(ctx, size);                                        \
  }                                                                                                             \
  static __attribute__((noinline)) void *name##_malloc_looking(void *ctx, size_t size) {                        \
    look();                                                                                                     \
    return under[domain].malloc(ctx, size);                                                                     \
  }                                                                                                             \
  static void *name##_malloc(void *ctx, size_t size) {                                                          \
    if (UNLIKELY(size > (least)))                                                                               \
      return name##_malloc_large(ctx, size);                                                                    \
    if (UNLIKELY((bursar_budget_room -= (int64_t)size) < 0))                                                    \
      return name##_malloc_looking(ctx, size);                                                                  \
    return under[domain].malloc(ctx, size);                                                                     \
  }                                                                                                             \
  static void *name##_calloc(void *ctx, size_t count, size_t size) {                                            \
    size_t bytes;                                                                                               \
    if (__builtin_mul_overflow(count, size, &bytes))                                                            \
      return under[domain].calloc(ctx, count, size); /* which says so */                                        \
    if (UNLIKELY(bytes > (least)) && refuses(bytes, NULL))                                                      \
      return NULL;                                                                                              \
    if (bytes <= (least) && UNLIKELY((bursar_budget_room -= (int64_t)bytes) < 0))                               \
      look();                                                                                                   \
    return under[domain].calloc(ctx, count, size);                                                              \
  }                                                                                                             \
  static __attribute__((noinline)) void *name##_realloc_large(void *ctx, void *p, size_t size) {                \
    return refuses(size, p) ? NULL : under[domain].realloc(ctx, p, size);                                       \
  }                                                                                                             \
  static void *name##_realloc(void *ctx, void *p, size_t size) {                                                \
    return UNLIKELY(size > (least)) ? name##_realloc_large(ctx, p, size) : under[domain].realloc(ctx, p, size); \
  }
HOOKS(obj, PYMEM_DOMAIN_OBJ, SMALL)
HOOKS(mem, PYMEM_DOMAIN_MEM, SMALL_MEM)
#undef HOOKS

/* pymalloc asks for its own tables by realloc and calloc.  Without them it would go to malloc for each small block from then on,
 * and nobody would see the refusal. */
static void *raw_malloc(void *ctx, size_t size) {
  return size > SMALL && refuses(size, NULL) ? NULL : under[PYMEM_DOMAIN_RAW].malloc(ctx, size);
}
static void *raw_calloc(void *ctx, size_t count, size_t size) {
  return under[PYMEM_DOMAIN_RAW].calloc(ctx, count, size);
}
static void *raw_realloc(void *ctx, void *p, size_t size) { return under[PYMEM_DOMAIN_RAW].realloc(ctx, p, size); }

static void *numpy_malloc(void *ctx, size_t size) {
  return size > SMALL && refuses(size, NULL) ? NULL : under_numpy.malloc(ctx, size);
}
static void *numpy_calloc(void *ctx, size_t count, size_t size) {
  size_t bytes;
  bool no = !__builtin_mul_overflow(count, size, &bytes) && bytes > SMALL && refuses(bytes, NULL);
  return no ? NULL : under_numpy.calloc(ctx, count, size);
}
static void *numpy_realloc(void *ctx, void *p, size_t size) {
  return size > SMALL && refuses(size, p) ? NULL : under_numpy.realloc(ctx, p, size);
}

/* --- in and out ---------------------------------------------------------------------------------------------------------- */

static void *(*const mallocs[DOMAINS])(void *, size_t) = {
    [PYMEM_DOMAIN_RAW] = raw_malloc, [PYMEM_DOMAIN_MEM] = mem_malloc, [PYMEM_DOMAIN_OBJ] = obj_malloc};
static void *(*const callocs[DOMAINS])(void *, size_t, size_t) = {
    [PYMEM_DOMAIN_RAW] = raw_calloc, [PYMEM_DOMAIN_MEM] = mem_calloc, [PYMEM_DOMAIN_OBJ] = obj_calloc};
static void *(*const reallocs[DOMAINS])(void *, void *, size_t) = {
    [PYMEM_DOMAIN_RAW] = raw_realloc, [PYMEM_DOMAIN_MEM] = mem_realloc, [PYMEM_DOMAIN_OBJ] = obj_realloc};

static bool is_ours(PyMemAllocatorDomain domain, const PyMemAllocatorEx *top) {
  return installed && top->malloc == mallocs[domain];
}

static void put(PyMemAllocatorDomain domain) {
  PyMemAllocatorEx hook = {under[domain].ctx, mallocs[domain], callocs[domain], reallocs[domain], under[domain].free};
  PyMem_SetAllocator(domain, &hook);
}

void bursar_refusing_get(PyMemAllocatorDomain domain, PyMemAllocatorEx *out) {
  PyMem_GetAllocator(domain, out);
  if (is_ours(domain, out))
    *out = under[domain];
}

void bursar_refusing_set(PyMemAllocatorDomain domain, const PyMemAllocatorEx *hook) {
  PyMemAllocatorEx top;
  PyMem_GetAllocator(domain, &top);
  if (!is_ours(domain, &top)) {
    PyMem_SetAllocator(domain, hook);
    return;
  }
  under[domain] = *hook;
  put(domain);
}

void bursar_refusing_expect(void) {
  if (installed)
    return;
  installed = true;
  for (int domain = 0; domain < DOMAINS; domain++) {
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &under[domain]);
    put((PyMemAllocatorDomain)domain);
  }
  bursar_numpy_refuse();
  if (bursar_native_books_there() && bursar_modules_start())
    __atomic_store_n(&bursar_native_table.refuses, native_refuses, __ATOMIC_RELEASE);
}

void bursar_refusing_remove(void) {
  bursar_budget_forget();
  if (installed && bursar_native_books_there())
    __atomic_store_n(&bursar_native_table.refuses, NULL, __ATOMIC_RELEASE);
  for (int domain = 0; installed && domain < DOMAINS; domain++) {
    PyMemAllocatorEx top;
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &top);
    if (is_ours((PyMemAllocatorDomain)domain, &top))
      PyMem_SetAllocator((PyMemAllocatorDomain)domain, &under[domain]);
  }
  installed = false;
}

struct bursar_numpy_hooks bursar_refusing_numpy(struct bursar_numpy_hooks hooks) {
  if (!installed)
    return hooks;
  under_numpy = hooks;
  return (struct bursar_numpy_hooks){numpy_malloc, numpy_calloc, numpy_realloc, hooks.free};
}
