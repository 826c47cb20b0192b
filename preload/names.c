/* names.c: the hooks of src/native under the names that they stand for: the same in both libraries. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native/native.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t size) { return bursar_native_malloc(size); }
EXPORT void *calloc(size_t count, size_t size) { return bursar_native_calloc(count, size); }
EXPORT void *realloc(void *p, size_t size) { return bursar_native_realloc(p, size); }
EXPORT void *reallocarray(void *p, size_t count, size_t size) { return bursar_native_reallocarray(p, count, size); }
EXPORT void free(void *p) { bursar_native_free(p); }
EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
  return bursar_native_posix_memalign(out, alignment, size);
}
EXPORT void *aligned_alloc(size_t alignment, size_t size) { return bursar_native_aligned_alloc(alignment, size); }
EXPORT void *memalign(size_t alignment, size_t size) { return bursar_native_memalign(alignment, size); }
EXPORT void *valloc(size_t size) { return bursar_native_valloc(size); }
EXPORT void *pvalloc(size_t size) { return bursar_native_pvalloc(size); }

/* The headers give mmap another symbol where files may be large: both are named here by what they are linked as. */
EXPORT void *map(void *, size_t, int, int, int, off64_t) __asm__("mmap");
EXPORT void *map64(void *, size_t, int, int, int, off64_t) __asm__("mmap64");
void *map(void *at, size_t bytes, int access, int flags, int fd, off64_t offset) {
  return bursar_native_mmap(at, bytes, access, flags, fd, offset);
}
void *map64(void *at, size_t bytes, int access, int flags, int fd, off64_t offset) {
  return bursar_native_mmap(at, bytes, access, flags, fd, offset);
}
EXPORT int munmap(void *at, size_t bytes) { return bursar_native_munmap(at, bytes); }
EXPORT void *mremap(void *at, size_t old_bytes, size_t bytes, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  void *to = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
  va_end(rest);
  return bursar_native_mremap(at, old_bytes, bytes, flags, to);
}
EXPORT int brk(void *end) { return bursar_native_brk(end); }
EXPORT int dlclose(void *module) { return bursar_native_dlclose(module); }
EXPORT void *sbrk(intptr_t more) { return bursar_native_sbrk(more); }
