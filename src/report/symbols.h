/* symbols.h: what a place in a module's code is called, and which line of which file it is.
 *
 * By elfutils' libdw where that is installed: debug information of the module itself, or beside it (debug links,
 * /usr/lib/debug/.build-id; debuginfod only where DEBUGINFOD_URLS is set).  Else by the module's own symbol tables, which
 * know no lines.  C++ and Rust names are demangled where libstdc++ is installed.
 * Both are looked for when the first module is opened, and nothing is linked: the command starts without them.
 * Only a command that makes a report uses this, never the program that is measured.
 * Ownership: the caller's, from _open to _close; texts are borrowed until then.  Threads: one at a time.  Class N. */
#ifndef BURSAR_REPORT_SYMBOLS_H
#define BURSAR_REPORT_SYMBOLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/escape.h"

struct bursar_symbols; /* one module's */

enum bursar_symbols_status {
  BURSAR_SYMBOLS_FOUND,
  BURSAR_SYMBOLS_ABSENT,  /* no such file, or none that can be read */
  BURSAR_SYMBOLS_REPLACED /* the file has another build id than the one that ran */
};

struct bursar_symbols_frame {
  struct bursar_text function; /* bytes NULL where unknown */
  struct bursar_text file;
  uint32_t line; /* 0 where unknown */
};
#define BURSAR_SYMBOLS_FRAMES 32u /* functions inlined into one another at one place; more are left out */

/* `build_id` is in hexadecimal digits; where it is empty the file is taken as it is.  *out is set with _FOUND alone. */
enum bursar_symbols_status bursar_symbols_open(const char *path, struct bursar_text build_id,
                                               struct bursar_symbols **out);
/* The function at `offset` (an address as the module is linked), before it those that were inlined there, innermost first.
 * The number of frames, 0 where the place has no name. */
unsigned bursar_symbols_find(struct bursar_symbols *symbols, uint64_t offset,
                             struct bursar_symbols_frame frames[BURSAR_SYMBOLS_FRAMES]);
void bursar_symbols_close(struct bursar_symbols *symbols);

/* Why files and lines are not known, as one line; NULL where libdw is there. */
const char *bursar_symbols_missing(void);

#endif
