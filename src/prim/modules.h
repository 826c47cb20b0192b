/* modules.h: which loaded module an address belongs to, and whether an address can be read.
 *
 * The C library tells it without a lock (_dl_find_object, glibc 2.35), which is what makes it fit for a hook: the loader's
 * own list may only be walked under the loader's lock, and that thread may be waiting for ours.
 * What is found stays true while some thread's stack holds a return address into the module.
 * Threads: any.  errno is kept.  Class H but for _start. */
#ifndef BURSAR_PRIM_MODULES_H
#define BURSAR_PRIM_MODULES_H

#include <stdbool.h>
#include <stdint.h>

struct bursar_module_found {
  uintptr_t from, to;      /* what it maps */
  uintptr_t bias;          /* loaded at, less linked at */
  const char *name;        /* as the loader has it: "" for the program itself; may be relative.  Borrowed. */
  const unsigned char *eh; /* its .eh_frame_hdr; NULL: it has none */
};

/* Once, before all else.  False: this system cannot tell.  Class N. */
bool bursar_modules_start(void);
/* False: no module's, code that was made at run time for one. */
bool bursar_modules_find(uintptr_t address, struct bursar_module_found *out);
/* May the page of this address be read?  A system call. */
bool bursar_modules_readable(uintptr_t address);
/* The path of the program itself; false where it is not known. */
bool bursar_modules_program(char *out, unsigned room);
/* The build id of a module that was found, as hexadecimal digits; the number of them, 0 where it has none. */
unsigned bursar_modules_build_id(const struct bursar_module_found *module, char *out, unsigned room);

#endif
