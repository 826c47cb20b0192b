/* cfi.h: from a place in code to the rule that leads to its caller, by the module's .eh_frame (DWARF 4, section 6.4; LSB).
 *
 * x86-64.  Only the rules that a walk by stack pointer and rbp can follow are told; all others are the end of a stack.
 * Nothing is read but the module's own tables, within what it maps.  Threads: any.  Class H. */
#ifndef BURSAR_NATIVE_CFI_H
#define BURSAR_NATIVE_CFI_H

#include <stdbool.h>
#include <stdint.h>

#include "prim/modules.h"

/* Where a frame's memory ends, which is where the caller's stack pointer is.  Right below is the return address. */
enum bursar_cfi_kind {
  BURSAR_CFI_NONE = 0, /* no rule: the outermost frame, or one that cannot be unwound */
  BURSAR_CFI_SP,       /* sp + cfa */
  BURSAR_CFI_BP,       /* bp + cfa */
  BURSAR_CFI_AT_BP,    /* what is at bp + cfa: functions that align their stack */
  BURSAR_CFI_SIGNAL    /* the kernel's record of what a signal interrupted is at sp */
};
/* Where the caller's rbp is. */
enum bursar_cfi_bp {
  BURSAR_CFI_BP_SAME = 0,
  BURSAR_CFI_BP_BELOW_END, /* in memory, at the frame's end + bp */
  BURSAR_CFI_BP_AT_BP,     /* in memory, at bp + bp */
  BURSAR_CFI_BP_LOST
};

struct bursar_cfi_rule {
  int32_t cfa; /* this and bp are whole words */
  int16_t bp;
  uint8_t kind;
  uint8_t bp_kind;
};
_Static_assert(sizeof(struct bursar_cfi_rule) == 8, "with an address it fills sixteen bytes");

/* The rule at an instruction of this module; for a return address ask for the byte before it. */
struct bursar_cfi_rule bursar_cfi_find(const struct bursar_module_found *module, uintptr_t pc);

#endif
