/* burn.h: zeros where a stack was in use: the part below the caller, and the stacks of threads that have ended.
 *
 * What ran deeper left its variables and its registers there, and nothing overwrites them until something runs as deep.
 * errno kept.  Class N: the C library is asked where the stack is, once a thread; no lock of bursar's. */
#ifndef BURSAR_SECRET_BURN_H
#define BURSAR_SECRET_BURN_H

#include <stdbool.h>

/* Zeroes the calling thread's stack below the caller's frame, as far down as it was ever in memory.  Does nothing where the
 * thread runs on another stack than its own (one that a library switched to). */
void bursar_burn_stack(void);

/* Zeroes the vector registers that a callee may use as it likes: a signal or a symbol that is bound late would write them
 * to the stack. */
void bursar_burn_registers(void);

/* Zeroes the stacks that the C library keeps of ended threads for the next ones, by beginning threads that burn them.  Each
 * size (`all`), or the usual one.  The signals of those threads are blocked; they have ended at the return. */
void bursar_burn_ended(bool all);

#endif
