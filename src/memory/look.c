#include "memory/look.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "memory/bins.h"
#include "memory/heap.h"
#include "memory/pools.h"
#include "prim/prim.h"
#include "prim/smaps.h"

#define PAGE BURSAR_PRIM_PAGE
#define STACK_DEFAULT (8ull << 20) /* where there is no limit */
#define BITS_BYTES (16u << 20)     /* one bit a page: 512 GiB */
#define SPARSE_MOST (16ull << 30)  /* a larger mapping's page map takes too long to read */
#define QUICK_BYTES (64ull << 20)
#define QUICK_LISTED 4096u
#define LISTED_LEAST 4096u
#define LISTED_SHARE \
  8u /* to look up a free chunk takes as long as to copy a page: an eighth is lost where there are more */
#define LISTED_TRIES 3 /* while others allocate */
#define HEADER BURSAR_POOLS_HEADER
#define PROGRAM_HEADERS 64u
#define MISSES_CLOSE 4096u /* pages in a row that tell nothing: then only every fourth is looked at, for pools */
#define MISSES_MOST 65536u /* of a look */

/* --- residency ------------------------------------------------------------------------------------------------------- */

static bool wants_bits(const struct bursar_regions_one *region) {
  return (region->kind == BURSAR_REGIONS_ANON || region->kind == BURSAR_REGIONS_HEAP) && region->rss &&
         region->to - region->from <= SPARSE_MOST;
}

/* Fewer pages are counted in rss than are present where some are pages of zeros. */
static void read_bits(const struct bursar_peek *peek, struct bursar_regions_one *region, uint64_t *bits) {
  uint64_t pages = (region->to - region->from) / PAGE;
  if (region->rss == region->to - region->from) {
    memset(bits, 0xff, (pages + 63) / 64 * sizeof *bits);
    region->bits = bits;
    return;
  }
  ssize_t present = bursar_peek_pages(peek, region->from, pages, true, bits);
  if (present > 0 && (uint64_t)present * PAGE > region->rss)
    present = bursar_peek_pages(peek, region->from, pages, false, bits);
  if (present >= 0)
    region->bits = bits;
}

static void read_all_bits(struct bursar_look *look, uint64_t *bits) {
  uint64_t *end = bits + BITS_BYTES / 8u;
  for (size_t i = 0; i < look->regions.count; i++) {
    struct bursar_regions_one *region = &look->regions.at[i];
    uint64_t words = ((region->to - region->from) / PAGE + 63) / 64;
    if (!wants_bits(region) || words > (uint64_t)(end - bits))
      continue;
    read_bits(&look->peek, region, bits);
    bits += words;
  }
}

uint64_t bursar_look_resident(const struct bursar_look *look, uint64_t at, uint64_t bytes) {
  const struct bursar_regions_one *region = bursar_regions_behind(&look->regions, at),
                                  *end = look->regions.at + look->regions.count;
  uint64_t sum = 0;
  for (; region && region < end && region->from < at + bytes; region++)
    sum += bursar_regions_resident(region, at, at + bytes);
  return sum;
}

/* --- what the shape of mappings tells -------------------------------------------------------------------------------- */

/* Where an image's data end, from its program headers in memory; 0: not known. */
static uint64_t image_end(const struct bursar_look *look, const struct bursar_regions_one *data) {
  const struct bursar_regions_one *base = data;
  Elf64_Ehdr head;
  Elf64_Phdr programs[PROGRAM_HEADERS];
  uint64_t low = UINT64_MAX, high = 0;
  while (base > look->regions.at && base[-1].inode == data->inode && base[-1].minor == data->minor)
    base--;
  if (!base->readable || bursar_peek_read(&look->peek, base->from, &head, sizeof head) != (ssize_t)sizeof head ||
      memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
      head.e_phentsize != sizeof *programs || head.e_phnum > PROGRAM_HEADERS ||
      head.e_phoff > base->to - base->from - PROGRAM_HEADERS * sizeof *programs)
    return 0;
  size_t bytes = head.e_phnum * sizeof *programs;
  if (bursar_peek_read(&look->peek, base->from + head.e_phoff, programs, bytes) != (ssize_t)bytes)
    return 0;
  for (unsigned i = 0; i < head.e_phnum; i++)
    if (programs[i].p_type == PT_LOAD) {
      uint64_t from = programs[i].p_vaddr, to = from + programs[i].p_memsz;
      low = from < low ? from : low;
      high = to > high ? to : high;
    }
  return high > low ? (base->from + high - low / PAGE * PAGE + PAGE - 1) / PAGE * PAGE : 0;
}

static void add_bss(struct bursar_look *look, const struct bursar_regions_one *region) {
  const struct bursar_regions_one *before = region - 1;
  uint64_t end = image_end(look, before);
  if (!end && region->shape == BURSAR_REGIONS_SHAPE_BSS)
    end = region->to;
  end = end < region->to ? end : region->to;
  if (end > region->from)
    bursar_pieces_add(&look->pieces, region->from, end, BURSAR_PIECES_BSS);
}

/* A mapping that stands above a thread's stack may have been merged with it: up to the limit it is the stack. */
static void add_stack(struct bursar_look *look, const struct bursar_regions_one *region) {
  uint64_t end = region[-1].from + look->stack_limit;
  bursar_pieces_add(&look->pieces, region->from, end < region->to ? end : region->to, BURSAR_PIECES_STACK);
}

static bool is_guard(const struct bursar_regions_one *region) {
  return region->kind == BURSAR_REGIONS_ANON && !region->readable && !region->writable &&
         region->to - region->from <= (64u << 10) && region->to % BURSAR_REGIONS_HEAP_BYTES;
}

static struct bursar_look_heap *heap_of(struct bursar_look *look, uint64_t arena) {
  for (size_t i = 0; i < look->heap_count; i++)
    if (look->heaps[i].arena == arena)
      return &look->heaps[i];
  if (look->heap_count == BURSAR_LOOK_HEAPS)
    return &look->heaps[BURSAR_LOOK_HEAPS - 1];
  look->heaps[look->heap_count] = (struct bursar_look_heap){.arena = arena};
  return &look->heaps[look->heap_count++];
}

static void add_heap(struct bursar_look *look, const struct bursar_regions_one *region, uint64_t resident,
                     const struct bursar_heap *heap, bool walked) {
  struct bursar_look_heap *of = heap_of(look, heap->arena);
  of->resident += resident;
  if (walked) {
    of->free_resident += heap->free_resident;
    of->returnable += heap->returnable;
  }
  look->heaps_walked = look->heaps_walked && walked;
}

/* May so much of a heap still be copied? */
static bool afford(struct bursar_look *look, uint64_t bytes) {
  look->heap_bytes += look->peek.direct ? 0 : bytes;
  return !look->quick || look->heap_bytes <= QUICK_BYTES;
}

struct listed {
  const struct bursar_look *look;
  bool main;
  uint64_t free_resident, returnable;
};

static bool add_listed(uint64_t at, uint64_t size, bool top, void *context) {
  struct listed *listed = context;
  const struct bursar_regions_one *region = bursar_regions_behind(&listed->look->regions, at);
  if (!region || region->from > at || region->kind != (listed->main ? BURSAR_REGIONS_HEAP : BURSAR_REGIONS_ANON) ||
      size > region->to - at || (listed->main && top && at + size != region->to))
    return false;
  listed->free_resident += bursar_regions_resident(region, at, at + size);
  if (!top)
    listed->returnable += bursar_heap_given_back(region, at, size);
  else if (listed->main)
    listed->returnable += bursar_heap_given_back_top(region, at, size);
  return true;
}

/* What is free in all heaps of an arena (`key`: 0 for the main one), by its lists.  False: they tell nothing. */
static bool add_lists(struct bursar_look *look, uint64_t key, uint64_t arena) {
  for (size_t i = 0; i < look->heap_count; i++)
    if (look->heaps[i].arena == key && (key || look->heaps[i].listed))
      return look->heaps[i].listed;
  for (int n = 0; n < LISTED_TRIES && arena && look->heap_count < BURSAR_LOOK_HEAPS; n++) {
    struct listed listed = {.look = look, .main = !key};
    if (!bursar_bins_each(&look->peek, arena, &look->lists_most, add_listed, &listed))
      continue;
    struct bursar_look_heap *heap = heap_of(look, key);
    heap->free_resident += listed.free_resident;
    heap->returnable += listed.returnable;
    heap->listed = true;
    return true;
  }
  return false;
}

static uint64_t find_main_arena(const struct bursar_look *look) {
  for (size_t i = 0; i < look->regions.count; i++) {
    const struct bursar_regions_one *region = &look->regions.at[i];
    const char *name = strrchr(bursar_regions_name(&look->regions, region), '/');
    if (region->kind != BURSAR_REGIONS_IMAGE || !region->writable || !name ||
        (strncmp(name, "/libc.so", 8) != 0 && strncmp(name, "/libc-2", 7) != 0))
      continue;
    uint64_t arena = bursar_bins_find(&look->peek, region->from, region->to, look->buffer, BURSAR_HEAP_BUFFER);
    if (arena)
      return arena;
  }
  return 0;
}

/* Heaps of threads begin at multiples of 64 MiB, wherever in a mapping those lie. */
static void add_thread_heaps(struct bursar_look *look, const struct bursar_regions_one *region) {
  const uint64_t step = BURSAR_REGIONS_HEAP_BYTES;
  for (uint64_t at = (region->from + step - 1) / step * step; at < region->to; at += step) {
    struct bursar_heap heap;
    uint64_t to = region->to - at < step ? region->to : at + step;
    uint64_t resident = bursar_regions_resident(region, at, to);
    if (!resident)
      continue;
    bool walked = bursar_heap_thread(&look->peek, region, at, to, false, look->buffer, &heap) ||
                  (heap.arena && add_lists(look, heap.arena, heap.arena));
    if (!walked && heap.arena)
      walked = bursar_heap_thread(&look->peek, region, at, to, afford(look, resident), look->buffer, &heap);
    if (!walked && (!heap.arena || region->shape != BURSAR_REGIONS_SHAPE_HEAP))
      continue;
    /* What the heap gave back stays mapped, behind its size, only in part: all up to the mapping's end is the heap's. */
    bursar_pieces_add(&look->pieces, at, to, BURSAR_PIECES_HEAP);
    add_heap(look, region, resident, &heap, walked);
  }
}

static void add_main_heaps(struct bursar_look *look) {
  (void)heap_of(look, 0);
  bool listed = add_lists(look, 0, find_main_arena(look));
  for (size_t i = 0; i < look->regions.count; i++) {
    const struct bursar_regions_one *region = &look->regions.at[i];
    struct bursar_heap heap = {.arena = 0};
    if (region->kind == BURSAR_REGIONS_HEAP && region->rss) {
      bool walked = listed || (afford(look, region->rss) && bursar_heap_main(&look->peek, region, look->buffer, &heap));
      add_heap(look, region, region->rss, &heap, walked);
    }
  }
}

static void add_shapes(struct bursar_look *look) {
  for (size_t i = 0; i < look->regions.count; i++) {
    const struct bursar_regions_one *region = &look->regions.at[i], *before = i ? region - 1 : NULL;
    if (region->kind != BURSAR_REGIONS_ANON || !region->writable || !region->rss)
      continue;
    bool touches = before && before->to == region->from;
    if (touches && is_guard(before))
      add_stack(look, region);
    else if (touches && before->kind == BURSAR_REGIONS_IMAGE && before->inode)
      add_bss(look, region);
    add_thread_heaps(look, region);
  }
}

/* --- what the memory itself tells ------------------------------------------------------------------------------------ */

/* The arena whose pools are being met. */
struct arena {
  uint64_t from, first, to; /* to: where it ends at the latest; 0: there is none */
  uint32_t number;
};

struct scan {
  struct bursar_look *look;
  const struct bursar_regions_one *region;
  uint64_t from, to; /* the gap */
  struct arena arena;
  uint64_t
      reach; /* where what follows without a hole ends: a chunk may lie across mappings, where a part was advised */
  uint64_t last_end; /* of the arena before */
  uint32_t misses;   /* in a row */
  bool last_was_pool;
};

static void close_arena(struct scan *scan, uint64_t limit) {
  struct arena *arena = &scan->arena;
  if (!arena->to)
    return;
  uint64_t to = arena->to < limit ? arena->to : limit;
  bursar_pieces_add(&scan->look->pieces, arena->from, to, BURSAR_PIECES_ARENA);
  scan->look->arena_bytes += to - arena->from;
  scan->last_end = to;
  arena->to = 0;
}

/* An arena begins at any page, its first pool at the next multiple of 16 KiB. */
static void meet_pool(struct scan *scan, uint64_t at, const struct bursar_pools_header *header) {
  struct arena *arena = &scan->arena;
  scan->look->arena_used += header->used;
  if (arena->to && arena->number == header->arena && at < arena->to)
    return;
  uint64_t begins = at;
  if (arena->to && at > arena->to && at - arena->to < BURSAR_POOLS_BYTES)
    begins = arena->to;
  close_arena(scan, begins);
  if (begins == at && at - scan->from < BURSAR_POOLS_BYTES)
    begins = scan->from;
  else if (begins == at && scan->last_end && scan->last_end < at && at - scan->last_end < BURSAR_POOLS_BYTES)
    begins = scan->last_end;
  *arena = (struct arena){begins, at, begins + BURSAR_POOLS_ARENA, header->arena};
}

static void add_chunk(struct bursar_look *look, uint64_t at, uint64_t size) {
  bursar_pieces_add(&look->pieces, at, at + size, BURSAR_PIECES_CHUNK);
  look->chunk_bytes += size;
}

/* How far what is mapped goes on from there without a hole, as memory of one kind and nobody's piece. */
static uint64_t reach_of(const struct bursar_look *look, const struct bursar_regions_one *region, uint64_t from) {
  const struct bursar_regions_one *end = look->regions.at + look->regions.count;
  uint64_t to = region->to;
  for (region++; region < end && region->from == to && region->kind == BURSAR_REGIONS_ANON && region->writable;
       region++)
    to = region->to;
  return bursar_pieces_gap(&look->pieces, &from, &to) ? to : from;
}

void bursar_look_chunk(struct bursar_look *look, uint64_t at) {
  const struct bursar_regions_one *region = bursar_regions_behind(&look->regions, at);
  uint64_t words[2], from = at, to = at + PAGE;
  if (!look->inside || at % PAGE || !region || region->kind != BURSAR_REGIONS_ANON || !region->readable ||
      region->from > at || !bursar_pieces_gap(&look->pieces, &from, &to) || from != at ||
      bursar_peek_read(&look->peek, at, words, sizeof words) != (ssize_t)sizeof words)
    return;
  uint64_t size = bursar_heap_mapped(at, words, reach_of(look, region, at));
  if (size)
    add_chunk(look, at, size);
}

/* One page's first bytes.  Returns where to go on. */
static uint64_t meet(struct scan *scan, uint64_t at, const unsigned char *bytes) {
  struct bursar_pools_header header;
  uint64_t words[2];
  memcpy(words, bytes, sizeof words);
  scan->last_was_pool = bursar_pools_is(at, bytes, &header);
  if (scan->last_was_pool) {
    scan->misses = 0;
    meet_pool(scan, at, &header);
    return at + BURSAR_POOLS_BYTES;
  }
  scan->misses++;
  scan->look->misses++;
  if (scan->arena.to && at < scan->arena.to)
    return at + PAGE;
  uint64_t size = bursar_heap_mapped(at, words, scan->reach);
  if (!size)
    return at + PAGE;
  scan->misses = 0;
  close_arena(scan, at);
  add_chunk(scan->look, at, size);
  return at + size;
}

/* The next page from `at` on that is resident: others hold nothing. */
static uint64_t next_resident(const struct bursar_regions_one *region, uint64_t at, uint64_t to) {
  if (!region->bits)
    return at;
  uint64_t page = (at - region->from) / PAGE, end = (to - region->from) / PAGE;
  while (page < end) {
    uint64_t word = region->bits[page / 64] >> (page % 64);
    if (word) {
      page += (uint64_t)__builtin_ctzll(word);
      break;
    }
    page += 64 - page % 64;
  }
  return page < end ? region->from + page * PAGE : to;
}

static size_t resident_places(const struct scan *scan, uint64_t at, uint64_t step, size_t most) {
  size_t count = 0;
  while (count < most && next_resident(scan->region, at, at + PAGE) == at) {
    at += step;
    count++;
  }
  return count;
}

/* How it goes on: by the page; from pool to pool, while they follow each other; where nothing told anything for long, as
 * far as from pool to pool. */
enum stride { CLOSE, POOLS, FAR };

static enum stride stride_at(const struct scan *scan, uint64_t at) {
  if (at % BURSAR_POOLS_BYTES)
    return CLOSE;
  return scan->last_was_pool ? POOLS : scan->misses > MISSES_CLOSE ? FAR : CLOSE;
}

/* Goes through the first bytes of these places.  Returns where to go on. */
static uint64_t meet_places(struct scan *scan, enum stride stride, uint64_t at, uint64_t step, size_t count) {
  unsigned char *bytes = (unsigned char *)scan->look->buffer;
  struct bursar_peek peek = scan->look->peek;
  if (peek.direct) /* what is not resident may be a guard, which faults */
    count = resident_places(scan, at, step, count);
  peek.direct = peek.direct && scan->region->bits;
  size_t got = bursar_peek_places(&peek, at, step, count, bytes, HEADER);
  if (!got)
    return at + step;
  for (size_t i = 0; i < got; i++, at += step) {
    uint64_t next = meet(scan, at, bytes + i * HEADER);
    bool told = next != at + PAGE;
    if (stride == POOLS ? !scan->last_was_pool : told)
      return next;
  }
  return at;
}

/* The pools of an arena whose first one was met, where arenas stay while we look. */
static uint64_t meet_staying(struct scan *scan, uint64_t at) {
  for (; at < scan->arena.to && at < scan->to && next_resident(scan->region, at, at + PAGE) == at;
       at += BURSAR_POOLS_BYTES) {
    uint64_t next = meet(scan, at, (const unsigned char *)(uintptr_t)at);
    if (!scan->last_was_pool)
      return next;
  }
  return at;
}

static void scan_gap(struct scan *scan) {
  uint64_t at = scan->from;
  while ((at = next_resident(scan->region, at, scan->to)) < scan->to) {
    if (scan->look->misses > MISSES_MOST) {
      scan->look->cut = true;
      break;
    }
    enum stride stride = stride_at(scan, at);
    if (stride == POOLS && scan->look->arenas_stay && at < scan->arena.to) {
      at = meet_staying(scan, at);
      continue;
    }
    uint64_t step = stride == CLOSE ? PAGE : BURSAR_POOLS_BYTES, places = (scan->to - at + step - 1) / step;
    uint64_t most = stride == CLOSE ? 16 : BURSAR_PEEK_PLACES; /* what is met soon tells where to go on */
    if (!scan->region->bits || (stride == POOLS && scan->look->arenas_stay))
      most = 1; /* too large to be gone through, or more is read directly */
    at = meet_places(scan, stride, at, step, (size_t)(places < most ? places : most));
    if (!scan->region->bits)
      break;
  }
  close_arena(scan, scan->to);
}

void bursar_look_scan(struct bursar_look *look) {
  if (!look->inside)
    return;
  for (size_t i = 0; i < look->regions.count; i++) {
    const struct bursar_regions_one *region = &look->regions.at[i];
    if (region->kind != BURSAR_REGIONS_ANON || !region->rss || !region->readable)
      continue;
    uint64_t from = region->from, to = region->to;
    while (bursar_pieces_gap(&look->pieces, &from, &to)) {
      struct scan scan = {.look = look, .region = region, .from = from, .to = to};
      scan.reach = to == region->to ? reach_of(look, region, from) : to;
      scan_gap(&scan);
      from = to;
      to = region->to;
    }
  }
}

void bursar_look_mapping(struct bursar_look *look, uint64_t from, uint64_t to) {
  if (look->inside)
    bursar_pieces_add(&look->pieces, from, to, BURSAR_PIECES_MAP);
}

bool bursar_look_is_nobodys(const struct bursar_look *look, uint64_t at) {
  const struct bursar_regions_one *region = bursar_regions_behind(&look->regions, at);
  uint64_t from = at, to = at + 1;
  return region && region->from <= at && region->kind == BURSAR_REGIONS_ANON &&
         bursar_pieces_gap(&look->pieces, &from, &to);
}

void bursar_look_sum(struct bursar_look *look) {
  memset(look->resident, 0, sizeof look->resident);
  for (size_t i = 0; i < look->pieces.count; i++) {
    const struct bursar_pieces_one *piece = &look->pieces.at[i];
    const struct bursar_regions_one *region = bursar_regions_behind(&look->regions, piece->from),
                                    *end = look->regions.at + look->regions.count;
    for (; region && region < end && region->from < piece->to; region++)
      if (region->kind == BURSAR_REGIONS_ANON)
        look->resident[piece->kind] += bursar_regions_resident(region, piece->from, piece->to);
  }
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

int bursar_look_begin(pid_t pid, uint64_t ledger, unsigned how, struct bursar_look *out) {
  struct bursar_smaps_status status;
  size_t heaps = BURSAR_LOOK_HEAPS * sizeof *out->heaps;
  int kept = errno;
  *out = (struct bursar_look){
      .peek = {.pages_fd = -1, .mem_fd = -1}, .heaps_walked = true, .quick = how & BURSAR_LOOK_QUICK};
  bursar_smaps_status(pid, &status);
  out->stack_limit = status.stack_limit == BURSAR_SMAPS_UNKNOWN ? STACK_DEFAULT : status.stack_limit;
  /* Memory first: what the look itself touches is then in what it sees, as far as that goes. */
  out->memory_bytes = BITS_BYTES + BURSAR_HEAP_BUFFER + heaps;
  out->memory = bursar_prim_reserve(out->memory_bytes, true);
  int result = out->memory ? bursar_pieces_init(&out->pieces) : -ENOMEM;
  if (result == 0)
    result = bursar_regions_read(pid, ledger, out->stack_limit, &out->regions);
  if (result < 0) {
    bursar_look_end(out);
    errno = kept;
    return result;
  }
  out->buffer = (char *)out->memory + BITS_BYTES;
  out->heaps = (struct bursar_look_heap *)(void *)(out->buffer + BURSAR_HEAP_BUFFER);
  out->inside = (how & BURSAR_LOOK_INSIDE) && bursar_peek_open(pid, &out->peek) == 0;
  out->peek.direct = out->inside && pid == 0 && status.threads == 1;
  if (out->inside) {
    uint64_t most = out->regions.rss / PAGE / LISTED_SHARE;
    out->lists_most = out->quick ? QUICK_LISTED : most > LISTED_LEAST ? most : LISTED_LEAST;
    read_all_bits(out, out->memory);
    add_main_heaps(out);
    add_shapes(out);
  }
  errno = kept;
  return 0;
}

void bursar_look_end(struct bursar_look *look) {
  bursar_peek_close(&look->peek);
  bursar_pieces_free(&look->pieces);
  bursar_regions_free(&look->regions);
  if (look->memory)
    bursar_prim_release(look->memory, look->memory_bytes);
  look->memory = NULL;
}
