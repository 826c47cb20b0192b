/* source.h: the text of a source line, where its file can still be read.
 *
 * The name comes out of a ledger that anybody may have written: only regular files named like Python source are opened.
 * Ownership: the caller's memory.  Threads: any.  Safety class N. */
#ifndef BURSAR_REPORT_SOURCE_H
#define BURSAR_REPORT_SOURCE_H

#include "base/escape.h"

#include <stdbool.h>
#include <stddef.h>

#define BURSAR_SOURCE_LINE 512

/* Reads line `line` (from 1) of the file into `out`, without the blanks around it.  Returns its length; -1 where it
 * cannot be had.  *changed: the file is younger than `since_unix_ns`, so the line may be another one. */
int bursar_source_line(struct bursar_text file, uint32_t line, uint64_t since_unix_ns, char out[BURSAR_SOURCE_LINE],
                       bool *changed);

#endif
