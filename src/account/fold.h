/* fold.h: what gives when the ledger is full: rare stacks.
 *
 * Sites of little weight are folded into their callers': from the innermost outward until what has come together weighs
 * something, or is a line of the program's outermost frame.  A site's weight is its largest share: of what is live, of the
 * peak, of all bytes, of all allocations.  Places and nodes that nobody needs any more are used again.  Totals never
 * change.  The journal tells from then on what the sites that became one held together.
 *
 * It begins long before the cap, at BURSAR_FOLD_AT sites, so that a program which imports half a million stacks pays
 * neither memory nor time for them; where more than that is of weight, more is kept, up to the cap.
 * Main GIL, between events only.  Class H (no system call, but memory from the pool). */
#ifndef BURSAR_ACCOUNT_FOLD_H
#define BURSAR_ACCOUNT_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#define BURSAR_FOLD_AT 24000u

/* At the start of books. */
void bursar_fold_start(void);
/* Folds if a region of stacks is full and there is enough to fold.  Afterwards every cached stack must be looked up again,
 * which it says to the provider itself. */
void bursar_fold_if_full(void);

/* Who does not hold the main GIL books what begins and ends between these two: no site moves meanwhile.  The first waits while sites are folded, which is rare; it must not be called between the two.  Any thread. */
void bursar_fold_hold_off(void);
void bursar_fold_let_go(void);
/* Keeps them from it: nobody but the caller, who holds the main GIL and not the lock, is in the books until the second. */
void bursar_fold_keep_off(void);
void bursar_fold_let_in(void);
/* The same, but that it gives up after a second, false then: a thread that is in the books may be stopped there for ever, by a
 * debugger or by a runtime that stops its world. */
bool bursar_fold_keep_off_soon(void) __attribute__((warn_unused_result));
/* Waits until whoever is between the two has been past the second.  Not between them. */
void bursar_fold_drain(void);
/* In a forked child.  Class F. */
void bursar_fold_after_fork(void);

/* How often sites have moved.  Steady while folding is held off, or the main GIL held. */
extern uint32_t bursar_fold_generation;
/* Where the site of a number is now that was read at that generation; 0 where that was too long ago. */
uint32_t bursar_fold_where(uint32_t number, uint32_t generation);

#endif
