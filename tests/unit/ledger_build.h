/* ledger_build.h: a ledger put together in memory, for tests of those who read one.
 *
 * It keeps books as layout.h says, slowly and plainly, and beside them what every site held at each tick and at the peak,
 * so that a test can compare.  All fields may be changed before ledger_build_file: that is how damage is made.
 * Any failure of the machine (no memory) aborts. */
#ifndef BURSAR_TESTS_LEDGER_BUILD_H
#define BURSAR_TESTS_LEDGER_BUILD_H

#include "ledger/layout.h"

#include <stddef.h>

#define LEDGER_BUILD_SITES 256
#define LEDGER_BUILD_TICKS 64

struct ledger_build_held {
  uint64_t bytes, blocks;
};

struct ledger_build {
  struct bursar_header header;
  struct bursar_books books;
  struct bursar_counts counts; /* numbers of items are filled in by ledger_build_file unless counts_fixed */
  int counts_fixed;
  char *strings;
  uint32_t string_bytes;
  struct bursar_code *codes;
  uint32_t code_count;
  struct bursar_node *nodes;
  uint32_t node_count;
  struct bursar_site sites[LEDGER_BUILD_SITES];
  struct bursar_site_facts facts[LEDGER_BUILD_SITES];
  uint32_t site_count;
  struct bursar_tick ticks[LEDGER_BUILD_TICKS];
  uint32_t tick_count;
  struct bursar_undo *undos;
  uint32_t undo_count;
  struct bursar_scope_name *scope_names;
  uint32_t scope_name_count;
  struct bursar_scope *scopes; /* the first is none */
  uint32_t scope_count;
  struct bursar_event *events; /* a ring of whole extents, where counts.events says that there were more */
  uint32_t event_count;
  uint64_t now_ns;
  /* What must come out. */
  struct ledger_build_held at_tick[LEDGER_BUILD_TICKS][LEDGER_BUILD_SITES];
  struct ledger_build_held at_peak[LEDGER_BUILD_SITES];
};

struct ledger_build *ledger_build_new(void);
void ledger_build_free(struct ledger_build *build);

uint32_t ledger_build_string(struct ledger_build *build, const char *bytes, size_t length);
uint32_t ledger_build_code(struct ledger_build *build, const char *name, const char *file, uint32_t first_line);
uint32_t ledger_build_node(struct ledger_build *build, uint32_t parent, uint32_t code, uint32_t line);
uint32_t ledger_build_site(struct ledger_build *build, uint32_t node, uint32_t domain);

/* A scope; the first one stands for names that found no room. */
uint32_t ledger_build_scope_name(struct ledger_build *build, const char *name);
/* An entry of it, in a slot of its own, with figures in lane GIL. */
uint32_t ledger_build_scope(struct ledger_build *build, uint32_t name, uint32_t parent, enum bursar_scope_state state,
                            uint64_t allocated, uint64_t live);
void ledger_build_event(struct ledger_build *build, uint64_t time_ns, enum bursar_event_kind kind, uint32_t scope,
                        uint64_t bytes, const char *text);

/* One event of lane GIL, or of lane FREE where the site is below BURSAR_SITE_FIRST. */
void ledger_build_alloc(struct ledger_build *build, uint32_t site, uint64_t bytes);
void ledger_build_release(struct ledger_build *build, uint32_t site, uint64_t bytes);
void ledger_build_tick(struct ledger_build *build, uint64_t time_ns, uint32_t flags);

/* A file in memory that holds it; the descriptor is the caller's. */
int ledger_build_file(struct ledger_build *build);
/* The same, cut to so many bytes. */
int ledger_build_file_cut(struct ledger_build *build, uint64_t bytes);

/* A small program: start-up, main with three functions and a leak, threads outside the GIL, a peak and an end tick. */
struct ledger_build *ledger_build_example(void);

#endif
