#include "native/native.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native/early.h"
#include "prim/prim.h"

/* Nobody keeps books before somebody says so. */
__attribute__((visibility("default"))) struct bursar_native_table bursar_native_table = {
    .bytes = sizeof(struct bursar_native_table), .version = BURSAR_NATIVE_VERSION};

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
  *originals() = found;
  (void)dl_iterate_phdr(find_allocator, NULL);
  resolving = false;
}

static bool ready(void) {
  if (UNLIKELY(!originals()->malloc))
    bursar_native_resolve(NULL);
  return originals()->malloc != NULL;
}

/* --- malloc and its family ---------------------------------------------------------------------------------------------- */

static void *begun(void *p, size_t bytes) {
  const struct bursar_native_books *to = books();
  if (to && p)
    to->begun(p, bytes);
  return p;
}

void *bursar_native_malloc(size_t size) {
  return ready() ? begun(originals()->malloc(size), size) : bursar_early_take(size, 16);
}

void *bursar_native_calloc(size_t count, size_t size) {
  if (UNLIKELY(!ready())) /* never used before: it is zero */
    return count && size > SIZE_MAX / count ? NULL : bursar_early_take(count * size, 16);
  return begun(originals()->calloc(count, size), count * size);
}

void bursar_native_free(void *p) {
  const struct bursar_native_books *to = books();
  if (UNLIKELY(bursar_early_owns(p)))
    return;
  if (to && p)
    to->ending(p);
  if (ready())
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
  if (UNLIKELY(!ready() || bursar_early_owns(p)))
    return p ? early_moved(p, size) : bursar_native_malloc(size);
  bool known = to && p && to->lift(p, &old);
  void *q = originals()->realloc(p, size);
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
  int status = originals()->posix_memalign(out, alignment, size);
  if (status == 0)
    begun(*out, size);
  return status;
}

void *bursar_native_aligned_alloc(size_t alignment, size_t size) {
  return ready() ? begun(originals()->aligned_alloc(alignment, size), size) : bursar_early_take(size, alignment);
}

void *bursar_native_memalign(size_t alignment, size_t size) {
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
