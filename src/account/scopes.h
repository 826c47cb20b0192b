/* scopes.h: the account by request: who is charged for a block beside its site.
 *
 * Glossary
 *   entry   one time that a scope was entered, in a slot of the ledger; slot 0 is no scope
 *   chain   an entry and those around it: each block counts in all of them, its own entry alone counts blocks
 *
 * A slot is given up when its entry has ended and nothing is charged to it any more.  Where slots run short, ended entries
 * that still hold blocks are folded into one slot of their name.
 * Threads: *_gil and what is not said under the main GIL, *_free any, while folding is held off.  errno kept.  Class H, but
 * that making room costs system calls. */
#ifndef BURSAR_ACCOUNT_SCOPES_H
#define BURSAR_ACCOUNT_SCOPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/layout.h"

/* At the start of books.  Where there turns out to be no room, scopes count nothing. */
void bursar_scopes_start(void);
/* Slots of these books mean nothing from here on. */
void bursar_scopes_stop(void);

/* The index of a name; of "(other scopes)" where there are too many. */
uint32_t bursar_scopes_name(const char *text, size_t bytes);
/* What a name's entries that have ended were like; zeros where there were none. */
struct bursar_scope_history {
  uint64_t calls, peak; /* which 95 % of them did not pass */
  uint64_t time_ns;     /* of all */
};
struct bursar_scope_history bursar_scopes_history(uint32_t name);
/* Begins an entry inside another (0: none).  0 where there is no slot left. */
uint32_t bursar_scopes_enter(uint32_t name, uint32_t parent);
/* The same without the GIL: nothing is folded to make room. */
uint32_t bursar_scopes_enter_free(uint32_t name, uint32_t parent);

struct bursar_scope_facts {
  int64_t live_bytes;
  uint64_t peak_bytes, allocated_bytes, allocations, time_ns;
  uint64_t serial; /* no two entries have the same */
};
/* Ends an entry, and says what it was then. */
struct bursar_scope_facts bursar_scopes_end(uint32_t slot); /* any thread */
/* Threads that were found in an entry which has ended look again. */
void bursar_scopes_look_again(uint32_t slot);
/* Of the entry that has the slot now. */
struct bursar_scope_facts bursar_scopes_read(uint32_t slot);
/* For threads without the GIL, which do not hear of an entry's end: 0 where the slot is another's by now. */
uint64_t bursar_scopes_handle(uint32_t slot);
uint32_t bursar_scopes_slot(uint64_t handle);
/* How often ended entries were folded.  Steady while folding is held off (fold.h), or the main GIL held. */
extern uint32_t bursar_scopes_generation;
/* The slot that what was charged to this one at that generation is charged to now; 0 where that was too long ago.  For a block
 * that was out of the table meanwhile. */
uint32_t bursar_scopes_where(uint32_t slot, uint32_t generation);
/* Notes an event. */
void bursar_scopes_event(enum bursar_event_kind kind, uint32_t slot, uint32_t text);
/* Notes what is said of a scope by its name's index, its entry having ended perhaps; 0: of the whole process. */
void bursar_scopes_tell(enum bursar_event_kind kind, uint32_t name, uint64_t bytes, uint32_t text);

/* hot.h: an entry that has ended may hold nothing any more. */
void bursar_scopes_emptied(uint32_t slot);
/* A block of so many bytes begins, or ends: `blocks` is 1 or -1, or 0 for a piece of a mapping. */
void bursar_scopes_charge_gil(uint32_t slot, int64_t bytes, int blocks);
void bursar_scopes_charge_free(uint32_t slot, int64_t bytes, int blocks);

#endif
