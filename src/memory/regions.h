/* regions.h: a process's mappings in one array, each with its kind, from one pass over smaps.
 *
 * Glossary
 *   kind     what the kernel alone says; anonymous memory has a shape beside, a guess that look.h confirms or splits
 *   image    a file that has code in it: the interpreter, libraries; its data and what is anonymous behind it too
 *
 * Ownership: the caller's struct, its memory from _read or _parse to _free.  Errors: as in smaps.h; -ENOMEM.
 * No heap and no lock.  Threads: any, none of them shared.  Safety class F. */
#ifndef BURSAR_MEMORY_REGIONS_H
#define BURSAR_MEMORY_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum bursar_regions_kind {
  BURSAR_REGIONS_ANON,   /* private memory of no file and no name */
  BURSAR_REGIONS_HEAP,   /* [heap], what sbrk gives */
  BURSAR_REGIONS_STACK,  /* the main thread's */
  BURSAR_REGIONS_IMAGE,  /* a file with code, and the kernel's vdso */
  BURSAR_REGIONS_FILE,   /* any other mapped file */
  BURSAR_REGIONS_SHARED, /* memory that other processes may map: /dev/shm, memfd, System V */
  BURSAR_REGIONS_OWN,    /* bursar's tables */
  BURSAR_REGIONS_LEDGER, /* bursar's ledger */
  BURSAR_REGIONS_HIDDEN, /* memfd_secret: nobody else reads it, nor the kernel */
  BURSAR_REGIONS_NAMED,  /* anonymous, with a name that the program gave it */
  BURSAR_REGIONS_KINDS
};

enum bursar_regions_shape {
  BURSAR_REGIONS_NO_SHAPE,
  BURSAR_REGIONS_SHAPE_STACK, /* behind a guard, as thread stacks are */
  BURSAR_REGIONS_SHAPE_HEAP, /* as malloc's heaps of threads: from a multiple of 64 MiB to address space up to the next */
  BURSAR_REGIONS_SHAPE_BSS   /* directly behind an image's data */
};

struct bursar_regions_one {
  uint64_t from, to;
  uint64_t rss, pss, swap, dirty;
  uint64_t inode;
  uint32_t major, minor;
  uint32_t name; /* offset in names; 0: none */
  uint8_t kind, shape;
  bool readable, writable, executable, shared, marked;
  const uint64_t *bits; /* look.h: resident pages; NULL: not known */
};

#define BURSAR_REGIONS_HEAP_BYTES (64ull << 20) /* malloc's heaps of threads, and what they are aligned to */

struct bursar_regions {
  struct bursar_regions_one *at;
  size_t count;
  char *names;
  size_t names_used;
  bool cut;                /* more than there is room for: rss is whole, at and names are not */
  uint64_t rss, pss, swap; /* of all */
  void *memory;
  size_t memory_bytes;
};

/* `ledger` is the inode of the ledger that it maps, 0: none.  `stack_limit` bounds stacks that a mapping above was merged
 * with. */
int bursar_regions_read(pid_t pid, uint64_t ledger, uint64_t stack_limit, struct bursar_regions *out)
    __attribute__((warn_unused_result));
/* From a text, which is spoilt. */
int bursar_regions_parse(char *text, size_t bytes, uint64_t ledger, uint64_t stack_limit, struct bursar_regions *out)
    __attribute__((warn_unused_result));
void bursar_regions_free(struct bursar_regions *regions);
/* Bytes of [from, to) that are resident of the region, by its bits; without them as far as rss tells, at most. */
uint64_t bursar_regions_resident(const struct bursar_regions_one *region, uint64_t from, uint64_t to);
/* The first region that ends behind the address; NULL: there is none. */
const struct bursar_regions_one *bursar_regions_behind(const struct bursar_regions *regions, uint64_t at);
const char *bursar_regions_name(const struct bursar_regions *regions, const struct bursar_regions_one *region);

#endif
