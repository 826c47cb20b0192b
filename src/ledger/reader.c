#include "ledger/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/place.h"
#include "ledger/reader_scopes.h"
#include "ledger/tallies.h"
#include "prim/prim.h"

/* A ledger may be larger on disk (a sparse or hostile file); no more than this is ever copied. */
#define COPY_MAX (1ull << 30)
#define STRING_MAX 4096u /* read of one: or every function could be named by the whole region */
#define COPY_ATTEMPTS 4  /* of a moving program's sites */
#define HEAD_BYTES (BURSAR_AT_DIRECTORY + BURSAR_PAGE)
/* Larger than any program allocates, small enough that sums of all sites cannot wrap round. */
#define SANE_BYTES (1ull << 56)

struct head {
  struct bursar_header header;
  struct bursar_books books;
  struct bursar_counts counts;
  uint8_t directory[BURSAR_EXTENTS_MAX];
};

/* What one opening needs besides the reader itself. */
struct opening {
  int fd;
  const char *name;
  uint64_t file_bytes;
  dev_t device;
  ino_t inode;
  struct head head;
  struct bursar_books books_before;
  struct bursar_thread_lane lanes[BURSAR_LANES];
  bool lanes_whole;
  uint64_t copied;
  struct bursar_reader *reader;
  struct bursar_error *error;
};

static void note(struct bursar_reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct bursar_reader *reader, const char *format, ...) {
  if (reader->note_count == BURSAR_READER_NOTES)
    return;
  va_list args;
  va_start(args, format);
  vsnprintf(reader->note[reader->note_count++], BURSAR_READER_NOTE, format, args);
  va_end(args);
}

/* Reads as much of [offset, offset + bytes) as there is.  Returns the bytes read, or a negative errno. */
static ssize_t read_at(int fd, void *into, size_t bytes, uint64_t offset) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t got = pread(fd, (char *)into + done, bytes - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return -errno;
    if (got == 0)
      break;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

static int read_head(struct opening *o) {
  unsigned char pages[HEAD_BYTES];
  struct stat st; /* after the head: what that tells of was there before it was told */
  ssize_t got = read_at(o->fd, pages, sizeof pages, 0);
  o->file_bytes = fstat(o->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
  if (got < 0)
    return bursar_error_set(o->error, BURSAR_FAILED, "cannot read %s: %s", o->name, strerror((int)-got));
  if (got < (ssize_t)sizeof pages) {
    if (got >= 8 && memcmp(pages, BURSAR_LEDGER_MAGIC, 8) == 0)
      return bursar_error_set(o->error, BURSAR_FAILED,
                              "%s is truncated: its head is not whole, so nothing can be shown", o->name);
    return bursar_error_set(o->error, BURSAR_FAILED, "%s is %s: give a file that `bursar run` wrote", o->name,
                            got ? "not a ledger" : "empty, not a ledger");
  }
  memcpy(&o->head.header, pages + BURSAR_AT_HEADER, sizeof o->head.header);
  memcpy(&o->head.books, pages + BURSAR_AT_BOOKS, sizeof o->head.books);
  memcpy(&o->head.counts, pages + BURSAR_AT_COUNTS, sizeof o->head.counts);
  memcpy(o->head.directory, pages + BURSAR_AT_DIRECTORY, sizeof o->head.directory);
  return 0;
}

static int check_header(struct opening *o) {
  const struct bursar_header *header = &o->head.header;
  if (memcmp(header->magic, BURSAR_LEDGER_MAGIC, 8) != 0)
    return bursar_error_set(o->error, BURSAR_FAILED, "%s is not a ledger: give a file that `bursar run` wrote",
                            o->name);
  if (header->endian != BURSAR_LEDGER_ENDIAN)
    return bursar_error_set(o->error, BURSAR_FAILED,
                            "%s was written on a machine of another byte order, or is damaged: read it there", o->name);
  if (header->version > BURSAR_LEDGER_VERSION_NATIVE)
    return bursar_error_set(o->error, BURSAR_FAILED,
                            "%s has ledger format %u, and this bursar reads up to %u: read it with a newer bursar",
                            o->name, header->version, BURSAR_LEDGER_VERSION_NATIVE);
  if (header->version && header->version < BURSAR_LEDGER_VERSION)
    return bursar_error_set(o->error, BURSAR_FAILED,
                            "%s has ledger format %u, of a bursar that was never released: record it again", o->name,
                            header->version);
  if (o->head.counts.state == BURSAR_STATE_RESERVED) {
    struct bursar_identity now;
    bool there = bursar_prim_identity((pid_t)header->pid, &now) == 0 && header->process_start &&
                 now.process_start == header->process_start && memcmp(now.boot_id, header->boot_id, 16) == 0;
    return bursar_error_set(o->error, BURSAR_FAILED, "%s holds nothing: the program %s its books", o->name,
                            there ? "has not started" : "never started");
  }
  uint32_t extent = header->extent_bytes;
  if (header->version == 0 || extent < BURSAR_EXTENT_MIN || (extent & (extent - 1)) != 0 || extent > 1u << 30 ||
      header->extents_max == 0 || header->extents_max > BURSAR_EXTENTS_MAX || header->mode > BURSAR_MODE_COUNT ||
      o->head.counts.state > BURSAR_STATE_BROKEN)
    return bursar_error_set(o->error, BURSAR_FAILED, "%s is damaged in its first pages, so nothing can be shown",
                            o->name);
  return 0;
}

/* What the extents of a region have room for. */
static uint64_t room_of(const struct opening *o, enum bursar_region region) {
  uint64_t extents = 0;
  for (uint32_t i = 1; i < o->head.counts.extents && i < o->head.header.extents_max; i++)
    extents += o->head.directory[i] == (uint8_t)region;
  return extents * o->head.header.extent_bytes;
}

/* Copies the first `want` bytes of a region into fresh memory.  *have is what there was of them; *out is never NULL on
 * success (one item more than asked for, zeroed, so that empty regions need no special case). */
static int copy_region(struct opening *o, enum bursar_region region, uint64_t want, size_t item, void **out,
                       uint64_t *have) {
  const uint32_t extent = o->head.header.extent_bytes;
  *have = 0;
  if (want > room_of(o, region))
    want = room_of(o, region) / item * item;
  if (want > o->file_bytes)
    want = o->file_bytes / item * item;
  if (want > COPY_MAX - o->copied)
    want = (COPY_MAX - o->copied) / item * item;
  char *bytes = calloc(1, want + item);
  if (!bytes)
    return bursar_error_set(o->error, BURSAR_FAILED, "not enough memory to read %s", o->name);
  for (uint32_t i = 1; i < BURSAR_EXTENTS_MAX && *have < want; i++) {
    if (o->head.directory[i] != (uint8_t)region)
      continue;
    uint64_t length = want - *have < extent ? want - *have : extent;
    ssize_t got = read_at(o->fd, bytes + *have, length, BURSAR_EXTENT_MIN + (uint64_t)(i - 1) * extent);
    if (got < 0) {
      free(bytes);
      return bursar_error_set(o->error, BURSAR_FAILED, "cannot read %s: %s", o->name, strerror((int)-got));
    }
    *have += (uint64_t)got;
    if ((uint64_t)got < length)
      break;
  }
  *have = *have / item * item;
  memset(bytes + *have, 0, want + item - *have);
  o->copied += *have;
  *out = bytes;
  return 0;
}

/* copy_region for `count` items, with a note where not all are there. */
static int copy_items(struct opening *o, enum bursar_region region, uint32_t count, size_t item, const char *plural,
                      void *out, uint32_t *have) {
  uint64_t bytes;
  void *memory = NULL;
  int status = copy_region(o, region, (uint64_t)count * item, item, &memory, &bytes);
  if (status != 0)
    return status;
  *(void **)out = memory;
  *have = (uint32_t)(bytes / item);
  if (*have < count)
    note(o->reader, "%u of %u %s are lost: the file is truncated or damaged", count - *have, count, plural);
  return 0;
}

static uint32_t at_least(uint32_t count, uint32_t least) { return count < least ? least : count; }

/* Makes room for the entries that always exist, where the file lost even them. */
static int ensure_items(struct opening *o, void *array, uint32_t *have, uint32_t least, size_t item) {
  if (*have >= least)
    return 0;
  char *grown = realloc(*(void **)array, (size_t)(least + 1) * item);
  if (!grown)
    return bursar_error_set(o->error, BURSAR_FAILED, "not enough memory to read %s", o->name);
  memset(grown + (size_t)*have * item, 0, (size_t)(least + 1 - *have) * item);
  *(void **)array = grown;
  *have = least;
  return 0;
}

static int copy_sites(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  uint32_t count = at_least(o->head.counts.sites, BURSAR_SITE_FIRST), facts;
  int status = copy_items(o, BURSAR_REGION_SITES, count, sizeof *reader->site, "sites", &reader->site, &reader->sites);
  if (status == 0)
    status = copy_items(o, BURSAR_REGION_SITE_FACTS, reader->sites, sizeof *reader->facts, "site facts", &reader->facts,
                        &facts);
  if (status != 0)
    return status;
  if (facts < reader->sites)
    reader->sites = facts;
  uint32_t also = reader->sites;
  status = ensure_items(o, &reader->site, &also, BURSAR_SITE_FIRST, sizeof *reader->site);
  if (status == 0)
    status = ensure_items(o, &reader->facts, &reader->sites, BURSAR_SITE_FIRST, sizeof *reader->facts);
  return status;
}

/* What threads counted beside the sites; estimates for as many sites as there are. */
static int copy_tallies(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  uint32_t mode = reader->header.mode, have = 0;
  if (mode != BURSAR_MODE_SAMPLE && mode != BURSAR_MODE_COUNT)
    return 0;
  ssize_t got = read_at(o->fd, o->lanes, sizeof o->lanes, BURSAR_AT_LANES);
  if (got < 0)
    return bursar_error_set(o->error, BURSAR_FAILED, "cannot read %s: %s", o->name, strerror((int)-got));
  o->lanes_whole = got == (ssize_t)sizeof o->lanes;
  if (mode == BURSAR_MODE_COUNT)
    return 0;
  int status = copy_items(o, BURSAR_REGION_ESTIMATES, reader->sites, sizeof *reader->estimate, "estimates",
                          &reader->estimate, &have);
  return status == 0 ? ensure_items(o, &reader->estimate, &have, reader->sites, sizeof *reader->estimate) : status;
}

static int copy_names(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  const struct bursar_counts *counts = &o->head.counts;
  int status = copy_items(o, BURSAR_REGION_STRINGS, counts->string_bytes, 1, "bytes of names", &reader->string_bytes,
                          &reader->string_length);
  if (status == 0)
    status = copy_items(o, BURSAR_REGION_CODES, counts->codes, sizeof *reader->code, "functions", &reader->code,
                        &reader->codes);
  if (status == 0)
    status = copy_items(o, BURSAR_REGION_NODES, counts->nodes, sizeof *reader->node, "stack nodes", &reader->node,
                        &reader->nodes);
  if (status == 0)
    status = ensure_items(o, &reader->node, &reader->nodes, BURSAR_NODE_FIRST, sizeof *reader->node);
  return status;
}

/* The journal's half changes when it is coarsened: copy again until one half stayed put. */
static int copy_journal(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  for (int attempt = 0;; attempt++) {
    uint32_t half = o->head.counts.journal & 1, notes = reader->note_count;
    uint32_t ticks = o->head.counts.ticks[half];
    if (ticks > BURSAR_TICKS_MAX) {
      note(reader, "the number of points in time is damaged: there are at most %u", BURSAR_TICKS_MAX);
      ticks = BURSAR_TICKS_MAX;
    }
    int status = copy_items(o, half ? BURSAR_REGION_TICKS_B : BURSAR_REGION_TICKS_A, ticks, sizeof *reader->tick,
                            "points in time", &reader->tick, &reader->ticks);
    if (status == 0)
      status = copy_items(o, half ? BURSAR_REGION_UNDO_B : BURSAR_REGION_UNDO_A, o->head.counts.undos[half],
                          sizeof *reader->undo, "journal records", &reader->undo, &reader->undos);
    if (status != 0)
      return status;
    struct head kept = o->head;
    status = read_head(o);
    if (status != 0)
      return status;
    bool moved = (o->head.counts.journal & 1) != half;
    if (!moved || attempt == 3) {
      if (moved)
        note(reader, "the journal was being rewritten while it was read: the history is left out");
      if (moved)
        reader->ticks = reader->undos = 0;
      o->head = kept;
      return 0;
    }
    reader->note_count = notes;
    free(reader->tick);
    free(reader->undo);
    reader->tick = NULL;
    reader->undo = NULL;
  }
}

/* --- checking what was copied ------------------------------------------------------------------------------------ */

struct bursar_text bursar_reader_string(const struct bursar_reader *reader, uint32_t offset) {
  uint32_t length;
  if (offset == 0 || offset % 4 != 0 || offset > reader->string_length || reader->string_length - offset < 4)
    return (struct bursar_text){NULL, 0};
  memcpy(&length, reader->string_bytes + offset, sizeof length);
  if (length > reader->string_length - offset - 4)
    return (struct bursar_text){NULL, 0};
  if (length > STRING_MAX)
    length = STRING_MAX;
  return (struct bursar_text){reader->string_bytes + offset + 4, length};
}

/* Zeroes an offset that names no string.  Returns 1 where it did. */
static uint32_t check_string(const struct bursar_reader *reader, uint32_t *offset) {
  if (*offset == 0 || bursar_reader_string(reader, *offset).bytes)
    return 0;
  *offset = 0;
  return 1;
}

static void check_codes(struct bursar_reader *reader) {
  uint32_t damaged = 0;
  for (uint32_t i = 0; i < reader->codes; i++)
    damaged += (check_string(reader, &reader->code[i].name) | check_string(reader, &reader->code[i].file));
  if (damaged)
    note(reader, "%u of %u functions are damaged: their names are left out", damaged, reader->codes);
}

static int check_nodes(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  uint32_t damaged = 0;
  uint32_t *depth = calloc(reader->nodes, sizeof *depth);
  if (!depth)
    return bursar_error_set(o->error, BURSAR_FAILED, "not enough memory to read %s", o->name);
  /* Deeper chains than any writer makes are cut, so that no walk of a damaged trie takes for ever. */
  for (uint32_t i = 0; i < BURSAR_NODE_FIRST; i++)
    reader->node[i] = (struct bursar_node){.parent = i, .code = BURSAR_READER_NONE};
  for (uint32_t i = BURSAR_NODE_FIRST; i < reader->nodes; i++) {
    struct bursar_node *node = &reader->node[i];
    if (node->parent < i && node->code < reader->codes && depth[node->parent] < BURSAR_DEPTH_MAX) {
      depth[i] = depth[node->parent] + 1;
      continue;
    }
    damaged++;
    *node = (struct bursar_node){.parent = BURSAR_NODE_UNKNOWN, .code = BURSAR_READER_NONE};
    depth[i] = 1;
  }
  if (damaged)
    note(reader, "%u of %u stack nodes are damaged: the stacks above them are left out", damaged, reader->nodes);
  free(depth);
  return 0;
}

static bool check_counters(struct bursar_site *site, struct bursar_site_facts *facts, bool moving) {
  uint64_t freed = site->free_bytes + facts->remote_free_bytes, frees = site->frees + facts->remote_frees;
  if (site->alloc_bytes > SANE_BYTES || site->allocs > SANE_BYTES || site->free_bytes > SANE_BYTES ||
      site->frees > SANE_BYTES || facts->remote_free_bytes > SANE_BYTES || facts->remote_frees > SANE_BYTES ||
      facts->remote_peak_bytes > facts->remote_free_bytes || facts->remote_peak_frees > facts->remote_frees ||
      site->peak_bytes > SANE_BYTES || site->temporaries > SANE_BYTES)
    return false;
  if (freed <= site->alloc_bytes && frees <= site->allocs)
    return true;
  if (!moving)
    return false;
  /* Copied in the midst of the program's work: the later half of the entry is younger than the first. */
  if (freed > site->alloc_bytes)
    site->alloc_bytes = freed;
  if (frees > site->allocs)
    site->allocs = frees;
  return true;
}

static void check_sites(struct bursar_reader *reader) {
  const bool moving = reader->life == BURSAR_LIFE_RUNNING;
  uint32_t damaged = 0, types = 0;
  for (uint32_t i = 0; i < reader->sites; i++) {
    struct bursar_site *site = &reader->site[i];
    struct bursar_site_facts *facts = &reader->facts[i];
    if (i < BURSAR_SITE_FIRST) {
      facts->node = BURSAR_NODE_UNKNOWN;
      facts->domain = (uint16_t)i;
      facts->lane = BURSAR_LANE_FREE;
      site->epoch = UINT64_MAX;
    }
    bool folded = facts->lane == BURSAR_LANE_VACANT;
    bool sound = facts->domain < BURSAR_DOMAIN_COUNT && facts->node < reader->nodes &&
                 (site->epoch & BURSAR_EPOCH_FREE) == (facts->lane == BURSAR_LANE_FREE ? BURSAR_EPOCH_FREE : 0) &&
                 check_counters(site, facts, moving);
    if (sound && !folded) {
      types += check_string(reader, &facts->type);
      continue;
    }
    damaged += !sound;
    *site = (struct bursar_site){0};
    *facts = (struct bursar_site_facts){.lane = BURSAR_LANE_VACANT};
  }
  if (damaged)
    note(reader, "%u of %u sites are damaged: what they held is left out", damaged, reader->sites);
  if (types)
    note(reader, "the type names of %u of %u sites are damaged and left out", types, reader->sites);
}

/* Ticks made after the sites were copied cannot be worked out from them. */
static void check_journal(struct bursar_reader *reader, uint64_t last_serial) {
  uint32_t kept = 0, damaged = 0, voided = 0;
  uint64_t serial = 0, time = 0;
  uint32_t first_undo = 0;
  for (uint32_t i = 0; i < reader->ticks; i++) {
    struct bursar_tick *tick = &reader->tick[i];
    bool later = tick->serial > serial || (tick->serial == serial && (tick->flags & BURSAR_TICK_TOTALS));
    bool sane = later && tick->time_ns >= time && tick->first_undo >= first_undo && tick->first_undo <= reader->undos &&
                tick->high < SANE_BYTES && tick->time_ns < INT64_MAX;
    for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      sane = sane && tick->live[domain] < SANE_BYTES && tick->free_bytes[domain] < SANE_BYTES;
    if (sane && tick->serial > last_serial && reader->life == BURSAR_LIFE_RUNNING)
      break;
    if (!sane) {
      damaged++;
      continue;
    }
    serial = tick->serial;
    time = tick->time_ns;
    first_undo = tick->first_undo;
    reader->tick[kept++] = *tick;
  }
  for (uint32_t i = 0; i < reader->undos; i++) {
    if (reader->undo[i].site < reader->sites && reader->undo[i].bytes < SANE_BYTES)
      continue;
    voided += reader->life != BURSAR_LIFE_RUNNING || reader->undo[i].site >= UINT32_MAX / 2;
    reader->undo[i] = (struct bursar_undo){.site = BURSAR_READER_NONE};
  }
  if (damaged)
    note(reader, "%u of %u points in time are damaged and left out", damaged, reader->ticks);
  if (voided)
    note(reader, "%u of %u journal records are damaged: past instants are near, not exact", voided, reader->undos);
  reader->ticks = kept;
}

/* --- totals, and the event under way ----------------------------------------------------------------------------- */

static void sum_sites(const struct bursar_reader *reader, enum bursar_lane lane,
                      struct bursar_tally sums[BURSAR_DOMAIN_COUNT]) {
  memset(sums, 0, BURSAR_DOMAIN_COUNT * sizeof *sums);
  for (uint32_t i = 0; i < reader->sites; i++) {
    const struct bursar_site *site = &reader->site[i];
    struct bursar_tally *sum = &sums[reader->facts[i].domain];
    if (reader->facts[i].lane != lane)
      continue;
    sum->alloc_bytes += site->alloc_bytes;
    sum->allocs += site->allocs;
    sum->free_bytes += site->free_bytes;
    sum->frees += site->frees;
  }
}

/* One side of a domain (allocations or frees): the sums by site run ahead of the totals by at most one event.  Bytes go
 * before the count, sites before totals, so what differs tells how far the event came; the site that it was at is named
 * by the intent.  Returns whether there was one to complete. */
static bool complete_side(uint64_t sum_bytes, uint64_t sum_count, uint64_t *total_bytes, uint64_t *total_count,
                          uint64_t *site_count) {
  uint64_t bytes = sum_bytes - *total_bytes, count = sum_count - *total_count;
  if ((bytes == 0 && count == 0) || bytes > SANE_BYTES || count > 1)
    return false;
  if (count == 0) {
    if (!site_count)
      return false;
    ++*site_count;
  }
  *total_bytes = sum_bytes;
  *total_count += 1;
  return true;
}

static void complete_event(struct bursar_reader *reader, struct bursar_tally gil[BURSAR_DOMAIN_COUNT]) {
  struct bursar_tally sum[BURSAR_DOMAIN_COUNT];
  sum_sites(reader, BURSAR_LANE_GIL, sum);
  uint32_t named = ((uint32_t)reader->books.intent >> 6) - 1;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    struct bursar_site *site = NULL;
    if (named < reader->sites && reader->facts[named].lane == BURSAR_LANE_GIL && reader->facts[named].domain == domain)
      site = &reader->site[named];
    bool allocation = complete_side(sum[domain].alloc_bytes, sum[domain].allocs, &gil[domain].alloc_bytes,
                                    &gil[domain].allocs, site ? &site->allocs : NULL);
    bool release = complete_side(sum[domain].free_bytes, sum[domain].frees, &gil[domain].free_bytes, &gil[domain].frees,
                                 site ? &site->frees : NULL);
    reader->completed_event = reader->completed_event || allocation || release;
  }
}

static bool sane_tally(const struct bursar_tally *tally) {
  return tally->alloc_bytes < SANE_BYTES && tally->allocs < SANE_BYTES && tally->free_bytes < SANE_BYTES &&
         tally->frees < SANE_BYTES;
}

/* Totals that cannot be are replaced by the sums of the sites, and the reader says so. */
static void check_books(struct bursar_reader *reader) {
  struct bursar_books *books = &reader->books;
  bool sane = books->peak < SANE_BYTES && books->free_high < SANE_BYTES && books->peak_ns < INT64_MAX;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    sane = sane && sane_tally(&books->gil[domain]) && sane_tally(&books->free_lane[domain]) &&
           sane_tally(&books->remote[domain]) && books->peak_free_bytes[domain] < SANE_BYTES &&
           books->peak_free_blocks[domain] < SANE_BYTES;
  if (sane)
    return;
  note(reader, "the totals are damaged: they are worked out from the sites");
  memset(books, 0, sizeof *books);
  books->peak_epoch = UINT64_MAX;
  sum_sites(reader, BURSAR_LANE_GIL, books->gil);
  sum_sites(reader, BURSAR_LANE_FREE, books->free_lane);
  for (uint32_t i = BURSAR_SITE_FIRST; i < reader->sites; i++) {
    books->remote[reader->facts[i].domain].free_bytes += reader->facts[i].remote_free_bytes;
    books->remote[reader->facts[i].domain].frees += reader->facts[i].remote_frees;
  }
}

static void work_out_totals(struct bursar_reader *reader) {
  struct bursar_tally gil[BURSAR_DOMAIN_COUNT];
  check_books(reader);
  memcpy(gil, reader->books.gil, sizeof gil);
  if (reader->life != BURSAR_LIFE_RUNNING)
    complete_event(reader, gil);
  uint64_t by_total = 0, by_site = 0;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_tally *outside = &reader->books.free_lane[domain], *remote = &reader->books.remote[domain];
    reader->total[domain] = (struct bursar_tally){
        .alloc_bytes = gil[domain].alloc_bytes + outside->alloc_bytes,
        .allocs = gil[domain].allocs + outside->allocs,
        .free_bytes = gil[domain].free_bytes + outside->free_bytes + remote->free_bytes,
        .frees = gil[domain].frees + outside->frees + remote->frees,
    };
    by_total += reader->total[domain].alloc_bytes - reader->total[domain].free_bytes;
  }
  for (uint32_t i = 0; i < reader->sites; i++)
    by_site += reader->site[i].alloc_bytes - reader->site[i].free_bytes - reader->facts[i].remote_free_bytes;
  int64_t difference = (int64_t)(by_site - by_total);
  reader->unmatched_bytes = (uint64_t)(difference < 0 ? -difference : difference);
  if (reader->unmatched_bytes && reader->life != BURSAR_LIFE_RUNNING)
    note(reader, "the sums by site and the totals differ by %llu bytes", (unsigned long long)reader->unmatched_bytes);
}

static void measure_movement(struct bursar_reader *reader, const struct bursar_books *before) {
  const struct bursar_tally *lanes[2][3] = {{before->gil, before->free_lane, before->remote},
                                            {reader->books.gil, reader->books.free_lane, reader->books.remote}};
  uint64_t events[2] = {0, 0}, bytes[2] = {0, 0};
  for (int when = 0; when < 2; when++)
    for (int lane = 0; lane < 3; lane++)
      for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
        const struct bursar_tally *tally = &lanes[when][lane][domain];
        events[when] += tally->allocs + tally->frees;
        bytes[when] += tally->alloc_bytes + tally->free_bytes;
      }
  reader->moved_events = events[1] > events[0] ? events[1] - events[0] : 0;
  reader->moved_bytes = bytes[1] > bytes[0] ? bytes[1] - bytes[0] : 0;
}

/* --- whose it is, and whether it still moves --------------------------------------------------------------------- */

static enum bursar_life find_life(const struct opening *o) {
  const struct bursar_header *header = &o->head.header;
  switch (o->head.counts.state) {
    case BURSAR_STATE_STOPPED: return BURSAR_LIFE_STOPPED;
    case BURSAR_STATE_ENDED: return BURSAR_LIFE_ENDED;
    case BURSAR_STATE_BROKEN: return BURSAR_LIFE_BROKEN;
    default: break;
  }
  struct bursar_identity mine;
  int lives = bursar_place_lives(header);
  if (lives < 0)
    note(o->reader, "the program belongs to another pid namespace (a container?): it may still be running");
  if (lives <= 0 || bursar_prim_maps_file((pid_t)header->pid, o->device, o->inode) == 0)
    return BURSAR_LIFE_CUT;
  if (bursar_prim_identity(0, &mine) == 0 && !mine.process_start)
    note(o->reader, "there is no /proc here: a process has this number, and may not be the one that wrote this");
  return BURSAR_LIFE_RUNNING;
}

const char *bursar_reader_life_name(enum bursar_life life) {
  static const char *const names[] = {"running", "ended", "stopped", "broken", "killed"};
  return names[life];
}

static void check_file_size(struct opening *o) {
  uint64_t extents = o->head.counts.extents;
  uint64_t whole = BURSAR_EXTENT_MIN + (extents ? extents - 1 : 0) * o->head.header.extent_bytes;
  if (extents == 0 || extents > o->head.header.extents_max)
    note(o->reader, "the number of extents is damaged");
  else if (o->file_bytes < whole)
    note(o->reader, "the file is truncated: %llu of %llu bytes are there", (unsigned long long)o->file_bytes,
         (unsigned long long)whole);
}

static uint64_t find_last_instant(const struct opening *o) {
  const struct bursar_reader *reader = o->reader;
  uint64_t last = reader->ticks ? reader->tick[reader->ticks - 1].time_ns : 0;
  if (reader->books.peak_ns > last && reader->books.peak_ns < INT64_MAX)
    last = reader->books.peak_ns;
  if (reader->counts.main_ended_ns > last && reader->counts.main_ended_ns < INT64_MAX)
    last = reader->counts.main_ended_ns;
  uint64_t now = bursar_prim_now();
  if (reader->life == BURSAR_LIFE_RUNNING && now > reader->header.started_mono_ns &&
      now - reader->header.started_mono_ns > last)
    last = now - reader->header.started_mono_ns;
  if (reader->life != BURSAR_LIFE_RUNNING && reader->counts.stopped_ns > last && reader->counts.stopped_ns < INT64_MAX)
    last = reader->counts.stopped_ns;
  return last;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

/* Copies the sites between two readings of the head.  A running program's are copied again while it moved meanwhile: the
 * second time the memory is warm, and the error much smaller.  The same where it ended meanwhile. */
static int copy_settled(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  const uint32_t notes = reader->note_count;
  for (int attempt = 1;; attempt++) {
    uint32_t state = o->head.counts.state;
    reader->life = find_life(o);
    o->books_before = o->head.books;
    int status = copy_sites(o);
    if (status == 0)
      status = copy_tallies(o);
    if (status == 0)
      status = read_head(o);
    if (status == 0)
      status = check_header(o);
    if (status != 0)
      return status;
    /* What was checked at first is what the offsets were made from. */
    o->head.header.extent_bytes = reader->header.extent_bytes;
    o->head.header.extents_max = reader->header.extents_max;
    reader->books = o->head.books;
    if (reader->life == BURSAR_LIFE_RUNNING)
      measure_movement(reader, &o->books_before);
    bool settled = reader->moved_events == 0 && state == o->head.counts.state;
    if (settled || attempt == COPY_ATTEMPTS)
      return 0;
    free(reader->site);
    free(reader->facts);
    free(reader->estimate);
    reader->site = NULL;
    reader->facts = NULL;
    reader->estimate = NULL;
    reader->moved_events = reader->moved_bytes = 0;
    reader->note_count = notes;
    o->copied = 0;
  }
}

/* Sites come first, and what they name after them: an index is published only when what it names is there. */
static int read_all(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  int status = read_head(o);
  if (status == 0)
    status = check_header(o);
  if (status != 0)
    return status;
  reader->header = o->head.header;
  reader->header.python_version[sizeof reader->header.python_version - 1] = 0;
  reader->header.bursar_version[sizeof reader->header.bursar_version - 1] = 0;
  check_file_size(o);
  status = copy_settled(o);
  if (status != 0)
    return status;
  status = bursar_reader_scopes_copy(reader, &o->head.counts, room_of(o, BURSAR_REGION_EVENTS), copy_items, o);
  if (status == 0)
    status = copy_names(o);
  if (status == 0)
    status = copy_journal(o);
  return status;
}

/* Mode count knows domains alone: each is one site, without a stack. */
static void take_counted(struct bursar_reader *reader, uint64_t apart) {
  struct bursar_books *books = &reader->books;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    struct bursar_tally tally = reader->counted[domain];
    if (tally.free_bytes > tally.alloc_bytes) {
      reader->freed_before += tally.free_bytes - tally.alloc_bytes;
      tally.free_bytes = tally.alloc_bytes;
    }
    if (tally.frees > tally.allocs)
      tally.frees = tally.allocs;
    books->gil[domain] = (struct bursar_tally){0};
    books->free_lane[domain] = tally;
    reader->site[domain] = (struct bursar_site){
        .alloc_bytes = tally.alloc_bytes, .allocs = tally.allocs, .free_bytes = tally.free_bytes, .frees = tally.frees};
  }
  books->free_high = books->peak + apart;
  for (uint32_t i = 0; i < reader->ticks; i++)
    memcpy(reader->tick[i].free_bytes, reader->tick[i].live, sizeof reader->tick[i].live);
}

static void check_tallies(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  uint32_t mode = reader->header.mode;
  if (mode != BURSAR_MODE_SAMPLE && mode != BURSAR_MODE_COUNT)
    return;
  reader->counted_known = o->lanes_whole && bursar_tallies_sum(o->lanes, reader->counted);
  if (!reader->counted_known)
    note(reader, "what threads counted is damaged: the numbers of all allocations and frees are not known");
  if (mode == BURSAR_MODE_COUNT && reader->counted_known)
    take_counted(reader, bursar_tallies_peaks(o->lanes, &reader->books));
  if (mode == BURSAR_MODE_COUNT)
    return;
  uint32_t damaged = bursar_tallies_check(reader->estimate, reader->sites);
  if (damaged)
    note(reader, "%u of %u estimates are damaged and left out", damaged, reader->sites);
  if (reader->counts.lost_samples)
    note(reader, "%llu samples found no memory: what is live is estimated too low",
         (unsigned long long)reader->counts.lost_samples);
}

static int check_all(struct opening *o) {
  struct bursar_reader *reader = o->reader;
  reader->counts = o->head.counts;
  check_codes(reader);
  int status = check_nodes(o);
  if (status != 0)
    return status;
  check_tallies(o);
  check_sites(reader);
  check_journal(reader, o->books_before.tick);
  bursar_reader_scopes_check(reader, note);
  work_out_totals(reader);
  if (check_string(reader, &reader->counts.main_file))
    note(reader, "the name of the main file is damaged");
  reader->time_ns = find_last_instant(o);
  return 0;
}

int bursar_reader_open_fd(int fd, const char *name, struct bursar_reader **out, struct bursar_error *error) {
  struct stat st;
  if (fstat(fd, &st) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %s: %s", name, strerror(errno));
  if (!S_ISREG(st.st_mode))
    return bursar_error_set(error, BURSAR_FAILED, "%s is not a ledger: it is %s", name,
                            S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
  struct opening *o = calloc(1, sizeof *o);
  struct bursar_reader *reader = calloc(1, sizeof *reader);
  int status = BURSAR_FAILED;
  if (!o || !reader || !(reader->path = strdup(name))) {
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory to read %s", name);
    goto out;
  }
  *o = (struct opening){
      .fd = fd, .name = name, .device = st.st_dev, .inode = st.st_ino, .reader = reader, .error = error};
  status = read_all(o);
  if (status == 0)
    status = check_all(o);
  if (status == 0) {
    *out = reader;
    reader = NULL;
  }
out:
  bursar_reader_free(reader);
  free(o);
  return status;
}

static bool is_number(const char *text) {
  return *text && strlen(text) < 10 && strspn(text, "0123456789") == strlen(text);
}

static int open_by_pid(const char *pid, struct bursar_reader **out, struct bursar_error *error) {
  struct bursar_place *place = calloc(1, sizeof *place);
  if (!place)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory to look for the ledger of process %s", pid);
  int status = bursar_place_find((pid_t)atoi(pid), place, error);
  if (status == 0) {
    status = bursar_reader_open_fd(place->fd, place->path, out, error);
    bursar_place_close(place);
  }
  free(place);
  return status;
}

int bursar_reader_open(const char *path_or_pid, struct bursar_reader **out, struct bursar_error *error) {
  int fd = open(path_or_pid, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT && is_number(path_or_pid))
    return open_by_pid(path_or_pid, out, error);
  if (fd < 0 && errno == EACCES)
    return bursar_error_set(error, BURSAR_FAILED,
                            "cannot read %s: it belongs to another user; ask them, or read it as root", path_or_pid);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %s: %s", path_or_pid[0] ? path_or_pid : "''",
                            strerror(errno));
  int status = bursar_reader_open_fd(fd, path_or_pid, out, error);
  close(fd);
  return status;
}

void bursar_reader_free(struct bursar_reader *reader) {
  if (!reader)
    return;
  free(reader->path);
  free(reader->string_bytes);
  free(reader->code);
  free(reader->node);
  free(reader->site);
  free(reader->facts);
  free(reader->estimate);
  free(reader->tick);
  free(reader->undo);
  bursar_reader_scopes_free(reader);
  free(reader);
}
