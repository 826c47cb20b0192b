/* entries.h: lists of ledgers on their way out, for `ls` and `clean`.
 *
 * Ownership: everything is borrowed.  Errors: the buffer's own.  Threads: one.  Safety class N. */
#ifndef BURSAR_CLI_ENTRIES_H
#define BURSAR_CLI_ENTRIES_H

#include "base/buffer.h"
#include "base/escape.h"
#include "ledger/place.h"

struct bursar_text bursar_entries_text(const char *text);
/* The path of a listed ledger, for a terminal. */
void bursar_entries_path(struct bursar_buffer *out, const struct bursar_place_list *list,
                         const struct bursar_place_entry *entry);
/* The facts for programs: {schema, directory, ledgers: [{path, pid, state, program, python, started_s, size_bytes,
 * peak_bytes}]}. */
void bursar_entries_json(struct bursar_buffer *out, const struct bursar_place_list *list);
/* -1 where the format is known and there are no operands, else 2 after a complaint. */
int bursar_entries_check(const char *verb, const char *format, char **operands, int count)
    __attribute__((warn_unused_result));

#endif
