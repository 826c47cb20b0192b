/* apart.h: a function run in a copy of this process: what it does to memory nobody else sees, and what others do to theirs
 * it does not.
 *
 * The copy is made by the system call alone: no handlers of fork's run, and no signal tells of its end.  It has one thread, with
 * a stack of its own, so that what lies below the caller's stack stays as it was.  It may call nothing that locks or allocates:
 * another thread may have held the lock.  It hears no signal, leaves no core, and ends with the thread that made it.
 *
 * Ownership: the caller's stack, until the copy has ended.  Errors: negative errno.  Nothing allocates; errno is kept.
 * Threads: any.  Safety class F. */
#ifndef BURSAR_PRIM_APART_H
#define BURSAR_PRIM_APART_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts function(argument), whose result becomes the exit status.  `top`: end of the stack, at a multiple of 16. */
pid_t bursar_apart_start(int (*function)(void *), void *argument, void *top);
/* Waits for its end.  The exit status, or 256 + the number of the signal that ended it; -EINTR: a signal came. */
int bursar_apart_wait(pid_t pid);
void bursar_apart_kill(pid_t pid);
#endif
