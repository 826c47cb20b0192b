#include "secret/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "memory/heap.h"
#include "memory/look.h"
#include "memory/pools.h"
#include "prim/prim.h"
#include "prim/smaps.h"

#define PAGE BURSAR_PRIM_PAGE
#define AT_ONCE 8192u        /* pages whose residency is asked */
#define PIECE (256u << 10)   /* copied memory, so that it is still in the cache when it is searched */
#define SPARSE (16ull << 30) /* of a larger mapping no more is asked than is resident */
#define NEAR 64u             /* hits among which the same find may be told again */

const char *const bursar_scan_wheres[BURSAR_SCAN_WHERES] = {
    [BURSAR_SCAN_LIVE] = "live",   [BURSAR_SCAN_FREED] = "freed", [BURSAR_SCAN_FREE_LIST] = "free_list",
    [BURSAR_SCAN_STACK] = "stack", [BURSAR_SCAN_FILE] = "file",   [BURSAR_SCAN_OTHER] = "other",
};

/* --- finds ----------------------------------------------------------------------------------------------------------- */

struct walk {
  struct bursar_scan *scan;
  struct bursar_peek peek; /* that copies, even where memory may be read as it lies */
  uint64_t base;           /* address of the data's first byte */
  uint64_t from, to;       /* the run that is being put together; empty: from == to */
  bool direct;             /* it is read as it lies */
  int status;
  struct bursar_look look;
};

static void find_canary(struct bursar_scan *scan, const struct bursar_search_find *find, uint64_t address) {
  if (find->length == scan->search->forms[find->form]->length)
    for (uint32_t i = 0; i < scan->canary_count; i++)
      if (scan->canaries[i].form == find->form && scan->canaries[i].address == address)
        scan->canaries[i].found = true;
}

static void visit(const struct bursar_search_find *find, void *context) {
  struct walk *walk = context;
  struct bursar_scan *scan = walk->scan;
  const struct bursar_forms_one *form = scan->search->forms[find->form];
  uint64_t address = walk->base + find->at;
  if (find->form >= scan->secret_forms) {
    find_canary(scan, find, address);
    return;
  }
  for (uint32_t back = 1; back <= scan->hit_count && back <= NEAR; back++) {
    const struct bursar_scan_hit *hit = &scan->hits[scan->hit_count - back];
    if (hit->form == form->name && address < hit->address + hit->length && hit->address < address + find->length &&
        hit->length >= find->length)
      return;
  }
  if (scan->hit_count == scan->hits_room) {
    scan->cut = true;
    return;
  }
  scan->hits[scan->hit_count++] = (struct bursar_scan_hit){.address = address,
                                                           .length = find->length,
                                                           .form = form->name,
                                                           .where = BURSAR_SCAN_OTHER,
                                                           .whole = find->length == form->length};
}

static bool before(const struct bursar_scan_hit *a, const struct bursar_scan_hit *b) {
  return a->address != b->address ? a->address < b->address : a->length > b->length;
}

static void sink(struct bursar_scan_hit *hits, uint32_t at, uint32_t count) {
  struct bursar_scan_hit moved = hits[at];
  for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && before(&hits[child], &hits[child + 1]))
      child++;
    if (!before(&moved, &hits[child]))
      break;
    hits[at] = hits[child];
  }
  hits[at] = moved;
}

/* In order of address (qsort may allocate). */
static void sort(struct bursar_scan_hit *hits, uint32_t count) {
  for (uint32_t at = count / 2; at-- > 0;)
    sink(hits, at, count);
  for (uint32_t left = count; left-- > 1;) {
    struct bursar_scan_hit last = hits[left];
    hits[left] = hits[0];
    hits[0] = last;
    sink(hits, 0, left);
  }
}

/* Of finds that overlap the longest stays: UTF-16 in one order is all but a byte of it in the other. */
static void drop_overlapped(struct bursar_scan *scan) {
  uint32_t kept = 0;
  sort(scan->hits, scan->hit_count);
  for (uint32_t i = 0; i < scan->hit_count; i++) {
    struct bursar_scan_hit *last = kept ? &scan->hits[kept - 1] : NULL, *hit = &scan->hits[i];
    if (!last || hit->address >= last->address + last->length)
      scan->hits[kept++] = *hit;
    else if (hit->length > last->length)
      *last = *hit;
  }
  scan->hit_count = kept;
}

/* --- what each lies in ----------------------------------------------------------------------------------------------- */

static void name_it(struct bursar_scan_hit *hit, const char *name) {
  size_t length = strlen(name), most = sizeof hit->name - 1;
  memcpy(hit->name, length > most ? name + length - most : name, (length > most ? most : length) + 1);
}

static void lies_in_pool(struct walk *walk, struct bursar_scan_hit *hit) {
  uint64_t pool = hit->address / BURSAR_POOLS_BYTES * BURSAR_POOLS_BYTES, within = hit->address - pool;
  unsigned char bytes[BURSAR_POOLS_HEADER];
  struct bursar_pools_header header;
  hit->where = BURSAR_SCAN_OTHER;
  name_it(hit, "pymalloc's arena");
  if (bursar_peek_read(&walk->peek, pool, bytes, sizeof bytes) != (ssize_t)sizeof bytes ||
      !bursar_pools_is(pool, bytes, &header) || within < BURSAR_POOLS_HEADER)
    return;
  hit->block = hit->address - (within - BURSAR_POOLS_HEADER) % header.size;
  hit->block_bytes = header.size;
  hit->where = hit->block - pool < header.next_offset ? BURSAR_SCAN_LIVE : BURSAR_SCAN_FREED;
  name_it(hit, "pymalloc");
  uint64_t block = header.free_block;
  for (uint32_t n = 0; block >= pool && block < pool + BURSAR_POOLS_BYTES && n < BURSAR_POOLS_BYTES / 16; n++) {
    if (block == hit->block)
      hit->where = BURSAR_SCAN_FREED;
    if (bursar_peek_read(&walk->peek, block, &block, sizeof block) != (ssize_t)sizeof block)
      return;
  }
}

struct heap_cursor {
  uint64_t from, at;
};

static void lies_in_heap(struct walk *walk, const struct bursar_regions_one *region, uint64_t from, uint64_t to,
                         struct heap_cursor *cursor, struct bursar_scan_hit *hit) {
  struct bursar_heap_chunk chunk;
  if (cursor->from != from)
    *cursor = (struct heap_cursor){from, 0};
  hit->where = BURSAR_SCAN_OTHER;
  name_it(hit, "malloc's heap");
  if (!bursar_heap_find(&walk->look.peek, region, from, to, region->kind == BURSAR_REGIONS_HEAP, hit->address,
                        walk->look.buffer, &cursor->at, &chunk))
    return;
  hit->where = chunk.used ? BURSAR_SCAN_LIVE : BURSAR_SCAN_FREED;
  hit->block = chunk.at + 16;
  hit->block_bytes = chunk.bytes - 16;
  name_it(hit, "malloc");
}

static void lies_in_anonymous(struct walk *walk, const struct bursar_regions_one *region, struct heap_cursor *cursor,
                              struct bursar_scan_hit *hit) {
  const struct bursar_pieces_one *piece = bursar_pieces_at(&walk->look.pieces, hit->address);
  name_it(hit, "anonymous mapping");
  if (!piece)
    return;
  switch (piece->kind) {
    case BURSAR_PIECES_STACK:
      hit->where = BURSAR_SCAN_STACK;
      name_it(hit, "a thread's stack");
      break;
    case BURSAR_PIECES_HEAP: lies_in_heap(walk, region, piece->from, piece->to, cursor, hit); break;
    case BURSAR_PIECES_ARENA: lies_in_pool(walk, hit); break;
    case BURSAR_PIECES_CHUNK:
      hit->where = BURSAR_SCAN_LIVE;
      hit->block = piece->from + 16;
      hit->block_bytes = piece->to - hit->block;
      name_it(hit, "malloc");
      break;
    case BURSAR_PIECES_BSS:
      name_it(hit, region > walk->look.regions.at ? bursar_regions_name(&walk->look.regions, region - 1) : "");
      break;
    default: break;
  }
}

static void say_where(struct walk *walk) {
  struct bursar_scan *scan = walk->scan;
  struct heap_cursor cursor = {0, 0};
  for (uint32_t i = 0; i < scan->hit_count; i++) {
    struct bursar_scan_hit *hit = &scan->hits[i];
    const struct bursar_regions_one *region = bursar_regions_behind(&walk->look.regions, hit->address);
    for (uint32_t k = 0; k < scan->held_count; k++)
      hit->held |= hit->address >= scan->held[k].from && hit->address + hit->length <= scan->held[k].to;
    if (!region || region->from > hit->address)
      continue;
    const char *name = bursar_regions_name(&walk->look.regions, region);
    name_it(hit, name);
    if (region->kind == BURSAR_REGIONS_STACK)
      hit->where = BURSAR_SCAN_STACK;
    else if (region->kind == BURSAR_REGIONS_HEAP)
      lies_in_heap(walk, region, region->from, region->to, &cursor, hit);
    else if (region->kind == BURSAR_REGIONS_ANON)
      lies_in_anonymous(walk, region, &cursor, hit);
    else if (region->kind == BURSAR_REGIONS_FILE || region->kind == BURSAR_REGIONS_LEDGER ||
             (region->kind == BURSAR_REGIONS_IMAGE && !region->writable))
      hit->where = BURSAR_SCAN_FILE;
  }
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static void search_copies(struct walk *walk, uint64_t from, uint64_t to) {
  const struct bursar_search *search = walk->scan->search;
  unsigned char *buffer = walk->scan->buffer;
  uint64_t around = search->longest, step = walk->scan->buffer_bytes - 2 * around;
  for (uint64_t at = from; at < to && walk->status == 0;) {
    uint64_t begin = at - from > around ? at - around : from, core = to - at > step ? at + step : to;
    uint64_t end = to - core > around ? core + around : to;
    ssize_t got = bursar_peek_read(&walk->peek, begin, buffer, end - begin);
    if (got == -ESRCH) {
      walk->status = -ESRCH;
      return;
    }
    uint64_t have = got > 0 ? begin + (uint64_t)got : begin, done = have < core ? have : core;
    if (have > at) {
      walk->base = begin;
      bursar_search_run(search, buffer, (size_t)(have - begin), (size_t)(at - begin), (size_t)(done - begin), visit,
                        walk);
      walk->scan->scanned += done - at;
    }
    if (have < core) { /* a page of it has gone, or is none that can be read: on behind it */
      uint64_t next = (have > at ? have : at) / PAGE * PAGE + PAGE;
      walk->scan->lost += (next < to ? next : to) - (have > at ? have : at);
      at = from = next < to ? next : to;
    } else {
      at = core;
    }
  }
}

static void search_run(struct walk *walk) {
  struct bursar_scan *scan = walk->scan;
  uint64_t from = walk->from, to = walk->to;
  if (from == to)
    return;
  walk->from = walk->to = 0;
  if (!walk->direct) {
    search_copies(walk, from, to);
    return;
  }
  walk->base = from;
  bursar_search_run(scan->search, (const unsigned char *)(uintptr_t)from, (size_t)(to - from), 0, (size_t)(to - from),
                    visit, walk);
  scan->scanned += to - from;
}

/* [from, to) is resident: it goes to what was before, where that ends here and is read alike. */
static void add(struct walk *walk, uint64_t from, uint64_t to, bool direct) {
  const struct bursar_scan *scan = walk->scan;
  for (uint32_t i = 0; i < scan->left_out_count; i++) {
    const struct bursar_scan_range *out = &scan->left_out[i];
    if (from < out->to && out->from < to) {
      if (from < out->from)
        add(walk, from, out->from, direct);
      if (out->to < to)
        add(walk, out->to, to, direct);
      return;
    }
  }
  if (walk->to != from || walk->direct != direct) {
    search_run(walk);
    walk->from = from;
    walk->direct = direct;
  }
  walk->to = to;
}

static bool is_own(const struct bursar_regions_one *region) {
  return !region->inode && !region->shared && region->kind != BURSAR_REGIONS_IMAGE &&
         region->kind != BURSAR_REGIONS_SHARED;
}

static void add_resident(struct walk *walk, const struct bursar_regions_one *region) {
  uint64_t bits[AT_ONCE / 64], resident = 0;
  bool own = is_own(region), sparse = region->to - region->from > SPARSE, direct = own && walk->scan->direct;
  const struct bursar_peek *pages = !own && walk->scan->files ? walk->scan->files : &walk->peek;
  for (uint64_t at = region->from; at < region->to && walk->status == 0; at += AT_ONCE * PAGE) {
    uint64_t count = (region->to - at) / PAGE < AT_ONCE ? (region->to - at) / PAGE : AT_ONCE;
    ssize_t present = bursar_peek_pages(pages, at, count, true, bits);
    if (present < 0) { /* not known: then all of it may be, and some a guard, which faults */
      direct = false;
      memset(bits, 0xff, sizeof bits);
      present = (ssize_t)count;
    }
    for (uint64_t page = 0; present && page < count;) {
      uint64_t word = bits[page / 64] >> (page % 64), gap = word ? (uint64_t)__builtin_ctzll(word) : 64 - page % 64;
      if (gap) {
        page += gap;
        continue;
      }
      uint64_t ones = ~word ? (uint64_t)__builtin_ctzll(~word) : 64;
      ones = ones < count - page ? ones : count - page;
      add(walk, at + page * PAGE, at + (page + ones) * PAGE, direct);
      page += ones;
    }
    resident += (uint64_t)present * PAGE;
    if (sparse && own && resident >= region->rss)
      return;
  }
}

static void go_through(struct walk *walk) {
  struct bursar_scan *scan = walk->scan;
  const struct bursar_regions *regions = &walk->look.regions;
  for (size_t i = 0; i < regions->count && walk->status == 0; i++) {
    const struct bursar_regions_one *region = &regions->at[i];
    const char *name = bursar_regions_name(regions, region);
    bool files = scan->files && !is_own(region); /* a forked child has not met their pages */
    scan->swapped += region->swap;
    if (strncmp(name, "[v", 2) == 0) /* the kernel's */
      continue;
    if (region->kind == BURSAR_REGIONS_HIDDEN)
      scan->hidden += region->to - region->from;
    else if (!region->readable)
      scan->unreadable += region->rss;
    else if (region->rss || files)
      add_resident(walk, region);
  }
  if (walk->status == 0)
    search_run(walk);
}

/* The bytes of [from, to) that are in no mapping of the copy. */
static uint64_t missing(const struct bursar_regions *regions, uint64_t from, uint64_t to) {
  uint64_t bytes = to - from;
  for (size_t i = 0; i < regions->count; i++) {
    const struct bursar_regions_one *region = &regions->at[i];
    uint64_t low = region->from > from ? region->from : from, high = region->to < to ? region->to : to;
    bytes -= low < high ? high - low : 0;
  }
  return bytes;
}

/* "from-to rwxp …", a line each. */
static void count_kept(struct walk *walk) {
  struct bursar_scan *scan = walk->scan;
  char *text = (char *)scan->buffer, *line, *end;
  size_t used = 0, room = PIECE - 1;
  for (ssize_t got = 1; got > 0 || used;) {
    got = read(scan->maps_fd, text + used, room - used);
    used += got > 0 ? (size_t)got : 0;
    text[used] = 0;
    for (line = text; (end = strchr(line, '\n')); line = end + 1) {
      char *rest;
      *end = 0;
      uint64_t from = strtoull(line, &rest, 16), to = *rest == '-' ? strtoull(rest + 1, &rest, 16) : from;
      bool hidden = strstr(line, "/secretmem");
      uint64_t bytes = to > from && rest[0] == ' ' && (rest[1] == 'r' || hidden) && !strstr(line, "[v")
                           ? missing(&walk->look.regions, from, to)
                           : 0;
      *(hidden ? &scan->hidden : &scan->kept) += bytes;
    }
    size_t left = (size_t)(text + used - line);
    if (got <= 0 || left == room)
      return;
    memmove(text, line, left);
    used = left;
  }
}

size_t bursar_scan_buffer(const struct bursar_search *search) {
  size_t least = PIECE + 2 * search->longest, most = 4 * search->longest;
  return ((least > most ? least : most) + PAGE - 1) / PAGE * PAGE;
}

/* It has ended, or waits for its parent and has no memory any more. */
static bool is_gone(pid_t pid) {
  uint64_t bytes;
  int status = bursar_smaps_resident(pid, &bytes);
  return status == -ESRCH || (status == 0 && !bytes);
}

int bursar_scan_run(struct bursar_scan *scan) {
  struct walk walk = {.scan = scan};
  scan->hit_count = 0;
  scan->cut = false;
  scan->scanned = scan->swapped = scan->unreadable = scan->hidden = scan->lost = scan->kept = 0;
  int status = bursar_look_begin(scan->pid, 0, BURSAR_LOOK_INSIDE, &walk.look);
  if (status < 0)
    return status;
  if (!walk.look.regions.count || !walk.look.inside) {
    bursar_look_end(&walk.look);
    return is_gone(scan->pid) ? -ESRCH : -EPERM;
  }
  walk.peek = walk.look.peek;
  scan->direct = walk.peek.direct;
  walk.peek.direct = false;
  go_through(&walk);
  if (scan->maps_fd > 0)
    count_kept(&walk);
  drop_overlapped(scan);
  if (walk.status == 0 && scan->hit_count) {
    bursar_look_scan(&walk.look);
    say_where(&walk);
  }
  bursar_look_end(&walk.look);
  return walk.status;
}

uint32_t bursar_scan_copies(const struct bursar_scan *scan) {
  uint32_t copies = 0;
  for (uint32_t i = 0; i < scan->hit_count; i++)
    copies += !scan->hits[i].held;
  return copies;
}

/* --- canaries -------------------------------------------------------------------------------------------------------- */

size_t bursar_scan_canary_secret(struct bursar_forms_secret *like, unsigned char out[32]) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t length = like->kind == BURSAR_FORMS_FLOAT ? 8 : like->element > 1 && like->element <= 16 ? 16 : 10;
  do {
    if (getrandom(out, length, 0) != (ssize_t)length)
      return 0;
    if (like->kind == BURSAR_FORMS_BYTES || like->kind == BURSAR_FORMS_TEXT)
      for (size_t i = 0; i < length; i++)
        out[i] = (unsigned char)letters[out[i] & 63];
    else if (like->kind == BURSAR_FORMS_FLOAT)
      out[7] = 0x40, out[6] = (unsigned char)(0x10 | (out[6] & 0x7f)); /* of an ordinary size */
    else
      out[length - 1] |= 1;
    like->at = out;
    like->length = length;
    like->whole = true;
  } while (bursar_forms_check(like) < 0);
  return length;
}

static size_t up(size_t bytes) { return (bytes + 63) / 64 * 64; }

int bursar_scan_prepare(struct bursar_scan *scan, struct bursar_scan_vessel *vessel, size_t room,
                        const struct bursar_forms_secret *secret) {
  struct bursar_forms_secret canary = *secret;
  size_t used = up(secret->length), needs = bursar_forms_room(secret);
  int status = bursar_forms_check(secret);
  if (status == 0)
    status = needs <= room - used ? bursar_forms_make(secret, vessel->room + used, needs, &vessel->forms) : -ENOMEM;
  used += up(needs);
  if (status == 0 && !bursar_scan_canary_secret(&canary, vessel->canary_secret))
    status = -EIO;
  if (status < 0)
    return status;
  needs = bursar_forms_room(&canary);
  if (used > room || needs > room - used)
    return -ENOMEM;
  status = bursar_forms_make(&canary, vessel->room + used, needs, &vessel->canary);
  used += up(needs);
  bursar_search_init(&vessel->search);
  if (status < 0 || !bursar_search_add(&vessel->search, &vessel->forms) ||
      !bursar_search_add(&vessel->search, &vessel->canary))
    return -E2BIG;
  bursar_search_ready(&vessel->search);
  scan->search = &vessel->search;
  scan->secret_forms = (uint32_t)vessel->forms.count;
  scan->buffer = vessel->room + used;
  scan->buffer_bytes = bursar_scan_buffer(&vessel->search);
  return used <= room && scan->buffer_bytes <= room - used ? 0 : -ENOMEM;
}

int bursar_scan_plant(struct bursar_scan *scan, const struct bursar_forms *canary, uint32_t first,
                      const struct bursar_scan_place *places, uint32_t count) {
  scan->canary_count = 0;
  for (uint32_t place = 0; place < count && place < BURSAR_SCAN_PLACES; place++) {
    size_t used = 0;
    for (uint32_t i = 0; i < canary->count; i++) {
      const struct bursar_forms_one *form = &canary->at[i];
      if (form->length > places[place].bytes - used)
        return -ENOSPC;
      bursar_forms_copy(places[place].at + used, form->at, form->length);
      scan->canaries[scan->canary_count++] =
          (struct bursar_scan_canary){.address = (uintptr_t)places[place].at + used, .form = first + i, .place = place};
      used += form->length;
    }
  }
  return 0;
}

const struct bursar_scan_canary *bursar_scan_missed(const struct bursar_scan *scan) {
  static const struct bursar_scan_canary none = {0};
  for (uint32_t i = 0; i < scan->canary_count; i++)
    if (!scan->canaries[i].found)
      return &scan->canaries[i];
  return scan->canary_count ? NULL : &none;
}
