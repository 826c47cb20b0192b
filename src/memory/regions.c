#include "memory/regions.h"

#include <errno.h>
#include <string.h>

#include "prim/prim.h"
#include "prim/smaps.h"

#define MOST 66000u /* the kernel's own limit is 65,530 unless somebody raised it */
#define NAMES_ROOM (4u << 20)
#define GUARD_MOST (64u << 10)
#define BSS_UNPROVEN (4u << 20) /* behind an image; larger ones are more likely a neighbour */

/* --- reading --------------------------------------------------------------------------------------------------------- */

static uint32_t keep_name(struct bursar_regions *regions, const char *name) {
  size_t bytes = strlen(name) + 1;
  const struct bursar_regions_one *last = regions->count ? &regions->at[regions->count - 1] : NULL;
  if (!name[0])
    return 0;
  if (last && last->name && strcmp(regions->names + last->name, name) == 0)
    return last->name;
  if (bytes > NAMES_ROOM - regions->names_used)
    return 0;
  uint32_t at = (uint32_t)regions->names_used;
  memcpy(regions->names + at, name, bytes);
  regions->names_used += bytes;
  return at;
}

/* What one mmap made stands in several mappings once a part of it was advised of otherwise: NumPy does so with arrays from 4 MiB
 * on, in the midst of malloc's heaps. */
static bool continues(const struct bursar_regions_one *last, const struct bursar_smaps_map *map) {
  return last->to == map->from && last->readable && last->writable && !last->executable && map->readable &&
         map->writable && !map->executable && !last->shared && !map->shared && !last->inode && !map->inode &&
         !last->name && !map->name[0] && last->marked == map->marked;
}

static void visit(const struct bursar_smaps_map *map, void *context) {
  struct bursar_regions *regions = context;
  struct bursar_regions_one *last = regions->count ? &regions->at[regions->count - 1] : NULL;
  regions->rss += map->rss;
  regions->pss += map->pss;
  regions->swap += map->swap;
  if (last && continues(last, map)) {
    last->to = map->to;
    last->rss += map->rss;
    last->pss += map->pss;
    last->swap += map->swap;
    last->dirty += map->dirty;
    return;
  }
  if (regions->count == MOST) {
    regions->cut = true;
    return;
  }
  uint32_t name = keep_name(regions, map->name);
  regions->at[regions->count++] = (struct bursar_regions_one){.from = map->from,
                                                              .to = map->to,
                                                              .rss = map->rss,
                                                              .pss = map->pss,
                                                              .swap = map->swap,
                                                              .dirty = map->dirty,
                                                              .inode = map->inode,
                                                              .major = map->major,
                                                              .minor = map->minor,
                                                              .name = name,
                                                              .readable = map->readable,
                                                              .writable = map->writable,
                                                              .executable = map->executable,
                                                              .shared = map->shared,
                                                              .marked = map->marked};
}

const struct bursar_regions_one *bursar_regions_behind(const struct bursar_regions *regions, uint64_t at) {
  size_t low = 0, high = regions->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (regions->at[middle].to <= at)
      low = middle + 1;
    else
      high = middle;
  }
  return low < regions->count ? &regions->at[low] : NULL;
}

const char *bursar_regions_name(const struct bursar_regions *regions, const struct bursar_regions_one *region) {
  return regions->names + region->name;
}

static bool is_resident(const struct bursar_regions_one *region, uint64_t page) {
  return region->bits[page / 64] >> (page % 64) & 1;
}

uint64_t bursar_regions_resident(const struct bursar_regions_one *region, uint64_t from, uint64_t to) {
  from = from > region->from ? from : region->from;
  to = to < region->to ? to : region->to;
  if (from >= to || !region->rss)
    return 0;
  if (!region->bits)
    return to - from < region->rss ? to - from : region->rss;
  uint64_t first = (from - region->from) / BURSAR_PRIM_PAGE, last = (to - 1 - region->from) / BURSAR_PRIM_PAGE, sum = 0;
  for (uint64_t page = first; page <= last;) {
    uint64_t bits = region->bits[page / 64] >> (page % 64), n = 64 - page % 64;
    if (n > last - page + 1) {
      n = last - page + 1;
      bits &= (1ull << n) - 1;
    }
    sum += (uint64_t)__builtin_popcountll(bits) * BURSAR_PRIM_PAGE;
    page += n;
  }
  /* The first and the last page may belong to it in part. */
  if (is_resident(region, first))
    sum -= (from - region->from) % BURSAR_PRIM_PAGE;
  if (is_resident(region, last))
    sum -= (BURSAR_PRIM_PAGE - (to - region->from) % BURSAR_PRIM_PAGE) % BURSAR_PRIM_PAGE;
  return sum;
}

/* --- kinds ----------------------------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static uint8_t kind_of(const struct bursar_regions *regions, const struct bursar_regions_one *region, uint64_t ledger) {
  const char *name = bursar_regions_name(regions, region);
  if (strcmp(name, "[heap]") == 0)
    return BURSAR_REGIONS_HEAP;
  if (begins(name, "[stack"))
    return BURSAR_REGIONS_STACK;
  if (begins(name, "[anon:bursar"))
    return BURSAR_REGIONS_OWN;
  if (begins(name, "[anon:"))
    return BURSAR_REGIONS_NAMED;
  if (begins(name, "/secretmem"))
    return BURSAR_REGIONS_HIDDEN;
  if (begins(name, "[anon_shmem:") || begins(name, "/dev/shm/") || begins(name, "/memfd:") || begins(name, "/SYSV") ||
      begins(name, "/dev/zero"))
    return BURSAR_REGIONS_SHARED;
  if (name[0] == '[')
    return BURSAR_REGIONS_IMAGE; /* [vdso], [vvar], [vsyscall] */
  if (region->inode && ledger && region->inode == ledger && region->shared)
    return BURSAR_REGIONS_LEDGER;
  if (region->inode || name[0])
    return region->executable ? BURSAR_REGIONS_IMAGE : BURSAR_REGIONS_FILE;
  if (region->shared)
    return BURSAR_REGIONS_SHARED;
  return region->marked ? BURSAR_REGIONS_OWN : BURSAR_REGIONS_ANON;
}

static bool same_file(const struct bursar_regions_one *a, const struct bursar_regions_one *b) {
  return a->inode && a->inode == b->inode && a->major == b->major && a->minor == b->minor;
}

/* A library's data stand beside its code. */
static void spread_images(struct bursar_regions *regions) {
  struct bursar_regions_one *at = regions->at;
  for (size_t i = 1; i < regions->count; i++)
    if (at[i - 1].kind == BURSAR_REGIONS_IMAGE && at[i].kind == BURSAR_REGIONS_FILE && same_file(&at[i - 1], &at[i]))
      at[i].kind = BURSAR_REGIONS_IMAGE;
  for (size_t i = regions->count; i-- > 1;)
    if (at[i].kind == BURSAR_REGIONS_IMAGE && at[i - 1].kind == BURSAR_REGIONS_FILE && same_file(&at[i - 1], &at[i]))
      at[i - 1].kind = BURSAR_REGIONS_IMAGE;
}

static bool is_space(const struct bursar_regions_one *region) {
  return region->kind == BURSAR_REGIONS_ANON && !region->readable && !region->writable;
}

static uint8_t shape_of(const struct bursar_regions *regions, size_t i, uint64_t stack_limit) {
  const struct bursar_regions_one *region = &regions->at[i];
  const struct bursar_regions_one *before = i ? region - 1 : NULL, *after = i + 1 < regions->count ? region + 1 : NULL;
  if (region->kind != BURSAR_REGIONS_ANON || !region->writable)
    return BURSAR_REGIONS_NO_SHAPE;
  uint64_t within = region->from % BURSAR_REGIONS_HEAP_BYTES;
  if (within == 0 &&
      ((after && after->from == region->to && is_space(after) && after->to % BURSAR_REGIONS_HEAP_BYTES == 0) ||
       region->to % BURSAR_REGIONS_HEAP_BYTES == 0))
    return BURSAR_REGIONS_SHAPE_HEAP;
  if (before && before->to == region->from && is_space(before) && before->to - before->from <= GUARD_MOST &&
      region->to - before->from <= stack_limit)
    return BURSAR_REGIONS_SHAPE_STACK;
  if (before && before->to == region->from && before->kind == BURSAR_REGIONS_IMAGE && before->inode &&
      before->writable && region->to - region->from <= BSS_UNPROVEN)
    return BURSAR_REGIONS_SHAPE_BSS;
  return BURSAR_REGIONS_NO_SHAPE;
}

static void classify(struct bursar_regions *regions, uint64_t ledger, uint64_t stack_limit) {
  for (size_t i = 0; i < regions->count; i++)
    regions->at[i].kind = kind_of(regions, &regions->at[i], ledger);
  spread_images(regions);
  for (size_t i = 0; i < regions->count; i++)
    regions->at[i].shape = shape_of(regions, i, stack_limit);
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

static char *room_for(struct bursar_regions *out) {
  size_t table = MOST * sizeof(struct bursar_regions_one);
  *out = (struct bursar_regions){.memory_bytes = table + NAMES_ROOM + BURSAR_SMAPS_BUFFER, .names_used = 1};
  out->memory_bytes = (out->memory_bytes + BURSAR_PRIM_PAGE - 1) / BURSAR_PRIM_PAGE * BURSAR_PRIM_PAGE;
  out->memory = bursar_prim_reserve(out->memory_bytes, true);
  if (!out->memory)
    return NULL;
  out->at = out->memory;
  out->names = (char *)out->memory + table;
  return out->names + NAMES_ROOM;
}

int bursar_regions_read(pid_t pid, uint64_t ledger, uint64_t stack_limit, struct bursar_regions *out) {
  char *buffer = room_for(out);
  int status = buffer ? bursar_smaps_read(pid, buffer, BURSAR_SMAPS_BUFFER, visit, out) : -ENOMEM;
  if (status == 0)
    classify(out, ledger, stack_limit);
  else
    bursar_regions_free(out);
  return status;
}

int bursar_regions_parse(char *text, size_t bytes, uint64_t ledger, uint64_t stack_limit, struct bursar_regions *out) {
  int status = room_for(out) ? bursar_smaps_parse(text, bytes, visit, out) : -ENOMEM;
  if (status == 0)
    classify(out, ledger, stack_limit);
  else
    bursar_regions_free(out);
  return status;
}

void bursar_regions_free(struct bursar_regions *regions) {
  if (regions->memory)
    bursar_prim_release(regions->memory, regions->memory_bytes);
  *regions = (struct bursar_regions){.memory = NULL};
}
