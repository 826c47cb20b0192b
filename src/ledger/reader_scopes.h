/* reader_scopes.h: the reader's part that is scopes, their entries and events.
 *
 * Ownership: all the reader's.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_LEDGER_READER_SCOPES_H
#define BURSAR_LEDGER_READER_SCOPES_H

#include "ledger/reader.h"

struct opening; /* what one opening needs: reader.c's */

/* reader.c's: copies `count` items of a region into fresh memory, with a note where not all are there. */
typedef int bursar_reader_copier(struct opening *o, enum bursar_region region, uint32_t count, size_t item,
                                 const char *plural, void *out, uint32_t *have);
typedef void bursar_reader_noter(struct bursar_reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Copies the three regions; `ring` bytes are what that of the events has room for.  Before the strings: what they name is
 * there then.  0, or an error that is set. */
int bursar_reader_scopes_copy(struct bursar_reader *reader, const struct bursar_counts *counts, uint64_t ring,
                              bursar_reader_copier *copy, struct opening *o) __attribute__((warn_unused_result));
/* Makes true what reader.h promises of them, and notes what was damaged.  The strings are there. */
void bursar_reader_scopes_check(struct bursar_reader *reader, bursar_reader_noter *note);
/* What is the reader's of them. */
void bursar_reader_scopes_free(struct bursar_reader *reader);

#endif
