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

/* Books a block that was just allocated; returns p.  Nothing where p is NULL, or this thread is inside. */
void *bursar_anywhere_book(void *p, size_t size, unsigned domain);
/* Books the end of p, if it is booked, before it is freed: of whichever domain it is. */
void bursar_anywhere_end(void *p);
/* Books the end of a block that was taken out of the live table. */
void bursar_anywhere_retire(const void *p, struct bursar_record record, unsigned domain);

#endif
