/* no_tables.c: a RAW domain that has no memory for pymalloc's table of arenas while it is told so. */
#include <stdbool.h>
#include <stddef.h>

struct allocator { /* PyMemAllocatorEx */
  void *ctx;
  void *(*malloc)(void *ctx, size_t size);
  void *(*calloc)(void *ctx, size_t count, size_t size);
  void *(*realloc)(void *ctx, void *p, size_t size);
  void (*free)(void *ctx, void *p);
};
void PyMem_GetAllocator(int domain, struct allocator *out);
void PyMem_SetAllocator(int domain, struct allocator *allocator);

enum { RAW = 0, LEAST = 16 * 48 }; /* of 16 arenas, 48 bytes each; it doubles */

bool no_tables;
static struct allocator under;

static void *scarce(void *ctx, void *p, size_t size) {
  size_t tables = LEAST;
  while (tables < size)
    tables *= 2;
  return no_tables && tables == size ? NULL : under.realloc(ctx, p, size);
}

void install(void) {
  PyMem_GetAllocator(RAW, &under);
  struct allocator own = under;
  own.realloc = scarce;
  PyMem_SetAllocator(RAW, &own);
}
