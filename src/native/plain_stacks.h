/* plain_stacks.h: the native stacks of a process that has no Python, as sites of lane FREE.
 *
 * Each thread keeps its stack as it was the last time (unwind.h), and a frame has the ledger's node at hand (paths.h).  Threads
 * take turns: the lock of the books is held while one looks.
 * Threads: any.  errno kept.  Class H, but that new pages, larger stacks and new modules cost system calls. */
#ifndef BURSAR_NATIVE_PLAIN_STACKS_H
#define BURSAR_NATIVE_PLAIN_STACKS_H

#include <stdbool.h>
#include <stdint.h>

/* Before books are opened.  False: stacks cannot be followed here.  Class N. */
bool bursar_plain_stacks_start(void);
/* The number of the site of the stack that runs now, without our own functions; of no stack where it is not known.  While
 * folding is held off. */
uint32_t bursar_plain_stacks_number(unsigned domain);
/* Nodes have moved, or the books were closed or opened. */
void bursar_plain_stacks_moved(void);
/* In a forked child, whose lock was taken before.  Class F. */
void bursar_plain_stacks_after_fork(void);

#endif
