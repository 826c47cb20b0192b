/* The reader: whole ledgers, unfinished events, damage of every kind, and files that are no ledgers. */
#include "ledger/reader.h"
#include "ledger_build.h"
#include "prim/prim.h"
#include "tap.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct bursar_error error;

static struct bursar_reader *open_build(struct ledger_build *b) {
  struct bursar_reader *reader = NULL;
  int fd = ledger_build_file(b);
  error.text[0] = 0;
  (void)!bursar_reader_open_fd(fd, "test.bursar", &reader, &error);
  close(fd);
  return reader;
}

static bool has_note(const struct bursar_reader *reader, const char *part) {
  for (uint32_t i = 0; reader && i < reader->note_count; i++)
    if (strstr(reader->note[i], part))
      return true;
  for (uint32_t i = 0; reader && i < reader->note_count; i++)
    printf("# note: %s\n", reader->note[i]);
  return false;
}

static uint64_t live_total(const struct bursar_reader *reader) {
  uint64_t live = 0;
  for (int i = 0; i < BURSAR_DOMAIN_COUNT; i++)
    live += reader->total[i].alloc_bytes - reader->total[i].free_bytes;
  return live;
}

static void test_whole(void) {
  static char longest[10000];
  struct ledger_build *b = ledger_build_example();
  memset(longest, 'w', sizeof longest);
  uint32_t text = ledger_build_string(b, longest, sizeof longest);
  struct bursar_reader *reader = open_build(b);
  if (OK(reader != NULL, "a whole ledger opens (%s)", error.text)) {
    EQ(reader->note_count, 0);
    EQ(reader->life, BURSAR_LIFE_ENDED);
    EQ(live_total(reader), 5000 + 800 + 1024);
    EQ(reader->unmatched_bytes, 0);
    EQ(reader->ticks, 4);
    EQ(reader->time_ns, 3500000000);
    EQ(bursar_reader_string(reader, text).length, 4096);
    OK(!reader->completed_event, "nothing was under way");
    struct bursar_text name = bursar_reader_string(reader, reader->code[2].name);
    OK(name.length == 4 && memcmp(name.bytes, "load", 4) == 0, "a name reads");
    OK(!bursar_reader_string(reader, 0).bytes && !bursar_reader_string(reader, 5).bytes &&
           !bursar_reader_string(reader, UINT32_MAX).bytes && !bursar_reader_string(reader, UINT32_MAX - 3).bytes,
       "what is no string is unknown");
  }
  bursar_reader_free(reader);
  bursar_reader_free(NULL);
  ledger_build_free(b);
}

/* Killed after each store of an event: site bytes, site count, total bytes, total count. */
static void cut_after(unsigned stores, bool release, uint64_t size) {
  struct ledger_build *b = ledger_build_example();
  const uint32_t site = BURSAR_SITE_FIRST;
  uint64_t before = 5000 + 800 + 1024;
  b->counts.state = BURSAR_STATE_OPEN;
  b->books.intent = (size < UINT32_MAX ? size : UINT32_MAX) << 32 | (site + 1) << 6 | 32;
  struct bursar_tally *total = &b->books.gil[b->facts[site].domain];
  uint64_t *slots[2][4] = {{&b->sites[site].alloc_bytes, &b->sites[site].allocs, &total->alloc_bytes, &total->allocs},
                           {&b->sites[site].free_bytes, &b->sites[site].frees, &total->free_bytes, &total->frees}};
  uint64_t frees = total->frees, allocs = total->allocs;
  for (unsigned i = 0; i < stores; i++)
    *slots[release][i] += i % 2 ? 1 : size;
  struct bursar_reader *reader = open_build(b);
  uint64_t want = stores == 0 ? before : release ? before - size : before + size;
  bool good = reader && live_total(reader) == want && reader->unmatched_bytes == 0 && reader->life == BURSAR_LIFE_CUT &&
              reader->completed_event == (stores > 0 && stores < 4) &&
              reader->total[BURSAR_DOMAIN_MEM].allocs == allocs + (stores && !release) &&
              reader->total[BURSAR_DOMAIN_MEM].frees == frees + (stores && release) &&
              reader->site[site].allocs == 1u + (stores && !release) && reader->site[site].frees == (stores && release);
  OK(good, "a %s of %llu cut after %u stores is completed", release ? "release" : "request", (unsigned long long)size,
     stores);
  bursar_reader_free(reader);
  ledger_build_free(b);
}

static void test_cut_events(void) {
  for (unsigned stores = 0; stores <= 4; stores++) {
    cut_after(stores, false, 48);
    cut_after(stores, true, 48);
    cut_after(stores, false, 5000000000);
  }
  struct ledger_build *b = ledger_build_example();
  b->counts.state = BURSAR_STATE_OPEN;
  b->sites[BURSAR_SITE_FIRST + 1].alloc_bytes += 100;
  b->books.intent = 0;
  struct bursar_reader *reader = open_build(b);
  OK(reader && reader->unmatched_bytes == 100 && has_note(reader, "differ by 100 bytes"),
     "a difference that no event explains is told");
  bursar_reader_free(reader);
  ledger_build_free(b);
}

static void test_no_ledgers(void) {
  struct bursar_reader *reader = NULL;
  int fd = memfd_create("empty", MFD_CLOEXEC);
  OK(bursar_reader_open_fd(fd, "x", &reader, &error) == BURSAR_FAILED && !reader, "an empty file is refused");
  HAS(error.text, "empty");
  OK(write(fd, "hello, world", 12) == 12 && bursar_reader_open_fd(fd, "x", &reader, &error) == BURSAR_FAILED,
     "a short text is refused");
  HAS(error.text, "not a ledger");
  OK(ftruncate(fd, 1 << 20) == 0 && bursar_reader_open_fd(fd, "x", &reader, &error) == BURSAR_FAILED,
     "a long file is refused");
  HAS(error.text, "not a ledger");
  close(fd);
  OK(bursar_reader_open("/", &reader, &error) == BURSAR_FAILED, "a folder is refused");
  HAS(error.text, "a directory");
  OK(bursar_reader_open("/nonexistent/\x1b[1m", &reader, &error) == BURSAR_FAILED, "a file that is not there");
  HAS(error.text, "\\x1b[1m: No such file");
  setenv("BURSAR_DIR", "/nonexistent", 1);
  OK(bursar_reader_open("999999999", &reader, &error) == BURSAR_FAILED && !reader, "a process without a ledger");
  HAS(error.text, "999999999");
}

static void refused(struct ledger_build *b, const char *part) {
  struct bursar_reader *reader = open_build(b);
  OK(!reader && strstr(error.text, part), "refused: %s", part);
  if (!strstr(error.text, part))
    printf("# got: %s\n", error.text);
  bursar_reader_free(reader);
  ledger_build_free(b);
}

static void test_bad_heads(void) {
  struct ledger_build *b = ledger_build_example();
  b->header.version = 4;
  refused(b, "format 4, and this bursar reads up to 3");
  b = ledger_build_example();
  b->header.version = 1;
  refused(b, "format 1, of a bursar that was never released");
  b = ledger_build_example();
  b->header.endian = 0x04030201;
  refused(b, "byte order");
  b = ledger_build_example();
  b->counts.state = BURSAR_STATE_RESERVED;
  refused(b, "never started its books");
  b = ledger_build_example();
  b->header.extent_bytes = 12345;
  refused(b, "damaged in its first pages");
  b = ledger_build_example();
  b->header.extents_max = 1u << 20;
  refused(b, "damaged in its first pages");
  b = ledger_build_example();
  b->counts.state = 99;
  refused(b, "damaged in its first pages");
  b = ledger_build_example();
  int fd = ledger_build_file_cut(b, 5000);
  struct bursar_reader *reader = NULL;
  OK(bursar_reader_open_fd(fd, "x", &reader, &error) == BURSAR_FAILED && strstr(error.text, "truncated"),
     "a ledger without its head pages is refused");
  close(fd);
  ledger_build_free(b);
}

/* Every cut between extents leaves something that reads, and says what is gone. */
static void test_truncated(void) {
  for (uint64_t kib = 64; kib < 512; kib += 31) {
    struct ledger_build *b = ledger_build_example();
    struct bursar_reader *reader = NULL;
    int fd = ledger_build_file_cut(b, kib * 1024);
    int status = bursar_reader_open_fd(fd, "x", &reader, &error);
    OK(status == 0 && has_note(reader, "truncated"), "cut to %llu KiB it reads and says so", (unsigned long long)kib);
    bursar_reader_free(reader);
    close(fd);
    ledger_build_free(b);
  }
}

static void test_damage(void) {
  struct ledger_build *b = ledger_build_example();
  b->nodes[6].parent = 6;
  b->nodes[7].code = 12345;
  struct bursar_reader *reader = open_build(b);
  OK(has_note(reader, "2 of 8 stack nodes are damaged"), "damaged nodes are counted");
  OK(reader && reader->node[6].parent == 0 && reader->node[7].code == BURSAR_READER_NONE, "and cut off");
  bursar_reader_free(reader);
  ledger_build_free(b);

  b = ledger_build_example();
  b->sites[BURSAR_SITE_FIRST].free_bytes = b->sites[BURSAR_SITE_FIRST].alloc_bytes + 1;
  b->facts[BURSAR_SITE_FIRST + 1].domain = 77;
  b->facts[BURSAR_SITE_FIRST + 2].node = 4000000000u;
  reader = open_build(b);
  OK(has_note(reader, "3 of 10 sites are damaged"), "damaged sites are counted");
  OK(has_note(reader, "differ by"), "and missed in the sums");
  OK(reader && reader->site[BURSAR_SITE_FIRST].allocs == 0 && reader->site[BURSAR_SITE_FIRST + 3].allocs == 1,
     "what is sound stays");
  bursar_reader_free(reader);
  ledger_build_free(b);

  b = ledger_build_example();
  b->codes[1].name = 3;
  b->codes[2].file = 0xfffffff0;
  b->counts.main_file = 2;
  b->facts[BURSAR_SITE_FIRST].type = 1;
  reader = open_build(b);
  OK(has_note(reader, "2 of 4 functions are damaged") && has_note(reader, "main file") &&
         has_note(reader, "type names"),
     "damaged names are told");
  bursar_reader_free(reader);
  ledger_build_free(b);

  b = ledger_build_example();
  b->ticks[1].first_undo = 999;
  b->ticks[2].time_ns = UINT64_MAX;
  b->undos[0].site = 1u << 31;
  reader = open_build(b);
  OK(has_note(reader, "2 of 4 points in time") && has_note(reader, "journal records"), "a damaged journal is told");
  EQ(reader ? reader->ticks : 0, 2);
  bursar_reader_free(reader);
  ledger_build_free(b);

  b = ledger_build_example();
  b->books.gil[0].alloc_bytes = UINT64_MAX;
  reader = open_build(b);
  OK(has_note(reader, "the totals are damaged") && live_total(reader) == 5000 + 800 + 1024,
     "damaged totals come from the sites");
  bursar_reader_free(reader);
  ledger_build_free(b);
}

static void test_counts_lie(void) {
  struct ledger_build *b = ledger_build_example();
  b->counts_fixed = 1;
  b->counts.extents = UINT32_MAX;
  b->counts.string_bytes = b->counts.codes = b->counts.nodes = b->counts.sites = UINT32_MAX;
  b->counts.ticks[0] = b->counts.undos[0] = UINT32_MAX;
  struct bursar_reader *reader = open_build(b);
  OK(reader && has_note(reader, "extents is damaged") && has_note(reader, "sites are lost"),
     "counts beyond the file are cut");
  bursar_reader_free(reader);
  b->counts = (struct bursar_counts){.state = BURSAR_STATE_OPEN, .journal = 1};
  reader = open_build(b);
  OK(reader && reader->nodes == BURSAR_NODE_FIRST && reader->sites == BURSAR_SITE_FIRST,
     "counts of nothing give nothing");
  bursar_reader_free(reader);
  ledger_build_free(b);
}

/* A parent chain through every node: the depth is bounded, so that walks are. */
static void test_endless_stack(void) {
  struct ledger_build *b = ledger_build_example();
  uint32_t node = BURSAR_NODE_MAIN;
  for (uint32_t i = 0; i < BURSAR_DEPTH_MAX - 1; i++)
    node = ledger_build_node(b, node, 1, 1);
  struct bursar_reader *reader = open_build(b);
  OK(reader && !has_note(reader, "damaged"), "the deepest stack that is written is read");
  bursar_reader_free(reader);
  (void)ledger_build_node(b, ledger_build_node(b, node, 1, 1), 1, 1);
  reader = open_build(b);
  OK(has_note(reader, "1 of 524297 stack nodes are damaged"), "a deeper one is cut once");
  bursar_reader_free(reader);
  ledger_build_free(b);
}

/* This process writes: alive, with the file mapped or not. */
static void test_running(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_identity me;
  struct bursar_reader *reader = NULL;
  OK(bursar_prim_identity(0, &me) == 0, "this process is known");
  b->counts.state = BURSAR_STATE_OPEN;
  b->header.pid = (uint32_t)getpid();
  b->header.process_start = me.process_start;
  b->header.pid_namespace = me.pid_namespace;
  memcpy(b->header.boot_id, me.boot_id, 16);
  b->header.started_mono_ns = bursar_prim_now() - 10000000000u;
  int fd = ledger_build_file(b);
  OK(bursar_reader_open_fd(fd, "x", &reader, &error) == 0 && reader->life == BURSAR_LIFE_CUT,
     "its process no longer maps it: the books were cut");
  bursar_reader_free(reader);
  reader = NULL;
  void *map = mmap(NULL, BURSAR_EXTENT_MIN, PROT_READ, MAP_SHARED, fd, 0);
  OK(bursar_reader_open_fd(fd, "x", &reader, &error) == 0 && reader->life == BURSAR_LIFE_RUNNING,
     "its process maps it: it runs");
  OK(reader && reader->time_ns > 9000000000u && reader->moved_events == 0, "and its last instant is now");
  bursar_reader_free(reader);
  munmap(map, BURSAR_EXTENT_MIN);
  close(fd);
  b->header.process_start++;
  reader = open_build(b);
  OK(reader && reader->life == BURSAR_LIFE_CUT, "another process with that pid is not believed");
  bursar_reader_free(reader);
  ledger_build_free(b);
}

int main(void) {
  test_whole();
  test_cut_events();
  test_no_ledgers();
  test_bad_heads();
  test_truncated();
  test_damage();
  test_counts_lie();
  test_endless_stack();
  test_running();
  return tap_done();
}
