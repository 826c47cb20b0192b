/* watch.h: a thread that looks at what is resident every 10 ms, for the process's limit (budget.h).
 *
 * It touches nothing but /proc/self and two numbers; it takes no signal, and is gone while the process forks, so that nobody
 * forks with a thread of ours.  It then begins again when it is next asked for.  Where no other thread is left it ends, and the
 * process with it.
 * Threads: the main GIL's holder.  Class F. */
#ifndef BURSAR_POLICY_WATCH_H
#define BURSAR_POLICY_WATCH_H

#include <stdbool.h>

/* It is to run; 0, or why it does not.  Asked again, nothing happens. */
int bursar_watch_start(void) __attribute__((warn_unused_result));
void bursar_watch_stop(void);
/* Was it stopped by a fork, so that who can is to start it again? */
extern bool bursar_watch_due;

#endif
