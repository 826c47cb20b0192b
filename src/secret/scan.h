/* scan.h: a process's memory gone through for a secret: every readable page that is resident, each find with what it lies in.
 *
 * Glossary
 *   direct   the memory is this very process's, which has one thread: it is read where it lies
 *   canary   a find that was planted: a scan that misses one proves nothing
 *   held     what the caller passed in is itself a copy, and no residue
 *
 * A find that another, longer one overlaps is none of its own.  Registers of threads, what is swapped out, and what others hold
 * for the process (pipes, sockets, the page cache) are in no page that can be read here.
 *
 * Ownership: the caller's struct; `hits`, `buffer` and `search` are memory that the caller gives, and wipes where it says so.
 * Nothing allocates from the heap, no lock.  Errors: negative errno as in smaps.h; -ESRCH where the process ended meanwhile.
 * Threads: any, none shares a scan.  Safety class F; takes some tenths of a second a gigabyte. */
#ifndef BURSAR_SECRET_SCAN_H
#define BURSAR_SECRET_SCAN_H

#include <sys/types.h>

#include "prim/peek.h"
#include "secret/search.h"

enum bursar_scan_where {
  BURSAR_SCAN_LIVE,      /* in a block that is in use */
  BURSAR_SCAN_FREED,     /* in one that was freed, or was never handed out */
  BURSAR_SCAN_FREE_LIST, /* in an object that Python keeps for reuse */
  BURSAR_SCAN_STACK,
  BURSAR_SCAN_FILE,  /* in a mapped file's own bytes */
  BURSAR_SCAN_OTHER, /* data of a library, a mapping: `name` says which */
  BURSAR_SCAN_WHERES
};
extern const char *const bursar_scan_wheres[BURSAR_SCAN_WHERES];

struct bursar_scan_hit {
  uint64_t address, length;
  uint64_t block, block_bytes; /* that it lies in; 0: not known */
  uint32_t site;               /* for whoever knows the books; 0: not known */
  uint8_t form;                /* enum bursar_forms_name */
  uint8_t where;
  bool whole; /* not only a part */
  bool held;
  char name[72]; /* of the mapping, its end */
};

struct bursar_scan_range {
  uint64_t from, to;
};

#define BURSAR_SCAN_PLACES 8u
struct bursar_scan_place {
  const char *kind; /* "heap", "stack": a static text */
  unsigned char *at;
  size_t bytes; /* BURSAR_SCAN_PLACE_BYTES are enough */
};
#define BURSAR_SCAN_PLACE_BYTES 512u

struct bursar_scan_canary {
  uint64_t address;
  uint32_t form; /* in the search */
  uint32_t place;
  bool found;
};
#define BURSAR_SCAN_CANARIES (BURSAR_SCAN_PLACES * BURSAR_FORMS_COUNT)

#define BURSAR_SCAN_RANGES 8u
struct bursar_scan {
  /* What is asked. */
  pid_t pid; /* 0: this process */
  const struct bursar_search *search;
  uint32_t secret_forms; /* the first so many are the secret's, the others canaries' */
  const struct bursar_peek
      *files;  /* this process's before it was forked, whose page map says what of mapped files is resident */
  int maps_fd; /* likewise its /proc/self/maps: what of that the child has not is told in `kept`; 0: not asked */
  struct bursar_scan_range left_out[BURSAR_SCAN_RANGES], held[BURSAR_SCAN_RANGES];
  uint32_t left_out_count, held_count;
  unsigned char *buffer; /* memory that is read goes through it: wipe it */
  size_t buffer_bytes;   /* bursar_scan_buffer */
  struct bursar_scan_hit *hits;
  uint32_t hits_room;
  /* What is answered. */
  uint32_t hit_count;
  bool cut; /* there are more */
  bool direct;
  uint64_t scanned;
  /* Bytes that were not: resident without access, memfd_secret's, gone meanwhile; kept from forked
   * children. */
  uint64_t swapped, unreadable, hidden, lost, kept;
  struct bursar_scan_canary canaries[BURSAR_SCAN_CANARIES];
  uint32_t canary_count;
};

/* All that holds pieces of the secret: wipe it. */
struct bursar_scan_vessel {
  struct bursar_search search;
  struct bursar_forms forms, canary;
  unsigned char canary_secret[32];
  unsigned char room[]; /* the secret, at its beginning; the forms of both; the buffer; what the caller keeps behind */
};

size_t bursar_scan_buffer(const struct bursar_search *search);
/* Makes a random secret as long as its kind needs, and not longer than the places have room for; returns its length. */
size_t bursar_scan_canary_secret(struct bursar_forms_secret *like, unsigned char out[32]);
/* From a secret that stands at the beginning of the room, of so many bytes: its forms, a canary and its forms, the search for both, and
 * the buffer, in `scan`.  -ERANGE, -EINVAL: it is refused (bursar_scan_text_refused); -ENOMEM: there is too little room. */
int bursar_scan_prepare(struct bursar_scan *scan, struct bursar_scan_vessel *vessel, size_t room,
                        const struct bursar_forms_secret *secret) __attribute__((warn_unused_result));
/* Writes each form of `canary`, whose number in the search is `first` and up, into each place.  -ENOSPC: one is too small. */
int bursar_scan_plant(struct bursar_scan *scan, const struct bursar_forms *canary, uint32_t first,
                      const struct bursar_scan_place *places, uint32_t count) __attribute__((warn_unused_result));
int bursar_scan_run(struct bursar_scan *scan) __attribute__((warn_unused_result));
/* The first canary that was not found; NULL: all were, and there was one. */
const struct bursar_scan_canary *bursar_scan_missed(const struct bursar_scan *scan);
/* Copies in it that are not held. */
uint32_t bursar_scan_copies(const struct bursar_scan *scan);

#endif
