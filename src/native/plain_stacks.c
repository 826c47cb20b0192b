#include "native/plain_stacks.h"

#include <pthread.h>
#include <string.h>

#include "account/account.h"
#include "account/lock.h"
#include "account/stacks.h"
#include "base/pool.h"
#include "native/native.h"
#include "native/paths.h"
#include "native/places.h"
#include "native/unwind.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { OURS = 1 }; /* of a path: its innermost frame is ours */

/* Under the lock, all of it. */
static struct bursar_paths paths; /* a path's `code` is its node in the ledger */
static uint32_t known_generation; /* of modules; 0: everything is to be forgotten */
static bool moved;                /* atomic */
static uintptr_t ours;            /* where our module begins */

/* A thread's native stack; those of threads that ended wait for others. */
struct stack {
  struct bursar_unwind_stack native;
  struct stack *next;
};
static struct stack *idle;
static __thread struct stack *mine __attribute__((tls_model("initial-exec")));

/* Sites by node and domain: direct-mapped. */
#define SITES 1024u
static struct site {
  uint32_t node, domain, number; /* number 0: empty */
} sites[SITES];

/* The thread ends: its stack may serve another. */
static void leave(void *stack) {
  bursar_lock_take();
  if (stack == mine) {
    mine->next = idle;
    idle = mine;
    mine = NULL;
  }
  bursar_lock_give();
}

static pthread_key_t key;

bool bursar_plain_stacks_start(void) {
  static bool made;
  if (!bursar_unwind_start() || (!made && pthread_key_create(&key, leave) != 0))
    return false;
  made = true;
  ours = bursar_places_module((uintptr_t)&bursar_native_table);
  __atomic_store_n(&bursar_native_table.unloaded, bursar_unwind_unloaded, __ATOMIC_RELEASE);
  return true;
}

static void forget(void) {
  bursar_paths_clear(&paths);
  bursar_places_clear();
  memset(sites, 0, sizeof sites);
  bursar_unwind_unloaded(); /* threads' stacks have paths too */
  known_generation = bursar_unwind_generation();
}

void bursar_plain_stacks_moved(void) { __atomic_store_n(&moved, true, __ATOMIC_RELEASE); }

void bursar_plain_stacks_after_fork(void) {
  idle = NULL; /* of the threads that are not here nothing is known */
  bursar_plain_stacks_moved();
}

static struct stack *my_stack(void) {
  if (LIKELY(mine != NULL))
    return mine;
  mine = idle;
  if (mine) {
    idle = mine->next;
    mine->native.low = mine->native.high = mine->native.count = mine->native.check_count = 0;
  } else {
    mine = bursar_pool_take(sizeof *mine);
  }
  (void)pthread_setspecific(key, mine); /* where that fails the stack is not used again */
  return mine;
}

/* The node of the frame, below its caller's.  Ours are none. */
static __attribute__((noinline)) void learn(struct bursar_path *path, uint32_t caller,
                                            const struct bursar_unwind_frame *frame) {
  struct bursar_module_found module;
  uintptr_t instruction = frame->at.pc - !frame->exact;
  uint32_t code = 0;
  if (bursar_modules_find(instruction, &module)) {
    uintptr_t address = instruction - module.bias;
    code = bursar_places_code(&module);
    path->place = address < UINT32_MAX ? (uint32_t)address : 0;
    path->flags = module.from == ours ? OURS : 0;
  }
  path->code = path->flags & OURS ? caller : bursar_stacks_native_node(caller, code, path->place);
}

static inline uint32_t path_of(uint32_t parent, bool outermost, const struct bursar_unwind_frame *frame) {
  bool fresh;
  if (UNLIKELY(!parent && !outermost))
    return 0;
  uint32_t path = bursar_paths_of(&paths, parent, (uint64_t)frame->at.pc << 1 | frame->exact, &fresh);
  if (UNLIKELY(fresh))
    learn(&paths.items[path], parent ? paths.items[parent].code : bursar_account.root, frame);
  return path;
}

static uint32_t site_of(uint32_t node, unsigned domain) {
  struct site *site = &sites[(node * 2 + domain) % SITES];
  if (UNLIKELY(site->node != node || site->domain != domain || !site->number))
    *site = (struct site){node, domain, bursar_stacks_site_free(node, domain)};
  return site->number;
}

__attribute__((noinline)) uint32_t bursar_plain_stacks_number(unsigned domain) {
  const struct bursar_unwind_at from = BURSAR_UNWIND_CALLER();
  uint32_t number = domain + 1;
  bursar_lock_take();
  if (UNLIKELY(__atomic_exchange_n(&moved, false, __ATOMIC_ACQUIRE) || known_generation != bursar_unwind_generation()))
    forget();
  struct stack *stack = my_stack();
  if (LIKELY(stack != NULL)) {
    struct bursar_unwind_stack *native = &stack->native;
    uint32_t at = bursar_unwind_follow(native, &from, UINTPTR_MAX), path = at ? native->frames[at - 1].path : 0;
    for (; at < native->count; at++)
      native->frames[at].path = path = path_of(path, at == 0, &native->frames[at]);
    if (LIKELY(path))
      number = site_of(paths.items[path].code, domain);
    else
      bursar_plain_stacks_moved(); /* paths are full: they begin anew */
  }
  bursar_lock_give();
  return number;
}
