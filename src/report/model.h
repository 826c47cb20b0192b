/* model.h: what a ledger says, ready to be shown.  All views, formats and pages stand on it, and on nothing else.
 *
 * Glossary
 *   held     bytes and blocks at one instant
 *   live     held at the end (when __main__ finished; for a killed or running program, the last state)
 *   at peak  held when all domains together held most
 *   at       held at the instant that bursar_model_choose picked: the end until it is called
 *   root     where a stack begins: BURSAR_NODE_UNKNOWN, _STARTUP, _MAIN or _EXIT
 *   leak     allocated while __main__ ran and live at the end
 *   scope    a named stretch of work; an entry is one time that it was entered, a call one that has ended
 *
 * All texts are borrowed from the model, may hold any bytes, and must be escaped for where they go (base/escape.h).
 * Indices are valid: they were checked when the ledger was read.  Times are nanoseconds since the hooks were set.
 * Ownership: the caller's, from bursar_model_open to bursar_model_free.  Threads: one at a time while it is opened or
 * an instant is chosen, then any number may read.  Safety class N. */
#ifndef BURSAR_REPORT_MODEL_H
#define BURSAR_REPORT_MODEL_H

#include "base/error.h"
#include "base/escape.h"
#include "ledger/reader.h"

#include <stdbool.h>
#include <stdint.h>

/* A number of blocks that the ledger does not keep: lane FREE's at a tick. */
#define BURSAR_MODEL_UNKNOWN UINT64_MAX

struct bursar_held {
  uint64_t bytes;
  uint64_t blocks; /* or BURSAR_MODEL_UNKNOWN */
};

/* Node 0 to 3 are the roots: they have no function and no file. */
struct bursar_model_node {
  uint32_t parent; /* the caller; a smaller index; roots are their own */
  uint32_t line;   /* 0 where unknown */
  uint32_t code;   /* index in codes, BURSAR_READER_NONE where there is none */
  bool native;
  uint32_t address; /* of native code, as its module is linked */
};

struct bursar_model_code {
  struct bursar_text function; /* bytes NULL where unknown */
  struct bursar_text file;
  uint32_t function_id; /* a small number, the same for the same text: below name_count */
  uint32_t file_id;     /* from the same numbers */
  uint32_t first_line;
  bool native;
};

/* Standard errors of estimates: 0 where a figure is exact, NAN where its error is not known. */
struct bursar_model_errors {
  double live_bytes, live_blocks;
  double peak_bytes, peak_blocks;
  double at_bytes, at_blocks;
  double allocations, allocated_bytes;
};

struct bursar_model_site {
  uint32_t node;   /* the innermost frame, or a root */
  uint32_t ledger; /* its index in the ledger: a stable name */
  uint16_t domain; /* enum bursar_domain */
  uint8_t root;    /* BURSAR_NODE_UNKNOWN .. BURSAR_NODE_EXIT */
  bool outside;    /* allocated outside the GIL: no stack, and no blocks at ticks */
  bool leak;
  struct bursar_text type; /* bytes NULL where unknown */
  struct bursar_held live;
  struct bursar_held peak;
  struct bursar_held at;
  uint64_t allocations;
  uint64_t allocated_bytes;
  uint64_t frees;
  uint64_t temporaries;
  uint64_t samples; /* mode sample: the blocks that were chosen */
  struct bursar_model_errors errors;
};

struct bursar_model_tick {
  uint64_t time_ns;
  uint64_t live_bytes; /* all domains */
  uint64_t live_by_domain[BURSAR_DOMAIN_COUNT];
  uint64_t high_bytes;  /* greatest live known since the tick before, at least live_bytes */
  uint64_t allocations; /* so far */
  uint64_t allocated_bytes;
  uint64_t outside_bytes[BURSAR_DOMAIN_COUNT]; /* what the `outside` sites held, by domain */
  uint32_t first_undo;                         /* see below */
  bool end;                                    /* __main__ finished here */
  bool whole; /* the undo records are exact for it; at others the sites are near what they were, the totals exact */
};

/* What `site` held at the tick before its first change after it.  To know all sites at tick k: start from each site's
 * `last`, go through undos[] from the last back to ticks[k].first_undo, and set the site to each record's value (so the
 * earliest record wins).  `outside` sites have no records: see outside_bytes.  bursar_model_at does this. */
struct bursar_model_undo {
  uint32_t site; /* index in sites, BURSAR_READER_NONE where the record is void */
  struct bursar_held held;
};

/* What all entries of one name did, at the last state.  An entry inside another of its name is in the figures of that one:
 * only calls and peaks have it on its own. */
struct bursar_model_scope {
  struct bursar_text name; /* bytes NULL where unknown */
  uint64_t calls, open;    /* entries that have ended, and that have not */
  uint64_t allocated_bytes, allocations;
  uint64_t live_bytes;     /* held by what was allocated in it */
  uint64_t retained_bytes; /* of that, in entries that have ended */
  uint64_t peak_max;       /* of all entries, so far */
  /* Of calls; BURSAR_MODEL_UNKNOWN where there were none.  Quantiles are within BURSAR_MODEL_SKETCH_ERROR of the nearest
   * rank's peak. */
  uint64_t peak_last, peak_p50, peak_p95, peak_p99;
  uint64_t time_ns, time_max_ns; /* of all entries, so far */
};
#define BURSAR_MODEL_SKETCH_ERROR 0.045

struct bursar_model_event {
  uint64_t time_ns;
  const char *kind;         /* "began", "ended", "note", …: see FORMAT.md; "other" where it is not known */
  struct bursar_text scope; /* bytes NULL where unknown */
  int64_t bytes;            /* what they are says FORMAT.md */
  struct bursar_text text;  /* bytes NULL where there is none */
};

struct bursar_model {
  struct bursar_reader *reader; /* owned: header (versions, pid), path, life, notes (what is damaged) */
  const char *mode;             /* "exact", "sample", "count" */
  const char *unit;             /* "requested" or "usable" bytes */
  const char *scopes_unit;      /* the same, of scopes */
  bool complete; /* the books were closed: false where the program was killed, runs, or ran out of space */
  bool running;
  bool plain; /* the program has no Python, nor stacks, unless native ones */

  uint64_t peak_bytes;
  uint64_t peak_time_ns;
  uint64_t peak_error_bytes; /* the peak, and what sites held at it, may be off by so much (no GIL) */
  uint64_t peak_by_domain[BURSAR_DOMAIN_COUNT]; /* sums of the sites */
  struct bursar_held live;
  uint64_t live_by_domain[BURSAR_DOMAIN_COUNT];
  uint64_t live_time_ns;     /* when the end was */
  uint64_t live_error_bytes; /* sums by site and totals differ by so much: 0 when the books agree */
  struct bursar_held at;
  uint64_t at_time_ns;
  uint64_t run_ns; /* how long the books ran: the last instant that --at may name */

  uint64_t allocations;
  uint64_t frees;
  uint64_t allocated_bytes;
  uint64_t temporaries;
  uint64_t outside_allocations; /* of these, made outside the GIL */
  uint64_t outside_bytes;       /* live, made outside the GIL */
  uint32_t temporary_within;

  uint64_t
      folded_sites; /* light sites folded into their callers', and stacks charged to them when the ledger was full */
  uint64_t unresolved_frames; /* frames without a line, or without a function */
  uint64_t deep_stacks;       /* stacks cut at the greatest depth */
  bool history_lossy;         /* the journal had no room for every change: instants other than peak and end are near */
  struct bursar_text main_file;

  struct bursar_model_site *sites; /* largest peak first, until bursar_model_sort */
  uint32_t site_count;
  struct bursar_model_node *nodes; /* at least the four roots */
  uint32_t node_count;
  struct bursar_model_code *codes;
  uint32_t code_count;
  uint32_t name_count;             /* different texts among functions and files */
  struct bursar_model_tick *ticks; /* in order of time */
  uint32_t tick_count;
  struct bursar_model_undo *undos;
  uint32_t undo_count;
  /* Mode sample: all that is held is an estimate; what was allocated and freed in all is counted.  The peak of an estimate is
   * biased: it is where chance made it greatest. */
  bool estimated;
  struct bursar_model_errors errors; /* of the totals */
  double live_errors_by_domain[BURSAR_DOMAIN_COUNT];
  double peak_errors_by_domain[BURSAR_DOMAIN_COUNT];
  bool peak_is_now; /* nothing was freed since the peak */
  bool end_is_tick; /* the end is when __main__ finished, and the program went on */

  struct bursar_held *last;       /* by site, parallel to sites: the last state (live is the end's) */
  struct bursar_natives *natives; /* what names native frames, see natives.h; owned */
  void (*natives_free)(struct bursar_natives *natives);
  uint64_t native_frames; /* of them, unresolved_frames have no function */

  struct bursar_model_scope *scopes; /* the one that holds most first */
  uint32_t scope_count;
  struct bursar_model_event *events; /* in order of time */
  uint32_t event_count;
  uint64_t lost_events; /* older ones, that the ring has no room for any more */
  uint64_t
      folded_scopes; /* entries whose blocks were charged to their name alone, and scopes whose name found no room */
};

/* Opens a ledger (path or pid, see reader.h) and works it out.  *out is set on success alone. */
int bursar_model_open(const char *path_or_pid, struct bursar_model **out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* The same from an open reader, which the model owns from then on, also when it fails. */
int bursar_model_load(struct bursar_reader *reader, struct bursar_model **out, struct bursar_error *error)
    __attribute__((warn_unused_result));
void bursar_model_free(struct bursar_model *model);

/* What each site (parallel to sites) held at the last tick not after time_ns; held[site_count] is the caller's.
 * Returns that tick's time; at or after the end of the run, the last state.  Before the first tick nothing is held. */
uint64_t bursar_model_at(const struct bursar_model *model, uint64_t time_ns, struct bursar_held *held);

/* Sets `at` of all sites and of the model, for views that show one instant. */
enum bursar_model_when { BURSAR_MODEL_END, BURSAR_MODEL_PEAK, BURSAR_MODEL_TIME };
int bursar_model_choose(struct bursar_model *model, enum bursar_model_when when, uint64_t time_ns,
                        struct bursar_error *error) __attribute__((warn_unused_result));
/* Orders the sites (the arrays that name sites by index follow).  Equal ones: by the next key, then by stack index. */
enum bursar_model_order { BURSAR_MODEL_BY_PEAK, BURSAR_MODEL_BY_AT, BURSAR_MODEL_BY_LIVE, BURSAR_MODEL_BY_TEMPORARIES };
int bursar_model_sort(struct bursar_model *model, enum bursar_model_order order, struct bursar_error *error)
    __attribute__((warn_unused_result));

/* A node's names.  For a root or a frame without code the function is a bracketed word such as `(start-up)` and the
 * file is unknown (bytes NULL).  Borrowed. */
struct bursar_text bursar_model_function(const struct bursar_model *model, uint32_t node);
struct bursar_text bursar_model_file(const struct bursar_model *model, uint32_t node);
/* Is it one of the four roots, which are no frames? */
bool bursar_model_is_root(uint32_t node);

#endif
