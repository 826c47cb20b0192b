/* stdio.h: the C library's own buffers of stdin, stdout and stderr, which keep what was read or written.
 *
 * Takes the streams' locks where they are free, and leaves those alone that are not.  errno kept.  Class N. */
#ifndef BURSAR_SECRET_STDIO_H
#define BURSAR_SECRET_STDIO_H

/* Zeroes what was read by the program already or written to the file; what waits in a buffer stays and waits. */
void bursar_stdio_wipe(void);

#endif
