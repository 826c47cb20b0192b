/* lock.h: the one lock of the books, for what is rare and all threads share: interning, the journal, peaks.
 *
 * A leaf: nothing that waits is called while it is held, but for a region's growth (system calls).  A thread may take it
 * again.  Who holds it is inside the books, so that a signal handler's allocations go unseen and find it free of them.
 * Threads: any.  errno kept.  Class H, in slow halves only. */
#ifndef BURSAR_ACCOUNT_LOCK_H
#define BURSAR_ACCOUNT_LOCK_H

void bursar_lock_take(void);
void bursar_lock_give(void);
/* In a forked child: whoever held it is not there.  Class F. */
void bursar_lock_after_fork(void);

#endif
