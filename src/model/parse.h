/* parse.h: the few kinds of JSON that a container's header is made of, read from text that somebody else chose.
 *
 * A reader goes through the text once; strings are unescaped where they stand.
 * Ownership: the caller's text, which is written to.  Errors: a line that says what is wrong at which byte; then nothing
 * more can be read.  Threads: one at a time.  No memory.  Safety class F. */
#ifndef BURSAR_MODEL_PARSE_H
#define BURSAR_MODEL_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/escape.h"

struct bursar_parse {
  char *start, *at, *end;
  const char *wrong; /* NULL: nothing is */
};

/* False: it is not UTF-8 throughout, at bursar_parse_place. */
bool bursar_parse_begin(struct bursar_parse *in, char *text, size_t length);
/* Where it is, or where it went wrong, in bytes. */
size_t bursar_parse_place(const struct bursar_parse *in);
/* What is next, behind blanks: that character, which is passed. */
bool bursar_parse_take(struct bursar_parse *in, char c);
/* The same, but that something else is an error: `wanted` names what it should have been. */
bool bursar_parse_want(struct bursar_parse *in, char c, const char *wanted);
/* After an item of a list or an object: true where another follows, false at `close` or an error. */
bool bursar_parse_more(struct bursar_parse *in, char close);
bool bursar_parse_string(struct bursar_parse *in, struct bursar_text *out);
/* A whole number from 0 to 2^63 - 1. */
bool bursar_parse_number(struct bursar_parse *in, uint64_t *out);
/* Only blanks are left. */
bool bursar_parse_ended(struct bursar_parse *in);
/* Says that what was just read cannot be. */
bool bursar_parse_refuse(struct bursar_parse *in, const char *wrong);

#endif
