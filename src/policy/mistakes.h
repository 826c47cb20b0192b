/* mistakes.h: what is wrong with a policy, all of it, each with its place in the text.
 *
 * Ownership: the caller's struct, no memory behind it.  Threads: one at a time.  Class H, but that it is large. */
#ifndef BURSAR_POLICY_MISTAKES_H
#define BURSAR_POLICY_MISTAKES_H

#include <stdint.h>

#define BURSAR_MISTAKES_MAX 100u
#define BURSAR_MISTAKES_TEXT 400u

struct bursar_mistake {
  uint32_t line, column;           /* from 1 on; 0: of the whole file */
  char text[BURSAR_MISTAKES_TEXT]; /* "what; what to do": printable, one line */
};

struct bursar_mistakes {
  uint32_t count;
  uint32_t more;                                 /* that there was no room for */
  struct bursar_mistake at[BURSAR_MISTAKES_MAX]; /* by their place */
};

/* Adds one where it belongs. */
void bursar_mistakes_add(struct bursar_mistakes *mistakes, uint32_t line, uint32_t column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
