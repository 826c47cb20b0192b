/* error.h: an error that a person will read: one line, what is wrong and what to do.
 *
 * Ownership: the caller's struct, no memory behind it.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_BASE_ERROR_H
#define BURSAR_BASE_ERROR_H

/* Negative, so that they pass through `int` results beside counts.  The exit status of the command follows them. */
enum bursar_status {
  BURSAR_OK = 0,
  BURSAR_FAILED = -1, /* exit 1: the world said no */
  BURSAR_MISUSE = -2  /* exit 2: the caller asked for what cannot be */
};

struct bursar_error {
  int status;
  char text[1024]; /* printable, no newline, always terminated */
};

/* Writes the line, with control characters shown as escapes.  A null error is allowed. */
void bursar_error_write(struct bursar_error *error, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same; its value is the status, which whoever reads the code that calls it, a compiler or an analyser too, then knows for
 * no success. */
#define bursar_error_set(error, status, ...) (bursar_error_write(error, status, __VA_ARGS__), (status))

#endif
