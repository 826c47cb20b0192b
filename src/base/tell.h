/* tell.h: words to the user of a program that is not ours, on the stderr that it began with.
 *
 * A program may close stderr and get the number again for a file of its own: that is no place for our words.
 * Threads: the first at the beginning, the others any.  errno kept by bursar_tell.  Class F. */
#ifndef BURSAR_BASE_TELL_H
#define BURSAR_BASE_TELL_H

#include <stdbool.h>

/* What descriptor 2 is now is where words go. */
void bursar_tell_remember(void);
/* Is it that still? */
bool bursar_tell_may(void);
/* One line, after "bursar: ". */
void bursar_tell(const char *text);

#endif
