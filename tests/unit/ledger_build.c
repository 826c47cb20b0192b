#include "ledger_build.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXTENT BURSAR_EXTENT_MIN

/* By doubling: a sanitizer copies each time.  Arrays grow by an item or a string at a time. */
static void *grow(void *array, size_t bytes) {
  size_t room = malloc_usable_size(array), more = bytes > 2 * room ? bytes : 2 * room;
  void *grown = bytes <= room ? array : realloc(array, more);
  if (!grown)
    abort();
  return grown;
}

struct ledger_build *ledger_build_new(void) {
  struct ledger_build *b = calloc(1, sizeof *b);
  if (!b)
    abort();
  memcpy(b->header.magic, BURSAR_LEDGER_MAGIC, 8);
  b->header.version = BURSAR_LEDGER_VERSION;
  b->header.endian = BURSAR_LEDGER_ENDIAN;
  b->header.extent_bytes = EXTENT;
  b->header.extents_max = 256;
  b->header.mode = BURSAR_MODE_EXACT;
  b->header.pid = 0x7ffffff0; /* no process has it */
  b->header.temporary_within = 1;
  strcpy(b->header.python_version, "3.11.7");
  strcpy(b->header.bursar_version, "0.1.0");
  b->counts.state = BURSAR_STATE_ENDED;
  b->books.epoch = 1;
  b->string_bytes = 4;
  b->strings = grow(NULL, 4);
  memset(b->strings, 0, 4);
  ledger_build_code(b, NULL, NULL, 0);
  for (uint32_t i = 0; i < BURSAR_NODE_FIRST; i++)
    ledger_build_node(b, i, 0, 0);
  for (uint32_t i = 0; i < BURSAR_DOMAIN_COUNT; i++) {
    ledger_build_site(b, 0, i);
    b->facts[i].lane = 1;
    b->sites[i].epoch = UINT64_MAX;
  }
  return b;
}

void ledger_build_free(struct ledger_build *b) {
  free(b->strings);
  free(b->codes);
  free(b->nodes);
  free(b->undos);
  free(b->scope_names);
  free(b->scopes);
  free(b->events);
  free(b);
}

uint32_t ledger_build_string(struct ledger_build *b, const char *bytes, size_t length) {
  uint32_t at = b->string_bytes, size = (uint32_t)length;
  b->string_bytes = at + 4 + ((size + 3) & ~3u);
  b->strings = grow(b->strings, b->string_bytes);
  memset(b->strings + at, 0, b->string_bytes - at);
  memcpy(b->strings + at, &size, 4);
  memcpy(b->strings + at + 4, bytes, length);
  return at;
}

uint32_t ledger_build_code(struct ledger_build *b, const char *name, const char *file, uint32_t first_line) {
  b->codes = grow(b->codes, (b->code_count + 1) * sizeof *b->codes);
  b->codes[b->code_count] = (struct bursar_code){.name = name ? ledger_build_string(b, name, strlen(name)) : 0,
                                                 .file = file ? ledger_build_string(b, file, strlen(file)) : 0,
                                                 .first_line = first_line};
  return b->code_count++;
}

uint32_t ledger_build_node(struct ledger_build *b, uint32_t parent, uint32_t code, uint32_t line) {
  b->nodes = grow(b->nodes, (b->node_count + 1) * sizeof *b->nodes);
  b->nodes[b->node_count] = (struct bursar_node){.parent = parent, .code = code, .line = line};
  return b->node_count++;
}

uint32_t ledger_build_site(struct ledger_build *b, uint32_t node, uint32_t domain) {
  if (b->site_count == LEDGER_BUILD_SITES)
    abort();
  /* Made in this interval, it held nothing at the tick before: no undo record need say so. */
  b->facts[b->site_count] =
      (struct bursar_site_facts){.node = node, .domain = (uint16_t)domain, .created = (uint32_t)b->books.tick};
  b->sites[b->site_count] = (struct bursar_site){.epoch = b->books.peak_epoch, .tick = (uint32_t)b->books.tick};
  return b->site_count++;
}

uint32_t ledger_build_scope_name(struct ledger_build *b, const char *name) {
  b->scope_names = grow(b->scope_names, (b->scope_name_count + 1) * sizeof *b->scope_names);
  b->scope_names[b->scope_name_count] = (struct bursar_scope_name){.name = ledger_build_string(b, name, strlen(name))};
  return b->scope_name_count++;
}

uint32_t ledger_build_scope(struct ledger_build *b, uint32_t name, uint32_t parent, enum bursar_scope_state state,
                            uint64_t allocated, uint64_t live) {
  if (!b->scope_count) {
    b->scopes = grow(NULL, sizeof *b->scopes);
    b->scopes[b->scope_count++] = (struct bursar_scope){0};
  }
  b->scopes = grow(b->scopes, (b->scope_count + 1) * sizeof *b->scopes);
  b->scopes[b->scope_count] = (struct bursar_scope){.live_bytes = (int64_t)live,
                                                    .peak_bytes = allocated,
                                                    .allocated_bytes = allocated,
                                                    .allocations = 1,
                                                    .blocks = live != 0,
                                                    .serial = b->scope_count,
                                                    .name = name,
                                                    .parent = parent,
                                                    .state = (uint16_t)state};
  return b->scope_count++;
}

void ledger_build_event(struct ledger_build *b, uint64_t time_ns, enum bursar_event_kind kind, uint32_t scope,
                        uint64_t bytes, const char *text) {
  b->events = grow(b->events, (b->event_count + 1) * sizeof *b->events);
  b->events[b->event_count++] = (struct bursar_event){.time_ns = time_ns,
                                                      .kind = kind,
                                                      .scope = scope,
                                                      .bytes = bytes,
                                                      .text = text ? ledger_build_string(b, text, strlen(text)) : 0};
}

static uint64_t live_of(const struct ledger_build *b) {
  uint64_t live = 0;
  for (int i = 0; i < BURSAR_DOMAIN_COUNT; i++)
    live += b->books.gil[i].alloc_bytes - b->books.gil[i].free_bytes + b->books.free_lane[i].alloc_bytes -
            b->books.free_lane[i].free_bytes - b->books.remote[i].free_bytes;
  return live;
}

static struct ledger_build_held held_by(const struct ledger_build *b, uint32_t site) {
  const struct bursar_site *s = &b->sites[site];
  return (struct ledger_build_held){s->alloc_bytes - s->free_bytes - b->facts[site].remote_free_bytes,
                                    s->allocs - s->frees - b->facts[site].remote_frees};
}

/* Before a free, as the program does: is what is live now the most so far? */
static void look_at_peak(struct ledger_build *b) {
  if (live_of(b) <= b->books.peak)
    return;
  for (uint32_t i = 0; i < BURSAR_DOMAIN_COUNT; i++) {
    b->books.peak_free_bytes[i] = held_by(b, i).bytes;
    b->books.peak_free_blocks[i] = held_by(b, i).blocks;
  }
  for (uint32_t i = 0; i < b->site_count; i++)
    b->at_peak[i] = held_by(b, i);
  b->books.peak_ns = b->now_ns;
  b->books.peak_epoch = ++b->books.epoch;
  b->books.peak = live_of(b);
}

static void touch(struct ledger_build *b, uint32_t site) {
  struct bursar_site *s = &b->sites[site];
  if (site < BURSAR_SITE_FIRST || s->epoch == b->books.epoch)
    return;
  struct ledger_build_held held = held_by(b, site);
  if (s->tick != (uint32_t)b->books.tick) {
    b->undos = grow(b->undos, (b->undo_count + 1) * sizeof *b->undos);
    b->undos[b->undo_count++] = (struct bursar_undo){site, (uint32_t)held.blocks, held.bytes};
    s->tick = (uint32_t)b->books.tick;
  }
  if (s->epoch < b->books.peak_epoch) {
    s->peak_bytes = held.bytes;
    s->peak_blocks = (uint32_t)held.blocks;
  }
  s->epoch = b->books.epoch;
}

static void book(struct bursar_tally *tally, uint64_t allocated, uint64_t freed) {
  tally->alloc_bytes += allocated;
  tally->allocs += allocated != 0;
  tally->free_bytes += freed;
  tally->frees += freed != 0;
}

static void event(struct ledger_build *b, uint32_t site, uint64_t allocated, uint64_t freed) {
  uint32_t domain = b->facts[site].domain;
  touch(b, site);
  b->books.intent = (allocated + freed) << 32 | (site + 1) << 6 | 32;
  b->sites[site].alloc_bytes += allocated;
  b->sites[site].allocs += allocated != 0;
  b->sites[site].free_bytes += freed;
  b->sites[site].frees += freed != 0;
  book(site < BURSAR_SITE_FIRST ? &b->books.free_lane[domain] : &b->books.gil[domain], allocated, freed);
  if (site >= BURSAR_SITE_FIRST)
    b->books.live += allocated - freed;
}

void ledger_build_alloc(struct ledger_build *b, uint32_t site, uint64_t bytes) { event(b, site, bytes, 0); }

void ledger_build_release(struct ledger_build *b, uint32_t site, uint64_t bytes) {
  look_at_peak(b);
  event(b, site, 0, bytes);
}

void ledger_build_tick(struct ledger_build *b, uint64_t time_ns, uint32_t flags) {
  struct bursar_tick *tick = &b->ticks[b->tick_count];
  b->now_ns = time_ns;
  *tick = (struct bursar_tick){
      .serial = b->books.tick + 1, .time_ns = time_ns, .first_undo = b->undo_count, .flags = flags};
  for (uint32_t i = 0; i < BURSAR_DOMAIN_COUNT; i++) {
    tick->free_bytes[i] = held_by(b, i).bytes;
    tick->live[i] = b->books.gil[i].alloc_bytes - b->books.gil[i].free_bytes - b->books.remote[i].free_bytes +
                    tick->free_bytes[i];
    tick->allocs += b->books.gil[i].allocs + b->books.free_lane[i].allocs;
    tick->alloc_bytes += b->books.gil[i].alloc_bytes + b->books.free_lane[i].alloc_bytes;
  }
  tick->high = live_of(b);
  for (uint32_t i = 0; i < b->site_count; i++)
    b->at_tick[b->tick_count][i] = held_by(b, i);
  b->tick_count++;
  b->books.tick++;
  b->books.epoch++;
  if (flags & BURSAR_TICK_END) {
    b->counts.end_tick = b->books.tick;
    b->counts.main_ended_ns = time_ns;
  }
}

/* --- the file ---------------------------------------------------------------------------------------------------- */

struct image {
  char *bytes;
  uint32_t extents;
};

static void put(struct image *image, enum bursar_region region, const void *from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes; done += EXTENT) {
    uint64_t at = (uint64_t)image->extents * EXTENT, length = bytes - done < EXTENT ? bytes - done : EXTENT;
    image->bytes = grow(image->bytes, at + EXTENT);
    memset(image->bytes + at, 0, EXTENT);
    memcpy(image->bytes + at, (const char *)from + done, length);
    image->bytes[BURSAR_AT_DIRECTORY + image->extents++] = (char)region;
  }
}

static void count_items(struct ledger_build *b) {
  b->counts.string_bytes = b->string_bytes;
  b->counts.codes = b->code_count;
  b->counts.nodes = b->node_count;
  b->counts.sites = b->site_count;
  b->counts.ticks[b->counts.journal & 1] = b->tick_count;
  b->counts.undos[b->counts.journal & 1] = b->undo_count;
  b->counts.scope_names = b->scope_name_count;
  b->counts.scopes = b->scope_count;
  b->counts.events = b->event_count > b->counts.events ? b->event_count : b->counts.events;
}

int ledger_build_file_cut(struct ledger_build *b, uint64_t bytes) {
  struct image image = {.bytes = grow(NULL, EXTENT), .extents = 1};
  memset(image.bytes, 0, EXTENT);
  put(&image, BURSAR_REGION_STRINGS, b->strings, b->string_bytes);
  put(&image, BURSAR_REGION_SITES, b->sites, b->site_count * sizeof *b->sites);
  put(&image, BURSAR_REGION_NODES, b->nodes, b->node_count * sizeof *b->nodes);
  put(&image, BURSAR_REGION_CODES, b->codes, b->code_count * sizeof *b->codes);
  put(&image, BURSAR_REGION_SITE_FACTS, b->facts, b->site_count * sizeof *b->facts);
  put(&image, BURSAR_REGION_TICKS_A, b->ticks, b->tick_count * sizeof *b->ticks);
  put(&image, BURSAR_REGION_UNDO_A, b->undos, b->undo_count * sizeof *b->undos);
  put(&image, BURSAR_REGION_SCOPE_NAMES, b->scope_names, b->scope_name_count * sizeof *b->scope_names);
  put(&image, BURSAR_REGION_SCOPES, b->scopes, b->scope_count * sizeof *b->scopes);
  put(&image, BURSAR_REGION_EVENTS, b->events, b->event_count * sizeof *b->events);
  if (!b->counts_fixed) {
    count_items(b);
    b->counts.extents = image.extents;
  }
  memcpy(image.bytes + BURSAR_AT_HEADER, &b->header, sizeof b->header);
  memcpy(image.bytes + BURSAR_AT_BOOKS, &b->books, sizeof b->books);
  memcpy(image.bytes + BURSAR_AT_COUNTS, &b->counts, sizeof b->counts);
  int fd = memfd_create("ledger", MFD_CLOEXEC);
  uint64_t size = (uint64_t)image.extents * EXTENT < bytes ? (uint64_t)image.extents * EXTENT : bytes;
  if (fd < 0 || write(fd, image.bytes, size) != (ssize_t)size)
    abort();
  free(image.bytes);
  return fd;
}

int ledger_build_file(struct ledger_build *b) { return ledger_build_file_cut(b, UINT64_MAX); }

struct ledger_build *ledger_build_example(void) {
  struct ledger_build *b = ledger_build_new();
  uint32_t module = ledger_build_code(b, "<module>", "/home/ada/app/train.py", 1);
  uint32_t load = ledger_build_code(b, "load", "/home/ada/app/data.py", 10);
  uint32_t merge = ledger_build_code(b, "merge", "/usr/lib/python3/dist-packages/pandas/core/frame.py", 100);
  uint32_t starting = ledger_build_node(b, BURSAR_NODE_STARTUP, module, 1);
  uint32_t top = ledger_build_node(b, BURSAR_NODE_MAIN, module, 20);
  uint32_t loading = ledger_build_node(b, top, load, 12);
  uint32_t merging = ledger_build_node(b, loading, merge, 120);
  uint32_t sites[] = {ledger_build_site(b, starting, BURSAR_DOMAIN_MEM), ledger_build_site(b, top, BURSAR_DOMAIN_OBJ),
                      ledger_build_site(b, loading, BURSAR_DOMAIN_OBJ),
                      ledger_build_site(b, merging, BURSAR_DOMAIN_RAW)};
  b->counts.main_file = ledger_build_string(b, "/home/ada/app/train.py", 22);
  ledger_build_tick(b, 1000, 0);
  ledger_build_alloc(b, sites[0], 5000);
  ledger_build_tick(b, 1000000000, 0);
  ledger_build_alloc(b, sites[1], 300);
  ledger_build_alloc(b, sites[2], 70000);
  ledger_build_alloc(b, BURSAR_DOMAIN_RAW, 1024);
  ledger_build_alloc(b, sites[3], 90000);
  ledger_build_release(b, sites[2], 70000);
  ledger_build_tick(b, 2000000000, 0);
  ledger_build_release(b, sites[3], 90000);
  ledger_build_alloc(b, sites[2], 800);
  b->sites[sites[2]].temporaries = 7;
  ledger_build_tick(b, 3000000000, BURSAR_TICK_END);
  ledger_build_release(b, sites[1], 300);
  b->counts.stopped_ns = 3500000000;
  return b;
}
