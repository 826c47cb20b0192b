/* fold.h: what gives when the ledger is full: rare stacks.
 *
 * Sites that hold nothing now are folded, the rarest first, into the sites of their nearest ancestors; their places and
 * the nodes that nobody needs any more are used again.  Totals never change.  What the journal knew of a folded site is
 * lost, and counted.  Main GIL, between events only.  Class H (no system call, but memory from the pool). */
#ifndef BURSAR_ACCOUNT_FOLD_H
#define BURSAR_ACCOUNT_FOLD_H

/* Folds if a region of stacks is full and there is enough to fold.  Afterwards every cached stack must be looked up again,
 * which it says to the provider itself. */
void bursar_fold_if_full(void);

#endif
