/* environment.h: what the program was started with, where it stands: a variable's value, there and where the C library keeps what
 * was set since; an argument.
 *
 * Threads: as setenv, no other may use the environment meanwhile.  errno kept.  Class N. */
#ifndef BURSAR_SECRET_ENVIRONMENT_H
#define BURSAR_SECRET_ENVIRONMENT_H

/* Zeroes each value of the variable, which stays, empty.  Returns how many places there were. */
int bursar_environment_wipe(const char *name);

/* Zeroes the argument of that number, from 0 on, which /proc/PID/cmdline shows, where there are `count` in all; else -1. */
int bursar_environment_wipe_argument(unsigned count, unsigned number);

#endif
