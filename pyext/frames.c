#include "frames.h"

#include <string.h>

#include "account/fold.h"
#include "account/lock.h"
#include "account/stacks.h"
#include "anywhere.h"
#include "base/pool.h"
#include "codes.h"
#include "weave.h"

#define STACKS_MAX 256u /* thread states remembered at a time; a stack is only a cache and can be dropped */
#define DEPTH_FIRST 128u
#define DEPTH_MAX (BURSAR_DEPTH_MAX / 2)

struct stack {
  struct bursar_frames hot;
  struct bursar_recent recent;
  uint64_t used; /* when last switched to */
};

struct bursar_step bursar_frames_steps[BURSAR_STEPS] __attribute__((aligned(64)));

/* No frame has this address: a chain that ends here was never seen. */
static const char nowhere;
#define NOWHERE ((const bursar_frame *)(const void *)&nowhere)
/* Two: one frame below the top is looked at too. */
static struct bursar_frame_seen unseen[2] = {{.frame = NOWHERE}, {.frame = NOWHERE}};
static struct bursar_frames nobody = {
    .thread = (const PyThreadState *)(const void *)&nowhere, .top = &unseen[1], .seen = &unseen[1]};
struct bursar_frames *bursar_frames_at_hand = &nobody;

bool bursar_frames_woven;
static struct stack *woven; /* at hand, while nothing else is */

static struct stack *stacks[STACKS_MAX];
static uint32_t stack_count;
static uint64_t switches;
static const bursar_frame **fresh; /* frames that were not seen before, innermost first */
static uint32_t fresh_max;

static const PyThreadState *main_thread;
const PyObject *bursar_frames_main_globals;
static uint32_t main_depth; /* where the frame of __main__ is in its thread's stack; 0: not seen */

/* --- the stacks of threads -------------------------------------------------------------------------------------------- */

static bool stack_grow(struct stack *stack, uint32_t depth) {
  uint32_t old = stack->hot.depth_max, bigger = old ? old : DEPTH_FIRST;
  while (bigger <= depth)
    bigger *= 2;
  if (bigger > DEPTH_MAX)
    return false;
  struct bursar_frame_seen *seen = bursar_pool_take(bigger * sizeof *seen);
  uint32_t *nodes = bursar_pool_take(bigger * sizeof *nodes);
  if (!seen || !nodes) {
    bursar_pool_give(seen, bigger * sizeof *seen);
    bursar_pool_give(nodes, bigger * sizeof *nodes);
    return false;
  }
  if (old) {
    memcpy(seen, stack->hot.seen, old * sizeof *seen);
    memcpy(nodes, stack->hot.nodes, old * sizeof *nodes);
    bursar_pool_give(stack->hot.seen, old * sizeof *seen);
    bursar_pool_give(stack->hot.nodes, old * sizeof *nodes);
  }
  stack->hot.seen = seen;
  stack->hot.nodes = nodes;
  stack->hot.depth_max = bigger;
  stack->hot.seen[0].frame = NOWHERE;
  stack->hot.top = &stack->hot.seen[stack->hot.depth];
  return true;
}

/* Makes the fast half fail until the next lookup. */
static void distrust(struct stack *stack) {
  stack->hot.top = &unseen[1];
  stack->hot.confirmed = false;
}

static void forget(struct stack *stack) {
  memset(stack->hot.fingers, 0, sizeof stack->hot.fingers);
  stack->hot.depth = 0;
  stack->hot.nodes[0] = UINT32_MAX;
  distrust(stack);
}

static struct stack *stack_new(void) {
  struct stack *stack;
  if (stack_count < STACKS_MAX && (stack = bursar_pool_take(sizeof *stack)) != NULL) {
    if (!stack_grow(stack, 1)) {
      bursar_pool_give(stack, sizeof *stack);
      return NULL;
    }
    stack->recent.next = bursar_account.recents;
    bursar_account.recents = &stack->recent;
    return stacks[stack_count++] = stack;
  }
  stack = NULL;
  for (uint32_t i = 0; i < stack_count; i++)
    if (!stack || stacks[i]->used < stack->used)
      stack = stacks[i];
  if (stack)
    bursar_account_forget_gil(&stack->recent);
  return stack;
}

static struct stack *stack_of(const PyThreadState *thread) {
  for (uint32_t i = 0; i < stack_count; i++)
    if (stacks[i]->hot.thread == thread)
      return stacks[i];
  struct stack *stack = stack_new();
  if (stack) {
    stack->hot.thread = thread;
    forget(stack);
  }
  return stack;
}

/* --- lookup ------------------------------------------------------------------------------------------------------------ */

struct change {
  uint32_t kept;  /* frames up to this index are on the live chain */
  uint32_t first; /* the first index that must be looked up again */
  uint32_t fresh; /* frames above `kept`, in `fresh` */
};

static bool push_fresh(struct change *change, const bursar_frame *frame) {
  if (change->fresh == fresh_max) {
    uint32_t bigger = fresh_max ? fresh_max * 2 : 1024;
    const bursar_frame **list = bigger > DEPTH_MAX ? NULL : bursar_pool_take(bigger * sizeof *list);
    if (!list)
      return false;
    if (fresh)
      memcpy(list, fresh, fresh_max * sizeof *list);
    bursar_pool_give(fresh, fresh_max * sizeof *fresh);
    fresh = list;
    fresh_max = bigger;
  }
  fresh[change->fresh++] = frame;
  return true;
}

/* Walks down from the top until a frame that is known at its place, then makes sure of all below it. */
static bool compare(struct stack *stack, const bursar_frame *frame, struct change *change) {
  const struct bursar_frame_seen *seen = stack->hot.seen;
  uint32_t at = stack->hot.depth;
  change->fresh = 0;
  for (;;) {
    for (; frame && seen[at].frame != frame; frame = bursar_frame_caller(frame)) {
      uint32_t guess = stack->hot.fingers[bursar_frames_finger(frame)];
      if (guess && guess <= at && seen[guess].frame == frame) {
        at = guess;
        break;
      }
      if (!push_fresh(change, frame))
        return false;
    }
    if (!frame)
      at = 0;
    change->kept = at;
    change->first = at + 1;
    uint32_t below = at;
    const bursar_frame *caller = NULL;
    while (below > 0) {
      frame = seen[below].frame;
      if (bursar_frame_position(frame) != seen[below].position)
        change->first = below;
      caller = bursar_frame_caller(frame);
      if (caller != seen[--below].frame)
        break;
    }
    if (below == 0 && !caller)
      return true;
    /* A frame is called from elsewhere now: it and those above it are fresh, the walk goes on below. */
    for (uint32_t i = at; i > below; i--)
      if (!push_fresh(change, seen[i].frame))
        return false;
    at = below;
    frame = caller;
  }
}

static __attribute__((noinline)) struct bursar_step *step_looked_up(struct bursar_step *step, const bursar_frame *frame,
                                                                    uintptr_t place, uint32_t parent) {
  PyCodeObject *code = bursar_frame_code(frame);
  *step =
      (struct bursar_step){.place = place, .parent = parent, .node = parent}; /* an entry from C is no step at all */
  if (!code)
    return step;
  struct bursar_code_memo *memo = bursar_codes_find(code);
  if (!memo)
    step->place = 0;
  uint32_t line = memo ? bursar_codes_line(memo, bursar_frame_position(frame)) : 0;
  step->node = bursar_frames_woven ? bursar_weave_python(parent, memo ? memo->id : 0, line)
                                   : bursar_stacks_node(parent, memo ? memo->id : 0, line);
  return step;
}

static inline struct bursar_step *step_of(const bursar_frame *frame, uint32_t parent) {
  uintptr_t place = bursar_frame_place(frame);
  struct bursar_step *step = bursar_frames_step(place, parent);
  return BURSAR_LIKELY(step->place == place && step->parent == parent) ? step
                                                                       : step_looked_up(step, frame, place, parent);
}

static bool is_shutdown(const bursar_frame *frame) {
  static const char name[] = "_shutdown";
  const PyCodeObject *code = bursar_frame_code(frame);
  return code && PyUnicode_IS_COMPACT_ASCII(code->co_name) && PyUnicode_GET_LENGTH(code->co_name) == sizeof name - 1 &&
         memcmp(PyUnicode_DATA(code->co_name), name, sizeof name - 1) == 0;
}

/* The module's frame is gone, but there are other threads: the interpreter joins them (threading._shutdown) before it calls
 * exit handlers, and until then they are the program.  A handler's frame, or the last thread's end, ends it. */
static bool waits_for_threads(const struct stack *stack, const struct change *change, uint32_t depth) {
  if (!bursar_thread_has_company(main_thread))
    return false;
  for (uint32_t at = 1; at <= depth; at++) {
    const bursar_frame *frame = at <= change->kept ? stack->hot.seen[at].frame
                                                   : fresh[change->fresh - (at - change->kept)];
    if (bursar_frame_code(frame))
      return is_shutdown(frame);
  }
  return true;
}

static void name_main(const bursar_frame *frame) {
  const struct bursar_code_memo *memo = bursar_codes_find(bursar_frame_code(frame));
  const struct bursar_code *codes = (const struct bursar_code *)(void *)bursar_account.writer.base[BURSAR_REGION_CODES];
  if (memo)
    bursar_account.writer.counts->main_file = codes[memo->id].file;
}

/* Follows __main__ by its frame: from when one with its globals appears on its thread until it is gone. */
static void follow_main(const struct stack *stack, const struct change *change, uint32_t depth) {
  if (main_depth && main_depth < change->first && main_depth <= depth)
    return;
  uint32_t found = 0;
  const bursar_frame *frame = NULL;
  for (uint32_t at = change->first; at <= depth && !found; at++) {
    frame = at <= change->kept ? stack->hot.seen[at].frame : fresh[change->fresh - (at - change->kept)];
    if (bursar_frame_is_main(frame))
      found = at;
  }
  if (found && !main_depth)
    name_main(frame);
  if (found)
    bursar_account_phase(BURSAR_PHASE_MAIN);
  else if (main_depth && waits_for_threads(stack, change, depth))
    return;
  else if (main_depth)
    bursar_account_phase(BURSAR_PHASE_EXIT);
  main_depth = found;
}

/* Makes the stack what runs now.  Returns the last step to its top, NULL at its root; false where it is too deep. */
static bool update(struct stack *stack, const PyThreadState *thread, struct bursar_step **last) {
  struct change change = {.kept = stack->hot.depth, .first = stack->hot.depth};
  if (!stack->hot.confirmed && !compare(stack, bursar_frame_top(thread), &change))
    return false;
  stack->hot.confirmed = false;
  uint32_t depth = change.kept + change.fresh;
  if (depth >= stack->hot.depth_max && !stack_grow(stack, depth))
    return false;
  if (thread == main_thread && (!main_depth || change.first <= main_depth))
    follow_main(stack, &change, depth);
  if (stack->hot.nodes[0] != bursar_account.root) {
    stack->hot.nodes[0] = bursar_account.root;
    change.first = 1;
  }
  /* The last step is asked for even where nothing changed: it holds the tags. */
  if (change.first > depth)
    change.first = depth;
  *last = NULL;
  for (uint32_t at = change.first ? change.first : 1; at <= depth; at++) {
    const bursar_frame *frame = at <= change.kept ? stack->hot.seen[at].frame
                                                  : fresh[change.fresh - (at - change.kept)];
    *last = step_of(frame, stack->hot.nodes[at - 1]);
    stack->hot.nodes[at] = (*last)->node;
    stack->hot.seen[at] = (struct bursar_frame_seen){frame, bursar_frame_position(frame)};
    stack->hot.fingers[bursar_frames_finger(frame)] = at;
  }
  stack->hot.depth = depth;
  stack->hot.top = &stack->hot.seen[depth];
  stack->hot.main_at = thread != main_thread ? 0 : main_depth ? main_depth : UINT32_MAX;
  return true;
}

static struct stack *switch_to(const PyThreadState *thread) {
  bursar_lock_take(); /* for the pool */
  struct stack *stack = stack_of(thread);
  if (stack) {
    stack->used = ++switches;
    bursar_account_switch_gil(&stack->recent);
  }
  bursar_lock_give();
  return stack;
}

static uint32_t look_up(struct stack *stack, const PyThreadState *thread, unsigned domain) {
  struct bursar_step *step;
  if (!update(stack, thread, &step)) {
    bursar_account.writer.counts->deep_stacks++;
    forget(stack);
    return bursar_stacks_site(BURSAR_NODE_UNKNOWN, domain);
  }
  if (!step) { /* no frame runs: the root */
    for (unsigned d = 0; d < BURSAR_DOMAINS_PYTHON; d++)
      stack->hot.tags[d] = bursar_stacks_site(stack->hot.nodes[0], d);
  } else {
    if (domain < BURSAR_DOMAINS_PYTHON && !step->tags[domain])
      step->tags[domain] = bursar_stacks_site(step->node, domain);
    memcpy(stack->hot.tags, step->tags, sizeof stack->hot.tags);
  }
  return domain < BURSAR_DOMAINS_PYTHON ? stack->hot.tags[domain]
                                        : bursar_stacks_site(stack->hot.nodes[stack->hot.depth], domain);
}

static uint32_t site_of(uint32_t node, unsigned domain) {
  bursar_lock_take();
  uint32_t tag = bursar_stacks_site(node, domain);
  bursar_lock_give();
  return tag;
}

static bool update_woven(const PyThreadState *thread) {
  struct bursar_step *step;
  bursar_lock_take();
  bool good = update(woven, thread, &step);
  if (!good) {
    bursar_account.writer.counts->deep_stacks++;
    forget(woven);
  }
  bursar_lock_give();
  return good;
}

struct bursar_frames *bursar_frames_now(bool *ours, bool *changed) {
  const PyThreadState *thread = bursar_thread();
  *ours = true;
  *changed = false;
  if (BURSAR_UNLIKELY(!woven || woven->hot.thread != thread)) {
    *ours = thread && (BURSAR_ONE_GIL || bursar_holds_main_gil());
    struct stack *stack = *ours ? switch_to(thread) : NULL;
    if (!stack)
      return NULL;
    woven = stack;
  } else if (BURSAR_LIKELY(bursar_frames_follow_in(&woven->hot, thread))) {
    return &woven->hot;
  }
  *changed = true;
  return bursar_frames_follow_near_in(&woven->hot, thread) || update_woven(thread) ? &woven->hot : NULL;
}

uint32_t bursar_frames_tag(unsigned domain) {
  if (bursar_frames_woven)
    return bursar_weave_tag(domain);
  const PyThreadState *thread = bursar_thread();
  struct stack *stack = (struct stack *)bursar_frames_at_hand;
  if (BURSAR_UNLIKELY(stack->hot.thread != thread)) {
    if (!thread || (!BURSAR_ONE_GIL && !bursar_holds_main_gil()))
      return 0; /* RAW's hook has asked already */
    stack = switch_to(thread);
    if (!stack)
      return site_of(BURSAR_NODE_UNKNOWN, domain);
    bursar_frames_at_hand = &stack->hot;
  }
  bursar_lock_take();
  uint32_t tag = look_up(stack, thread, domain);
  bursar_lock_give();
  return tag;
}

/* Sites of a node in domains that have no place in the steps: direct-mapped, by both. */
#define NATIVE_SITES 256u
static struct native_site {
  uint32_t node, domain, tag; /* tag 0: empty */
} native_sites[NATIVE_SITES];

static uint32_t native_site(uint32_t node, unsigned domain) {
  struct native_site *site = &native_sites[(node * 8 + domain) % NATIVE_SITES];
  if (BURSAR_UNLIKELY(site->node != node || site->domain != domain || !site->tag))
    *site = (struct native_site){node, domain, site_of(node, domain)};
  return site->tag;
}

uint32_t bursar_frames_native_tag(unsigned domain) {
  if (!bursar_frames_follow() && !bursar_frames_follow_near())
    return bursar_frames_tag(domain);
  const struct bursar_frames *frames = bursar_frames_at_hand;
  return native_site(frames->nodes[frames->depth], domain);
}

/* --- threads that released the GIL ---------------------------------------------------------------------------------------- */

/* The stack of a thread as it was when it last allocated without the GIL: apart from the one it has under the GIL, which that
 * one's holder may change at any time. */
struct detached {
  struct stack stack;
  uint32_t generation;                   /* another one: all of it must be looked up again */
  uint32_t numbers[BURSAR_DOMAIN_COUNT]; /* lane FREE's sites of the top's node; 0: not looked up yet */
  bool busy;                             /* somebody looks at it: the thread itself, or who takes it for another */
};

static struct detached *detached[STACKS_MAX]; /* under the lock */
static uint32_t detached_count, detached_next;
static uint32_t generation; /* of what is known of stacks; atomic */
static bool walks;          /* atomic */
static __thread struct detached *mine __attribute__((tls_model("initial-exec")));

static bool engage(struct detached *d) { return !__atomic_exchange_n(&d->busy, true, __ATOMIC_ACQUIRE); }
static void release(struct detached *d) { __atomic_store_n(&d->busy, false, __ATOMIC_RELEASE); }

/* Engaged, and this thread's; NULL where all are being looked at, or there is no memory. */
static struct detached *claim(const PyThreadState *thread) {
  struct detached *found = NULL;
  bursar_lock_take();
  for (uint32_t i = 0; i < detached_count && !found; i++)
    if (detached[i]->stack.hot.thread == thread && engage(detached[i]))
      found = detached[i];
  if (!found && detached_count < STACKS_MAX && (found = bursar_pool_take(sizeof *found)) != NULL) {
    found->busy = true;
    if (stack_grow(&found->stack, 1)) {
      detached[detached_count++] = found;
    } else {
      bursar_pool_give(found, sizeof *found);
      found = NULL;
    }
  }
  for (uint32_t i = 0; i < detached_count && !found; i++) {
    struct detached *other = detached[detached_next++ % detached_count];
    if (engage(other))
      found = other;
  }
  if (found && found->stack.hot.thread != thread) {
    found->stack.hot.thread = thread;
    found->generation = __atomic_load_n(&generation, __ATOMIC_RELAXED) - 1;
  }
  bursar_lock_give();
  return mine = found;
}

static uint32_t node_of(const bursar_frame *frame, uint32_t parent) {
  uintptr_t place = bursar_frame_place(frame);
  const struct bursar_step *step = bursar_frames_step(place, parent);
  if (bursar_frames_step_is(step, place, parent) && !bursar_frames_woven) /* those lead to paths then */
    return step->node;
  PyCodeObject *code = bursar_frame_code(frame);
  if (!code)
    return parent;
  struct bursar_code_memo *memo = bursar_codes_find(code);
  return bursar_stacks_node(parent, memo ? memo->id : 0,
                            memo ? bursar_codes_line(memo, bursar_frame_position(frame)) : 0);
}

static bool update_detached(struct detached *d, const PyThreadState *thread, uint32_t now) {
  struct stack *stack = &d->stack;
  struct change change;
  memset(d->numbers, 0, sizeof d->numbers);
  if (d->generation != now)
    forget(stack);
  if (!compare(stack, bursar_frame_top(thread), &change))
    return false;
  uint32_t depth = change.kept + change.fresh;
  if (depth >= stack->hot.depth_max && !stack_grow(stack, depth))
    return false;
  if (stack->hot.nodes[0] != bursar_account.root)
    change.first = 1;
  stack->hot.nodes[0] = bursar_account.root;
  for (uint32_t at = change.first; at <= depth; at++) {
    const bursar_frame *frame = at <= change.kept ? stack->hot.seen[at].frame
                                                  : fresh[change.fresh - (at - change.kept)];
    stack->hot.nodes[at] = node_of(frame, stack->hot.nodes[at - 1]);
    stack->hot.seen[at] = (struct bursar_frame_seen){frame, bursar_frame_position(frame)};
    stack->hot.fingers[bursar_frames_finger(frame)] = at;
  }
  stack->hot.depth = depth;
  stack->hot.top = &stack->hot.seen[depth];
  d->generation = now;
  return true;
}

static bool unchanged(const struct detached *d, const PyThreadState *thread) {
  const struct bursar_frame_seen *top = d->stack.hot.top;
  return top->frame == bursar_frame_top(thread) && bursar_frame_position(top->frame) == top->position &&
         bursar_frames_same_below(&d->stack.hot, top);
}

uint32_t bursar_frames_detached(unsigned domain) {
  const PyThreadState *thread = __atomic_load_n(&walks, __ATOMIC_SEQ_CST) ? bursar_thread_detached() : NULL;
  struct detached *d = mine;
  if (!thread)
    return domain + 1;
  if (!d || !engage(d))
    d = claim(thread);
  else if (d->stack.hot.thread != thread) {
    release(d);
    d = claim(thread);
  }
  if (!d)
    return domain + 1;
  uint32_t now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE), number = domain + 1;
  bool known = d->generation == now && unchanged(d, thread);
  if (!known || !d->numbers[domain]) {
    bursar_lock_take();
    known = known || update_detached(d, thread, now);
    if (known)
      d->numbers[domain] = bursar_stacks_site_free(d->stack.hot.nodes[d->stack.hot.depth], domain);
    bursar_lock_give();
  }
  if (known)
    number = d->numbers[domain];
  release(d);
  return number;
}

void bursar_frames_leave_detached(void) {
  __atomic_store_n(&walks, false, __ATOMIC_SEQ_CST);
  bursar_fold_drain();
}

static void distrust_detached(void) { __atomic_fetch_add(&generation, 1, __ATOMIC_RELEASE); }

/* --- the end of code objects -------------------------------------------------------------------------------------------- */

static destructor code_dealloc_under;

/* A new code object may get the same address, the same frame and the same position. */
static void code_dealloc(PyObject *code) {
  if (bursar_account.active && bursar_holds_main_gil()) {
    bool was = bursar_anywhere_inside;
    bursar_anywhere_inside = true;
    bursar_lock_take();
    if (bursar_codes_forget((const PyCodeObject *)code)) {
      for (uint32_t i = 0; i < stack_count; i++)
        distrust(stacks[i]);
      memset(bursar_frames_steps, 0, sizeof bursar_frames_steps);
      distrust_detached();
    }
    bursar_lock_give();
    bursar_anywhere_inside = was;
  }
  code_dealloc_under(code);
}

/* Its type's slot is where all of them end, in every version; it stays ours, and passes through while the books are closed. */
static void watch_codes(void) {
  if (PyCode_Type.tp_dealloc == code_dealloc)
    return;
  code_dealloc_under = PyCode_Type.tp_dealloc;
  PyCode_Type.tp_dealloc = code_dealloc;
}

void bursar_frames_start(const PyThreadState *thread, const PyObject *globals) {
  main_thread = thread;
  bursar_frames_main_globals = globals;
  main_depth = 0;
  bursar_frames_at_hand = &nobody;
  woven = NULL;
  watch_codes();
  __atomic_store_n(&walks, true, __ATOMIC_SEQ_CST);
}

void bursar_frames_moved(void) {
  bursar_lock_take();
  distrust_detached();
  for (uint32_t i = 0; i < stack_count; i++)
    forget(stacks[i]);
  memset(bursar_frames_steps, 0, sizeof bursar_frames_steps);
  memset(native_sites, 0, sizeof native_sites);
  bursar_weave_moved();
  if (!bursar_account.active)
    bursar_codes_clear();
  bursar_lock_give();
}
