/* anywhere.h: booking from any thread, whether it holds the main GIL or not.
 *
 * Threads: any.  errno kept.  Class H. */
#ifndef BURSAR_PYEXT_ANYWHERE_H
#define BURSAR_PYEXT_ANYWHERE_H

#include <stdbool.h>
#include <stddef.h>

#include "account/account.h"

/* This thread is inside an allocator that we wrap, whose own allocations are its business: the outermost layer counts.  Or
 * it is in the books themselves, and what a signal handler allocates meanwhile goes unseen.
 * Initial-exec: no call to find it. */
extern __thread bool bursar_anywhere_inside __attribute__((tls_model("initial-exec")));

/* The scope that this thread was last found in while it held the GIL (bursar_scopes_handle); 0: none.  What it allocates
 * without is charged there. */
extern __thread uint64_t bursar_anywhere_scope __attribute__((tls_model("initial-exec")));

/* Books a block that was just allocated; returns p.  Nothing where p is NULL, or this thread is inside. */
void *bursar_anywhere_book(void *p, size_t size, unsigned domain);
/* Books the end of p, if it is booked, before it is freed: of whichever domain it is; a little later where this thread is
 * inside. */
void bursar_anywhere_end(void *p);
/* Sites do not move between these two, if this thread does not hold the main GIL (who does is the one that folds).  The
 * first returns whether it does, which the second wants to know. */
bool bursar_anywhere_hold_off(void);
void bursar_anywhere_let_go(bool gil);
/* The same in two halves, for what may fail in between: a realloc.  False: not booked. */
bool bursar_anywhere_lift(void *p, struct bursar_record *out);
void bursar_anywhere_drop(void *p, struct bursar_record lifted);
void bursar_anywhere_put_back(void *p, struct bursar_record lifted);
/* There are ends to be booked that came while their thread was inside; books them.  Every event looks that takes no short way,
 * and so does the end of the books. */
extern bool bursar_anywhere_postponed;
void bursar_anywhere_catch_up(void);

#endif
