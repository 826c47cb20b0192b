#include "native/native.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native/early.h"
#include "prim/prim.h"
#include "secret/wipe.h"

#define PAGE BURSAR_PRIM_PAGE
#define LARGE (256u << 10) /* bytes of a block whose pages are asked for */
#define PAGES_AT_ONCE 1024u
#define NOT_MAIN 4u /* in a chunk's head: it is of a thread's arena */

extern char __libc_single_threaded __attribute__((weak)); /* glibc's, since 2.32 */

static struct bursar_marks marks;
static __thread bool scoped __attribute__((tls_model("initial-exec")));
static bool *scoped_flag(void) { return &scoped; }

/* Nobody keeps books before somebody says so. */
__attribute__((visibility("default"))) struct bursar_native_table bursar_native_table = {
    .bytes = sizeof(struct bursar_native_table),
    .version = BURSAR_NATIVE_VERSION,
    .marks = &marks,
    .scoped = scoped_flag};

static struct bursar_native_originals *originals(void) { return &bursar_native_table.originals; }

static const struct bursar_native_books *books(void) {
  return __atomic_load_n(&bursar_native_table.books, __ATOMIC_ACQUIRE);
}

/* --- the originals ------------------------------------------------------------------------------------------------------ */

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* dlsym may allocate: until all are found, blocks come from early.c.  The first call is made before there are threads. */
static bool resolving;

/* Where malloc's own code is, of a library: what it maps is what it cuts its blocks from (jemalloc, mimalloc: the C library's
 * own maps without being seen), and would count twice.  In the program itself it is not told apart from the rest of it. */
static uintptr_t allocator_from, allocator_to;
static bool glibc;            /* it is the C library's own */
static const char *heap_from; /* what brk gave from here on is its; NULL: not known */

static int find_allocator(struct dl_phdr_info *module, size_t bytes, void *unused) {
  uintptr_t malloc_at = (uintptr_t)originals()->malloc;
  for (int i = 0; i < module->dlpi_phnum && module->dlpi_name && module->dlpi_name[0]; i++) {
    const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
    uintptr_t from = module->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_LOAD && malloc_at >= from && malloc_at < from + segment->p_memsz) {
      allocator_from = from;
      allocator_to = from + segment->p_memsz;
      return 1;
    }
  }
  return 0;
}

static bool is_allocators(const void *caller) {
  return (uintptr_t)caller >= allocator_from && (uintptr_t)caller < allocator_to;
}

void bursar_native_resolve(void *(*find)(const char *name)) {
  struct bursar_native_originals found;
  if (resolving || originals()->malloc)
    return;
  resolving = true;
#define FIND(name, result, parameters) *(void **)(void *)&found.name = find ? find(#name) : dlsym(RTLD_NEXT, #name);
  BURSAR_NATIVE_HOOKS(FIND)
#undef FIND
  *(void **)(void *)&bursar_native_table.usable = find ? find("malloc_usable_size")
                                                       : dlsym(RTLD_NEXT, "malloc_usable_size");
  *originals() = found;
  (void)dl_iterate_phdr(find_allocator, NULL);
  glibc = is_allocators(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"));
  heap_from = found.sbrk ? found.sbrk(0) : NULL;
  resolving = false;
}

static bool ready(void) {
  if (UNLIKELY(!originals()->malloc))
    bursar_native_resolve(NULL);
  return originals()->malloc != NULL;
}

/* --- malloc and its family ---------------------------------------------------------------------------------------------- */

/* Zeroed before they are freed.  Of a block with a mapping of its own, which is unmapped with it, nothing stays: glibc says so in
 * the word before it, and keeps it in a mapping when it is resized. */
static uint32_t wipes(void) { return __atomic_load_n(&bursar_native_table.wipes, __ATOMIC_RELAXED); }

static bool has_mapping(const void *p) { return glibc && ((const size_t *)p)[-1] & 2; }

/* Of a large block that was never touched all through (tables with room, arrays that were given up) only what is in memory: to
 * store zeros elsewhere would bring it there.  What was swapped out is dropped: it reads as zeros. */
static void wipe_resident(char *at, char *end) {
  unsigned char pages[PAGES_AT_ONCE];
  while (at < end) {
    size_t count = (size_t)(end - at) / PAGE, i = 0;
    count = count < PAGES_AT_ONCE ? count : PAGES_AT_ONCE;
    bursar_prim_resident(at, count * PAGE, pages);
    while (i < count) {
      size_t run = 1;
      while (i + run < count && (pages[i + run] & 1) == (pages[i] & 1))
        run++;
      if (pages[i] & 1)
        bursar_wipe(at + i * PAGE, run * PAGE);
      else
        bursar_prim_discard(at + i * PAGE, run * PAGE);
      i += run;
    }
    at += count * PAGE;
  }
}

static void wipe_block(char *p, size_t bytes) {
  if (bytes < LARGE || !glibc) { /* others' heaps may be shared memory, or files */
    bursar_wipe(p, bytes);
    return;
  }
  char *from = p + (-(uintptr_t)p & (PAGE - 1)), *to = (char *)((uintptr_t)(p + bytes) & ~(uintptr_t)(PAGE - 1));
  bursar_wipe(p, (size_t)(from - p));
  wipe_resident(from, to);
  bursar_wipe(to, (size_t)(p + bytes - to));
}

static __attribute__((noinline)) void wipe(void *p, uint32_t which) {
  bool marked = bursar_marks_take(&marks, p);
  if ((marked || scoped || which == BURSAR_WIPES_ALL) && !has_mapping(p))
    wipe_block(p, bursar_native_table.usable(p));
}

/* Will glibc's realloc let it grow where it is?  It does where the chunk behind it is free and large enough, or the last one of
 * the heap; nobody else may be at the heap between our look and its.  No chunk is looked at but in what brk has given. */
static bool grows_in_place(const void *p, size_t size) {
  const char *chunk = (const char *)p - 16, *next, *end;
  size_t head = ((const size_t *)p)[-1], has = head & ~(size_t)7, wanted = (size + 8 + 15) & ~(size_t)15, more;
  if (!&__libc_single_threaded || !__libc_single_threaded || head & NOT_MAIN || size > PTRDIFF_MAX || !heap_from ||
      chunk < heap_from)
    return false;
  end = originals()->sbrk(0);
  next = chunk + has;
  if (next >= end || (size_t)(end - next) < 16)
    return false;
  more = ((const size_t *)(const void *)next)[1] & ~(size_t)7;
  if (more == (size_t)(end - next))
    return has + more >= wanted + 32;
  return more < (size_t)(end - next) - 16 && !(((const size_t *)(const void *)(next + more))[1] & 1) &&
         has + more >= wanted;
}

/* The allocator leaves the old place as it is: what moves is moved here. */
static void *move_wiped(void *p, size_t size) {
  if (has_mapping(p))
    return originals()->realloc(p, size);
  size_t has = bursar_native_table.usable(p);
  if (size <= has && (glibc || !size || size > has / 2)) {
    bursar_wipe((char *)p + size, has - size);
    return glibc || !size ? originals()->realloc(p, size) : p; /* others may move what shrinks */
  }
  if (glibc && size > has && grows_in_place(p, size))
    return originals()->realloc(p, size);
  void *q = originals()->malloc(size);
  if (!q)
    return NULL;
  memcpy(q, p, size < has ? size : has);
  wipe_block(p, has);
  originals()->free(p);
  return q;
}

/* What is resized in a scope may have come to hold what is the scope's. */
static __attribute__((noinline)) void *realloc_wiped(void *p, size_t size, uint32_t which) {
  bool marked = bursar_marks_take(&marks, p);
  void *q = marked || scoped || which == BURSAR_WIPES_ALL ? move_wiped(p, size) : originals()->realloc(p, size);
  if (marked && !q && size)
    bursar_marks_put(&marks, p);
  else if (q && (marked || scoped) && which == BURSAR_WIPES_MARKED)
    bursar_marks_put(&marks, q);
  return q;
}

bool bursar_native_wipe(enum bursar_native_wipes which) {
  if (!bursar_native_table.usable)
    return false;
  if (wipes() != BURSAR_WIPES_ALL)
    __atomic_store_n(&bursar_native_table.wipes, which, __ATOMIC_RELEASE);
  return true;
}

static void *begun(void *p, size_t bytes) {
  const struct bursar_native_books *to = books();
  if (UNLIKELY(wipes() == BURSAR_WIPES_MARKED) && UNLIKELY(scoped) && p)
    bursar_marks_put(&marks, p);
  if (to && p)
    to->begun(p, bytes);
  return p;
}

/* As where memory is out. */
static bool refused(size_t size, const void *caller) {
  bool (*asked)(size_t bytes, const void *by) = __atomic_load_n(&bursar_native_table.refuses, __ATOMIC_ACQUIRE);
  if (!UNLIKELY(asked) || size <= BURSAR_NATIVE_SMALL || !asked(size, caller))
    return false;
  errno = ENOMEM;
  return true;
}
#define REFUSED(size) UNLIKELY(refused(size, __builtin_return_address(0)))

void *bursar_native_malloc(size_t size) {
  if (REFUSED(size))
    return NULL;
  return ready() ? begun(originals()->malloc(size), size) : bursar_early_take(size, 16);
}

void *bursar_native_calloc(size_t count, size_t size) {
  if (UNLIKELY(!ready())) /* never used before: it is zero */
    return count && size > SIZE_MAX / count ? NULL : bursar_early_take(count * size, 16);
  if (REFUSED(count * size)) /* where that is too much, the original says so */
    return NULL;
  return begun(originals()->calloc(count, size), count * size);
}

void bursar_native_free(void *p) {
  const struct bursar_native_books *to = books();
  if (UNLIKELY(bursar_early_owns(p)))
    return;
  if (to && p)
    to->ending(p);
  if (!ready())
    return;
  uint32_t which = wipes();
  if (UNLIKELY(which) && p)
    wipe(p, which);
  originals()->free(p);
}

static void *early_moved(void *p, size_t size) {
  size_t old = bursar_early_size(p);
  void *q = bursar_native_malloc(size);
  if (q)
    memcpy(q, p, old < size ? old : size);
  return q;
}

void *bursar_native_realloc(void *p, size_t size) {
  const struct bursar_native_books *to = books();
  struct bursar_record old;
  if (!p)
    return bursar_native_malloc(size);
  if (UNLIKELY(!ready() || bursar_early_owns(p)))
    return early_moved(p, size);
  if (REFUSED(size))
    return NULL;
  bool known = to && to->lift(p, &old);
  uint32_t which = wipes();
  void *q = UNLIKELY(which) ? realloc_wiped(p, size, which) : originals()->realloc(p, size);
  if (known)
    to->drop(p, old, q, size);
  else if (q && to)
    to->begun(q, size);
  return q;
}

void *bursar_native_reallocarray(void *p, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return bursar_native_realloc(p, bytes);
}

int bursar_native_posix_memalign(void **out, size_t alignment, size_t size) {
  if (UNLIKELY(!ready()))
    return (*out = bursar_early_take(size, alignment)) ? 0 : ENOMEM;
  if (REFUSED(size))
    return ENOMEM;
  int status = originals()->posix_memalign(out, alignment, size);
  if (status == 0)
    begun(*out, size);
  return status;
}

void *bursar_native_aligned_alloc(size_t alignment, size_t size) {
  if (REFUSED(size))
    return NULL;
  return ready() ? begun(originals()->aligned_alloc(alignment, size), size) : bursar_early_take(size, alignment);
}

void *bursar_native_memalign(size_t alignment, size_t size) {
  if (REFUSED(size))
    return NULL;
  return ready() ? begun(originals()->memalign(alignment, size), size) : bursar_early_take(size, alignment);
}

void *bursar_native_valloc(size_t size) {
  return ready() ? begun(originals()->valloc(size), size) : bursar_early_take(size, 4096);
}

void *bursar_native_pvalloc(size_t size) { /* rounds up to whole pages */
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
  return ready() ? begun(originals()->pvalloc(size), whole) : bursar_early_take(whole, page);
}

/* --- mappings ------------------------------------------------------------------------------------------------------------ */

/* Address space that nobody may touch is no memory; mprotect may make it some, which is not seen. */
static void *mapped(void *p, size_t bytes, bool memory) {
  const struct bursar_native_books *to = books();
  if (to && p != MAP_FAILED && memory)
    to->mapped(p, bytes);
  return p;
}

static void unmapping(void *at, size_t bytes) {
  const struct bursar_native_books *to = books();
  if (to && at)
    to->unmapping(at, bytes);
}

void *bursar_native_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset) {
  if (UNLIKELY(!ready()))
    return bursar_prim_mmap(at, bytes, access, flags, fd, offset);
  if (flags & MAP_FIXED)
    unmapping(at, bytes);
  bool memory = access != PROT_NONE && !is_allocators(__builtin_return_address(0));
  return mapped(originals()->mmap(at, bytes, access, flags, fd, offset), bytes, memory);
}

int bursar_native_munmap(void *at, size_t bytes) {
  if (UNLIKELY(!ready()))
    return bursar_prim_munmap(at, bytes);
  unmapping(at, bytes);
  return originals()->munmap(at, bytes);
}

void *bursar_native_mremap(void *at, size_t old_bytes, size_t bytes, int flags, void *fixed) {
  const struct bursar_native_books *to = books();
  struct bursar_record old;
  if (UNLIKELY(!ready())) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (flags & MREMAP_FIXED)
    unmapping(fixed, bytes);
  bool known = to && to->lift_map(at, old_bytes, &old);
  void *p = originals()->mremap(at, old_bytes, bytes, flags, fixed);
  if (known)
    to->drop_map(at, old_bytes, old, p == MAP_FAILED ? NULL : p, bytes);
  return p;
}

void *bursar_native_sbrk(intptr_t more) {
  if (UNLIKELY(!ready())) {
    errno = ENOMEM;
    return (void *)-1;
  }
  if (more < 0)
    unmapping((char *)originals()->sbrk(0) + more, (size_t)-more);
  void *old = originals()->sbrk(more);
  bool memory = more > 0 && !is_allocators(__builtin_return_address(0));
  return mapped(old, (size_t)more, memory); /* -1 is MAP_FAILED too */
}

int bursar_native_brk(void *end) {
  if (UNLIKELY(!ready())) {
    errno = ENOMEM;
    return -1;
  }
  char *old = originals()->sbrk(0);
  intptr_t more = (char *)end - old;
  if (more < 0)
    unmapping(end, (size_t)-more);
  int status = originals()->brk(end);
  if (status == 0)
    mapped(old, (size_t)more, more > 0);
  return status;
}

/* --- modules ------------------------------------------------------------------------------------------------------------- */

static void unloaded(void) {
  void (*tell)(void) = __atomic_load_n(&bursar_native_table.unloaded, __ATOMIC_ACQUIRE);
  if (tell)
    tell();
}

/* Told twice: what another thread remembers of it in between may still be what goes. */
int bursar_native_dlclose(void *module) {
  if (UNLIKELY(!originals()->dlclose)) { /* libdl, in older C libraries, came later than this */
    ready();
    *(void **)(void *)&originals()->dlclose = dlsym(RTLD_NEXT, "dlclose");
  }
  if (UNLIKELY(!originals()->dlclose))
    return -1;
  unloaded();
  int status = originals()->dlclose(module);
  unloaded();
  return status;
}
