/* budget.h: what an entry of a scope may hold, and what is refused so that it does not hold more.
 *
 * Glossary
 *   hard       the limit: binds the entry with all that is nested in it
 *   reserve    the last of it, 1 MiB and at most a sixteenth: after a refusal small blocks may have it, so that what handles the
 *              failure can
 *   soft       the limit from which on somebody is told
 *   room       bytes of small blocks that may begin before an entry is looked at again
 *
 * The limits are kept here, by slot, and stand for the entry whose serial they have.  Nothing on the way of a block knows
 * them: who asks does so before blocks that can be refused, and once the room is used up.
 * Threads: the main GIL's holder.  errno kept.  Class H, but for _set. */
#ifndef BURSAR_POLICY_BUDGET_H
#define BURSAR_POLICY_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BURSAR_BUDGET_RESERVE (1 << 20)
#define BURSAR_BUDGET_SMALL 4096     /* what may use the reserve */
#define BURSAR_BUDGET_OVER (1 << 20) /* above the limit in what cannot be refused, it is told all the same */
#define BURSAR_BUDGET_ROOM (32 << 10)

struct bursar_budget {
  uint64_t serial; /* of the entry */
  int64_t hard;    /* 0: none */
  int64_t soft;    /* 0: none */
  uint64_t refused;
  int64_t asked, held; /* when it was refused last */
  uintptr_t code;      /* the caller's note of where that was */
  intptr_t unit;
  bool in_reserve; /* a block was refused, and it has not fallen below since */
  bool told;       /* of soft, likewise */
};

/* Entries with a limit that have begun and not ended. */
extern uint32_t bursar_budget_open;
extern int64_t bursar_budget_room;

/* The entry of the slot begins with these limits (0: none); they end with it.  False: no memory.  Class F. */
bool bursar_budget_begin(uint32_t slot, int64_t hard, int64_t soft) __attribute__((warn_unused_result));
/* What is known of them at its end, before bursar_scopes_end; zeros where it has none. */
struct bursar_budget bursar_budget_end(uint32_t slot);
/* At the start of books: those of before are gone. */
void bursar_budget_forget(void);

/* The slot of the first entry, of this one and those around it, that a block of so many bytes would take over its hard limit;
 * 0: it may begin.  `instead`: what another ends with it that is charged to the entry `of`. */
uint32_t bursar_budget_over(uint32_t slot, int64_t bytes, int64_t instead, uint32_t of);
/* The same for what cannot be refused: which of them is more than BURSAR_BUDGET_OVER above its limit.  Makes room. */
uint32_t bursar_budget_far_over(uint32_t slot);
/* The first of them that is above its soft limit and was not told of since it rose there; it counts as told.  0: none. */
uint32_t bursar_budget_soft(uint32_t slot, int64_t more);
/* A block was refused by the entry. */
void bursar_budget_refused(uint32_t slot, int64_t asked, uintptr_t code, intptr_t unit);
/* Of the entry that has the slot; NULL: none. */
const struct bursar_budget *bursar_budget_of(uint32_t slot);

#endif
