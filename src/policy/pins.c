#include "policy/pins.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "account/answer.h"
#include "account/live.h"
#include "memory/pools.h"
#include "prim/prim.h"

struct arena {
  uint64_t from, to, free; /* free: bytes; 0: mostly used */
};

struct walk {
  struct bursar_pins *out;
  struct arena *arenas;
  uint32_t arena_count, site_room;
  uint32_t at; /* the arena that was found last: blocks come by address */
};

/* What is handed out in an arena; its pools begin at multiples of their size, and those that were never used say so. */
static uint64_t used_in(const struct bursar_look *look, const struct bursar_pieces_one *piece) {
  unsigned char headers[BURSAR_POOLS_ARENA / BURSAR_POOLS_BYTES][BURSAR_POOLS_HEADER];
  uint64_t at = (piece->from + BURSAR_POOLS_BYTES - 1) & ~(uint64_t)(BURSAR_POOLS_BYTES - 1), used = 0;
  struct bursar_pools_header header;
  struct bursar_peek peek = look->peek;
  peek.direct = false; /* what nobody has touched may be a guard */
  while (at + BURSAR_POOLS_BYTES <= piece->to) {
    size_t count = (piece->to - at) / BURSAR_POOLS_BYTES, most = sizeof headers / sizeof *headers;
    size_t got =
        bursar_peek_places(&peek, at, BURSAR_POOLS_BYTES, count < most ? count : most, headers, BURSAR_POOLS_HEADER);
    for (size_t i = 0; i < got; i++)
      if (bursar_pools_is(at + i * BURSAR_POOLS_BYTES, headers[i], &header))
        used += header.used;
    at += (got ? got : 1) * BURSAR_POOLS_BYTES;
  }
  return used;
}

static void add_arenas(const struct bursar_look *look, struct walk *walk) {
  for (size_t i = 0; i < look->pieces.count; i++) {
    const struct bursar_pieces_one *piece = &look->pieces.at[i];
    uint64_t bytes = piece->to - piece->from;
    if (piece->kind != BURSAR_PIECES_ARENA)
      continue;
    uint64_t used = used_in(look, piece);
    bool mostly_free = used < bytes / 2;
    walk->out->arenas++;
    walk->out->arena_bytes += bytes;
    walk->out->mostly_free += mostly_free;
    walk->out->free_bytes += mostly_free ? bytes - used : 0;
    walk->arenas[walk->arena_count++] = (struct arena){piece->from, piece->to, mostly_free ? bytes - used : 0};
  }
}

static uint32_t arena_of(struct walk *walk, uint64_t address) {
  if (walk->at < walk->arena_count && address >= walk->arenas[walk->at].from && address < walk->arenas[walk->at].to)
    return walk->at;
  uint32_t low = 0, high = walk->arena_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (walk->arenas[middle].to <= address)
      low = middle + 1;
    else
      high = middle;
  }
  bool inside = low < walk->arena_count && address >= walk->arenas[low].from;
  walk->at = inside ? low : walk->at;
  return inside ? low : walk->arena_count;
}

static void meet(const void *p, struct bursar_record record, void *context) {
  struct walk *walk = context;
  if (record.size > BURSAR_POOLS_LARGEST || !record.number || record.number > walk->site_room)
    return;
  uint32_t arena = arena_of(walk, (uintptr_t)p);
  if (arena == walk->arena_count || !walk->arenas[arena].free)
    return;
  struct bursar_pins_site *site = &walk->out->sites[record.number - 1];
  site->number = record.number;
  site->bytes += record.size;
  if (site->in != arena + 1) {
    site->in = arena + 1;
    site->arenas++;
    site->free_bytes += walk->arenas[arena].free;
  }
}

static int by_free(const void *a, const void *b) {
  const struct bursar_pins_site *one = a, *other = b;
  return one->free_bytes != other->free_bytes ? (one->free_bytes < other->free_bytes ? 1 : -1)
                                              : (one->number > other->number) - (one->number < other->number);
}

int bursar_pins_find(struct bursar_pins *out) {
  struct bursar_look look;
  struct bursar_inside inside;
  *out = (struct bursar_pins){0};
  int status = bursar_answer_begin(&look, 0);
  if (status < 0)
    return status;
  bursar_answer_finish(&look, &inside);
  struct walk walk = {.out = out, .site_room = bursar_account.writer.counts->sites};
  size_t sites = walk.site_room * sizeof *out->sites;
  out->memory_bytes = sites + look.pieces.count * sizeof *walk.arenas + BURSAR_PRIM_PAGE;
  out->memory = bursar_prim_reserve(out->memory_bytes, true);
  if (!out->memory) {
    bursar_look_end(&look);
    return -ENOMEM;
  }
  out->sites = out->memory;
  walk.arenas = (struct arena *)(void *)((char *)out->memory + sites);
  if (look.inside) {
    add_arenas(&look, &walk);
    bursar_live_each(meet, &walk);
  }
  bursar_look_end(&look);
  for (uint32_t i = 0; i < walk.site_room; i++)
    if (out->sites[i].number)
      out->sites[out->site_count++] = out->sites[i];
  qsort(out->sites, out->site_count, sizeof *out->sites, by_free);
  return 0;
}

void bursar_pins_free(struct bursar_pins *pins) {
  if (pins->memory)
    bursar_prim_release(pins->memory, pins->memory_bytes);
  *pins = (struct bursar_pins){0};
}
