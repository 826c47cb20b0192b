/* json.h: what a description is written with, from what a pickle holds.
 *
 * Ownership: the caller's buffer.  Errors: false; the buffer's own stick.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_JSON_H
#define BURSAR_MODEL_JSON_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/escape.h"

/* A text in quotes, halves of characters (surrogates) that Python may have in one as escapes.  False: it is no UTF-8. */
bool bursar_json_text(struct bursar_buffer *out, struct bursar_text text);
/* The same of Latin-1. */
void bursar_json_latin(struct bursar_buffer *out, struct bursar_text text);
/* As Python reads it again: a float, or a node for what JSON has not. */
void bursar_json_real(struct bursar_buffer *out, double value);
/* A number of so many little-endian bytes, in two's complement. */
void bursar_json_long(struct bursar_buffer *out, const unsigned char *bytes, size_t count);

#endif
