/* layout.h: the bytes of a ledger file, version 2.  FORMAT.md draws it.
 *
 * Glossary
 *   extent   the unit in which the file grows; extent 0 holds the head pages, every other extent belongs to one
 *            region, and the k-th extent of a region holds the region's bytes [k * extent_bytes, (k + 1) * extent_bytes)
 *   region   one growing array: strings, codes, nodes, sites, site facts, two halves of the journal
 *   lane     how a counter is written: lane GIL by plain adds of whoever holds the main interpreter's GIL,
 *            lane FREE by atomic adds of everybody else
 *   epoch    a serial that moves at each new peak and each tick; a site touched for the first time in an epoch first
 *            saves what it held (copy on write), so that neither a peak nor a tick ever visits all sites
 *   tick     one point of the journal: totals at an instant
 *   undo     what one site held at the tick before its first change after that tick
 *   scope    a named stretch of work that allocations are charged to; an entry is one time that it was entered
 *
 * All integers are little-endian and naturally aligned; there are indices and offsets, never pointers.  A writer only
 * ever adds: an index is published (in struct bursar_counts) after what it names is written.  All sizes are pinned by
 * tests/unit/test_layout.c.  Ownership, threads: plain data, none.
 */
#ifndef BURSAR_LEDGER_LAYOUT_H
#define BURSAR_LEDGER_LAYOUT_H

#include <stdint.h>

#define BURSAR_LEDGER_MAGIC "BURSARL\n"
#define BURSAR_LEDGER_VERSION 2u
#define BURSAR_LEDGER_VERSION_NATIVE 3u /* the same, and some nodes are native: older readers would misread those */
#define BURSAR_LEDGER_ENDIAN 0x01020304u

#define BURSAR_PAGE 4096u
#define BURSAR_EXTENT_MIN 65536u    /* also the size of the smallest ledger */
#define BURSAR_DEPTH_MAX (1u << 19) /* frames of a stack; half of them Python's */
#define BURSAR_EXTENTS_MAX 4096u    /* entries of the directory page */
#define BURSAR_CAP_DEFAULT (64u << 20)
#define BURSAR_CAP_MIN (64u * BURSAR_EXTENT_MIN)
#define BURSAR_CAP_MAX (1ull << 32)

/* Offsets of the head pages in extent 0. */
#define BURSAR_AT_HEADER 0u
#define BURSAR_AT_CONTROL 4096u
#define BURSAR_AT_BOOKS 8192u
#define BURSAR_AT_COUNTS 12288u
#define BURSAR_AT_DIRECTORY 16384u
#define BURSAR_AT_LANES \
  32768u /* BURSAR_LANES of struct bursar_thread_lane, to the extent's end; modes sample and count */
#define BURSAR_AT_ANSWER 20480u
#define BURSAR_AT_CHANGED 24576u

enum bursar_region {
  BURSAR_REGION_NONE = 0,
  BURSAR_REGION_STRINGS = 1, /* bytes: u32 length, then that many bytes, padded to 4; a string is named by its offset */
  BURSAR_REGION_CODES = 2,   /* struct bursar_code */
  BURSAR_REGION_NODES = 3,   /* struct bursar_node */
  BURSAR_REGION_SITES = 4,   /* struct bursar_site */
  BURSAR_REGION_SITE_FACTS = 5, /* struct bursar_site_facts, same index as the site */
  BURSAR_REGION_TICKS_A = 6,    /* struct bursar_tick */
  BURSAR_REGION_UNDO_A = 7,     /* struct bursar_undo */
  BURSAR_REGION_TICKS_B = 8,
  BURSAR_REGION_UNDO_B = 9,
  BURSAR_REGION_SCOPE_NAMES = 10, /* struct bursar_scope_name */
  BURSAR_REGION_SCOPES = 11,      /* struct bursar_scope; the first is none */
  BURSAR_REGION_EVENTS = 12,      /* struct bursar_event, a ring */
  BURSAR_REGION_ESTIMATES = 13,   /* struct bursar_estimate, same index as the site; mode sample alone */
  BURSAR_REGION_LEAKS = 14,       /* struct bursar_leaks, one for each name that is judged */
  BURSAR_REGION_COUNT = 15
};

enum bursar_domain {
  BURSAR_DOMAIN_OBJ = 0,
  BURSAR_DOMAIN_MEM = 1,
  BURSAR_DOMAIN_RAW = 2,
  BURSAR_DOMAIN_NUMPY = 3,
  BURSAR_DOMAIN_MALLOC = 4,
  BURSAR_DOMAIN_MMAP = 5,
  BURSAR_DOMAIN_COUNT = 6
};
#define BURSAR_DOMAINS_PYTHON 3 /* the first ones: PEP 445's */
#define BURSAR_DOMAINS_OF_PYTHON ((1u << BURSAR_DOMAINS_PYTHON) - 1)
#define BURSAR_DOMAINS_NATIVE (1u << BURSAR_DOMAIN_MALLOC | 1u << BURSAR_DOMAIN_MMAP)
#define BURSAR_DOMAINS_ALL ((1u << BURSAR_DOMAIN_COUNT) - 1)

enum bursar_mode { BURSAR_MODE_NONE = 0, BURSAR_MODE_EXACT = 1, BURSAR_MODE_SAMPLE = 2, BURSAR_MODE_COUNT = 3 };

/* A ledger whose state is OPEN and whose process is gone, or no longer maps it, ended without closing its books. */
enum bursar_state {
  BURSAR_STATE_RESERVED = 0, /* the file was made, the program has not started to write */
  BURSAR_STATE_OPEN = 1,
  BURSAR_STATE_STOPPED = 2, /* bursar.stop(): the program went on */
  BURSAR_STATE_ENDED = 3,   /* closed at the program's exit */
  BURSAR_STATE_BROKEN = 4   /* the books stopped for want of space; what was booked until then holds */
};

struct bursar_header { /* at BURSAR_AT_HEADER */
  char magic[8];
  uint32_t version;
  uint32_t endian;
  uint32_t extent_bytes; /* a power of two, at least BURSAR_EXTENT_MIN */
  uint32_t extents_max;  /* the cap, in extents, at most BURSAR_EXTENTS_MAX */
  uint32_t mode;         /* enum bursar_mode */
  uint32_t python;       /* PY_VERSION_HEX of the interpreter, 0 where there is none */
  uint32_t pid;
  uint32_t uid;
  uint64_t process_start; /* field 22 of /proc/PID/stat */
  uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
  uint8_t boot_id[16];    /* /proc/sys/kernel/random/boot_id, as bytes */
  uint64_t started_unix_ns;
  uint64_t started_mono_ns; /* CLOCK_MONOTONIC; every *_ns below is since then */
  uint32_t temporary_within;
  uint32_t parent_pid; /* the process this one was forked from, where the books were carried over; else 0 */
  char python_version[32];
  char bursar_version[32];
  uint32_t domains;  /* a bit for each enum bursar_domain: those that were listened to */
  uint32_t interval; /* mode sample: one point each so many bytes, on average */
};

/* What an allocation adds on one side and a free on the other: live = allocated - freed. */
struct bursar_tally {
  uint64_t alloc_bytes;
  uint64_t allocs;
  uint64_t free_bytes;
  uint64_t frees;
};

/* The totals, kept apart from the sums by site.
 *
 * Order of an event in lane GIL: intent, the site's counters (bytes, then count), the domain's tally (bytes, then
 * count), live.  Killed anywhere in between, at most one event differs between sums and totals, and intent names it:
 * (site + 1) << 6 in the low word (bit 5 set), size in the high one, as in the live table; a size of 2^32 - 1 stands for
 * any from there on. */
struct bursar_books { /* at BURSAR_AT_BOOKS */
  uint64_t live;      /* sum over domains of lane GIL */
  uint64_t intent;    /* the event that lane GIL is at, or was at last */
  uint64_t epoch;
  uint64_t tick;       /* serial of the tick last made; never reused when the journal is coarsened */
  uint64_t peak;       /* greatest live of both lanes seen so far; live may exceed it until the next free */
  uint64_t peak_epoch; /* epoch's value since that peak */
  uint64_t peak_ns;
  uint64_t
      free_high; /* greatest live of both lanes seen from lane FREE: above peak, the difference is the peak's error */
  struct bursar_tally gil[BURSAR_DOMAIN_COUNT];
  struct bursar_tally free_lane[BURSAR_DOMAIN_COUNT];
  struct bursar_tally remote[BURSAR_DOMAIN_COUNT]; /* frees of lane GIL's blocks made outside the GIL; allocs unused */
  uint64_t peak_free_bytes[BURSAR_DOMAIN_COUNT];   /* what lane FREE held at the peak */
  uint64_t peak_free_blocks[BURSAR_DOMAIN_COUNT];
  uint64_t domain_peak[BURSAR_DOMAIN_COUNT]; /* mode count: the greatest that each domain held by itself */
};

enum bursar_phase { BURSAR_PHASE_STARTUP = 0, BURSAR_PHASE_MAIN = 1, BURSAR_PHASE_EXIT = 2 };

/* What is published, and marks in time.  A mark that has not happened is 0. */
struct bursar_counts { /* at BURSAR_AT_COUNTS */
  uint32_t state;      /* enum bursar_state */
  uint32_t extents;    /* extents in use, extent 0 included */
  uint32_t string_bytes;
  uint32_t codes;
  uint32_t nodes;
  uint32_t sites;
  uint32_t journal;  /* the half that holds: 0 is A, 1 is B */
  uint32_t phase;    /* enum bursar_phase */
  uint32_t ticks[2]; /* by half */
  uint32_t undos[2];
  uint64_t tick_interval_ns; /* no two ticks are closer than this */
  uint64_t main_began_ns;    /* __main__ began: sites above node BURSAR_NODE_MAIN from then on */
  uint64_t main_ended_ns;    /* __main__ finished, before atexit */
  uint64_t end_tick;         /* the tick made then; 0 where there was none (the end is the last state) */
  uint64_t stopped_ns;       /* state left OPEN */
  uint64_t folded_sites;  /* sites folded into an ancestor's, and stacks charged to one, because the ledger is full */
  uint64_t folded_allocs; /* allocations that they stood for */
  uint64_t lost_undos;    /* site changes that the journal had no room for: --at is then approximate */
  uint64_t deep_stacks;   /* stacks cut at BURSAR_DEPTH_MAX */
  uint32_t main_file;     /* string: the file of __main__, or of a program without Python; 0 while unknown */
  uint32_t folding;       /* 1 while sites are being folded: killed then, some are counted twice or not at all */
  uint64_t reused_blocks; /* addresses handed out again without a free seen: the books ended them */
  uint32_t scope_names;
  uint32_t scopes;        /* slots that have been used, the first included */
  uint64_t events;        /* so many have been noted; the last of them are in the ring */
  uint64_t folded_scopes; /* entries whose blocks were charged to their name, and scopes whose name found no room */
  uint64_t lost_samples;  /* mode sample: blocks that were chosen, and for which there was no memory */
  uint32_t leaks;         /* names that are judged */
  uint32_t reserved;
};

/* The directory page: one byte an extent, enum bursar_region; entry 0 is extent 0's and is 0. */

struct bursar_code {
  uint32_t name; /* string offset, 0 where unknown */
  uint32_t file;
  uint32_t first_line;
  uint32_t flags;
};
#define BURSAR_CODE_MODULE 1u /* no function but a loaded module: `file` is its path, `name` its build id in digits */

/* The first nodes are roots: they have no code, and are their own parents. */
enum {
  BURSAR_NODE_UNKNOWN = 0, /* no Python stack known */
  BURSAR_NODE_STARTUP = 1, /* before __main__ began */
  BURSAR_NODE_MAIN = 2,    /* while __main__ ran, all threads */
  BURSAR_NODE_EXIT = 3,    /* after __main__ finished */
  BURSAR_NODE_FIRST = 4
};

struct bursar_node {
  uint32_t parent; /* the caller; always a smaller index */
  uint32_t code;
  uint32_t line; /* 0 where unknown */
  uint32_t flags;
};
/* A frame of native code: `code` is its module (0: none, made at run time), `line` the address in it, as it is linked. */
#define BURSAR_NODE_NATIVE 1u

/* The first sites are lane FREE's, by domain: all that was allocated outside the main GIL where no stack is known.  Their
 * epoch is ~0.  Other sites of lane FREE have the bit BURSAR_EPOCH_FREE in their epoch, and are as those of lane GIL. */
struct bursar_site {
  uint64_t alloc_bytes;
  uint64_t allocs;
  uint64_t free_bytes;
  uint64_t frees;
  uint64_t peak_bytes;  /* held at the peak, if epoch >= books.peak_epoch; else what it holds now */
  uint32_t peak_blocks; /* stops at 2^32 - 1 */
  uint32_t tick;        /* low word of the tick of its last undo record */
  uint64_t epoch;       /* of its last event, as far as it was noted */
  uint64_t temporaries;
};
#define BURSAR_SITE_FIRST 6u
#define BURSAR_EPOCH_FREE (1ull << 63)

enum bursar_lane {
  BURSAR_LANE_GIL = 0,
  BURSAR_LANE_FREE = 1,
  BURSAR_LANE_VACANT = 2 /* no site: it was folded, its counters are all 0 */
};

struct bursar_site_facts {
  uint32_t node;
  uint16_t domain;
  uint16_t lane;              /* enum bursar_lane */
  uint32_t type;              /* string, 0 where unknown */
  uint32_t created;           /* low word of the tick after which it was made: up to and at that tick it held nothing */
  uint64_t remote_free_bytes; /* frees of this site's blocks made outside the GIL: subtract these too */
  uint64_t remote_frees;
  uint64_t
      remote_peak_bytes; /* what these two were at the peak, if remote_epoch is books.peak_epoch's low word; else the */
  uint32_t remote_peak_frees; /* same as now.  Saved before the first such free after a peak. */
  uint32_t remote_epoch;
};

/* Totals at an instant, both lanes.  Ticks are in order of time; the last change of state is after the last tick. */
struct bursar_tick {
  uint64_t serial; /* books.tick when it was made; one with BURSAR_TICK_TOTALS has that of the whole tick before it */
  uint64_t time_ns;
  uint64_t live[BURSAR_DOMAIN_COUNT];
  uint64_t free_bytes[BURSAR_DOMAIN_COUNT]; /* lane FREE's share of it, for its own sites */
  uint64_t allocs;                          /* so far */
  uint64_t alloc_bytes;
  uint64_t high;       /* greatest live known since the tick before */
  uint32_t first_undo; /* of the records made after this tick; the state here is undone by them and all later ones */
  uint32_t flags;
};
#define BURSAR_TICK_END 1u /* __main__ finished here */
#define BURSAR_TICK_TOTALS \
  2u /* its totals alone are exact: what each site held is known at the ticks without this flag */
#define BURSAR_TICKS_MAX 1024u

/* What entries of one name did that have given up their slots; those that have one come on top. */
#define BURSAR_SKETCH 320u
#define BURSAR_SKETCH_OCTAVE 8u /* counters for a doubling */
struct bursar_scope_name {
  uint32_t name;  /* string */
  uint32_t slot;  /* of the entry that is charged for what folded ones still hold; 0: none */
  uint64_t calls; /* entries that have ended, with a slot or without */
  uint64_t allocated_bytes;
  uint64_t allocations;
  uint64_t peak_last;
  uint64_t peak_max;
  uint64_t retained_last; /* what the last entry that ended held at its end */
  uint64_t time_ns;
  uint64_t time_max_ns;
  /* Entries that have ended by their peak: counter i is of [2^(i/8), 2^((i+1)/8)) bytes, the first of less, the last of more. */
  uint32_t sketch[BURSAR_SKETCH];
};

enum bursar_scope_state {
  BURSAR_SCOPE_VACANT = 0,
  BURSAR_SCOPE_OPEN = 1,
  BURSAR_SCOPE_ENDED = 2,
  BURSAR_SCOPE_POOL = 3
};

/* One entry.  Its figures are those of its own blocks and of the entries nested in it. */
struct bursar_scope {
  int64_t live_bytes;
  uint64_t peak_bytes;
  uint64_t allocated_bytes;
  uint64_t allocations;
  /* The same of events in lane FREE: atomic adds. */
  int64_t free_live_bytes;
  uint64_t free_allocated_bytes;
  uint64_t free_allocations;
  int64_t blocks; /* its own, under the GIL, and in lane FREE: atomic */
  int64_t free_blocks;
  uint64_t serial; /* entries are numbered as they begin */
  uint64_t started_ns;
  uint64_t ended_ns;
  uint32_t name;   /* index in the names */
  uint32_t parent; /* slot; 0: none */
  uint32_t nested; /* slots whose parent it is */
  uint16_t state;  /* enum bursar_scope_state */
  uint16_t inner;  /* 1: an entry of the same name is around it, whose figures hold these */
};

enum bursar_event_kind {
  BURSAR_EVENT_SCOPE_BEGAN = 1,
  BURSAR_EVENT_SCOPE_ENDED = 2,
  BURSAR_EVENT_NOTE = 3,
  BURSAR_EVENT_PROOF = 4,
  BURSAR_EVENT_REFUSED = 5,   /* an allocation, by a hard budget */
  BURSAR_EVENT_SOFT = 6,      /* a soft budget was passed */
  BURSAR_EVENT_OVERTIME = 7,  /* a callback ran longer than it may */
  BURSAR_EVENT_SHED = 8,      /* a request was turned away */
  BURSAR_EVENT_RECLAIMED = 9, /* memory was given back, or garbage collected */
  BURSAR_EVENT_CHANGED = 10,  /* what the policy says */
  BURSAR_EVENT_VERDICT = 11,  /* on leaks: an alarm, or that it was withdrawn */
  BURSAR_EVENT_LEFT_OPEN = 12 /* a resource, at the end of its scope */
};
#define BURSAR_EVENT_OF_PROCESS UINT32_MAX /* as `slot`: no scope's; `scope` is 0 */

struct bursar_event {
  uint64_t time_ns;
  uint32_t kind;  /* enum bursar_event_kind */
  uint32_t scope; /* index in the names */
  uint64_t bytes; /* began: 0; ended: its peak; note: what it held; proof: what was scanned; FORMAT.md has the others */
  uint32_t text;  /* string */
  uint32_t slot;  /* 0: its entry has ended, or is not known */
};

/* What a name's ended entries still hold, as it was when one of them had just ended: the verdict (leaks.h) is of these. */
struct bursar_leaks_point {
  uint64_t calls;      /* entries that had ended */
  int64_t bytes;       /* held by all of them */
  int64_t capped;      /* the same, of each at most `cap` */
  int32_t descriptors; /* open in the process; below 0: not known */
  int32_t threads;
};
#define BURSAR_LEAKS_POINTS 128u
#define BURSAR_LEAKS_SITES 8u
#define BURSAR_LEAKS_DEPTH 24u

struct bursar_leaks_frame {
  uint32_t function; /* string */
  uint32_t file;     /* string; of native code: its module's */
  uint32_t line;     /* or the address in the module */
  uint32_t flags;    /* as in a node */
};

/* What survived of what one stack allocated in the entries that were looked at. */
struct bursar_leaks_site {
  uint64_t bytes;
  uint64_t blocks;
  uint64_t calls;     /* different entries that they are from */
  uint64_t oldest_ns; /* when the first of those ended */
  uint32_t domain;
  uint32_t depth; /* frames that are kept, innermost first; those beyond are not */
  struct bursar_leaks_frame frame[BURSAR_LEAKS_DEPTH];
};

enum bursar_leaks_state {
  BURSAR_LEAKS_NONE = 0,      /* no alarm */
  BURSAR_LEAKS_SUSPECTED = 1, /* what is held grows; garbage has not been ruled out yet */
  BURSAR_LEAKS_ALARM = 2,
  BURSAR_LEAKS_CYCLES = 3 /* it grew, and one collection took that away */
};
/* What grows at an alarm; the last: no collection has ruled out garbage. */
#define BURSAR_LEAKS_BYTES 1u
#define BURSAR_LEAKS_DESCRIPTORS 2u
#define BURSAR_LEAKS_THREADS 4u
#define BURSAR_LEAKS_CAPPED 8u
#define BURSAR_LEAKS_UNCHECKED 16u

struct bursar_leaks {
  uint64_t begun, done; /* stored before and after each change: where they differ it is being written */
  uint32_t name;        /* index in the names */
  uint32_t points;
  uint32_t state; /* enum bursar_leaks_state */
  uint32_t flags;
  uint32_t threshold;   /* bytes a call */
  uint32_t warmup;      /* calls before which nothing is said */
  uint32_t spacing;     /* calls between points, at least */
  uint32_t sites;       /* of site[] */
  uint64_t since_calls; /* in that state */
  uint64_t since_ns;
  int64_t since_bytes;   /* held when it began; state CYCLES: after the collection */
  uint64_t looked_calls; /* entries that the sites are of: those from the first to the last of these, so many */
  uint64_t looked_first;
  uint64_t looked_ns; /* when; 0: not yet */
  uint64_t cap;       /* bytes of one call that count in `capped` */
  uint64_t reserved[3];
  struct bursar_leaks_point point[BURSAR_LEAKS_POINTS];
  struct bursar_leaks_site site[BURSAR_LEAKS_SITES];
};

/* What one thread counted, in the modes sample and count: plain adds of its own, so that the sums over all lanes are exact.
 * Lane 0 belongs to all threads for which there is no other.  Some of it is for mode count alone: what each domain and all
 * together held at most since the lane was last brought together with the others (`synced`). */
struct bursar_thread_lane {
  uint64_t allocs[BURSAR_DOMAIN_COUNT];
  uint64_t frees[BURSAR_DOMAIN_COUNT]; /* mode count */
  uint64_t alloc_bytes[BURSAR_DOMAIN_COUNT];
  uint64_t free_bytes[BURSAR_DOMAIN_COUNT]; /* mode count */
  uint64_t reserved[40];
};
#define BURSAR_LANES 64u

/* What a site of mode sample stands for, beside struct bursar_site, whose bytes are the sums of the samples' weights and whose
 * counts are samples.  Blocks and bytes are estimates without bias; a variance is that of an estimate, likewise.  `peak_*` hold
 * where peak_epoch is books.peak_epoch, `end_*` where end_tick is the low word of counts.end_tick; else live_* did then. */
struct bursar_estimate {
  double live_blocks;
  double live_variance; /* of the bytes */
  double live_blocks_variance;
  double allocs;
  double alloc_variance;
  double allocs_variance;
  double peak_blocks;
  double peak_variance;
  double peak_blocks_variance;
  double end_blocks;
  double end_variance;
  double end_blocks_variance;
  uint64_t peak_epoch;
  uint32_t end_tick;
  uint32_t live_samples;
};

struct bursar_undo {
  uint32_t site;
  uint32_t blocks; /* stops at 2^32 - 1 */
  uint64_t bytes;
};

#define BURSAR_CONTROL_TEXT 2048u
#define BURSAR_CHANGED_TEXT 3072u

/* Written by a reader, its user's or root: it asks the process to say what only itself can know, or to change what a policy
 * says.  Any value of `request` and `change` will do that was not there before; the process answers at its next look at the
 * clock, and not more often than it can afford. */
struct bursar_control { /* at BURSAR_AT_CONTROL */
  uint64_t request;
  uint64_t change; /* stored after what follows */
  uint32_t bytes;  /* of text */
  uint32_t reserved;
  char text[BURSAR_CONTROL_TEXT]; /* KEY = VALUE, as in a policy file; or ?N: what binds, from its N-th byte on */
};

enum bursar_changed_result {
  BURSAR_CHANGED_MADE = 1,
  BURSAR_CHANGED_REFUSED = 2, /* it would weaken what was set at the start */
  BURSAR_CHANGED_WRONG = 3,   /* there is no such key, or value */
  BURSAR_CHANGED_SHOWN = 4    /* the text is what was asked for */
};

/* What the process made of a change, written as an answer is. */
struct bursar_changed { /* at BURSAR_AT_CHANGED */
  uint64_t begun, done;
  uint32_t takes; /* not 0: changes are heard; others were made by an older bursar, or without Python */
  uint32_t result;
  uint32_t bytes; /* of text */
  uint32_t more;  /* shown: bytes that did not fit */
  char text[BURSAR_CHANGED_TEXT];
};

/* What a look into a process's memory finds, resident bytes unless it says otherwise.  A figure whose bit in `known` is not
 * set is not known. */
#define BURSAR_INSIDE_MEMORY 1u /* its memory was looked at: arenas, chunks, stacks, bss */
#define BURSAR_INSIDE_HEAPS 2u  /* all of malloc's heaps could be walked */
#define BURSAR_INSIDE_BLOCKS 4u /* live, resident, in_arenas: from the table of live blocks */
#define BURSAR_INSIDE_MAPS 8u   /* map_resident: from the table of mappings */
#define BURSAR_INSIDE_WHOLE 16u /* all memory that nothing was known of was gone through for arenas and chunks */
#define BURSAR_INSIDE_HEAPS_MAX 32u

struct bursar_inside_heap {
  uint64_t resident;
  uint64_t free_resident;
  uint64_t returnable; /* by malloc_trim(0) */
};

struct bursar_inside {
  uint32_t known;
  uint32_t heaps; /* of malloc: the main one first, then one for each thread arena; the last stands for all beyond */
  uint64_t stack_resident;
  uint64_t bss_resident;
  uint64_t arena_bytes; /* of pymalloc's arenas: address space */
  uint64_t arena_resident;
  uint64_t arena_used;  /* of their blocks that are handed out, by class */
  uint64_t chunk_bytes; /* that malloc mapped on their own: address space */
  uint64_t chunk_resident;
  uint64_t map_resident;              /* booked as mappings */
  uint64_t elsewhere;                 /* large live blocks that are in none of glibc's malloc: another malloc serves */
  uint64_t in_arenas;                 /* live bytes of python.obj and python.mem in arenas */
  uint64_t live[BURSAR_DOMAIN_COUNT]; /* live bytes */
  uint64_t resident[BURSAR_DOMAIN_COUNT]; /* of those, resident */
  struct bursar_inside_heap heap[BURSAR_INSIDE_HEAPS_MAX];
};

/* The process's answer.  `begun` is stored before the rest and `done` after it, both with the request that is answered:
 * where they differ it is being written. */
struct bursar_answer { /* at BURSAR_AT_ANSWER */
  uint64_t begun;
  uint64_t done;
  uint64_t time_ns;
  uint64_t
      arenas_since; /* bytes of arenas that pymalloc got less those it gave back, since the hooks: always up to date */
  struct bursar_inside inside;
};

#endif
