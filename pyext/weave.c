#include "weave.h"

#include <string.h>

#include "account/lock.h"
#include "account/stacks.h"
#include "base/pool.h"
#include "frames.h"
#include "native/native.h"
#include "native/paths.h"
#include "native/places.h"
#include "native/unwind.h"
#include "prim/modules.h"

#define MEMO_FIRST 4096u
#define MEMO_MAX (1u << 18)
#define ITEMS_FIRST 512u
#define ITEMS_MAX BURSAR_DEPTH_MAX

/* Of a native path: whose code its innermost frame is. */
enum { OURS = 1, INTERPRETER = 2 };

/* A thread's native stack. */
struct bursar_weave {
  const PyThreadState *thread;
  struct bursar_unwind_stack stack;
  uint32_t shares; /* of the frames as they were */
};

static struct bursar_paths python_paths, native_paths;
static uint32_t known_generation; /* of modules; 0: everything is to be forgotten */

/* --- modules ------------------------------------------------------------------------------------------------------------ */

static uintptr_t interpreter, ours, preloaded; /* where their modules begin; 0: none */

bool bursar_weave_start(void) {
  if (!BURSAR_KNOWS_FRAMES || !bursar_unwind_start())
    return false;
  interpreter = bursar_places_module((uintptr_t)PyObject_Malloc);
  ours = bursar_places_module((uintptr_t)bursar_weave_start);
  preloaded = bursar_places_module((uintptr_t)&bursar_native_table);
  __atomic_store_n(&bursar_native_table.unloaded, bursar_unwind_unloaded, __ATOMIC_RELEASE);
  return true;
}

/* --- paths --------------------------------------------------------------------------------------------------------------- */

/* Not in the middle of an event, which has paths at hand. */
static void forget_soon(void) { known_generation = 0; }

static void forget_paths(void) {
  bursar_paths_clear(&python_paths);
  bursar_paths_clear(&native_paths);
  bursar_places_clear();
  bursar_unwind_unloaded(); /* threads' stacks have paths too */
}

uint32_t bursar_weave_python(uint32_t parent, uint32_t code, uint32_t line) {
  bool fresh;
  uint32_t path = bursar_paths_of(&python_paths, parent, (uint64_t)code << 32 | line, &fresh);
  if (!path) {
    forget_soon();
    return parent;
  }
  if (fresh) {
    python_paths.items[path].code = code;
    python_paths.items[path].place = line;
  }
  return path;
}

static __attribute__((noinline)) void learn(struct bursar_path *path, const struct bursar_unwind_frame *frame) {
  struct bursar_module_found module;
  uintptr_t instruction = frame->at.pc - !frame->exact;
  if (!bursar_modules_find(instruction, &module))
    return;
  uintptr_t address = instruction - module.bias;
  path->code = bursar_places_code(&module);
  path->place = address < UINT32_MAX ? (uint32_t)address : 0;
  path->flags = module.from == ours || module.from == preloaded ? OURS : module.from == interpreter ? INTERPRETER : 0;
}

/* 0: there is no room, for it or for a caller of it. */
static inline uint32_t native_path(uint32_t parent, bool outermost, const struct bursar_unwind_frame *frame) {
  bool fresh;
  if (BURSAR_UNLIKELY(!parent && !outermost))
    return 0;
  uint32_t path = bursar_paths_of(&native_paths, parent, (uint64_t)frame->at.pc << 1 | frame->exact, &fresh);
  if (BURSAR_UNLIKELY(fresh))
    learn(&native_paths.items[path], frame);
  return path;
}

/* --- what was woven ------------------------------------------------------------------------------------------------------- */

struct memo {
  uint32_t python, native;
  uint32_t where; /* how the loops share Python's frames, and the domain */
  uint32_t tag;   /* 0: empty */
};
static struct memo *memos;
static uint32_t memo_size, memo_used;

static inline uint32_t memo_home(struct memo key) {
  uint64_t hash = ((uint64_t)key.python << 32 | key.native) * 0x9E3779B97F4A7C15ull + key.where * 0xD6E8FEB86659FD93ull;
  return (uint32_t)(hash ^ hash >> 31) & (memo_size - 1);
}

static inline bool memo_is(const struct memo *memo, struct memo key) {
  return memo->python == key.python && memo->native == key.native && memo->where == key.where;
}

static inline uint32_t memo_tag(struct memo key) {
  if (BURSAR_UNLIKELY(!memo_size))
    return 0;
  uint32_t at = memo_home(key);
  while (memos[at].tag && !memo_is(&memos[at], key))
    at = (at + 1) & (memo_size - 1);
  return memos[at].tag;
}

static void memo_put(struct memo memo) {
  uint32_t at = memo_home(memo);
  while (memos[at].tag)
    at = (at + 1) & (memo_size - 1);
  memos[at] = memo;
  memo_used++;
}

static void memo_add(struct memo memo) {
  if (memo_used * 2 >= memo_size) {
    struct memo *old = memos;
    uint32_t old_size = memo_size, bigger = memo_size ? memo_size * 2 : MEMO_FIRST;
    bool too_large = bigger > MEMO_MAX;
    struct memo *larger = too_large ? NULL : bursar_pool_take(bigger * sizeof *larger);
    if (!larger && memo_size) { /* all of it is looked up again */
      memset(memos, 0, memo_size * sizeof *memos);
      memo_used = 0;
    } else if (!larger) {
      return;
    } else {
      memos = larger;
      memo_size = bigger;
      memo_used = 0;
      for (uint32_t i = 0; i < old_size; i++)
        if (old[i].tag)
          memo_put(old[i]);
      bursar_pool_give(old, old_size * sizeof *old);
    }
  }
  memo_put(memo);
}

void bursar_weave_moved(void) {
  if (memo_used)
    memset(memos, 0, memo_size * sizeof *memos);
  memo_used = 0;
  if (!bursar_account.active)
    forget_paths();
}

/* --- weaving -------------------------------------------------------------------------------------------------------------- */

struct item {
  uint32_t code, place;
  bool native;
};
static struct item *items; /* of the stack at work, innermost first */
static uint32_t item_room, item_count;

static void tell(uint32_t code, uint32_t place, bool native) {
  if (item_count == item_room) {
    uint32_t bigger = item_room ? item_room * 2 : ITEMS_FIRST;
    struct item *more = bigger > ITEMS_MAX ? NULL : bursar_pool_take(bigger * sizeof *more);
    if (!more)
      return; /* what is outermost is cut */
    if (item_room)
      memcpy(more, items, item_room * sizeof *more);
    bursar_pool_give(items, item_room * sizeof *items);
    items = more;
    item_room = bigger;
  }
  items[item_count++] = (struct item){code, place, native};
}

/* The frames that one call of the loop runs. */
struct batch {
  uint32_t inner, outer; /* 0: there is none any more */
  uintptr_t place;
};

static struct batch next_batch(const struct bursar_frames *frames, uint32_t inner, const bursar_loop **loop) {
  struct batch batch = {.inner = inner, .outer = inner};
  if (!inner)
    return batch;
  while (batch.outer > 1 && !bursar_frame_enters(frames->seen[batch.outer].frame))
    batch.outer--;
  batch.place = bursar_loop_place(frames->thread, loop, frames->seen[inner].frame, frames->seen[batch.outer].frame);
  return batch;
}

static struct batch tell_batch(const struct bursar_frames *frames, struct batch batch, const bursar_loop **loop) {
  for (uint32_t at = batch.inner; at >= batch.outer; at--)
    if (frames->nodes[at] != frames->nodes[at - 1]) { /* an entry from C is no frame */
      const struct bursar_path *path = &python_paths.items[frames->nodes[at]];
      tell(path->code, path->place, false);
    }
  return next_batch(frames, batch.outer - 1, loop);
}

static void tell_all(const struct bursar_frames *frames, const struct bursar_unwind_stack *stack, uint32_t top) {
  const bursar_loop *loop = bursar_loop_innermost(frames->thread);
  struct batch batch = next_batch(frames, frames->depth, &loop);
  const bool python = batch.inner != 0;
  bool innermost = true; /* segment */
  item_count = 0;
  for (uint32_t at = top; at > 0 && (batch.inner || !python);) {
    const struct bursar_unwind_frame *frame = &stack->frames[at - 1];
    if (batch.inner && batch.place < bursar_unwind_end(stack, at - 1)) {
      bool here = batch.place >= frame->at.sp;
      batch = tell_batch(frames, batch, &loop);
      innermost = false;
      at -= here;
      continue;
    }
    const struct bursar_path *path = &native_paths.items[frame->path];
    if (innermost || !(path->flags & INTERPRETER))
      tell(path->code, path->place, true);
    at--;
  }
  while (batch.inner)
    batch = tell_batch(frames, batch, &loop);
}

static __attribute__((noinline)) uint32_t weave(const struct bursar_frames *frames,
                                                const struct bursar_unwind_stack *stack, uint32_t top, struct memo key,
                                                unsigned domain) {
  uint32_t node = frames->nodes[0];
  bursar_lock_take();
  if (stack->count == BURSAR_UNWIND_DEPTH_MAX)
    bursar_account.writer.counts->deep_stacks++;
  if (key.native || !top)
    tell_all(frames, stack, top);
  else
    forget_soon();
  for (uint32_t i = key.native || !top ? item_count : 0; i-- > 0;)
    node = items[i].native ? bursar_stacks_native_node(node, items[i].code, items[i].place)
                           : bursar_stacks_node(node, items[i].code, items[i].place);
  key.tag = bursar_stacks_site(node, domain);
  if (known_generation)
    memo_add(key);
  bursar_lock_give();
  return key.tag;
}

static inline uint32_t shares_with(uint32_t hash, uint32_t entered) { return (hash + entered) * 0x9E3779B1u; }

static __attribute__((noinline)) uint32_t shares_by_frame(const struct bursar_frames *frames) {
  uint32_t hash = 0;
  for (uint32_t at = frames->depth; at > 1; at--)
    if (bursar_frame_enters(frames->seen[at].frame))
      hash = shares_with(hash, at);
  return hash;
}

/* How the calls of the loop share the frames among them.  The same frames and the same native functions may be shared in two
 * ways: a calls b through C and b calls c, or a calls b and b calls c through C. */
static inline uint32_t shares(struct bursar_weave *weave, const struct bursar_frames *frames, bool changed) {
  if (BURSAR_LOOP_RUNS_ONE)
    return 0;
  if (!BURSAR_LOOPS_ARE_LISTED) { /* but among the frames, which are what they were */
    if (BURSAR_UNLIKELY(changed))
      weave->shares = shares_by_frame(frames);
    return weave->shares;
  }
  uint32_t hash = 0;
  const bursar_frame *frame;
  const bursar_loop *loop = bursar_loop_innermost(frames->thread);
  while ((loop = bursar_loop_outer(frames->thread, loop, &frame)) != NULL) {
    uint32_t at = frame ? frames->fingers[bursar_frames_finger(frame)] : 0;
    if (BURSAR_UNLIKELY(!at || at >= frames->depth || frames->seen[at].frame != frame))
      return shares_by_frame(frames);
    hash = shares_with(hash, at + 1);
  }
  return hash;
}

static struct bursar_weave *weave_of(struct bursar_frames *frames) {
  struct bursar_weave *weave = frames->weave;
  if (BURSAR_UNLIKELY(!weave)) {
    bursar_lock_take();
    weave = frames->weave = bursar_pool_take(sizeof *weave);
    bursar_lock_give();
    if (!weave)
      return NULL;
  }
  if (BURSAR_UNLIKELY(weave->thread != frames->thread)) {
    weave->thread = frames->thread;
    weave->stack.low = weave->stack.high = weave->stack.count = weave->stack.check_count = 0;
  }
  return weave;
}

static __attribute__((noinline)) uint32_t unknown_site(unsigned domain) {
  bursar_lock_take();
  uint32_t tag = bursar_stacks_site(BURSAR_NODE_UNKNOWN, domain);
  bursar_lock_give();
  return tag;
}

static __attribute__((noinline)) void forget_what_is_gone(void) {
  if (known_generation) { /* a module was unloaded: another may be where it was */
    bursar_paths_clear(&native_paths);
    bursar_places_clear();
  } else {
    forget_paths();
  }
  bursar_frames_moved();
  known_generation = bursar_unwind_generation();
}

__attribute__((noinline)) uint32_t bursar_weave_tag(unsigned domain) {
  const struct bursar_unwind_at from = BURSAR_UNWIND_CALLER();
  bool is_ours, changed;
  if (BURSAR_UNLIKELY(known_generation != bursar_unwind_generation()))
    forget_what_is_gone();
  struct bursar_frames *frames = bursar_frames_now(&is_ours, &changed);
  struct bursar_weave *weave_at_hand = frames ? weave_of(frames) : NULL;
  if (BURSAR_UNLIKELY(!weave_at_hand))
    return is_ours ? unknown_site(domain) : 0;
  struct bursar_unwind_stack *stack = &weave_at_hand->stack;
  uintptr_t limit = bursar_loop_outermost(frames->thread, frames->depth ? frames->seen[1].frame : NULL);
  uint32_t at = bursar_unwind_follow(stack, &from, limit), path = at ? stack->frames[at - 1].path : 0;
  for (; at < stack->count; at++)
    stack->frames[at].path = path = native_path(path, at == 0, &stack->frames[at]);
  uint32_t top = stack->count;
  while (top && native_paths.room && native_paths.items[stack->frames[top - 1].path].flags & OURS)
    top--;
  struct memo key = {.python = frames->nodes[frames->depth],
                     .native = top ? stack->frames[top - 1].path : 0,
                     .where = shares(weave_at_hand, frames, changed) << 3 | domain};
  uint32_t tag = memo_tag(key);
  return BURSAR_LIKELY(tag) ? tag : weave(frames, stack, top, key, domain);
}
