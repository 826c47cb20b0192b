/* bursar.h: what C and C++ code in a process that bursar keeps the books of may say to it.
 *
 *     static const struct bursar_api *bursar;             once, for instance when a library is set up
 *     bursar = bursar_api();                              NULL: no bursar here, and nothing to do
 *
 *     p = cut_from_pool(pool, 100);                       an allocator of the program's own
 *     if (bursar) bursar->block_begins(p, 100);
 *
 *     uint64_t scope = bursar ? bursar->scope_begin("predict") : 0;
 *     ...
 *     if (bursar) bursar->scope_end(scope);
 *
 * All of it may be called from any thread, with or without Python's GIL, in a process whose books are closed (then it does
 * nothing), and from inside an allocator: nothing here allocates, but for the ledger's growth.  errno is kept.  Needs libc's
 * dlsym.  The table only grows: `bytes` says how much of it is there. */
#ifndef BURSAR_H
#define BURSAR_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bursar_api {
  uint32_t bytes;   /* of this table */
  uint32_t version; /* 1 */

  /* A block that an allocator of the program's own hands out, and its end: booked as one of malloc's, with the stack that is
   * known.  Both need p alone to agree; an end that was not begun is nothing. */
  void (*block_begins)(void *p, size_t bytes);
  void (*block_ends)(void *p);
  /* What such an allocator cuts its blocks from, a block of malloc's or a mapping: from here on it is not booked itself,
   * else each byte of it would count twice. */
  void (*chunk_begins)(void *p, size_t bytes);

  /* Begins a scope in this thread, inside the one that it is in, and ends it: what the thread allocates meanwhile is charged
   * to it.  Ends in the opposite order; ending an outer one ends those inside it.  0: it counts nothing, which may be ended
   * too.  `name` is copied. */
  uint64_t (*scope_begin)(const char *name);
  void (*scope_end)(uint64_t scope);
};

/* The table of the process; NULL where bursar's extension is not loaded.  Ask again later, where it may be loaded then. */
static inline const struct bursar_api *bursar_api(void) {
  const struct bursar_api *api = (const struct bursar_api *)dlsym(RTLD_DEFAULT, "bursar_api_table");
  return api && api->version == 1 && api->bytes >= sizeof *api ? api : NULL;
}

#ifdef __cplusplus
}
#endif

#endif
