/* native.h: the malloc family and the calls that map memory, as hooks: each asks the original and tells the books.
 *
 * Glossary
 *   original   what the name meant before: libc's, or another allocator's that is loaded or preloaded
 *   books      whoever keeps them: handed in, because the preload is there before Python is, and never knows it
 *
 * A hook tells of a block's end before it asks for it, and of its beginning after: the address may be handed out again at
 * once.  While nobody keeps books a hook is a call more, nothing else.
 * Threads: any.  errno: as the original left it; the books keep it.  Class H. */
#ifndef BURSAR_NATIVE_NATIVE_H
#define BURSAR_NATIVE_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account/live.h"
#include "native/marks.h"

/* All hooks: name, result, parameters.  dlclose is here for those who remember code by its address.  mremap's last one is there only with MREMAP_FIXED. */
#define BURSAR_NATIVE_HOOKS(X)                                                           \
  X(malloc, void *, (size_t size))                                                       \
  X(calloc, void *, (size_t count, size_t size))                                         \
  X(realloc, void *, (void *p, size_t size))                                             \
  X(reallocarray, void *, (void *p, size_t count, size_t size))                          \
  X(free, void, (void *p))                                                               \
  X(posix_memalign, int, (void **out, size_t alignment, size_t size))                    \
  X(aligned_alloc, void *, (size_t alignment, size_t size))                              \
  X(memalign, void *, (size_t alignment, size_t size))                                   \
  X(valloc, void *, (size_t size))                                                       \
  X(pvalloc, void *, (size_t size))                                                      \
  X(mmap, void *, (void *at, size_t bytes, int access, int flags, int fd, off_t offset)) \
  X(munmap, int, (void *at, size_t bytes))                                               \
  X(mremap, void *, (void *at, size_t old_bytes, size_t bytes, int flags, void *to))     \
  X(brk, int, (void *end))                                                               \
  X(sbrk, void *, (intptr_t more))                                                       \
  X(dlclose, int, (void *module))

#define BURSAR_NATIVE_MEMBER(name, result, parameters) result(*name) parameters;
struct bursar_native_originals {
  BURSAR_NATIVE_HOOKS(BURSAR_NATIVE_MEMBER)
};
#undef BURSAR_NATIVE_MEMBER

#define BURSAR_NATIVE_DECLARE(name, result, parameters) result bursar_native_##name parameters;
BURSAR_NATIVE_HOOKS(BURSAR_NATIVE_DECLARE)
#undef BURSAR_NATIVE_DECLARE

/* Where a hook's events go.  None is called with p NULL, all keep errno. */
struct bursar_native_books {
  void (*begun)(void *p, size_t bytes);
  void (*ending)(void *p);
  /* The block will be reallocated: takes its entry out.  False: not booked. */
  bool (*lift)(void *p, struct bursar_record *old);
  /* ... and was: to q; to nowhere (q NULL, no bytes: that was a free); or not at all (q NULL), so that it is where it was. */
  void (*drop)(void *p, struct bursar_record old, void *q, size_t bytes);
  /* The same for ranges, of which any part may end. */
  void (*mapped)(void *at, size_t bytes);
  void (*unmapping)(void *at, size_t bytes);
  bool (*lift_map)(void *at, size_t bytes, struct bursar_record *old);
  void (*drop_map)(void *at, size_t old_bytes, struct bursar_record old, void *to, size_t bytes);
};

/* Which of malloc's blocks are zeroed before they are freed. */
enum bursar_native_wipes { BURSAR_WIPES_NONE, BURSAR_WIPES_MARKED, BURSAR_WIPES_ALL };

/* What the preload and whoever keeps the books know of each other; the preload exports it as bursar_native_table. */
#define BURSAR_NATIVE_VERSION 5u
#define BURSAR_NATIVE_SMALL 512u /* bytes: such blocks are refused to nobody */
struct bursar_native_table {
  uint32_t bytes;   /* of this struct */
  uint32_t version; /* BURSAR_NATIVE_VERSION: two builds that do not fit leave each other alone */
  struct bursar_native_originals originals;
  const struct bursar_native_books *books; /* NULL: nobody; atomic */
  void (*unloaded)(void); /* modules may have gone, or are about to; NULL: nobody asks; atomic.  Any thread. */
  /* Whoever keeps the books lets go of them, and of the two above, for another that comes; NULL: nobody need be asked. */
  void (*leave)(void);
  /* May this caller not have a block of so many bytes?  NULL: nobody refuses; atomic.  Any thread, class H. */
  bool (*refuses)(size_t bytes, const void *caller);
  size_t (*usable)(void *p); /* malloc_usable_size of the malloc that is hooked */
  uint32_t wipes;            /* enum bursar_native_wipes; atomic */
  struct bursar_marks *marks;
  /* The calling thread's: what it allocates is marked, what it frees is wiped, where there are marks at all. */
  bool *(*scoped)(void);
  /* What stood below the hooks of wiping.h when they were put over the domains OBJ and MEM, as CPython calls it; "": they were not. */
  char pools[24];
};
extern struct bursar_native_table bursar_native_table;

/* Finds the originals, once, by a function that knows where a name leads; NULL: to the next library that has it.  Hooks do
 * that themselves, first of all. */
void bursar_native_resolve(void *(*find)(const char *name));

/* From here on such blocks of malloc's are zeroed before they are freed.  False: its malloc does not tell how large a block is.
 * ALL is never taken back. */
bool bursar_native_wipe(enum bursar_native_wipes which);

#endif
