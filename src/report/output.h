/* output.h: where a report goes: the standard output, or a file that appears only when it is whole.
 *
 * A file is written beside its final place and renamed over it.  A regular file is replaced, but never a ledger; links,
 * folders and devices are refused.
 * Ownership: the caller's struct; each opened one is ended by _commit or _discard.  Threads: one at a time.  Class N. */
#ifndef BURSAR_REPORT_OUTPUT_H
#define BURSAR_REPORT_OUTPUT_H

#include "base/error.h"

#define BURSAR_OUTPUT_PATH 4096u

struct bursar_output {
  int fd;
  char path[BURSAR_OUTPUT_PATH]; /* empty: the standard output */
  char temporary[BURSAR_OUTPUT_PATH];
};

/* NULL or "-" is the standard output. */
int bursar_output_open(const char *path, struct bursar_output *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
int bursar_output_commit(struct bursar_output *output, struct bursar_error *error) __attribute__((warn_unused_result));
/* Leaves no trace; what stood at the place stays. */
void bursar_output_discard(struct bursar_output *output);

#endif
