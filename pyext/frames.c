#include "frames.h"

#include <string.h>

#include "account/stacks.h"
#include "base/pool.h"
#include "codes.h"

#define STACKS_MAX 256u     /* thread states remembered at a time; a stack is only a cache and can be dropped */
#define DEPTH_FIRST 128u
#define DEPTH_MAX (1u << 18)
#define FINGERS 1024u       /* direct-mapped: frame address to place in the array */

/* What goes with each frame seen; stays after a pop, for the next push of the same. */
struct facet {
  struct bursar_code_memo *memo;
  uint32_t code; /* index in the ledger */
  uint32_t line;
  uint32_t parent;
  uint32_t node;
  uint32_t tags[BURSAR_DOMAIN_COUNT];
};

struct stack {
  struct bursar_frames hot;
  struct bursar_recent recent;
  struct bursar_frame_seen *seen;
  struct facet *facets;
  uint32_t depth_max; /* length of both */
  uint32_t depth;     /* index of the top */
  uint32_t root;
  uint64_t used;      /* when last switched to */
  uint32_t fingers[FINGERS];
};

/* No frame has this address: a chain that ends here was never seen. */
static const char nowhere;
#define NOWHERE ((const bursar_frame *)(const void *)&nowhere)
static const struct bursar_frame_seen unseen = {.frame = NOWHERE};
static struct bursar_frames nobody = {.thread = (const PyThreadState *)(const void *)&nowhere, .top = &unseen};
struct bursar_frames *bursar_frames_at_hand = &nobody;

static struct stack *stacks[STACKS_MAX];
static uint32_t stack_count;
static uint64_t switches;
static const bursar_frame **fresh; /* frames that were not seen before, innermost first */
static uint32_t fresh_max;

static const PyThreadState *main_thread;
static const PyObject *main_globals;
static uint32_t main_depth; /* where the frame of __main__ is in its thread's stack; 0: not seen */

static uint32_t finger(const bursar_frame *frame) {
  return (uint32_t)((uintptr_t)frame >> 3) * 0x9E3779B1u >> 22;
}

/* --- the stacks of threads -------------------------------------------------------------------------------------------- */

static bool stack_grow(struct stack *stack, uint32_t depth) {
  uint32_t bigger = stack->depth_max ? stack->depth_max : DEPTH_FIRST;
  while (bigger <= depth)
    bigger *= 2;
  if (bigger > DEPTH_MAX)
    return false;
  struct bursar_frame_seen *seen = bursar_pool_take(bigger * sizeof *seen);
  struct facet *facets = bursar_pool_take(bigger * sizeof *facets);
  if (!seen || !facets) {
    bursar_pool_give(seen, bigger * sizeof *seen);
    bursar_pool_give(facets, bigger * sizeof *facets);
    return false;
  }
  if (stack->depth_max) {
    memcpy(seen, stack->seen, stack->depth_max * sizeof *seen);
    memcpy(facets, stack->facets, stack->depth_max * sizeof *facets);
    bursar_pool_give(stack->seen, stack->depth_max * sizeof *seen);
    bursar_pool_give(stack->facets, stack->depth_max * sizeof *facets);
  }
  stack->seen = seen;
  stack->facets = facets;
  stack->depth_max = bigger;
  stack->hot.top = &stack->seen[stack->depth];
  return true;
}

/* Makes the fast half fail until the next lookup. */
static void distrust(struct stack *stack) { stack->hot.top = &unseen; }

static void forget(struct stack *stack) {
  memset(stack->facets, 0, stack->depth_max * sizeof *stack->facets);
  memset(stack->fingers, 0, sizeof stack->fingers);
  stack->depth = 0;
  stack->root = UINT32_MAX;
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
  for (uint32_t i = 0; i < stack_count; i++)
    if (!i || stacks[i]->used < stack->used)
      stack = stacks[i];
  return stack_count ? stack : NULL;
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
  const struct bursar_frame_seen *seen = stack->seen;
  uint32_t at = stack->depth;
  change->fresh = 0;
  for (;;) {
    for (; frame && seen[at].frame != frame; frame = bursar_frame_caller(frame)) {
      uint32_t guess = stack->fingers[finger(frame)];
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
    for (; below > 0; below--) {
      frame = seen[below].frame;
      if (bursar_frame_position(frame) != seen[below].position)
        change->first = below;
      const bursar_frame *caller = bursar_frame_caller(frame);
      if (caller == seen[below - 1].frame)
        continue;
      /* The frame is called from elsewhere now: it and those above it are fresh, the walk goes on below. */
      for (uint32_t i = at; i >= below; i--)
        if (!push_fresh(change, seen[i].frame))
          return false;
      at = below - 1;
      frame = caller;
      break;
    }
    if (below == 0)
      return true;
  }
}

static void resolve_one(struct stack *stack, uint32_t at, const bursar_frame *frame, uint32_t parent) {
  struct facet *facet = &stack->facets[at];
  stack->seen[at].frame = frame;
  stack->fingers[finger(frame)] = at;
  stack->seen[at].position = bursar_frame_position(frame);
  PyCodeObject *code = bursar_frame_code(frame);
  uint32_t id = UINT32_MAX, line = 0; /* an entry from C: the same node as its caller */
  if (code) {
    if (!facet->memo || facet->memo->code != code || facet->memo->table != code->co_linetable)
      facet->memo = bursar_codes_find(code);
    id = facet->memo ? facet->memo->id : 0;
    line = facet->memo ? bursar_codes_line(facet->memo, stack->seen[at].position) : 0;
  }
  if (facet->node && facet->parent == parent && facet->code == id && facet->line == line)
    return;
  *facet = (struct facet){.memo = facet->memo, .code = id, .line = line, .parent = parent};
  facet->node = code ? bursar_stacks_node(parent, id, line) : parent;
}

static bool is_main(const bursar_frame *frame) {
  return bursar_frame_code(frame) && bursar_frame_globals(frame) == main_globals;
}

/* Follows __main__ by its frame: from when one with its globals appears on its thread until it is gone. */
static void follow_main(const struct stack *stack, const struct change *change, uint32_t depth) {
  if (main_depth && main_depth < change->first && main_depth <= depth)
    return;
  uint32_t found = 0;
  for (uint32_t at = change->first; at <= depth && !found; at++) {
    const bursar_frame *frame = at <= change->kept ? stack->seen[at].frame : fresh[change->fresh - (at - change->kept)];
    if (is_main(frame))
      found = at;
  }
  if (found)
    bursar_account_phase(BURSAR_PHASE_MAIN);
  else if (main_depth)
    bursar_account_phase(BURSAR_PHASE_EXIT);
  main_depth = found;
}

static bool update(struct stack *stack, const PyThreadState *thread) {
  struct change change;
  if (!compare(stack, bursar_frame_top(thread), &change))
    return false;
  uint32_t depth = change.kept + change.fresh;
  if (depth >= stack->depth_max && !stack_grow(stack, depth))
    return false;
  if (thread == main_thread)
    follow_main(stack, &change, depth);
  if (stack->root != bursar_account.root) {
    stack->root = bursar_account.root;
    change.first = 1;
  }
  uint32_t parent = change.first > 1 ? stack->facets[change.first - 1].node : stack->root;
  for (uint32_t at = change.first; at <= depth; at++) {
    resolve_one(stack, at, at <= change.kept ? stack->seen[at].frame : fresh[change.fresh - (at - change.kept)], parent);
    parent = stack->facets[at].node;
  }
  if (!depth && stack->facets[0].node != stack->root)
    stack->facets[0] = (struct facet){.node = stack->root};
  stack->depth = depth;
  stack->hot.top = &stack->seen[depth];
  return true;
}

uint32_t bursar_frames_tag(unsigned domain) {
  const PyThreadState *thread = bursar_thread();
  struct stack *stack = (struct stack *)bursar_frames_at_hand;
  if (!thread || bursar_frames_at_hand == &nobody || stack->hot.thread != thread) {
    if (!bursar_holds_main_gil())
      return 0;
    stack = stack_of(thread);
    if (!stack)
      return bursar_stacks_site(BURSAR_NODE_UNKNOWN, domain);
    stack->used = ++switches;
    bursar_frames_at_hand = &stack->hot;
    bursar_account_switch_gil(&stack->recent);
  }
  if (!update(stack, thread)) {
    bursar_account.writer.counts->deep_stacks++;
    forget(stack);
    return bursar_stacks_site(BURSAR_NODE_UNKNOWN, domain);
  }
  struct facet *facet = &stack->facets[stack->depth];
  if (!facet->tags[domain])
    facet->tags[domain] = bursar_stacks_site(facet->node, domain);
  memcpy(stack->hot.tags, facet->tags, sizeof stack->hot.tags);
  return facet->tags[domain];
}

void bursar_frames_start(const PyThreadState *thread, const PyObject *globals) {
  main_thread = thread;
  main_globals = globals;
  main_depth = 0;
}

void bursar_frames_moved(void) {
  for (uint32_t i = 0; i < stack_count; i++)
    forget(stacks[i]);
  if (!bursar_account.active)
    bursar_codes_clear();
}

void bursar_frames_block_ended(const void *p) {
  if (!bursar_codes_forget(p))
    return;
  /* A new code object may get the same address, the same frame and the same position. */
  for (uint32_t i = 0; i < stack_count; i++)
    distrust(stacks[i]);
}
