#include "memory/heap.h"

#include <string.h>

#define PAGE 4096u
#define FLAGS 7u
#define PREV_IN_USE 1u
#define MAPPED 2u
#define CHUNK_MIN 32u
#define CHUNK_HEAD 48u         /* of a free chunk, which a trim keeps */
#define MAPPED_MIN (64u << 10) /* smaller thresholds than this are not known of anybody */
#define PROOF 64               /* chunks in a row */
#define STATE_FROM 0x700u      /* where the first chunk of a thread's arena may be, behind the arena's own state */
#define STATE_TO 0xb00u

/* --- chunks ---------------------------------------------------------------------------------------------------------- */

/* A copy of what is around the chunk at hand. */
struct window {
  const struct bursar_peek *peek;
  char *buffer;
  uint64_t at, to; /* nothing is read from `to` on */
  size_t have;
};

static bool head_of(struct window *window, uint64_t at, uint64_t *size, unsigned *flags) {
  uint64_t words[2];
  if (at + sizeof words > window->to)
    return false;
  if (window->peek->direct) {
    memcpy(words, (const void *)(uintptr_t)at, sizeof words);
  } else if (at < window->at || at + sizeof words > window->at + window->have) {
    /* Chunks in a row are read together; far from the last one, a page. */
    bool near = at >= window->at && at < window->at + window->have + PAGE;
    size_t want = near ? BURSAR_HEAP_BUFFER : PAGE;
    if (want > window->to - at)
      want = (size_t)(window->to - at);
    ssize_t got = bursar_peek_read(window->peek, at, window->buffer, want);
    window->at = at;
    window->have = got > 0 ? (size_t)got : 0;
    if (window->have < sizeof words)
      return false;
  }
  if (!window->peek->direct)
    memcpy(words, window->buffer + (at - window->at), sizeof words);
  *size = words[1] & ~(uint64_t)FLAGS;
  *flags = words[1] & FLAGS;
  return true;
}

static bool sound(uint64_t size, unsigned flags, uint64_t room) {
  return size >= 16 && size % 16 == 0 && size <= room && !(flags & MAPPED);
}

uint64_t bursar_heap_given_back(const struct bursar_regions_one *region, uint64_t at, uint64_t size) {
  uint64_t from = (at + CHUNK_HEAD + PAGE - 1) / PAGE * PAGE, to = at + size;
  if (size <= PAGE - 1 + CHUNK_HEAD || from >= to)
    return 0;
  return bursar_regions_resident(region, from, from + (to - from) / PAGE * PAGE);
}

uint64_t bursar_heap_given_back_top(const struct bursar_regions_one *region, uint64_t at, uint64_t size) {
  if (size <= CHUNK_MIN + 1)
    return 0;
  uint64_t extra = (size - CHUNK_MIN - 1) / PAGE * PAGE;
  return bursar_regions_resident(region, at + size - extra, at + size);
}

static void count_free(const struct bursar_regions_one *region, struct bursar_heap *out, uint64_t at, uint64_t size) {
  out->free_bytes += size;
  out->free_resident += bursar_regions_resident(region, at, at + size);
}

/* From chunk to chunk up to the end, exactly.  `most`: so many chunks are proof enough, 0: all. */
static bool walk(struct window *window, const struct bursar_regions_one *region, uint64_t from, uint64_t to,
                 uint64_t most, struct bursar_heap *out) {
  uint64_t at = from, size = 0, before = 0, before_size = 0;
  unsigned flags = 0;
  for (uint64_t n = 0; at < to; n++) {
    if (!head_of(window, at, &size, &flags))
      return false;
    if (!size && at + 16 == to) /* the end of an older heap of its arena */
      size = 16;
    if (!sound(size, flags, to - at))
      return false;
    if (most && n == most)
      return true;
    if (before_size && !(flags & PREV_IN_USE)) {
      out->used_bytes -= before_size;
      count_free(region, out, before, before_size);
      out->returnable += bursar_heap_given_back(region, before, before_size);
    }
    out->used_bytes += size;
    out->chunks++;
    out->top = at;
    before = at;
    before_size = size;
    at += size;
  }
  return at == to && out->chunks > 0;
}

bool bursar_heap_main(const struct bursar_peek *peek, const struct bursar_regions_one *region, char *buffer,
                      struct bursar_heap *out) {
  struct window window = {.peek = peek, .buffer = buffer, .to = region->to};
  *out = (struct bursar_heap){.arena = 0};
  if (!walk(&window, region, region->from, region->to, 0, out))
    return false;
  uint64_t size = region->to - out->top;
  out->used_bytes -= size;
  count_free(region, out, out->top, size);
  out->returnable += bursar_heap_given_back_top(region, out->top, size);
  return true;
}

/* heap_info: the arena, the heap before, the size in use.  The first heap of an arena holds the arena's state too. */
bool bursar_heap_thread(const struct bursar_peek *peek, const struct bursar_regions_one *region, uint64_t from,
                        uint64_t to, bool walk_it, char *buffer, struct bursar_heap *out) {
  uint64_t info[3];
  struct window window = {.peek = peek, .buffer = buffer};
  *out = (struct bursar_heap){.arena = 0};
  if (bursar_peek_read(peek, from, info, sizeof info) != (ssize_t)sizeof info)
    return false;
  uint64_t arena = info[0], size = info[2];
  if (!arena || arena % 8 || size % PAGE || size < PAGE || size > to - from || size > BURSAR_REGIONS_HEAP_BYTES)
    return false;
  *out = (struct bursar_heap){.arena = arena};
  if (!walk_it)
    return false;
  bool first = arena >= from && arena < from + PAGE;
  uint64_t low = first ? from + STATE_FROM : from + 0x20, high = first ? from + STATE_TO : from + 0x60;
  window.to = from + size;
  for (uint64_t at = low; at < high; at += 16) {
    *out = (struct bursar_heap){.arena = arena};
    if (!walk(&window, region, at, from + size, PROOF, out))
      continue;
    *out = (struct bursar_heap){.arena = arena};
    if (!walk(&window, region, at, from + size, 0, out))
      continue;
    uint64_t top = from + size - out->top;
    if (top > CHUNK_MIN) { /* an older heap of the arena ends with a fence, not with a free chunk */
      out->used_bytes -= top;
      count_free(region, out, out->top, top);
    }
    return true;
  }
  *out = (struct bursar_heap){.arena = arena};
  return false;
}

/* Where the chunks of a thread's heap begin, and end: 0 where that is not known. */
static uint64_t first_of_thread(struct window *window, const struct bursar_regions_one *region, uint64_t from) {
  uint64_t info[3];
  struct bursar_heap ignored;
  if (bursar_peek_read(window->peek, from, info, sizeof info) != (ssize_t)sizeof info || info[2] < PAGE ||
      info[2] > window->to - from)
    return 0;
  bool first = info[0] >= from && info[0] < from + PAGE;
  window->to = from + info[2];
  for (uint64_t at = from + (first ? STATE_FROM : 0x20); at < from + (first ? STATE_TO : 0x60); at += 16) {
    ignored = (struct bursar_heap){.arena = 0};
    if (walk(window, region, at, window->to, PROOF, &ignored))
      return at;
  }
  return 0;
}

bool bursar_heap_find(const struct bursar_peek *peek, const struct bursar_regions_one *region, uint64_t from,
                      uint64_t to, bool main, uint64_t address, char *buffer, uint64_t *cursor,
                      struct bursar_heap_chunk *out) {
  struct window window = {.peek = peek, .buffer = buffer, .to = to};
  uint64_t first = main ? from : first_of_thread(&window, region, from), size, next;
  unsigned flags;
  if (!first)
    return false;
  uint64_t at = *cursor >= first && *cursor <= address ? *cursor : first;
  for (;; at += size) {
    if (at > address || !head_of(&window, at, &size, &flags) || !sound(size, flags, window.to - at))
      return false;
    *cursor = at;
    if (address < at + size)
      break;
  }
  *out = (struct bursar_heap_chunk){at, size, false};
  if (at + size < window.to && head_of(&window, at + size, &next, &flags))
    out->used = flags & PREV_IN_USE;
  return true;
}

/* Since glibc 2.43 its size is that of the mapping less the chunk's own head. */
uint64_t bursar_heap_mapped(uint64_t at, const uint64_t words[2], uint64_t to) {
  uint64_t size = words[1] & ~(uint64_t)FLAGS;
  size += size % PAGE == PAGE - 16 ? 16 : 0;
  if ((words[1] & FLAGS) != MAPPED || size % PAGE || size < MAPPED_MIN || size > to - at || words[0] >= PAGE)
    return 0;
  return size;
}
