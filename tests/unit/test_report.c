/* The model against a slow one, and every view of a small ledger, hostile names included. */
#include "base/buffer.h"
#include "ledger_build.h"
#include "report/diff.h"
#include "report/holders.h"
#include "report/json.h"
#include "report/output.h"
#include "report/source.h"
#include "report/summary.h"
#include "report/trie.h"
#include "report/views.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct bursar_error error;

static struct bursar_model *open_build(struct ledger_build *b) {
  struct bursar_reader *reader = NULL;
  struct bursar_model *model = NULL;
  int fd = ledger_build_file(b);
  if (bursar_reader_open_fd(fd, "test.bursar", &reader, &error) != 0 ||
      bursar_model_load(reader, &model, &error) != 0) {
    printf("Bail out! %s\n", error.text);
    exit(1);
  }
  close(fd);
  return model;
}

static const struct bursar_model_site *find(const struct bursar_model *model, uint32_t ledger) {
  for (uint32_t i = 0; i < model->site_count; i++)
    if (model->sites[i].ledger == ledger)
      return &model->sites[i];
  return NULL;
}

static char *print_view(struct bursar_model *model, enum bursar_views_kind kind, bool colour, unsigned width);

/* --- the model --------------------------------------------------------------------------------------------------- */

static void test_example(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_model *model = open_build(b);
  EQ(model->peak_bytes, 5000 + 300 + 70000 + 1024 + 90000);
  EQ(model->peak_time_ns, 1000000000);
  EQ(model->live.bytes, 5000 + 300 + 800 + 1024);
  EQ(model->live_time_ns, 3000000000);
  EQ(model->run_ns, 3500000000);
  EQ(model->allocations, 6);
  EQ(model->frees, 3);
  EQ(model->allocated_bytes, 5000 + 300 + 70000 + 1024 + 90000 + 800);
  EQ(model->temporaries, 7);
  EQ(model->outside_bytes, 1024);
  EQ(model->site_count, 5);
  OK(model->complete && !model->running && model->live_error_bytes == 0, "a closed ledger is complete");
  EQ(model->sites[0].peak.bytes, 90000);
  EQ(model->sites[0].ledger, BURSAR_SITE_FIRST + 3);
  OK(!find(model, BURSAR_SITE_FIRST)->leak && find(model, BURSAR_SITE_FIRST)->root == BURSAR_NODE_STARTUP,
     "start-up's blocks are no leaks");
  OK(find(model, BURSAR_SITE_FIRST + 1)->leak && find(model, BURSAR_SITE_FIRST + 2)->leak &&
         !find(model, BURSAR_SITE_FIRST + 3)->leak,
     "main's are, where they live at the end");
  EQ(find(model, BURSAR_SITE_FIRST + 1)->live.bytes, 300);
  OK(find(model, 2)->outside && find(model, 2)->peak.bytes == 1024 && find(model, 2)->peak.blocks == 1 &&
         find(model, 2)->live.blocks == BURSAR_MODEL_UNKNOWN,
     "what was allocated outside the GIL is a site of its own");
  EQ(bursar_model_choose(model, BURSAR_MODEL_TIME, 3600000000, &error), BURSAR_MISUSE);
  HAS(error.text, "outside the run, which lasted 3.500 s");
  EQ(bursar_model_choose(model, BURSAR_MODEL_TIME, 500, &error), 0);
  EQ(model->at.bytes, 0);
  EQ(bursar_model_choose(model, BURSAR_MODEL_TIME, 2500000000, &error), 0);
  EQ(model->at.bytes, 5000 + 300 + 90000 + 1024);
  EQ(model->at_time_ns, 2000000000);
  bursar_model_free(model);

  b->counts.end_tick = 0;
  b->counts.state = BURSAR_STATE_OPEN;
  model = open_build(b);
  OK(!model->complete && model->live.bytes == 5000 + 800 + 1024, "a killed program's end is its last state");
  bursar_model_free(model);
  ledger_build_free(b);
  bursar_model_free(NULL);
}

static uint64_t dice;
static uint32_t roll(uint32_t sides) {
  dice = dice * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(dice >> 33) % sides;
}

/* What the sites of the ledger held together that are one in the model: those of one stack and domain, in both lanes. */
static struct ledger_build_held together(const struct ledger_build *b, const struct bursar_model_site *site,
                                         const struct ledger_build_held *held) {
  struct ledger_build_held sum = {0, 0};
  for (uint32_t i = 0; i < b->site_count; i++)
    if (b->facts[i].node == site->node && b->facts[i].domain == site->domain &&
        (i < BURSAR_SITE_FIRST) == site->outside)
      sum = (struct ledger_build_held){sum.bytes + held[i].bytes, sum.blocks + held[i].blocks};
  return sum;
}

/* A random life of 40 sites: what the model says of each tick, the peak and the end must be what was noted on the way. */
static void run_random(uint64_t seed) {
  enum { SITES = 40 };
  struct ledger_build *b = ledger_build_new();
  uint64_t blocks[LEDGER_BUILD_SITES] = {0}; /* each site's blocks have one size */
  struct ledger_build_held last[LEDGER_BUILD_SITES] = {{0, 0}};
  bool good = true;
  dice = seed;
  for (uint32_t i = 0; i < SITES / 2; i++)
    ledger_build_site(b, i % BURSAR_NODE_FIRST, i % BURSAR_DOMAIN_COUNT);
  for (uint32_t k = 0; k < 30; k++) {
    ledger_build_tick(b, (k + 1) * 1000000, k == 25 ? BURSAR_TICK_END : 0);
    for (uint32_t n = roll(60); n > 0; n--) {
      uint32_t site = roll(b->site_count);
      if (b->site_count < SITES + BURSAR_SITE_FIRST && roll(10) == 0)
        site = ledger_build_site(b, site % BURSAR_NODE_FIRST, site % BURSAR_DOMAIN_COUNT);
      if (roll(100) < (k < 15 ? 60 : 40)) {
        ledger_build_alloc(b, site, 16 + site * 8);
        blocks[site]++;
      } else if (blocks[site]) {
        ledger_build_release(b, site, 16 + site * 8);
        blocks[site]--;
      }
    }
  }
  b->counts.stopped_ns = 40000000;
  struct bursar_model *model = open_build(b);
  struct bursar_held *held = calloc(model->site_count, sizeof *held);
  uint64_t peak = 0;
  for (uint32_t k = 0; k < 30 && held; k++) {
    good = good && bursar_model_at(model, (k + 1) * 1000000 + 5, held) == (k + 1) * 1000000u;
    for (uint32_t i = 0; i < model->site_count; i++) {
      struct ledger_build_held want = together(b, &model->sites[i], b->at_tick[k]);
      good = good && held[i].bytes == want.bytes && (model->sites[i].outside || held[i].blocks == want.blocks);
    }
  }
  OK(good && model->reader->note_count == 0, "seed %llu: every tick is as it was", (unsigned long long)seed);
  for (uint32_t k = 0; k < 5; k++) /* as where the writer gave up what sites held then */
    model->ticks[k].whole = false;
  EQ(bursar_model_at(model, 1000005, held), 6000000u);
  good = true;
  bool peak_is_last = model->peak_bytes != b->books.peak;
  for (uint32_t i = 0; i < b->site_count; i++)
    last[i].blocks = blocks[i];
  for (uint32_t i = 0; i < model->site_count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    struct ledger_build_held at_peak = together(b, site, b->at_peak);
    peak += site->peak.bytes;
    good = good && site->live.bytes == together(b, site, b->at_tick[25]).bytes;
    good = good && (peak_is_last || site->peak.bytes == at_peak.bytes);
    good = good && (peak_is_last || site->peak.blocks == at_peak.blocks);
    good = good && model->last[i].blocks == together(b, site, last).blocks;
  }
  OK(good, "seed %llu: so are the peak, the end and the last state", (unsigned long long)seed);
  EQ(peak, model->peak_bytes);
  free(held);
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_peak_at_the_end(void) {
  struct ledger_build *b = ledger_build_example();
  b->now_ns = 3200000000;
  ledger_build_alloc(b, 4, 1000000);
  struct bursar_model *model = open_build(b);
  EQ(model->peak_bytes, 5000 + 800 + 1024 + 1000000);
  EQ(model->peak_time_ns, 3500000000);
  EQ(model->sites[0].peak.bytes, 1000000);
  bursar_model_free(model);
  ledger_build_free(b);
}

/* A block that was freed outside the GIL after the peak is missing from its site then: the error is told. */
static void test_remote_free(void) {
  struct ledger_build *b = ledger_build_example();
  b->books.remote[BURSAR_DOMAIN_MEM].free_bytes = b->facts[BURSAR_SITE_FIRST].remote_free_bytes = 2000;
  b->books.remote[BURSAR_DOMAIN_MEM].frees = b->facts[BURSAR_SITE_FIRST].remote_frees = 1;
  struct bursar_model *model = open_build(b);
  EQ(model->reader->note_count, 0);
  EQ(model->peak_bytes, 166324);
  EQ(model->peak_error_bytes, 2000);
  EQ(find(model, BURSAR_SITE_FIRST)->live.bytes, 3000);
  char *text = print_view(model, BURSAR_VIEWS_TABLE, false, 100);
  HAS(text, "may be off by 1.95 KiB: threads allocated without the GIL");
  free(text);
  bursar_model_free(model);
  b->books.free_high = 170000;
  model = open_build(b);
  EQ(model->peak_error_bytes, 170000 - 166324);
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_sort(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_model *model = open_build(b);
  struct bursar_held held[8], again[8];
  bursar_model_at(model, 2000000000, held);
  uint64_t largest = held[0].bytes;
  EQ(bursar_model_sort(model, BURSAR_MODEL_BY_LIVE, &error), 0);
  OK(model->sites[0].live.bytes >= model->sites[1].live.bytes && model->sites[0].ledger == BURSAR_SITE_FIRST,
     "sorted by live");
  bursar_model_at(model, 2000000000, again);
  uint32_t at = 0;
  while (model->sites[at].ledger != BURSAR_SITE_FIRST + 3)
    at++;
  OK(largest == 90000 && again[at].bytes == largest, "the journal follows its sites");
  bursar_model_free(model);
  ledger_build_free(b);
}

/* --- views ------------------------------------------------------------------------------------------------------- */

/* Prints a view into memory, and checks what holds for all of them. */
static char *print_view(struct bursar_model *model, enum bursar_views_kind kind, bool colour, unsigned width) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 1u << 20);
  struct bursar_view view = {.model = model, .out = &out, .width = width, .colour = colour, .when = BURSAR_MODEL_PEAK};
  bool good = bursar_model_choose(model, BURSAR_MODEL_PEAK, 0, &error) == 0 &&
              bursar_views_print(model, kind, &view, &error) == 0 && out.failed == 0;
  OK(good, "%s prints", bursar_views_names[kind]);
  return out.data;
}

static bool is_clean(const char *text, bool colour) {
  for (const unsigned char *at = (const unsigned char *)text; *at; at++)
    if (*at != '\n' && (*at < 0x20 || *at == 0x7f) && !(colour && *at == 0x1b))
      return false;
  return true;
}

static void test_views(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_model *model = open_build(b);
  static const struct {
    enum bursar_views_kind kind;
    const char *has[4];
  } wants[] = {
      {BURSAR_VIEWS_TABLE,
       {"peak 162 KiB at 1.000 s of 3.500 s", "merge pandas/core/frame.py:120", "54.1 %", "python.raw"}},
      {BURSAR_VIEWS_TREE, {"(main)", "<module> train.py:20", "load data.py:12", "below 1 % (1.62 KiB) hidden"}},
      {BURSAR_VIEWS_LINES, {"pandas/core/frame.py:120 \xe2\x86\x90 data.py:12", "train.py:20", "87.9 KiB", "156 KiB"}},
      {BURSAR_VIEWS_FLAME,
       {"\xe2\x94\x82"
        "all",
        "load data.py:12", "merge", "callers above"}},
      {BURSAR_VIEWS_LEAKS, {"load data.py:12", "800 B", "1.07 KiB in all", "72.7 %"}},
      {BURSAR_VIEWS_TEMPORARY, {"100.0 %", "load data.py:12", "7", "next 1"}},
  };
  for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
    char *text = print_view(model, wants[i].kind, false, 100);
    for (int k = 0; k < 4; k++)
      HAS(text, wants[i].has[k]);
    OK(is_clean(text, false), "no control characters");
    free(text);
    text = print_view(model, wants[i].kind, true, 60);
    HAS(text, "\033[0m");
    free(text);
  }
  bursar_model_free(model);
  ledger_build_free(b);
}

/* What an import allocates names who imports, in 80 columns, and not five frames of the machinery. */
static void test_imports(void) {
  struct ledger_build *b = ledger_build_new();
  static const char *const steps[] = {"_find_and_load", "_load_unlocked", "exec_module", "get_code"};
  uint32_t node = ledger_build_node(b, BURSAR_NODE_MAIN, ledger_build_code(b, "<module>", "/app/shop.py", 1), 3);
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
    node = ledger_build_node(b, node, ledger_build_code(b, steps[i], "<frozen importlib._bootstrap>", 1), 100);
  uint32_t inner = ledger_build_node(b, node, ledger_build_code(b, "<module>", "/app/till.py", 1), 7);
  uint32_t sites[] = {ledger_build_site(b, node, 0), ledger_build_site(b, inner, 0)};
  ledger_build_tick(b, 1000, 0);
  ledger_build_alloc(b, sites[0], 4096);
  ledger_build_alloc(b, sites[1], 1024);
  struct bursar_model *model = open_build(b);
  char *text = print_view(model, BURSAR_VIEWS_TABLE, false, 80);
  HAS(text, "  get_code \xe2\x86\x90 \xe2\x80\xa6 \xe2\x86\x90 /app/shop.py:3\n");
  HAS(text, "  <module> /app/till.py:7 \xe2\x86\x90 \xe2\x80\xa6\n");
  free(text);
  text = print_view(model, BURSAR_VIEWS_TABLE, false, 120);
  HAS(text, "  <module> /app/till.py:7 \xe2\x86\x90 \xe2\x80\xa6 \xe2\x86\x90 <module> /app/shop.py:3\n");
  free(text);
  bursar_model_free(model);
  ledger_build_free(b);
}

/* Names that must be only text: in a terminal, in JSON. */
static void test_hostile(void) {
  struct ledger_build *b = ledger_build_new();
  uint32_t code = ledger_build_code(b, "<script>\x1b]0;owned\x07\n\xff\xe2\x80\xae", "/a/\x1b[2J\"}];\\.py", 1);
  uint32_t node = ledger_build_node(b, BURSAR_NODE_MAIN, code, 7);
  uint32_t site = ledger_build_site(b, node, 0);
  strcpy(b->header.python_version, "3\x1b[31m");
  b->facts[site].type = ledger_build_string(b, "di\nct\0<", 7);
  ledger_build_tick(b, 1000, 0);
  ledger_build_alloc(b, site, 4096);
  b->sites[site].temporaries = 1;
  b->counts.stopped_ns = 5000;
  struct bursar_model *model = open_build(b);
  for (int kind = 0; kind < BURSAR_VIEWS_COUNT; kind++) {
    char *text = print_view(model, (enum bursar_views_kind)kind, false, 120);
    OK(is_clean(text, false) && !strstr(text, "\xe2\x80\xae") && !strstr(text, "\xff"), "only text");
    free(text);
  }
  struct bursar_buffer out;
  bursar_buffer_init(&out, 1u << 20);
  EQ(bursar_json_write(model, BURSAR_VIEWS_TABLE, BURSAR_MODEL_END, &out, &error), 0);
  OK(is_clean(out.data, false) && !strchr(out.data, '<'), "JSON has no control characters and no markup");
  HAS(out.data, "\"type\":\"di\\u000act\\u0000\\u003c\"");
  HAS(out.data, "\"line\":7,\"native\":false");
  bursar_buffer_free(&out);
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_json(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_model *model = open_build(b);
  struct bursar_buffer out;
  bursar_buffer_init(&out, 1u << 20);
  EQ(bursar_json_write(model, BURSAR_VIEWS_TABLE, BURSAR_MODEL_END, &out, &error), 0);
  static const char *const wants[] = {"\"schema\":1",
                                      "\"peak_bytes\":166324",
                                      "\"peak_time_s\":1.000000000",
                                      "\"live_bytes\":7124",
                                      "\"allocations\":6",
                                      "\"frees\":3",
                                      "\"allocated_bytes\":167124",
                                      "\"mode\":\"exact\"",
                                      "\"complete\":true",
                                      "\"folded_sites\":0",
                                      "\"unresolved_frames\":0",
                                      "\"type\":null",
                                      "\"live_blocks\":null,\"peak_blocks\":1",
                                      "\"stack\":[{\"function\":\"merge\",\"file\":\"/usr/lib/python3/dist-packages/"
                                      "pandas/core/frame.py\",\"line\":120,"
                                      "\"native\":false},{\"function\":\"load\""};
  for (size_t i = 0; i < sizeof wants / sizeof *wants; i++)
    HAS(out.data, wants[i]);
  bursar_buffer_free(&out);
  bursar_buffer_init(&out, 1u << 20);
  EQ(bursar_json_write(model, BURSAR_VIEWS_LEAKS, BURSAR_MODEL_END, &out, &error), 0);
  HAS(out.data, "\"leak\":true");
  HAS_NOT(out.data, "\"leak\":false");
  bursar_buffer_free(&out);
  bursar_buffer_init(&out, 100);
  EQ(bursar_json_write(model, BURSAR_VIEWS_TABLE, BURSAR_MODEL_END, &out, &error), 0);
  OK(bursar_buffer_finish(&out) < 0, "a full buffer is told");
  bursar_buffer_free(&out);
  bursar_model_free(model);
  ledger_build_free(b);
}

/* Recursion: a line that is its own caller counts once; functions defined twice are one. */
static void test_merging(void) {
  struct ledger_build *b = ledger_build_new();
  uint32_t first = ledger_build_code(b, "walk", "/app/a.py", 1), second = ledger_build_code(b, "walk", "/app/a.py", 1);
  uint32_t outer = ledger_build_node(b, BURSAR_NODE_MAIN, first, 5), inner = ledger_build_node(b, outer, second, 5);
  uint32_t other = ledger_build_node(b, BURSAR_NODE_MAIN, second, 5);
  uint32_t sites[] = {ledger_build_site(b, outer, 0), ledger_build_site(b, inner, 0), ledger_build_site(b, other, 0)};
  for (int i = 0; i < 3; i++)
    ledger_build_alloc(b, sites[i], 100);
  b->counts.stopped_ns = 5000;
  struct bursar_model *model = open_build(b);
  struct bursar_holders holders;
  struct bursar_trie trie;
  EQ(bursar_holders_find(model, &holders, &error), 0);
  EQ(holders.lines[0].own.bytes, 300);
  EQ(holders.lines[0].all.bytes, 300);
  EQ(bursar_trie_build(model, BURSAR_TRIE_AT, &trie, &error), 0);
  EQ(trie.nodes[trie.of[outer]].all.bytes, 300);
  OK(trie.of[outer] == trie.of[other] && trie.of[outer] != trie.of[inner], "functions that read the same are one");
  uint32_t nodes = 0;
  for (uint32_t at = bursar_trie_next(&trie, 0); at; at = bursar_trie_next(&trie, at))
    nodes++;
  EQ(nodes, 3);
  bursar_trie_free(&trie);
  bursar_holders_free(&holders);
  bursar_model_free(model);
  ledger_build_free(b);
}

/* --- diff, files, the summary ------------------------------------------------------------------------------------ */

static void test_diff(void) {
  struct ledger_build *b = ledger_build_example(), *c = ledger_build_example();
  c->now_ns = 3400000000;
  c->counts.folded_sites = 3;
  ledger_build_alloc(c, BURSAR_SITE_FIRST + 2, 200000);
  struct bursar_model *before = open_build(b), *after = open_build(c);
  struct bursar_diff diff;
  struct bursar_buffer out;
  EQ(bursar_diff_make(before, before, &diff, &error), 0);
  EQ(bursar_diff_growth(&diff), 0);
  bursar_buffer_init(&out, 1u << 20);
  struct bursar_view view = {.model = after, .out = &out, .width = 100};
  bursar_diff_print(&diff, &view);
  HAS(out.data, "no site changed");
  bursar_buffer_free(&out);
  bursar_diff_free(&diff);
  EQ(bursar_diff_make(before, after, &diff, &error), 0);
  EQ(bursar_diff_growth(&diff), 206824 - 166324);
  EQ(diff.rows[0].after.bytes - diff.rows[0].before.bytes, 200800 - 70000);
  bursar_buffer_init(&out, 1u << 20);
  bursar_diff_print(&diff, &view);
  HAS(out.data, "+128 KiB  68.4 KiB   196 KiB  python.obj  load data.py:12");
  const char *warned =
      strstr(out.data, "\n  ! to keep the ledger small, 3 light stacks are charged to their callers\npeak ");
  OK(warned && warned > strstr(out.data, "\nafter "), "what is wrong with a ledger is said below it");
  bursar_buffer_free(&out);
  bursar_buffer_init(&out, 1u << 20);
  bursar_diff_write_json(&diff, &out);
  HAS(out.data, "\"peak_change_bytes\":40500");
  HAS(out.data, "\"change_bytes\":-90000,\"change_blocks\":-1,\"peak_bytes_before\":90000,\"peak_bytes_after\":0");
  bursar_buffer_free(&out);
  bursar_diff_free(&diff);
  bursar_model_free(before);
  bursar_model_free(after);
  ledger_build_free(b);
  ledger_build_free(c);
}

static void refuses_output(const char *path, const char *part) {
  struct bursar_output output;
  OK(bursar_output_open(path, &output, &error) < 0 && strstr(error.text, part), "not written: %s", part);
}

static void test_output(void) {
  char folder[] = "/tmp/bursar-test-XXXXXX", path[64], other[64];
  OK(mkdtemp(folder) != NULL, "a folder");
  snprintf(path, sizeof path, "%s/report", folder);
  snprintf(other, sizeof other, "%s/other", folder);
  struct bursar_output output;
  OK(bursar_output_open(path, &output, &error) == 0 && write(output.fd, "one", 3) == 3, "a new file");
  OK(access(path, F_OK) != 0, "appears only when whole");
  EQ(bursar_output_commit(&output, &error), 0);
  OK(bursar_output_open(path, &output, &error) == 0 && write(output.fd, "half", 4) == 4, "replacing it");
  bursar_output_discard(&output);
  struct stat st;
  OK(stat(path, &st) == 0 && st.st_size == 3, "what failed leaves the old one");
  OK(symlink(path, other) == 0, "a link");
  refuses_output(other, "it is a link");
  refuses_output(folder, "it is a directory");
  refuses_output("/dev/null", "not a regular file");
  refuses_output("/nonexistent/x", "No such file");
  refuses_output("", "name a file");
  unlink(other);
  int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  OK(write(fd, BURSAR_LEDGER_MAGIC "more", 12) == 12, "a ledger");
  close(fd);
  refuses_output(other, "is a ledger");
  unlink(other);
  unlink(path);
  EQ(rmdir(folder), 0);
}

static void test_source(void) {
  char path[] = "/tmp/bursar-test-XXXXXX.py", line[BURSAR_SOURCE_LINE];
  bool changed;
  int fd = mkstemps(path, 3);
  OK(write(fd, "first\n  second = [1]  \r\nlast", 28) == 28, "a source file");
  close(fd);
  struct bursar_text name = {path, (uint32_t)strlen(path)};
  int length = bursar_source_line(name, 2, UINT64_MAX, line, &changed);
  OK(length == 12 && memcmp(line, "second = [1]", 12) == 0 && !changed, "a line without its blanks");
  EQ(bursar_source_line(name, 3, 0, line, &changed), 4);
  OK(changed, "a file younger than the run is told");
  EQ(bursar_source_line(name, 4, 0, line, &changed), -1);
  EQ(bursar_source_line(name, 0, 0, line, &changed), -1);
  unlink(path);
  EQ(bursar_source_line((struct bursar_text){"/etc/passwd", 11}, 1, 0, line, &changed), -1);
  EQ(bursar_source_line((struct bursar_text){NULL, 0}, 1, 0, line, &changed), -1);
}

static void test_summary(void) {
  char path[] = "/tmp/bursar test-XXXXXX", text[4096] = "";
  struct ledger_build *b = ledger_build_example();
  b->counts.folded_sites = 12;
  int from = ledger_build_file(b), to = mkstemp(path), ends[2];
  off_t at = 0;
  for (ssize_t got; (got = pread(from, text, sizeof text, at)) > 0; at += got)
    if (pwrite(to, text, (size_t)got, at) != got)
      break;
  OK(pipe2(ends, O_CLOEXEC) == 0, "a pipe");
  EQ(bursar_summary_print(path, ends[1], &error), 0);
  memset(text, 0, sizeof text);
  OK(read(ends[0], text, sizeof text - 1) > 0, "it prints");
  HAS(text, "bursar: peak 162 KiB at 1.000 s");
  HAS(text, " 54.1 %  87.9 KiB  pandas/core/frame.py:120 merge \xe2\x86\x90 data.py:12");
  HAS(text, "\n  ! to keep the ledger small, 12 light stacks are charged to their callers\n");
  HAS(text, "bursar report '/tmp/bursar test-");
  HAS(text, "' --format html -o report.html");
  unsigned lines = 0;
  for (const char *c = text; *c; c++)
    lines += *c == '\n';
  OK(lines <= 20, "it fits a screen");
  EQ(bursar_summary_print("/nonexistent", ends[1], &error), BURSAR_FAILED);
  unlink(path);
  close(from);
  close(to);
  close(ends[0]);
  close(ends[1]);
  ledger_build_free(b);
}

int main(void) {
  test_example();
  for (uint64_t seed = 1; seed <= 20; seed++)
    run_random(seed);
  test_peak_at_the_end();
  test_sort();
  test_remote_free();
  test_views();
  test_imports();
  test_hostile();
  test_json();
  test_merging();
  test_diff();
  test_output();
  test_source();
  test_summary();
  return tap_done();
}
