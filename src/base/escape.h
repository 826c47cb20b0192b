/* escape.h: text that somebody else chose, made harmless for where it goes.
 *
 * A function or file name in a ledger may hold anything: markup, terminal sequences, line breaks, broken UTF-8.
 * Each function appends the text to a buffer so that it is only text there.  Broken UTF-8 never passes.
 * Ownership: the caller's buffer; texts are borrowed.  Threads: one at a time a buffer.  Errors: the buffer's own,
 * which stick.  Safety class N. */
#ifndef BURSAR_BASE_ESCAPE_H
#define BURSAR_BASE_ESCAPE_H

#include "base/buffer.h"

#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes, not terminated; bytes is NULL where the text is unknown. */
struct bursar_text {
  const char *bytes;
  uint32_t length;
};

/* For a terminal or a text file: control characters, line breaks, direction marks and broken bytes become \xNN or
 * \u{NNNN}.  Returns the columns that the text takes. */
size_t bursar_escape_terminal(struct bursar_buffer *out, struct bursar_text text);
/* The same for a string, into an array, as far as whole characters fit; always terminated.  Safety class F. */
void bursar_escape_terminal_into(char *out, size_t room, const char *text);
/* The columns that it would take. */
size_t bursar_escape_columns(struct bursar_text text);
/* The same, cut to at most `columns` (in the middle, marked by an ellipsis). */
size_t bursar_escape_terminal_cut(struct bursar_buffer *out, struct bursar_text text, size_t columns);
/* For HTML, as content or inside a quoted attribute. */
void bursar_escape_html(struct bursar_buffer *out, struct bursar_text text);
/* A JSON string with its quotes, or null where the text is unknown.  Safe inside a <script> element too: no <, > or &,
 * and no line separators. */
void bursar_escape_json(struct bursar_buffer *out, struct bursar_text text);
/* A CSV field, quoted where it must be; a spreadsheet will not take it for a formula. */
void bursar_escape_csv(struct bursar_buffer *out, struct bursar_text text);

#endif
