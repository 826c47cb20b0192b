#include "model/pack.h"

#include <stdlib.h>
#include <string.h>

#include "model/planes.h"
#include "model/threads.h"

#define MAGIC "BPT1"
#define AS_IT_WAS (1u << 31) /* of a part's size: it is not packed */
#define ELEMENTS 131072u     /* of a block of planes: zstd's own blocks are as many bytes */
#define WHOLE_BLOCK (256u << 10)
#define ROOM (BURSAR_PACK_BLOCK + (64u << 10))
#define SAMPLES 3u
#define THREAD_BYTES (4u << 20) /* that are worth a thread */
#define SLICE (16u << 10)       /* elements of a block that are tried */
#define WORTH 0.97              /* of what it was: less is not worth the work */

static void put32(unsigned char *to, uint32_t value) {
  for (unsigned i = 0; i < 4; i++)
    to[i] = (unsigned char)(value >> 8 * i);
}
static uint32_t get32(const unsigned char *from) {
  return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* --- packing --------------------------------------------------------------------------------------------------------- */

int bursar_pack_begin(struct bursar_packer *packer, struct bursar_error *error) {
  bursar_zstd_begin(&packer->zstd);
  packer->planes = packer->room = NULL;
  int status = bursar_zstd_load(error);
  if (status < 0)
    return status;
  packer->planes = malloc(BURSAR_PACK_BLOCK);
  packer->room = malloc(ROOM);
  if (packer->planes && packer->room)
    return 0;
  bursar_pack_end(packer);
  return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
}

void bursar_pack_end(struct bursar_packer *packer) {
  bursar_zstd_end(&packer->zstd);
  free(packer->planes);
  free(packer->room);
  packer->planes = packer->room = NULL;
}

static struct bursar_pack_layout planes_of(unsigned element) {
  return (struct bursar_pack_layout){.coding = BURSAR_PACK_PLANES,
                                     .element = (uint8_t)element,
                                     .packed = 0xff,
                                     .block = ELEMENTS * element,
                                     .parts = bursar_planes_count(element)};
}

static const struct bursar_pack_layout whole = {
    .coding = BURSAR_PACK_WHOLE, .element = 1, .packed = 1, .block = WHOLE_BLOCK, .parts = 1};

static unsigned width_of(const struct bursar_pack_layout *layout, unsigned part) {
  return layout->coding == BURSAR_PACK_PLANES ? bursar_planes_width(layout->element, part) : 1;
}

static void place_planes(const struct bursar_pack_layout *layout, unsigned char *planes, size_t count,
                         unsigned char *out[BURSAR_PACK_PARTS]) {
  for (unsigned part = 0; part < layout->parts; part++) {
    out[part] = planes;
    planes += count * width_of(layout, part);
  }
}

static size_t pack_part(struct bursar_packer *packer, const struct bursar_pack_layout *layout, unsigned part,
                        const void *in, size_t bytes, size_t at, uint32_t *size) {
  bool letters = layout->coding == BURSAR_PACK_PLANES;
  size_t packed = layout->packed >> part & 1
                      ? bursar_zstd_pack(&packer->zstd, letters ? BURSAR_ZSTD_LETTERS : BURSAR_ZSTD_PROPER, in, bytes,
                                         packer->room + at, ROOM - at)
                      : 0;
  if (packed && packed < bytes) {
    *size = (uint32_t)packed;
    return packed;
  }
  memcpy(packer->room + at, in, bytes);
  *size = (uint32_t)bytes | AS_IT_WAS;
  return bytes;
}

size_t bursar_pack_block(struct bursar_packer *packer, const struct bursar_pack_layout *layout, const void *in,
                         size_t bytes, uint32_t sizes[BURSAR_PACK_PARTS]) {
  if (layout->coding == BURSAR_PACK_WHOLE)
    return pack_part(packer, layout, 0, in, bytes, 0, sizes);
  unsigned char *planes[BURSAR_PACK_PARTS];
  size_t count = bytes / layout->element, used = 0;
  place_planes(layout, packer->planes, count, planes);
  bursar_planes_split(layout->element, in, count, planes);
  for (unsigned part = 0; part < layout->parts; part++)
    used += pack_part(packer, layout, part, planes[part], count * width_of(layout, part), used, &sizes[part]);
  return used;
}

/* What the beginnings of some blocks come to, as a part of what they were; planes that are not worth it are taken out. */
static int try_layout(struct bursar_packer *packer, const struct bursar_source *source, uint64_t at, uint64_t bytes,
                      struct bursar_pack_layout *layout, unsigned char *block, double *out,
                      struct bursar_error *error) {
  uint64_t blocks = bursar_pack_blocks(layout, bytes), before[BURSAR_PACK_PARTS] = {0}, after[BURSAR_PACK_PARTS] = {0};
  uint64_t slice = (uint64_t)SLICE * layout->element;
  for (unsigned i = 0; i < SAMPLES && i < blocks; i++) {
    uint64_t number = blocks <= SAMPLES ? i : (blocks - 1) * i / (SAMPLES - 1), start = number * layout->block;
    size_t length = (size_t)(bytes - start < slice ? bytes - start : slice);
    uint32_t sizes[BURSAR_PACK_PARTS];
    int status = bursar_source_read(source, at + start, block, length, 1, error);
    if (status < 0)
      return status;
    (void)bursar_pack_block(packer, layout, block, length, sizes);
    for (unsigned part = 0; part < layout->parts; part++) {
      before[part] += length / layout->element * width_of(layout, part);
      after[part] += sizes[part] & ~AS_IT_WAS;
    }
  }
  uint64_t was = 0, is = 0;
  layout->packed = 0;
  for (unsigned part = 0; part < layout->parts; part++) {
    bool worth = (double)after[part] < WORTH * (double)before[part];
    layout->packed |= (uint8_t)(worth << part);
    was += before[part];
    is += worth ? after[part] : before[part];
  }
  *out = was ? (double)is / (double)was : 1;
  return 0;
}

int bursar_pack_choose(struct bursar_packer *packer, const struct bursar_source *source, uint64_t at, uint64_t bytes,
                       bool is_float, unsigned element, struct bursar_pack_layout *out, struct bursar_error *error) {
  struct bursar_pack_layout apart = planes_of(element), together = whole;
  double of_planes = 1, of_whole = 1;
  *out = (struct bursar_pack_layout){.coding = BURSAR_PACK_NONE};
  if (bytes < BURSAR_PACK_LEAST) /* the head and a block's overhead would be most of it */
    return 0;
  unsigned char *block = malloc(BURSAR_PACK_BLOCK);
  if (!block)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  int status = try_layout(packer, source, at, bytes, &together, block, &of_whole, error);
  if (status == 0 && is_float && apart.parts)
    status = try_layout(packer, source, at, bytes, &apart, block, &of_planes, error);
  free(block);
  if (status < 0)
    return status;
  /* Planes are several times as fast: repetitions must save more. */
  if (of_planes < WORTH && of_planes <= of_whole * 1.05)
    *out = apart;
  else if (of_whole < WORTH)
    *out = together;
  return 0;
}

uint64_t bursar_pack_blocks(const struct bursar_pack_layout *layout, uint64_t bytes) {
  return (bytes + layout->block - 1) / layout->block;
}

uint64_t bursar_pack_index(const struct bursar_pack_layout *layout, uint64_t bytes) {
  return BURSAR_PACK_HEAD + bursar_pack_blocks(layout, bytes) * layout->parts * 4;
}

void bursar_pack_head(const struct bursar_pack_layout *layout, unsigned char out[BURSAR_PACK_HEAD]) {
  memset(out, 0, BURSAR_PACK_HEAD);
  memcpy(out, MAGIC, 4);
  out[4] = layout->coding;
  out[5] = layout->element;
  put32(out + 8, layout->block);
  put32(out + 12, layout->parts);
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static int damaged(const struct bursar_packed *tensor, uint64_t at, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s is damaged: a packed tensor is none, at byte %llu",
                          tensor->source->path, (unsigned long long)at);
}

static bool read_layout(const unsigned char head[BURSAR_PACK_HEAD], struct bursar_pack_layout *out) {
  *out = (struct bursar_pack_layout){
      .coding = head[4], .element = head[5], .block = get32(head + 8), .parts = get32(head + 12)};
  if (memcmp(head, MAGIC, 4) != 0 || head[6] || head[7] || !out->block || out->block > BURSAR_PACK_BLOCK ||
      !out->element || out->block % out->element)
    return false;
  return out->coding == BURSAR_PACK_WHOLE    ? out->element == 1 && out->parts == 1
         : out->coding == BURSAR_PACK_PLANES ? out->parts && out->parts == bursar_planes_count(out->element)
                                             : false;
}

/* A stretch of blocks, read by one thread. */
struct stretch {
  const struct bursar_packed *tensor;
  const struct bursar_pack_layout *layout;
  const unsigned char *sizes; /* of all parts */
  uint64_t first, end, at;    /* blocks, and where the first one lies in the tensor's bytes */
  uint64_t from, to;          /* what is wanted */
  unsigned char *out;
  struct bursar_error error;
  int status;
};

struct tools {
  struct bursar_zstd zstd;
  unsigned char *stored, *planes, *block; /* as it lies there, its planes, and a block that is wanted in part */
};

/* The bytes that a block's parts have in the file; 0: they cannot be. */
static uint64_t stored_bytes(const struct stretch *s, uint64_t number) {
  uint64_t start = number * s->layout->block, left = s->tensor->bytes - start, all = 0;
  size_t bytes = (size_t)(left < s->layout->block ? left : s->layout->block), count = bytes / s->layout->element;
  for (unsigned part = 0; part < s->layout->parts; part++) {
    uint32_t size = get32(s->sizes + (number * s->layout->parts + part) * 4),
             raw = (uint32_t)(count * width_of(s->layout, part));
    if (size & AS_IT_WAS ? (size & ~AS_IT_WAS) != raw : !size || size >= raw)
      return 0;
    all += size & ~AS_IT_WAS;
  }
  return all;
}

static bool unpack_block(const struct stretch *s, struct tools *tools, uint64_t number, size_t bytes,
                         unsigned char *out) {
  const struct bursar_pack_layout *layout = s->layout;
  const unsigned char *parts[BURSAR_PACK_PARTS], *from = tools->stored;
  unsigned char *planes[BURSAR_PACK_PARTS];
  size_t count = bytes / layout->element;
  bool is_whole = layout->coding == BURSAR_PACK_WHOLE;
  place_planes(layout, tools->planes, count, planes);
  for (unsigned part = 0; part < layout->parts; part++) {
    uint32_t size = get32(s->sizes + (number * layout->parts + part) * 4);
    size_t raw = count * width_of(layout, part);
    unsigned char *to = is_whole ? out : planes[part];
    parts[part] = size & AS_IT_WAS ? from : to;
    if (!(size & AS_IT_WAS) && !bursar_zstd_unpack(&tools->zstd, from, size, to, raw))
      return false;
    from += size & ~AS_IT_WAS;
  }
  if (!is_whole)
    bursar_planes_join(layout->element, parts, count, out);
  else if (parts[0] != out)
    memcpy(out, parts[0], bytes);
  return true;
}

static int read_block(struct stretch *s, struct tools *tools, uint64_t number) {
  uint64_t start = number * s->layout->block, left = s->tensor->bytes - start, stored = stored_bytes(s, number);
  size_t bytes = (size_t)(left < s->layout->block ? left : s->layout->block);
  if (!stored || stored > ROOM || s->at > s->tensor->stored || stored > s->tensor->stored - s->at)
    return damaged(s->tensor, s->tensor->at + s->at, &s->error);
  int status =
      bursar_source_read(s->tensor->source, s->tensor->at + s->at, tools->stored, (size_t)stored, 1, &s->error);
  if (status < 0)
    return status;
  uint64_t from = s->from > start ? s->from : start, to = s->to < start + bytes ? s->to : start + bytes;
  bool all = from == start && to == start + bytes;
  unsigned char *out = all ? s->out + (start - s->from) : tools->block;
  if (!unpack_block(s, tools, number, bytes, out))
    return damaged(s->tensor, s->tensor->at + s->at, &s->error);
  if (!all)
    memcpy(s->out + (from - s->from), out + (from - start), (size_t)(to - from));
  s->at += stored;
  return 0;
}

static void *read_stretch(void *argument) {
  struct stretch *s = argument;
  struct tools tools = {
      .stored = malloc(ROOM), .planes = malloc(BURSAR_PACK_BLOCK), .block = malloc(BURSAR_PACK_BLOCK)};
  bursar_zstd_begin(&tools.zstd);
  s->status =
      tools.stored && tools.planes && tools.block ? 0 : bursar_error_set(&s->error, BURSAR_FAILED, "not enough memory");
  for (uint64_t number = s->first; s->status == 0 && number < s->end; number++)
    s->status = read_block(s, &tools, number);
  bursar_zstd_end(&tools.zstd);
  free(tools.stored);
  free(tools.planes);
  free(tools.block);
  return NULL;
}

int bursar_pack_read(const struct bursar_packed *tensor, uint64_t from, void *out, size_t bytes, unsigned threads,
                     struct bursar_error *error) {
  unsigned char head[BURSAR_PACK_HEAD], *sizes = NULL;
  struct bursar_pack_layout layout;
  struct stretch stretches[BURSAR_THREADS_MOST];
  if (!bytes)
    return 0;
  int status = bursar_zstd_load(error);
  if (status == 0)
    status = tensor->stored < sizeof head ? damaged(tensor, tensor->at, error)
                                          : bursar_source_read(tensor->source, tensor->at, head, sizeof head, 1, error);
  if (status < 0)
    return status;
  if (!read_layout(head, &layout) || tensor->bytes % layout.element || from > tensor->bytes ||
      bytes > tensor->bytes - from)
    return damaged(tensor, tensor->at, error);
  uint64_t blocks = bursar_pack_blocks(&layout, tensor->bytes), index = bursar_pack_index(&layout, tensor->bytes);
  if (index > tensor->stored)
    return damaged(tensor, tensor->at, error);
  sizes = malloc((size_t)(index - sizeof head) + 1);
  status = sizes ? bursar_source_read(tensor->source, tensor->at + sizeof head, sizes, (size_t)(index - sizeof head), 1,
                                      error)
                 : bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  if (status < 0) {
    free(sizes);
    return status;
  }
  uint64_t first = from / layout.block, count = (from + bytes - 1) / layout.block + 1 - first;
  unsigned parts = bursar_threads_parts(count, THREAD_BYTES / layout.block, threads);
  for (unsigned i = 0; i < parts; i++)
    stretches[i] = (struct stretch){.tensor = tensor,
                                    .layout = &layout,
                                    .sizes = sizes,
                                    .first = first + count * i / parts,
                                    .end = first + count * (i + 1) / parts,
                                    .from = from,
                                    .to = from + bytes,
                                    .out = out};
  /* Where each stretch begins is the sum of all sizes before it. */
  uint64_t at = index;
  unsigned next = 0;
  for (uint64_t number = 0; number < blocks && next < parts && status == 0; number++) {
    while (next < parts && stretches[next].first == number)
      stretches[next++].at = at;
    uint64_t stored = stored_bytes(&stretches[0], number);
    at += stored;
    if (!stored)
      status = damaged(tensor, tensor->at, error);
  }
  if (status == 0)
    bursar_threads_run(stretches, sizeof *stretches, parts, read_stretch);
  free(sizes);
  for (unsigned i = 0; i < parts && status == 0; i++)
    if (stretches[i].status < 0) {
      if (error)
        *error = stretches[i].error;
      status = stretches[i].status;
    }
  return status;
}
