/* view_verdict.h: for each scope whether it leaks, how much a call, and where: as text and as JSON.
 *
 * Ownership: borrowed from the reader.  Threads: any, each with its own.  Class N. */
#ifndef BURSAR_REPORT_VIEW_VERDICT_H
#define BURSAR_REPORT_VIEW_VERDICT_H

#include "base/buffer.h"
#include "ledger/leaks.h"
#include "ledger/reader.h"

enum bursar_view_verdict_says {
  BURSAR_VIEW_VERDICT_UNDECIDED = -1,
  BURSAR_VIEW_VERDICT_CLEAN,
  BURSAR_VIEW_VERDICT_LEAKS
};

struct bursar_view_verdict {
  struct bursar_text scope;
  uint64_t calls;
  const struct bursar_leaks *leak; /* NULL: too few calls for a series, or there was no room for one */
  struct bursar_leaks_found bytes, descriptors, threads;
  enum bursar_view_verdict_says says;
};

/* Of the index-th name; 0 is no scope. */
struct bursar_view_verdict bursar_view_verdict_of(const struct bursar_reader *reader, uint32_t name);
/* The index of a scope's name; 0: there is none. */
uint32_t bursar_view_verdict_find(const struct bursar_reader *reader, const char *scope);

/* A line that says it, and where. */
void bursar_view_verdict_print(const struct bursar_view_verdict *verdict, const struct bursar_reader *reader,
                               struct bursar_buffer *out);
/* An object: without its braces, so that a schema may stand beside it. */
void bursar_view_verdict_json(const struct bursar_view_verdict *verdict, const struct bursar_reader *reader,
                              struct bursar_buffer *out);

#endif
