/* writer.h: the ledger file as its process writes it: head pages and growing regions, mapped.
 *
 * No descriptor stays open between calls: programs close and reuse numbers that are not theirs, and a write through a
 * reused one would land in somebody's file.  Growth opens the file again by name and checks that it is still ours.
 *
 * Threads: bursar_writer_room needs the lane's owner (whoever holds the main GIL); all else one thread, at start and end.
 * Errors: 0 or a negative status.  errno is kept by bursar_writer_room. */
#ifndef BURSAR_LEDGER_WRITER_H
#define BURSAR_LEDGER_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "ledger/layout.h"

struct bursar_writer {
  struct bursar_header *header; /* NULL while closed */
  struct bursar_counts *counts;
  uint8_t *directory;
  void *head; /* the mapping of extent 0 */
  void *books_at;
  void *lanes_at;                           /* NULL: not mapped */
  unsigned char *base[BURSAR_REGION_COUNT]; /* contiguous address space of each region */
  uint64_t have[BURSAR_REGION_COUNT];       /* bytes that may be written */
  uint64_t limit[BURSAR_REGION_COUNT];      /* bytes it may ever have */
  dev_t device;
  ino_t inode;
  bool full;   /* the cap is reached: no region grows any more */
  bool failed; /* the disk or a limit said no */
  char path[4096];
};

/* Opens a ledger that bursar_place_create made and that nobody has written yet, and maps its head.  `books_at` is a page
 * of the caller's that the books page replaces (the hot path then needs no pointer to it).  Class N. */
int bursar_writer_open(struct bursar_writer *writer, const char *path, uint64_t cap, void *books_at,
                       struct bursar_error *error) __attribute__((warn_unused_result));

/* The same for mode sample, whose sites have estimates beside them: other shares of the cap. */
int bursar_writer_open_sampling(struct bursar_writer *writer, const char *path, uint64_t cap, void *books_at,
                                struct bursar_error *error) __attribute__((warn_unused_result));
/* Maps the threads' lanes over pages of the caller's.  Class N. */
int bursar_writer_map_lanes(struct bursar_writer *writer, void *lanes_at, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* What is there becomes private memory again: threads that come late change no ledger.  Class F. */
void bursar_writer_drop_lanes(struct bursar_writer *writer);

/* Makes sure that `bytes` of the region may be written.  -1 where the cap or the disk says no (see full, failed).
 * Opens, grows and maps: system calls, so callers ask ahead of use.  Class H but for those. */
int bursar_writer_room(struct bursar_writer *writer, enum bursar_region region, uint64_t bytes)
    __attribute__((warn_unused_result));

/* Unmaps everything; the books page becomes private memory, so that a late write harms nobody.  Class F. */
void bursar_writer_close(struct bursar_writer *writer);

#endif
