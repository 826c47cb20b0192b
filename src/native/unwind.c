#include "native/unwind.h"

#include <string.h>

#include "account/lock.h"
#include "base/pool.h"
#include "native/cfi.h"
#include "prim/modules.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define PAGE ((uintptr_t)4096)
#define FRAME_MAX ((uintptr_t)64 << 20) /* larger than any frame: what looks like one is no stack */
#define DEEPER_MAX 64u                  /* pages that a stack may grow by between two looks, to be taken for the same */
#define ROOM_FIRST 128u

/* Rules by return address, direct-mapped. */
#define RULES_BITS 13
static struct known {
  uintptr_t pc; /* 0: empty */
  struct bursar_cfi_rule rule;
} rules[1u << RULES_BITS];
static uint32_t rules_generation;

static uint32_t generation = 1; /* atomic */

void bursar_unwind_unloaded(void) { __atomic_fetch_add(&generation, 1, __ATOMIC_ACQ_REL); }
uint32_t bursar_unwind_generation(void) { return __atomic_load_n(&generation, __ATOMIC_ACQUIRE); }

bool bursar_unwind_start(void) {
#if defined(__x86_64__)
  return bursar_modules_start();
#else
  return false;
#endif
}

/* --- rules --------------------------------------------------------------------------------------------------------------- */

static struct bursar_cfi_rule rule_at(uintptr_t instruction) {
  struct bursar_module_found module;
  if (!bursar_modules_find(instruction, &module))
    return (struct bursar_cfi_rule){.kind = BURSAR_CFI_NONE};
  return bursar_cfi_find(&module, instruction);
}

static __attribute__((noinline)) const struct bursar_cfi_rule *rule_learnt(struct known *known, uintptr_t pc) {
  *known = (struct known){pc, rule_at(pc - 1)};
  return &known->rule;
}

/* Of a return address: the call is before it, and may be the last instruction of its function. */
static inline const struct bursar_cfi_rule *rule_of(uintptr_t pc) {
  struct known *known = &rules[pc * 0x9E3779B97F4A7C15ull >> (64 - RULES_BITS)];
  return LIKELY(known->pc == pc) ? &known->rule : rule_learnt(known, pc);
}

/* --- memory -------------------------------------------------------------------------------------------------------------- */

/* Can [address, address + 8) be read?  Pages above those that are known are asked for one after another. */
static __attribute__((noinline)) bool readable_further(struct bursar_unwind_stack *stack, uintptr_t address) {
  if (address < stack->low || (address & 7))
    return false;
  while (address + sizeof(uintptr_t) > stack->high) {
    if (stack->high > UINTPTR_MAX - 2 * PAGE || !bursar_modules_readable(stack->high))
      return false;
    stack->high += PAGE;
  }
  return true;
}

static inline bool read_word(struct bursar_unwind_stack *stack, uintptr_t address, uintptr_t *out) {
  if (UNLIKELY(address - stack->low >= stack->high - stack->low || (address & 7)) && !readable_further(stack, address))
    return false;
  *out = *(const uintptr_t *)address;
  return true;
}

/* Makes low and high those of the stack that `sp` is on.  A little below what is known is the same one, grown; if what lies
 * between can be read. */
static __attribute__((noinline)) void find_stack(struct bursar_unwind_stack *stack, uintptr_t sp) {
  uintptr_t page = sp & ~(PAGE - 1);
  bool same = page < stack->low && stack->low - page <= DEEPER_MAX * PAGE;
  for (uintptr_t at = page + PAGE; same && at < stack->low; at += PAGE)
    same = bursar_modules_readable(at);
  if (!same)
    stack->high = page + PAGE;
  stack->low = page;
}

static bool grow_locked(struct bursar_unwind_stack *stack) {
  uint32_t bigger = stack->room ? stack->room * 2 : ROOM_FIRST;
  if (bigger > BURSAR_UNWIND_DEPTH_MAX)
    return false;
  struct bursar_unwind_frame *frames = bursar_pool_take(bigger * sizeof *frames);
  struct bursar_unwind_check *checks = bursar_pool_take(bigger * sizeof *checks * 2);
  if (!frames || !checks) {
    bursar_pool_give(frames, bigger * sizeof *frames);
    bursar_pool_give(checks, bigger * sizeof *checks * 2);
    return false;
  }
  if (stack->count)
    memcpy(frames, stack->frames, stack->count * sizeof *frames);
  if (stack->check_count)
    memcpy(checks, stack->checks, stack->check_count * sizeof *checks);
  bursar_pool_give(stack->frames, stack->room * sizeof *frames);
  bursar_pool_give(stack->checks, stack->room * sizeof *checks * 2);
  stack->frames = frames;
  stack->checks = checks;
  stack->room = bigger;
  return true;
}

/* Threads without the GIL take from the pool too. */
static __attribute__((noinline)) bool grow(struct bursar_unwind_stack *stack) {
  bursar_lock_take();
  bool grown = grow_locked(stack);
  bursar_lock_give();
  return grown;
}

/* --- one step ------------------------------------------------------------------------------------------------------------ */

/* A frame that was unwound just now. */
struct fresh {
  struct bursar_unwind_at at;
  struct bursar_cfi_rule rule;
};
#define EXACT 0x80u /* in a rule's bp_kind: `at` is the instruction that was interrupted */

/* Such frames, innermost first; used by one thread at a time. */
static struct fresh *fresh;
static uint32_t fresh_room;

static bool grow_fresh_locked(void) {
  uint32_t bigger = fresh_room ? fresh_room * 2 : ROOM_FIRST;
  struct fresh *list = bigger > BURSAR_UNWIND_DEPTH_MAX ? NULL : bursar_pool_take(bigger * sizeof *list);
  if (!list)
    return false;
  if (fresh_room)
    memcpy(list, fresh, fresh_room * sizeof *list);
  bursar_pool_give(fresh, fresh_room * sizeof *fresh);
  fresh = list;
  fresh_room = bigger;
  return true;
}

static __attribute__((noinline)) bool grow_fresh(void) {
  bursar_lock_take();
  bool grown = grow_fresh_locked();
  bursar_lock_give();
  return grown;
}

/* What the kernel keeps of an interrupted instruction (struct rt_sigframe: uc_mcontext.gregs), from the stack pointer on. */
enum { SIGNAL_BP = 120, SIGNAL_SP = 160, SIGNAL_PC = 168 };

/* The interrupted frame may be on another stack than the handler's (sigaltstack). */
static bool step_over_signal(struct bursar_unwind_stack *stack, struct bursar_unwind_at *at) {
  struct bursar_unwind_at next;
  if (!read_word(stack, at->sp + SIGNAL_PC, &next.pc) || !read_word(stack, at->sp + SIGNAL_SP, &next.sp) ||
      !read_word(stack, at->sp + SIGNAL_BP, &next.bp))
    return false;
  stack->odd = true;
  *at = next;
  if (next.sp - stack->low >= stack->high - stack->low)
    find_stack(stack, next.sp);
  return true;
}

/* Where the frame ends; 0 where it cannot be told. */
static inline uintptr_t end_of(struct bursar_unwind_stack *stack, const struct bursar_unwind_at *at,
                               struct bursar_cfi_rule rule) {
  uintptr_t end = 0;
  switch (rule.kind) {
    case BURSAR_CFI_SP: end = at->sp + (uintptr_t)(intptr_t)rule.cfa; break;
    case BURSAR_CFI_BP: end = at->bp + (uintptr_t)(intptr_t)rule.cfa; break;
    case BURSAR_CFI_AT_BP:
      if (!read_word(stack, at->bp + (uintptr_t)(intptr_t)rule.cfa, &end))
        return 0;
      break;
    default: return 0;
  }
  return end - at->sp - sizeof(uintptr_t) < FRAME_MAX ? end : 0;
}

static inline uintptr_t bp_place(const struct bursar_unwind_at *at, uintptr_t end, struct bursar_cfi_rule rule) {
  return (rule.bp_kind == BURSAR_CFI_BP_BELOW_END ? end : at->bp) + (uintptr_t)(intptr_t)rule.bp;
}

/* From a frame to its caller.  False: the stack ends here. */
static __attribute__((noinline)) bool step_slowly(struct bursar_unwind_stack *stack, struct bursar_unwind_at *at,
                                                  struct bursar_cfi_rule rule) {
  if (rule.kind == BURSAR_CFI_SIGNAL)
    return step_over_signal(stack, at);
  struct bursar_unwind_at next = {.bp = at->bp};
  next.sp = end_of(stack, at, rule);
  if (UNLIKELY(!next.sp) || !read_word(stack, next.sp - sizeof(uintptr_t), &next.pc) || next.pc < PAGE)
    return false;
  if (rule.bp_kind != BURSAR_CFI_BP_SAME) {
    if (rule.bp_kind == BURSAR_CFI_BP_LOST)
      next.bp = 0; /* no address: what would need it ends the stack */
    else if (!read_word(stack, bp_place(at, next.sp, rule), &next.bp))
      return false;
  }
  *at = next;
  return true;
}

/* The same for what nearly all frames are: their size is known, and that memory has been read before. */
static inline bool step(struct bursar_unwind_stack *stack, struct bursar_unwind_at *at,
                        const struct bursar_cfi_rule *rule) {
  uintptr_t end = (rule->kind == BURSAR_CFI_SP ? at->sp : at->bp) + (uintptr_t)(intptr_t)rule->cfa;
  uintptr_t place = end - sizeof(uintptr_t), known = stack->high - at->sp;
  if (UNLIKELY((unsigned)rule->kind - BURSAR_CFI_SP > BURSAR_CFI_BP - BURSAR_CFI_SP ||
               rule->bp_kind > BURSAR_CFI_BP_BELOW_END || place - at->sp >= known || place & 7)) {
    struct bursar_unwind_at slow = *at; /* whose address may be taken, so that this one's need not be */
    bool good = step_slowly(stack, &slow, *rule);
    *at = slow;
    return good;
  }
  if (rule->bp_kind == BURSAR_CFI_BP_BELOW_END) {
    uintptr_t saved = end + (uintptr_t)(intptr_t)rule->bp;
    if (UNLIKELY(saved - at->sp >= known))
      return false;
    at->bp = *(const uintptr_t *)saved;
  }
  at->pc = *(const uintptr_t *)place;
  at->sp = end;
  return LIKELY(at->pc >= PAGE);
}

/* --- the whole stack ----------------------------------------------------------------------------------------------------- */

/* Is all that frame k and its callers were unwound by still in memory?  Else the outermost frame that is not right. */
static inline bool still_there(const struct bursar_unwind_stack *stack, uint32_t k, uint32_t *wrong) {
  const struct bursar_unwind_frame *frame = &stack->frames[k];
  const uint32_t checks = frame->checks;
  while (frame > stack->frames) { /* inward to outward: each is read only after what leads to it was found right */
    frame--;
    if (UNLIKELY(*(const uintptr_t *)(frame->at.sp - sizeof(uintptr_t)) != frame->at.pc)) {
      *wrong = (uint32_t)(frame - stack->frames);
      return false;
    }
  }
  for (uint32_t i = 0; i < checks; i++)
    if (UNLIKELY(*(const uintptr_t *)stack->checks[i].address != stack->checks[i].value)) {
      *wrong = 0;
      return false;
    }
  return true;
}

/* Frame k has this stack pointer: is it this one, and right?  Else none from *wrong on is. */
static inline bool met(const struct bursar_unwind_stack *stack, uint32_t k, const struct bursar_unwind_at *at,
                       uint32_t *wrong) {
  const struct bursar_unwind_frame *frame = &stack->frames[k];
  return frame->at.pc == at->pc && !frame->exact && (!frame->needs_bp || frame->at.bp == at->bp) &&
         still_there(stack, k, wrong);
}

/* Walks outward until a frame that is known and right.  Returns how many frames are kept; *count is that of fresh ones. */
static inline uint32_t walk(struct bursar_unwind_stack *stack, struct bursar_unwind_at at, uintptr_t limit,
                            uint32_t *count) {
  const struct bursar_unwind_frame *frames = stack->frames;
  uint32_t known = stack->count, n = 0; /* frames below `known` may still be met */
  uintptr_t near = known ? frames[known - 1].at.sp : UINTPTR_MAX;
  struct bursar_cfi_rule interrupted;
  bool exact = false;
  for (;;) {
    if (UNLIKELY(at.sp >= near)) {
      while (known && frames[known - 1].at.sp < at.sp)
        known--;
      if (known && frames[known - 1].at.sp == at.sp) {
        uint32_t wrong = known - 1;
        if (LIKELY(!exact && met(stack, known - 1, &at, &wrong)))
          break;
        known = wrong;
      }
      near = known ? frames[known - 1].at.sp : UINTPTR_MAX;
    }
    const struct bursar_cfi_rule *rule = &interrupted;
    if (UNLIKELY(exact))
      interrupted = rule_at(at.pc);
    else
      rule = rule_of(at.pc);
    if (UNLIKELY(n == fresh_room) && !grow_fresh())
      goto end;
    fresh[n].at = at;
    memcpy(&fresh[n].rule, rule, sizeof *rule);
    if (UNLIKELY(exact))
      fresh[n].rule.bp_kind |= EXACT;
    n++;
    exact = rule->kind == BURSAR_CFI_SIGNAL;
    if (!step(stack, &at, rule) || (UNLIKELY(at.sp > limit) && !stack->odd))
      goto end;
  }
  *count = n;
  return known;
end:
  stack->end = at.sp > limit ? at.sp : UINTPTR_MAX;
  *count = n;
  return 0;
}

static void add_check(struct bursar_unwind_stack *stack, uintptr_t address, uintptr_t value) {
  stack->checks[stack->check_count++] = (struct bursar_unwind_check){address, value};
}

/* A frame that rbp matters to, or whose caller it does: what its unwinding read besides the return address is kept. */
static __attribute__((noinline)) bool note_bp(struct bursar_unwind_stack *stack, const struct fresh *from,
                                              const struct bursar_unwind_frame *caller) {
  struct bursar_cfi_rule rule = from->rule;
  const bool above_needs = caller && caller->needs_bp;
  rule.bp_kind &= (uint8_t)~EXACT;
  if (above_needs && rule.bp_kind != BURSAR_CFI_BP_SAME && rule.bp_kind != BURSAR_CFI_BP_LOST)
    add_check(stack, bp_place(&from->at, caller->at.sp, rule), caller->at.bp);
  if (caller && rule.kind == BURSAR_CFI_AT_BP)
    add_check(stack, from->at.bp + (uintptr_t)(intptr_t)rule.cfa, caller->at.sp);
  return rule.kind == BURSAR_CFI_BP || rule.kind == BURSAR_CFI_AT_BP || rule.bp_kind == BURSAR_CFI_BP_AT_BP ||
         (above_needs && rule.bp_kind == BURSAR_CFI_BP_SAME);
}

/* Puts the fresh frames on top of the kept ones, outermost first.  False: there is no room. */
static inline bool put(struct bursar_unwind_stack *stack, uint32_t count) {
  while (UNLIKELY(stack->count + count > stack->room))
    if (!grow(stack))
      return false;
  struct bursar_unwind_frame *frame = &stack->frames[stack->count];
  bool needs_bp = stack->count && frame[-1].needs_bp;
  for (const struct fresh *from = fresh + count; from-- > fresh; frame++) {
    if (UNLIKELY(needs_bp || from->rule.kind != BURSAR_CFI_SP))
      needs_bp = note_bp(stack, from, frame > stack->frames ? frame - 1 : NULL);
    frame->at = from->at;
    frame->checks = stack->check_count;
    frame->needs_bp = needs_bp;
    frame->exact = from->rule.bp_kind & EXACT;
  }
  stack->count += count;
  return true;
}

static void forget(struct bursar_unwind_stack *stack) { stack->count = stack->check_count = 0; }

uint32_t bursar_unwind_follow(struct bursar_unwind_stack *stack, const struct bursar_unwind_at *from, uintptr_t limit) {
  uint32_t now = bursar_unwind_generation(), count, kept;
  if (UNLIKELY(now != rules_generation)) {
    memset(rules, 0, sizeof rules);
    rules_generation = now;
  }
  if (UNLIKELY(stack->generation != now || stack->limit != limit || stack->odd)) {
    forget(stack);
    stack->generation = now;
    stack->limit = limit;
    stack->odd = false;
  }
  if (UNLIKELY(from->sp - stack->low >= stack->high - stack->low))
    find_stack(stack, from->sp);
  kept = walk(stack, *from, limit, &count);
  stack->count = kept;
  stack->check_count = kept ? stack->frames[kept - 1].checks : 0;
  if (UNLIKELY(!put(stack, count)) && kept) { /* too deep: the innermost frames are what is told */
    forget(stack);
    kept = walk(stack, *from, limit, &count);
    (void)put(stack, count);
  }
  return kept;
}

uintptr_t bursar_unwind_end(const struct bursar_unwind_stack *stack, uint32_t frame) {
  return frame ? stack->frames[frame - 1].at.sp : stack->end;
}
