#include "native/early.h"

#include <errno.h>
#include <stdint.h>

#define ROOM (1u << 20) /* of address space: pages that nobody asks for are never touched */

static _Alignas(4096) unsigned char memory[ROOM];
static size_t used;

/* Before each block its size. */
struct head {
  _Alignas(16) size_t bytes;
};

void *bursar_early_take(size_t bytes, size_t alignment) {
  size_t from = __atomic_load_n(&used, __ATOMIC_RELAXED), at, end;
  if (alignment < sizeof(struct head))
    alignment = sizeof(struct head);
  do {
    at = (from + sizeof(struct head) + alignment - 1) & ~(alignment - 1);
    end = at + bytes;
    if (bytes > ROOM || end > ROOM) {
      errno = ENOMEM;
      return NULL;
    }
  } while (!__atomic_compare_exchange_n(&used, &from, end, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  ((struct head *)(void *)(memory + at))[-1].bytes = bytes;
  return memory + at;
}

bool bursar_early_owns(const void *p) { return (uintptr_t)p - (uintptr_t)memory < ROOM; }

size_t bursar_early_size(const void *p) { return ((const struct head *)p)[-1].bytes; }
