/* summary.h: what a program's end prints: the peak, who held it, and where to read on.
 *
 * Ownership: texts are borrowed, the descriptor stays the caller's.  Threads: one.  Safety class N; it runs inside the
 * profiled process too, allocates from the C heap, and touches nothing of the books but the file. */
#ifndef BURSAR_REPORT_SUMMARY_H
#define BURSAR_REPORT_SUMMARY_H

#include "base/error.h"

/* Reads the ledger as any reader does and prints about fifteen lines to fd, in one write where it can.  Nothing is
 * printed where it fails: the error is the caller's to tell. */
int bursar_summary_print(const char *ledger_path, int fd, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
