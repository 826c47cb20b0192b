/* terminal.h: the process's terminal, told not to show what is typed.
 *
 * Ownership: the caller's struct.  Threads: any, but it is the process's one terminal.  errno is kept.  Class N. */
#ifndef BURSAR_SECRET_TERMINAL_H
#define BURSAR_SECRET_TERMINAL_H

#include <termios.h>

#include "base/error.h"

struct bursar_terminal {
  int fd; /* read from it, and write to it */
  struct termios before;
};

/* BURSAR_FAILED: there is none.  End it by bursar_terminal_close. */
int bursar_terminal_open(struct bursar_terminal *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* As it was before, on a new line. */
void bursar_terminal_close(struct bursar_terminal *terminal);

#endif
