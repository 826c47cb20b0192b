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

#define BURSAR_FOLD_AT 24000u

/* At the start of books. */
void bursar_fold_start(void);
/* Folds if a region of stacks is full and there is enough to fold.  Afterwards every cached stack must be looked up again,
 * which it says to the provider itself. */
void bursar_fold_if_full(void);

#endif
