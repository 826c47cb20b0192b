/* dwarf.h: debug information by elfutils' libdw, found when it is needed.
 *
 * Ownership: the caller's, from _open to _close; texts are borrowed until then.  Threads: one at a time.  Class N. */
#ifndef BURSAR_REPORT_DWARF_H
#define BURSAR_REPORT_DWARF_H

#include <stdbool.h>
#include <stdint.h>

struct bursar_dwarf; /* one module's */

struct bursar_dwarf_frame {
  const char *function; /* as the linker knows it; NULL where unknown */
  const char *folder;   /* that `file` is in, where it is relative; NULL otherwise */
  const char *file;
  uint32_t line;
};

/* Why there is none, as one line; NULL where libdw can be had. */
const char *bursar_dwarf_missing(void);
/* NULL where libdw cannot be had, or the file is no module. */
struct bursar_dwarf *bursar_dwarf_open(const char *path);
/* The frames at an address, innermost first: functions that were inlined, and the one that they are in.  Their number. */
unsigned bursar_dwarf_find(struct bursar_dwarf *dwarf, uint64_t address, struct bursar_dwarf_frame *frames,
                           unsigned room);
void bursar_dwarf_close(struct bursar_dwarf *dwarf);

#endif
