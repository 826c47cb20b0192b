/* budget.h: what an entry of a scope may hold, and what is refused so that it does not hold more.
 *
 * Glossary
 *   hard       the limit: binds the entry with all that is nested in it
 *   reserve    the last of it, 1 MiB and at most a sixteenth: after a refusal small blocks may have it, so that what handles the
 *              failure can
 *   soft       the limit from which on somebody is told
 *   room       bytes of small blocks that may begin before an entry is looked at again
 *   named      what is set for the entry's name from outside the program (limits.h): binds it too, as it is at the moment; its
 *              sum binds all entries of that name together, those that have ended and still hold something among them
 *   held       by the process: what is booked, or what was resident when that was looked at last with what was booked since,
 *              whichever is more
 *   marked     where the process has reached its limit: the outermost entry that holds the most, which is the one furthest over
 *              an equal share of what is left for entries
 *
 * The limits are kept here, by slot, and stand for the entry whose serial they have.  Nothing on the way of a block knows
 * them: who asks does so before blocks that can be refused, and once the room is used up.
 * Above the process's limit the marked entry is refused; others go on for another sixteenth of it, then nobody; small blocks for
 * BURSAR_BUDGET_OVER more.  What is in no entry is refused from the limit on where no entry is open; while some are it serves them,
 * and is refused large blocks alone, beyond the sixteenth.
 * Threads: the main GIL's holder; _over, _refused, _of: any; _seen: any.  errno kept.  Class H, but for _begin, _forget (F). */
#ifndef BURSAR_POLICY_BUDGET_H
#define BURSAR_POLICY_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/limits.h"

#define BURSAR_BUDGET_RESERVE (1 << 20)
#define BURSAR_BUDGET_SMALL 4096 /* what may use the reserve */
#define BURSAR_BUDGET_ROOM (32 << 10)
/* So far above the limit in what cannot be refused, it is told all the same: with what may begin before anybody looks, in a few
 * threads, no more than 1 MiB. */
#define BURSAR_BUDGET_OVER ((1 << 20) - 4 * BURSAR_BUDGET_ROOM)
#define BURSAR_BUDGET_SERVER 65536 /* what code in no entry may have in any case while others are open */
#define BURSAR_BUDGET_SLACK 16     /* of the process's limit: the part by which all but the marked entry may pass it */

enum bursar_budget_whose { BURSAR_BUDGET_ENTRY, BURSAR_BUDGET_NAME, BURSAR_BUDGET_PROCESS };

struct bursar_budget {
  uint64_t serial; /* of the entry */
  int64_t hard;    /* 0: none */
  int64_t soft;    /* 0: none */
  const struct bursar_limits *named;
  uint64_t refused;
  int64_t asked, held, limit; /* when it was refused last */
  enum bursar_budget_whose whose;
  uintptr_t code; /* the caller's note of where that was */
  intptr_t unit;
  bool in_reserve; /* a block was refused, and it has not fallen below since */
  bool told;       /* of soft, likewise */
};

/* Entries with a limit that have begun and not ended. */
extern uint32_t bursar_budget_open;
extern int64_t bursar_budget_room;

/* The entry of the slot begins with these limits (0: none, NULL: nothing); they end with it.  False: no memory.  Class F. */
bool bursar_budget_begin(uint32_t slot, int64_t hard, int64_t soft, const struct bursar_limits *named)
    __attribute__((warn_unused_result));
/* What is known of them at its end, before bursar_scopes_end; zeros where it has none. */
struct bursar_budget bursar_budget_end(uint32_t slot);
/* At the start of books: those of before are gone. */
void bursar_budget_forget(void);

/* Whose limit a block would break, and what was held then; the slot is of the entry that is told, 0: none. */
struct bursar_budget_refusal {
  uint32_t slot;
  enum bursar_budget_whose whose;
  int64_t limit, held;
};
/* May a block of so many bytes not begin in the entry (0: in none)?  `instead`: what another ends with it that is charged to the
 * entry `of`.  `gil`: the caller holds it. */
bool bursar_budget_over(uint32_t slot, int64_t bytes, int64_t instead, uint32_t of, bool gil,
                        struct bursar_budget_refusal *out);
/* The same for what cannot be refused: is one of them more than BURSAR_BUDGET_OVER above its limit?  Makes room. */
bool bursar_budget_far_over(uint32_t slot, struct bursar_budget_refusal *out);
/* The first of them that is above its soft limit and was not told of since it rose there; it counts as told.  0: none. */
uint32_t bursar_budget_soft(uint32_t slot, int64_t more);
/* A block was refused. */
void bursar_budget_refused(const struct bursar_budget_refusal *refusal, int64_t asked, uintptr_t code, intptr_t unit);
/* Of the entry that has the slot; NULL: none. */
const struct bursar_budget *bursar_budget_of(uint32_t slot);

/* So many bytes are resident. */
void bursar_budget_seen(uint64_t resident);
/* What the process holds; and all entries of a name. */
int64_t bursar_budget_held(void);
int64_t bursar_budget_sum(const struct bursar_limits *named);

#endif
