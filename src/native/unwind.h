/* unwind.h: the calling thread's native stack, by the unwind information that compilers leave in .eh_frame.
 *
 * Glossary
 *   rule     how to get from a frame to its caller at one return address: where the caller's stack pointer is, and its rbp
 *   kept     frames, outermost first, that are what they were the last time
 *
 * A rule is worked out once for a return address and remembered.  A stack is remembered too: the return addresses in its
 * memory are compared with what they were, which takes three instructions a frame, and only what changed is unwound again.
 * No register but the stack pointer, rbp and the program counter is followed; where a frame needs another one, or its code
 * has no unwind information, or is no module's (a JIT's), the stack ends.  Signal frames are passed through.
 *
 * Nothing is read but the program's unwind tables, and its stack: upward from the caller's frame, page by page, and a page
 * that was not met before is asked of the kernel first.
 * Threads: one at a time, the holder of the main GIL; each unwinds itself.  Class H, but that new pages and larger stacks
 * cost system calls.  errno is kept. */
#ifndef BURSAR_NATIVE_UNWIND_H
#define BURSAR_NATIVE_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

/* A place in a running function, as its callee leaves it. */
struct bursar_unwind_at {
  uintptr_t pc; /* a return address; an instruction where a signal interrupted it */
  uintptr_t sp; /* the stack pointer there: everything of its callees' is below */
  uintptr_t bp;
};

struct bursar_unwind_frame {
  struct bursar_unwind_at at;
  uint32_t checks; /* of its callers' there are so many; see below */
  bool needs_bp;   /* rbp is needed to unwind it, or a caller: a value of the frame's own may be in there too */
  bool exact;      /* pc is the instruction that was interrupted */
  uint32_t path;   /* the caller's to use */
};

/* Saved values of rbp that unwinding depended on, and the like. */
struct bursar_unwind_check {
  uintptr_t address, value;
};

/* What is remembered of a thread's stack; zeroed at first, memory from base/pool.h. */
struct bursar_unwind_stack {
  struct bursar_unwind_frame *frames; /* outermost first */
  struct bursar_unwind_check *checks;
  uint32_t count, check_count;
  uint32_t room;       /* for each of the two */
  uint32_t generation; /* of modules */
  uintptr_t limit;     /* it was unwound up to there */
  uintptr_t end;       /* of the outermost frame; UINTPTR_MAX: not known */
  uintptr_t low, high; /* this much of the stack's memory can be read */
  bool odd;            /* a signal interrupted some of it: nothing is kept */
};

#define BURSAR_UNWIND_DEPTH_MAX 65536u

/* Once.  False: stacks cannot be unwound here: another processor than x86-64, or an older C library.  Class N. */
bool bursar_unwind_start(void);
/* Makes `stack` the one that leads to `from`, up to and with the frame whose memory has the address `limit`; UINTPTR_MAX:
 * all of it.  Returns how many of its outermost frames were kept, with their paths.  Memory that cannot be had cuts it. */
uint32_t bursar_unwind_follow(struct bursar_unwind_stack *stack, const struct bursar_unwind_at *from, uintptr_t limit);
/* The address just above a frame's memory; UINTPTR_MAX for the outermost one. */
uintptr_t bursar_unwind_end(const struct bursar_unwind_stack *stack, uint32_t frame);
/* A module was unloaded, and another may come in its place: what is remembered of it holds no longer.  Any thread. */
void bursar_unwind_unloaded(void);
/* Moves with each of these. */
uint32_t bursar_unwind_generation(void);

/* Where the function that uses this is to return to. */
#define BURSAR_UNWIND_CALLER()                                                              \
  ((struct bursar_unwind_at){(uintptr_t)__builtin_return_address(0),                        \
                             (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(uintptr_t), \
                             *(const uintptr_t *)__builtin_frame_address(0)})

#endif
