/* make_ledger.c: a ledger of N sites made straight from layout.h, for tests of the report page.
 *
 *   make_ledger LEDGER SITES [PAGE]
 *
 * A made-up training run: deep stacks through libraries, memory that rises to a peak and falls, and names that a page
 * must never take for anything but text.  The same SITES give the same ledger.  Prints what it knows to be true, as JSON.
 * With PAGE the report is written as well, as `bursar report --format html -o PAGE` does. */
#include "base/error.h"
#include "ledger/layout.h"
#include "report/html.h"
#include "report/model.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXTENT (1u << 20)
#define TICKS 240u
#define TICK_NS 25000000u
#define DEPTH_MAX 36u
#define MAIN_FILE "/srv/models/churn/train.py"

/* Every one of these must come out as text: markup, an end of script, terminal sequences, broken and long UTF-8, marks
 * that turn text round, nothing at all. */
static const char *const hostile[] = {
    "<script>alert(1)</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=alert(2)>",
    "<!--<script>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "broken\xff\xfe\xc3(utf8",
    "\xe2\x80\xae reversed",
    "line\nbreak\r\ttab",
    "\"quotes\" 'and' \\back\\slashes",
    "&lt;already&amp;escaped&gt;",
    "{{data}} ${x} %s %n",
    "\xe2\x80\xa8separator\xe2\x80\xa9",
    "\xed\xa0\x80surrogate",
    "\xe5\x87\xbd\xe6\x95\xb0_\xd1\x84\xd1\x83\xd0\xbd\xd0\xba\xd1\x86\xd0\xb8\xd1\x8f_\xf0\x9f\x90\x8d",
    "__proto__",
};
#define HOSTILE (sizeof(hostile) / sizeof(hostile[0]))

static const struct {
  const char *file;
  const char *functions[6];
} modules[] = {
    {MAIN_FILE, {"<module>", "main", "train", "score", "cross_validate", "<listcomp>"}},
    {"/srv/models/churn/features.py", {"load_frames", "add_lags", "encode", "join_accounts", "window", "<lambda>"}},
    {"/srv/models/churn/store.py", {"read_rows", "parse", "Row.__init__", "cache", "flush", "merge"}},
    {"/srv/venv/lib/python3.11/site-packages/pandas/core/frame.py",
     {"DataFrame.__init__", "merge", "apply", "_set_item", "join", "reindex"}},
    {"/srv/venv/lib/python3.11/site-packages/pandas/core/groupby/ops.py",
     {"agg_series", "_call_cython_op", "apply", "get_iterator", "_get_splitter", "result_index"}},
    {"/srv/venv/lib/python3.11/site-packages/pandas/core/internals/managers.py",
     {"create_block_manager_from_blocks", "_consolidate", "take", "reindex_indexer", "apply", "copy"}},
    {"/srv/venv/lib/python3.11/site-packages/sklearn/ensemble/_forest.py",
     {"fit", "_parallel_build_trees", "predict_proba", "_accumulate_prediction", "apply", "_make_estimator"}},
    {"/srv/venv/lib/python3.11/site-packages/sklearn/tree/_classes.py",
     {"_fit", "predict", "_validate_X_predict", "apply", "decision_path", "_prune_tree"}},
    {"/srv/venv/lib/python3.11/site-packages/numpy/lib/npyio.py",
     {"load", "savez", "genfromtxt", "loadtxt", "_read", "zipfile_factory"}},
    {"/usr/lib/python3.11/json/decoder.py",
     {"decode", "raw_decode", "JSONObject", "JSONArray", "scanstring", "__init__"}},
    {"/usr/lib/python3.11/threading.py", {"_bootstrap", "_bootstrap_inner", "run", "wait", "start", "join"}},
    {"<frozen importlib._bootstrap>",
     {"_find_and_load", "_find_and_load_unlocked", "_load_unlocked", "_call_with_frames_removed", "module_from_spec",
      "exec_module"}},
};
#define MODULES (sizeof(modules) / sizeof(modules[0]))

struct heap {
  char *bytes;
  size_t used;
  size_t room;
};

/* What one site does: holds `size` bytes from tick `born` to tick `gone`. */
struct life {
  uint64_t size;
  uint32_t blocks;
  uint32_t born;
  uint32_t gone;
};

struct ledger {
  uint32_t site_count;
  uint64_t random;
  struct heap regions[BURSAR_REGION_COUNT];
  uint32_t *depth; /* by node */
  struct life *lives;
  struct bursar_held *held;
  struct bursar_books books;
  struct bursar_counts counts;
};

static void *take(struct heap *heap, size_t bytes) {
  if (heap->used + bytes > heap->room) {
    heap->room = (heap->used + bytes) * 2;
    char *grown = realloc(heap->bytes, heap->room);
    if (!grown)
      abort();
    heap->bytes = grown;
  }
  memset(heap->bytes + heap->used, 0, bytes);
  heap->used += bytes;
  return heap->bytes + heap->used - bytes;
}

static void *region_at(struct ledger *ledger, enum bursar_region region, size_t index, size_t item) {
  return ledger->regions[region].bytes + index * item;
}

/* xorshift64*: the same everywhere. */
static uint32_t draw(struct ledger *ledger, uint32_t below) {
  ledger->random ^= ledger->random >> 12;
  ledger->random ^= ledger->random << 25;
  ledger->random ^= ledger->random >> 27;
  return (uint32_t)((ledger->random * UINT64_C(2685821657736338717)) >> 33) % below;
}

static uint32_t add_string(struct ledger *ledger, const char *text, size_t length) {
  struct heap *heap = &ledger->regions[BURSAR_REGION_STRINGS];
  if (heap->used == 0)
    take(heap, 4); /* offset 0 names nothing */
  uint32_t at = (uint32_t)heap->used;
  char *out = take(heap, 4 + (length + 3) / 4 * 4);
  uint32_t size = (uint32_t)length;
  memcpy(out, &size, 4);
  memcpy(out + 4, text, length);
  return at;
}

static uint32_t add_code(struct ledger *ledger, uint32_t name, uint32_t file, uint32_t first_line) {
  struct bursar_code *code = take(&ledger->regions[BURSAR_REGION_CODES], sizeof(*code));
  *code = (struct bursar_code){.name = name, .file = file, .first_line = first_line};
  return ledger->counts.codes++;
}

/* Codes 0 to MODULES * 6 - 1 are the plain ones, then come the hostile ones, as a function and as a file. */
static void add_codes(struct ledger *ledger) {
  for (size_t i = 0; i < MODULES; i++) {
    uint32_t file = add_string(ledger, modules[i].file, strlen(modules[i].file));
    if (i == 0)
      ledger->counts.main_file = file;
    for (uint32_t k = 0; k < 6; k++)
      add_code(ledger, add_string(ledger, modules[i].functions[k], strlen(modules[i].functions[k])), file, 10 + 40 * k);
  }
  for (size_t i = 0; i < HOSTILE; i++) {
    uint32_t text = add_string(ledger, hostile[i], strlen(hostile[i]));
    add_code(ledger, text, text, 1);
  }
  char *longest = malloc(100000);
  if (!longest)
    abort();
  memset(longest, 'w', 100000);
  uint32_t text = add_string(ledger, longest, 100000);
  add_code(ledger, text, text, 1);
  free(longest);
  add_code(ledger, 0, 0, 0);
}

static uint32_t add_node(struct ledger *ledger, uint32_t parent, uint32_t code, uint32_t line) {
  struct bursar_node *node = take(&ledger->regions[BURSAR_REGION_NODES], sizeof(*node));
  *node = (struct bursar_node){.parent = parent, .code = code, .line = line};
  uint32_t index = ledger->counts.nodes++;
  ledger->depth[index] = index < BURSAR_NODE_FIRST ? 0 : ledger->depth[parent] + 1;
  return index;
}

/* Roots, the way from __main__ into the program, then branches that grow where there was one before. */
static void add_nodes(struct ledger *ledger, uint32_t count) {
  for (uint32_t i = 0; i < BURSAR_NODE_FIRST; i++)
    add_node(ledger, i, 0, 0);
  uint32_t module = add_node(ledger, BURSAR_NODE_MAIN, 0, 61);
  uint32_t program = add_node(ledger, module, 1, 52);
  uint32_t boot = add_node(ledger, BURSAR_NODE_STARTUP, (MODULES - 1) * 6, 1360);
  uint32_t first = ledger->counts.nodes;
  for (uint32_t k = 0; k < 4; k++)
    add_node(ledger, program, 2 + k % 3, 52 + 7 * k);
  for (uint32_t k = 0; k < 6; k++)
    add_node(ledger, ledger->counts.nodes - 1 - k % 3, 6 + k, 20 + 3 * k);
  while (ledger->counts.nodes < count) {
    uint32_t have = ledger->counts.nodes;
    uint32_t parent = draw(ledger, 12) == 0 ? boot : first + draw(ledger, have - first);
    if (draw(ledger, 2) == 0 && have > 40)
      parent = have - 1 - draw(ledger, 24 < have - first ? 24 : 1); /* near what grew last: depth */
    if (ledger->depth[parent] >= DEPTH_MAX)
      parent = program;
    uint32_t code = draw(ledger, 3) == 0 ? 2 + draw(ledger, 16) : draw(ledger, MODULES * 6);
    if (draw(ledger, 60) == 0)
      code = MODULES * 6 + draw(ledger, HOSTILE + 2);
    add_node(ledger, parent, code, 1 + draw(ledger, 900));
  }
}

/* Every hostile name holds memory right below `main`, so that each is in view. */
static void add_hostile_sites(struct ledger *ledger, uint32_t site, uint32_t *nodes) {
  for (uint32_t i = 0; i < HOSTILE + 2; i++)
    nodes[site + i] = add_node(ledger, BURSAR_NODE_FIRST + 1, MODULES * 6 + i, 7 + i);
}

static void add_sites(struct ledger *ledger) {
  uint32_t count = ledger->site_count;
  uint32_t *nodes = calloc(count, sizeof(*nodes));
  if (!nodes)
    abort();
  uint32_t special = BURSAR_SITE_FIRST + HOSTILE + 2;
  add_hostile_sites(ledger, BURSAR_SITE_FIRST, nodes);
  for (uint32_t i = special; i < count; i++)
    nodes[i] = BURSAR_NODE_FIRST + draw(ledger, ledger->counts.nodes - BURSAR_NODE_FIRST);
  for (uint32_t i = 0; i < count; i++) {
    struct bursar_site *site = take(&ledger->regions[BURSAR_REGION_SITES], sizeof(*site));
    struct bursar_site_facts *facts = take(&ledger->regions[BURSAR_REGION_SITE_FACTS], sizeof(*facts));
    bool outside = i < BURSAR_SITE_FIRST;
    site->epoch = outside ? UINT64_MAX : 1;
    facts->node = nodes[i];
    facts->domain = (uint16_t)(outside ? i : draw(ledger, 10) < 7 ? BURSAR_DOMAIN_OBJ : 1 + draw(ledger, 2));
    facts->lane = outside;
    struct life *life = &ledger->lives[i];
    if (outside) {
      *life = (struct life){.size = i == BURSAR_DOMAIN_RAW ? 3u << 20 : 0, .blocks = 12, .born = 2, .gone = TICKS + 1};
      continue;
    }
    life->size = (UINT64_C(1) << (6 + draw(ledger, 8))) + draw(ledger, 4096);
    if (draw(ledger, 400) == 0 || i == special)
      life->size = (UINT64_C(4) << 20) + ((uint64_t)draw(ledger, 1u << 20) << 4);
    if (i < special)
      life->size = (512u << 10) + draw(ledger, 1u << 18);
    life->blocks = 1 + draw(ledger, 64);
    life->born = i < special ? 1 : draw(ledger, TICKS * 6 / 10);
    life->gone = life->born + 4 + draw(ledger, TICKS / 2);
    if (draw(ledger, 5) == 0 || i < special)
      life->gone = TICKS + 1; /* never */
    site->temporaries = draw(ledger, 3) == 0 ? draw(ledger, 20000) : 0;
  }
  free(nodes);
  ledger->counts.sites = count;
}

/* One allocation or free of all that a site holds, in its counters, the totals and the journal. */
static void turn(struct ledger *ledger, uint32_t index, bool holds) {
  struct bursar_site *site = region_at(ledger, BURSAR_REGION_SITES, index, sizeof(*site));
  struct bursar_site_facts *facts = region_at(ledger, BURSAR_REGION_SITE_FACTS, index, sizeof(*facts));
  const struct life *life = &ledger->lives[index];
  struct bursar_books *books = &ledger->books;
  struct bursar_tally *tally = facts->lane ? &books->free_lane[facts->domain] : &books->gil[facts->domain];
  if (!facts->lane && books->tick > 0) {
    struct bursar_undo *undo = take(&ledger->regions[BURSAR_REGION_UNDO_A], sizeof(*undo));
    *undo = (struct bursar_undo){
        .site = index, .blocks = (uint32_t)ledger->held[index].blocks, .bytes = ledger->held[index].bytes};
    ledger->counts.undos[0]++;
    site->tick = (uint32_t)books->tick;
  }
  if (holds) {
    uint64_t passing = site->temporaries;
    site->alloc_bytes += life->size + passing * 64;
    site->allocs += life->blocks + passing;
    site->free_bytes += passing * 64;
    site->frees += passing;
    tally->alloc_bytes += life->size + passing * 64;
    tally->allocs += life->blocks + passing;
    tally->free_bytes += passing * 64;
    tally->frees += passing;
    ledger->held[index] = (struct bursar_held){life->size, life->blocks};
  } else {
    site->free_bytes += life->size;
    site->frees += life->blocks;
    tally->free_bytes += life->size;
    tally->frees += life->blocks;
    ledger->held[index] = (struct bursar_held){0, 0};
  }
  if (!facts->lane)
    books->live = holds ? books->live + life->size : books->live - life->size;
}

static uint64_t live_in(const struct ledger *ledger, int domain, bool outside_only) {
  const struct bursar_tally *gil = &ledger->books.gil[domain];
  const struct bursar_tally *outside = &ledger->books.free_lane[domain];
  uint64_t live = outside->alloc_bytes - outside->free_bytes;
  return outside_only ? live : live + gil->alloc_bytes - gil->free_bytes;
}

static void look_at_peak(struct ledger *ledger, uint64_t time_ns) {
  struct bursar_books *books = &ledger->books;
  uint64_t live = 0;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    live += live_in(ledger, domain, false);
  if (live <= books->peak)
    return;
  books->peak = live;
  books->peak_ns = time_ns;
  for (uint32_t i = BURSAR_SITE_FIRST; i < ledger->site_count; i++) {
    struct bursar_site *site = region_at(ledger, BURSAR_REGION_SITES, i, sizeof(*site));
    site->peak_bytes = ledger->held[i].bytes;
    site->peak_blocks = (uint32_t)ledger->held[i].blocks;
  }
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    books->peak_free_bytes[domain] = ledger->held[domain].bytes;
    books->peak_free_blocks[domain] = ledger->held[domain].blocks;
  }
}

static void add_tick(struct ledger *ledger, uint64_t time_ns, bool end) {
  struct bursar_tick *tick = take(&ledger->regions[BURSAR_REGION_TICKS_A], sizeof(*tick));
  struct bursar_books *books = &ledger->books;
  *tick = (struct bursar_tick){.serial = ++books->tick,
                               .time_ns = time_ns,
                               .first_undo = ledger->counts.undos[0],
                               .flags = end ? BURSAR_TICK_END : 0};
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    tick->live[domain] = live_in(ledger, domain, false);
    tick->free_bytes[domain] = live_in(ledger, domain, true);
    tick->high += tick->live[domain];
    tick->allocs += books->gil[domain].allocs + books->free_lane[domain].allocs;
    tick->alloc_bytes += books->gil[domain].alloc_bytes + books->free_lane[domain].alloc_bytes;
  }
  if (end)
    ledger->counts.end_tick = books->tick;
  ledger->counts.ticks[0]++;
}

static void run(struct ledger *ledger) {
  ledger->books.peak_epoch = ledger->books.epoch = 1;
  for (uint32_t k = 0; k <= TICKS; k++) {
    uint64_t time_ns = (uint64_t)(k + 1) * TICK_NS;
    for (uint32_t i = 0; i < ledger->site_count; i++)
      if (ledger->lives[i].gone == k)
        turn(ledger, i, false);
    for (uint32_t i = 0; i < ledger->site_count; i++)
      if (ledger->lives[i].born == k && ledger->lives[i].size > 0)
        turn(ledger, i, true);
    look_at_peak(ledger, time_ns - TICK_NS / 2);
    add_tick(ledger, time_ns, k == TICKS - 1);
  }
  ledger->counts.main_began_ns = TICK_NS;
  ledger->counts.main_ended_ns = (uint64_t)TICKS * TICK_NS;
  ledger->counts.stopped_ns = (uint64_t)(TICKS + 2) * TICK_NS;
  ledger->counts.tick_interval_ns = TICK_NS;
  ledger->counts.state = BURSAR_STATE_ENDED;
  ledger->counts.phase = BURSAR_PHASE_EXIT;
  ledger->counts.string_bytes = (uint32_t)ledger->regions[BURSAR_REGION_STRINGS].used;
}

static void put(int fd, const void *bytes, size_t length, uint64_t offset) {
  if (pwrite(fd, bytes, length, (off_t)offset) != (ssize_t)length) {
    perror("make_ledger: cannot write the ledger");
    exit(1);
  }
}

static void save(struct ledger *ledger, const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  unsigned char directory[BURSAR_EXTENTS_MAX] = {0};
  struct bursar_header header = {.magic = "BURSARL",
                                 .version = BURSAR_LEDGER_VERSION,
                                 .endian = BURSAR_LEDGER_ENDIAN,
                                 .extent_bytes = EXTENT,
                                 .extents_max = BURSAR_EXTENTS_MAX,
                                 .mode = BURSAR_MODE_EXACT,
                                 .python = 0x030b07f0,
                                 .pid = 4242,
                                 .started_unix_ns = UINT64_C(1760000000000000000),
                                 .temporary_within = 1,
                                 .python_version = "3.11.7",
                                 .bursar_version = BURSAR_VERSION};
  memcpy(header.magic, BURSAR_LEDGER_MAGIC, 8);
  uint32_t extent = 1;
  for (int region = 1; region < BURSAR_REGION_COUNT; region++) {
    const struct heap *heap = &ledger->regions[region];
    for (size_t at = 0; at < heap->used; at += EXTENT) {
      directory[extent] = (unsigned char)region;
      put(fd, heap->bytes + at, heap->used - at < EXTENT ? heap->used - at : EXTENT,
          BURSAR_EXTENT_MIN + (uint64_t)(extent++ - 1) * EXTENT);
    }
  }
  ledger->counts.extents = extent;
  put(fd, &header, sizeof(header), BURSAR_AT_HEADER);
  put(fd, &ledger->books, sizeof(ledger->books), BURSAR_AT_BOOKS);
  put(fd, &ledger->counts, sizeof(ledger->counts), BURSAR_AT_COUNTS);
  put(fd, directory, sizeof(directory), BURSAR_AT_DIRECTORY);
  if (ftruncate(fd, (off_t)(BURSAR_EXTENT_MIN + (uint64_t)(extent - 1) * EXTENT)) != 0 || close(fd) != 0) {
    perror("make_ledger: cannot write the ledger");
    exit(1);
  }
}

/* What tick `at` held, summed from the lives of the sites: the truth that the page's rewinding must come to. */
static uint64_t held_at(const struct ledger *ledger, uint32_t at) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ledger->site_count; i++)
    if (ledger->lives[i].born <= at && at < ledger->lives[i].gone)
      sum += ledger->lives[i].size;
  return sum;
}

static void tell(const struct ledger *ledger) {
  printf("{\"sites\": %u, \"nodes\": %u, \"undos\": %u, \"peak_bytes\": %" PRIu64 ", \"end_bytes\": %" PRIu64
         ", \"ticks\": [",
         ledger->site_count, ledger->counts.nodes, ledger->counts.undos[0], ledger->books.peak,
         held_at(ledger, TICKS - 1));
  for (uint32_t k = 0; k <= TICKS; k++)
    printf("%s%" PRIu64, k ? ", " : "", held_at(ledger, k));
  printf("]}\n");
}

static int write_page(const char *ledger, const char *path) {
  struct bursar_error error = {0};
  struct bursar_model *model = NULL;
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  int status = fd < 0 ? BURSAR_FAILED : bursar_model_open(ledger, &model, &error);
  if (status == 0)
    status = bursar_html_write(model, fd, &error);
  if (status != 0)
    fprintf(stderr, "make_ledger: %s\n", fd < 0 ? "cannot write the page" : error.text);
  bursar_model_free(model);
  if (fd >= 0)
    close(fd);
  return status == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
  uint32_t sites = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
  if (argc < 3 || argc > 4 || sites < 100 || sites > 10000000) {
    fprintf(stderr, "use: make_ledger LEDGER SITES [PAGE], with at least 100 sites\n");
    return 2;
  }
  struct ledger ledger = {.site_count = sites, .random = UINT64_C(88172645463325252)};
  uint32_t nodes = sites + sites / 2 + BURSAR_NODE_FIRST;
  ledger.depth = calloc((size_t)nodes + 64, sizeof(*ledger.depth));
  ledger.lives = calloc(sites, sizeof(*ledger.lives));
  ledger.held = calloc(sites, sizeof(*ledger.held));
  if (!ledger.depth || !ledger.lives || !ledger.held)
    abort();
  add_codes(&ledger);
  add_nodes(&ledger, nodes);
  add_sites(&ledger);
  run(&ledger);
  save(&ledger, argv[1]);
  tell(&ledger);
  int status = argc > 3 ? write_page(argv[1], argv[3]) : 0;
  for (int region = 0; region < BURSAR_REGION_COUNT; region++)
    free(ledger.regions[region].bytes);
  free(ledger.depth);
  free(ledger.lives);
  free(ledger.held);
  return status;
}
