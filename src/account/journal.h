/* journal.h: what was held when: the peak and the ticks, by copy on write.
 *
 * A tick notes totals and opens an interval; a site that changes for the first time in it leaves an undo record of what it
 * held at the tick.  So a tick costs nothing by site, and the past is exact at every whole tick.  Where the room for
 * records runs out, whole ticks come half as often, and those that stand closer keep their totals alone (at last all
 * before the latest; one interval always fits); where BURSAR_TICKS_MAX ticks are there, every second goes.  Both copy one
 * half of the journal into the other, which then becomes the one that holds.
 *
 * Any thread; these take the lock, but for peak and fold, whose callers hold it (fold's: nobody else is in the books).
 * Class H, but that making room costs system calls.  errno kept. */
#ifndef BURSAR_ACCOUNT_JOURNAL_H
#define BURSAR_ACCOUNT_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger/layout.h"

/* 0, or -1 where there is no room for a first tick.  Class N. */
int bursar_journal_start(void) __attribute__((warn_unused_result));
/* Before a site changes for the first time in an epoch. */
void bursar_journal_touch(struct bursar_site *site);
/* The total is above the peak: it is the peak now. */
void bursar_journal_peak(uint64_t total);
/* Looks at the clock, before an event is booked; makes a tick if one is due.  Where the program rested since the last look,
 * a tick says since when it held what it holds now: else a rest would show what was held at the last tick, before the
 * changes that led up to it. */
void bursar_journal_look(void);
/* Sets bursar_account.countdown to where lane GIL looks again. */
void bursar_journal_count_down(void);
/* Makes a tick now.  Returns its serial, 0 where there is no room. */
uint64_t bursar_journal_tick(uint32_t flags);

/* What a site held, and since when it is there, before sites are folded. */
struct bursar_past {
  uint64_t bytes;
  uint32_t blocks;  /* stops at 2^32 - 1 */
  uint32_t created; /* as in its facts */
};
#define BURSAR_PAST_NONE UINT32_MAX /* as `created`: no site, or lane FREE's */

/* Sites were folded: the records tell from now on what those together held that are one now, exactly.  into[n] is the
 * number (index + 1) of the site that the one of number n went to in the end, 0 where it stayed.  Spoils `past`, by index.
 * Where there is no memory, records of folded sites are dropped and counted; where there is no room, the oldest are. */
void bursar_journal_fold(const uint32_t *into, struct bursar_past *past, uint32_t sites);

#endif
