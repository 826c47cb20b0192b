/* reader.h: a ledger, copied once out of its file, validated, and made whole.
 *
 * Nothing in the file is trusted: every value is read once into private memory and checked there, so that a damaged,
 * hostile or moving file costs facts, never safety.  What is damaged is left out and named in `notes`; what is sound
 * stays.  Indices in the arrays below are safe to follow without a further check:
 *   a node's parent is smaller than its index (roots are their own), its code is below `codes` or BURSAR_READER_NONE;
 *   a site's node is below `nodes`, its domain below BURSAR_DOMAIN_COUNT; a damaged or folded site is all zeros;
 *   a string offset is 0 or names a whole string; an undo's site is below `sites`, a tick's first_undo at most `undos`;
 *   a site's free counters never exceed its alloc counters, remote frees included;
 *   a scope's name is below `scope_names` and its parents end at slot 0; a damaged slot is vacant, and vacant ones are all
 *   zeros; an event's scope is below `scope_names`, and none is younger than the next.
 *
 * Ownership: the caller's, from bursar_reader_open to bursar_reader_free.  Threads: one at a time while it opens, then
 * any number may read.  Safety class N; but it may be called in any process, the profiled one too. */
#ifndef BURSAR_LEDGER_READER_H
#define BURSAR_LEDGER_READER_H

#include "base/error.h"
#include "base/escape.h"
#include "ledger/layout.h"

#include <stdbool.h>
#include <stdint.h>

#define BURSAR_READER_NONE UINT32_MAX
#define BURSAR_READER_NOTES 24
#define BURSAR_READER_NOTE 200

enum bursar_life {
  BURSAR_LIFE_RUNNING, /* its process is alive and maps the file */
  BURSAR_LIFE_ENDED,   /* closed at exit */
  BURSAR_LIFE_STOPPED, /* closed by bursar.stop() */
  BURSAR_LIFE_BROKEN,  /* the books stopped for want of space */
  BURSAR_LIFE_CUT      /* killed, os._exit or exec: the books end where the process did */
};

struct bursar_reader {
  char *path; /* of the ledger, as found */
  struct bursar_header header;
  struct bursar_books books; /* as read, after the sites */
  struct bursar_counts counts;
  enum bursar_life life;
  uint64_t time_ns; /* the last instant that the books speak of, since started_mono_ns */

  char *string_bytes;
  uint32_t string_length;
  struct bursar_code *code;
  uint32_t codes;
  struct bursar_node *node;
  uint32_t nodes; /* at least BURSAR_NODE_FIRST */
  struct bursar_site *site;
  struct bursar_site_facts *facts;
  uint32_t sites;                   /* at least BURSAR_SITE_FIRST */
  struct bursar_estimate *estimate; /* by site; NULL unless the mode is sample */
  struct bursar_tick *tick;
  uint32_t ticks;
  struct bursar_undo *undo;
  uint32_t undos;
  struct bursar_scope_name *scope_name;
  uint32_t scope_names;
  struct bursar_scope *scope; /* by slot; the first is none */
  uint32_t scopes;
  struct bursar_event *event; /* the last ones, in order of time */
  uint32_t events;
  struct bursar_leaks
      *leak; /* of names; the points in order of calls, as many as there may be; names of texts are whole */
  uint32_t leaks;

  /* The totals once the event that was under way is completed, both lanes. */
  struct bursar_tally total[BURSAR_DOMAIN_COUNT]; /* free_* hold remote frees too */
  uint64_t moved_events;    /* events made while the sites were copied (a running program): the figures' error */
  uint64_t moved_bytes;     /* what those events allocated and freed, added up */
  uint64_t unmatched_bytes; /* |sum of sites - totals| of live bytes after completion; 0 when the books agree */
  bool completed_event;

  /* Modes sample and count: what all threads counted, exactly.  In mode count the totals, the books and the first sites hold
   * it too, with frees cut at what was allocated. */
  struct bursar_tally counted[BURSAR_DOMAIN_COUNT];
  bool counted_known;
  uint64_t freed_before; /* mode count: bytes that were freed beyond what was allocated: blocks from before the books */

  uint32_t note_count;
  char note[BURSAR_READER_NOTES][BURSAR_READER_NOTE]; /* one line each, printable */
};

/* Opens a ledger by path, or by the pid of the program that wrote it (a number that no file is called).  *out is set on
 * success alone.  An error for what is no ledger, never started, too new, unreadable, or damaged in its head. */
int bursar_reader_open(const char *path_or_pid, struct bursar_reader **out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* The same from a descriptor, which stays the caller's; `name` is what errors call it. */
int bursar_reader_open_fd(int fd, const char *name, struct bursar_reader **out, struct bursar_error *error)
    __attribute__((warn_unused_result));
void bursar_reader_free(struct bursar_reader *reader);

/* The string at an offset, borrowed from the reader; bytes is NULL for 0 and for what is no string. */
struct bursar_text bursar_reader_string(const struct bursar_reader *reader, uint32_t offset);
/* One of `running`, `ended`, `stopped`, `broken`, `killed`. */
const char *bursar_reader_life_name(enum bursar_life life);

#endif
