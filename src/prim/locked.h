/* locked.h: pages that nobody else reads: hidden from the kernel's own readers where it can do that, never swapped, never
 * dumped, not the child's after a fork, and with nothing readable around them.
 *
 * A *slot* is a number of pages between pages without access (guards).  Each is a mapping of its own, so that a change of
 * access neither splits mappings nor merges them, which is half of what it would cost.
 * hidden: memfd_secret(2), Linux 5.14: not in the kernel's map of memory, so that /proc/PID/mem, ptrace, core files and a
 * driver's bounce find nothing.  Else anonymous memory, locked; the child of a fork has zeros there.
 * Ownership: the caller's, until bursar_locked_unmap.  Errors: a negative errno; errno is kept.  Threads: any.  Class N. */
#ifndef BURSAR_PRIM_LOCKED_H
#define BURSAR_PRIM_LOCKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bursar_locked_access { BURSAR_LOCKED_NONE, BURSAR_LOCKED_READ, BURSAR_LOCKED_WRITE };

/* Does this kernel have hidden pages for us? */
bool bursar_locked_can_hide(void);
/* `count` slots of `pages` each, zero and without access: slot i begins at *out + i * (pages + 1) * BURSAR_PRIM_PAGE.
 * -EAGAIN or -ENOMEM: past RLIMIT_MEMLOCK, or no memory; -ENOBUFS: more than half of the machine's. */
int bursar_locked_map(size_t pages, size_t count, bool hidden, char **out) __attribute__((warn_unused_result));
/* All that _map gave, which the caller has wiped. */
void bursar_locked_unmap(char *slots, size_t pages, size_t count);
/* Of a whole slot. */
int bursar_locked_protect(char *slot, size_t pages, enum bursar_locked_access access)
    __attribute__((warn_unused_result));

/* Memory that a forked child finds zero, whichever way it was forked; NULL where the kernel cannot (before Linux 4.14). */
void *bursar_locked_forgotten(size_t bytes);
/* RLIMIT_MEMLOCK, in bytes; UINT64_MAX: none. */
uint64_t bursar_locked_limit(void);
/* Random bytes. */
int bursar_locked_random(void *out, size_t bytes) __attribute__((warn_unused_result));

#endif
