#include "model/repack.h"

#include <stdlib.h>
#include <string.h>

#include "model/pack.h"

#define PIECE (8u << 20) /* of a plain file that is written */
#define DIGITS 24u       /* that the one number of a packed shape may have more than the shape had; whole words */

static int no_memory(struct bursar_error *error) { return bursar_error_set(error, BURSAR_FAILED, "not enough memory"); }

static bool is_float(uint32_t dtype) {
  return dtype == BURSAR_DTYPE_F16 || dtype == BURSAR_DTYPE_BF16 || dtype == BURSAR_DTYPE_F32 ||
         dtype == BURSAR_DTYPE_F64 || dtype == BURSAR_DTYPE_C64;
}

/* Of what planes are made: a complex number is two floats. */
static unsigned element_of(uint32_t dtype) {
  return dtype == BURSAR_DTYPE_C64 ? 4 : bursar_dtype_facts[dtype].bits / 8;
}

static void put64(unsigned char *to, uint64_t value) {
  for (unsigned i = 0; i < 8; i++)
    to[i] = (unsigned char)(value >> 8 * i);
}

/* --- packing --------------------------------------------------------------------------------------------------------- */

/* What is written, tensor by tensor; shapes are of packed ones. */
struct packing {
  const struct bursar_archive *archive;
  struct bursar_save *save;
  struct bursar_packer packer;
  struct bursar_tensor *tensors; /* the plain header first */
  uint64_t *shapes;              /* one number each */
  struct bursar_safetensors_pair *metadata;
  size_t count, header_bytes; /* header: reserved */
  unsigned char *block;
};

static struct bursar_text text(const char *word) { return (struct bursar_text){word, (uint32_t)strlen(word)}; }

static int make_header(struct packing *p, size_t least, struct bursar_buffer *out, struct bursar_error *error) {
  const struct bursar_safetensors *shown = p->archive->shown;
  bursar_buffer_init(out, BURSAR_SAFETENSORS_HEADER_MOST + BURSAR_SAFETENSORS_LENGTH);
  int status =
      bursar_safetensors_header(p->tensors, p->count, true, least, p->metadata, shown->metadata_count + 1, out, error);
  if (status == 0 && bursar_buffer_finish(out) < 0)
    status = no_memory(error);
  return status;
}

static int reserve_header(struct packing *p, struct bursar_error *error) {
  const struct bursar_safetensors *shown = p->archive->shown;
  struct bursar_buffer out;
  p->count = shown->count + 1;
  p->tensors = calloc(p->count, sizeof *p->tensors);
  p->shapes = calloc(p->count, sizeof *p->shapes);
  p->metadata = calloc(shown->metadata_count + 1, sizeof *p->metadata);
  p->block = malloc(BURSAR_PACK_BLOCK > PIECE ? BURSAR_PACK_BLOCK : PIECE);
  if (!p->tensors || !p->shapes || !p->metadata || !p->block)
    return no_memory(error);
  memcpy(p->metadata, shown->metadata, shown->metadata_count * sizeof *p->metadata);
  p->metadata[shown->metadata_count] =
      (struct bursar_safetensors_pair){text(BURSAR_ARCHIVE_KEY), text(BURSAR_ARCHIVE_VERSION)};
  size_t more = 0;
  p->tensors[0] = (struct bursar_tensor){
      .name = text(BURSAR_ARCHIVE_HEADER), .dtype = BURSAR_DTYPE_U8, .shape = p->shapes, .rank = 1};
  p->shapes[0] = 2ull * BURSAR_SAFETENSORS_HEADER_MOST;
  for (size_t i = 1; i < p->count; i++) {
    p->tensors[i] = shown->tensors[i - 1];
    more += shown->tensors[i - 1].to - shown->tensors[i - 1].from < BURSAR_PACK_LEAST ? 0 : DIGITS;
  }
  int status = make_header(p, 0, &out, error);
  p->header_bytes = out.used + more;
  bursar_buffer_free(&out);
  if (status < 0)
    return status;
  void *blanks = calloc(1, p->header_bytes);
  status = blanks ? bursar_save_write(p->save, blanks, p->header_bytes, error) : no_memory(error);
  free(blanks);
  return status;
}

static int write_zeros(struct packing *p, uint64_t from, struct bursar_error *error) {
  static const unsigned char zeros[8];
  return bursar_save_write(p->save, zeros, (size_t)((8 - (p->save->bytes - from) % 8) % 8), error);
}

static void is_packed(struct packing *p, size_t i, uint64_t bytes) {
  p->shapes[i] = bytes;
  p->tensors[i].shape = &p->shapes[i];
  p->tensors[i].rank = 1;
  p->tensors[i].dtype = BURSAR_DTYPE_U8;
}

static int pack_plain_header(struct packing *p, struct bursar_error *error) {
  const struct bursar_source *source = &p->archive->source;
  size_t bytes = (size_t)p->archive->shown->data_at, room = bursar_zstd_room(bytes);
  char *header = malloc(bytes);
  unsigned char *packed = malloc(room + BURSAR_ARCHIVE_WORDS);
  int status = header && packed ? bursar_source_read(source, 0, header, bytes, 1, error) : no_memory(error);
  uint64_t from = p->save->bytes;
  if (status == 0) {
    size_t length =
        bursar_zstd_pack(&p->packer.zstd, BURSAR_ZSTD_PROPER, header, bytes, packed + BURSAR_ARCHIVE_WORDS, room);
    put64(packed, bytes);
    put64(packed + 8, p->archive->shown->data_bytes);
    put64(packed + 16, length);
    status = length ? bursar_save_write(p->save, packed, length + BURSAR_ARCHIVE_WORDS, error) : no_memory(error);
  }
  if (status == 0)
    status = write_zeros(p, from, error);
  is_packed(p, 0, p->save->bytes - from);
  free(header);
  free(packed);
  return status;
}

static int copy_tensor(struct packing *p, uint64_t at, uint64_t bytes, struct bursar_error *error) {
  int status = 0;
  for (uint64_t done = 0; done < bytes && status == 0;) {
    size_t piece = (size_t)(bytes - done < PIECE ? bytes - done : PIECE);
    status = bursar_source_read(&p->archive->source, at + done, p->block, piece, 1, error);
    if (status == 0)
      status = bursar_save_write(p->save, p->block, piece, error);
    done += piece;
  }
  return status;
}

static int pack_blocks(struct packing *p, const struct bursar_pack_layout *layout, uint64_t at, uint64_t bytes,
                       unsigned char *index, struct bursar_error *error) {
  int status = 0;
  for (uint64_t done = 0, number = 0; done < bytes && status == 0; done += layout->block, number++) {
    size_t length = (size_t)(bytes - done < layout->block ? bytes - done : layout->block);
    uint32_t sizes[BURSAR_PACK_PARTS];
    status = bursar_source_read(&p->archive->source, at + done, p->block, length, 1, error);
    if (status < 0)
      break;
    size_t used = bursar_pack_block(&p->packer, layout, p->block, length, sizes);
    for (unsigned part = 0; part < layout->parts; part++)
      for (unsigned i = 0; i < 4; i++)
        index[BURSAR_PACK_HEAD + (number * layout->parts + part) * 4 + i] = (unsigned char)(sizes[part] >> 8 * i);
    status = bursar_save_write(p->save, p->packer.room, used, error);
  }
  return status;
}

static int pack_tensor(struct packing *p, size_t i, struct bursar_error *error) {
  const struct bursar_safetensors *shown = p->archive->shown;
  const struct bursar_tensor *tensor = &shown->tensors[i - 1];
  uint64_t at = shown->data_at + tensor->from, bytes = tensor->to - tensor->from, from = p->save->bytes;
  struct bursar_pack_layout layout;
  int status = bursar_pack_choose(&p->packer, &p->archive->source, at, bytes, is_float(tensor->dtype),
                                  element_of(tensor->dtype), &layout, error);
  if (status < 0)
    return status;
  p->tensors[i] = *tensor;
  if (layout.coding == BURSAR_PACK_NONE)
    return copy_tensor(p, at, bytes, error);
  size_t index_bytes = (size_t)bursar_pack_index(&layout, bytes);
  unsigned char *index = calloc(1, index_bytes);
  if (!index)
    return no_memory(error);
  bursar_pack_head(&layout, index);
  status = bursar_save_write(p->save, index, index_bytes, error);
  if (status == 0)
    status = pack_blocks(p, &layout, at, bytes, index, error);
  if (status == 0)
    status = bursar_save_overwrite(p->save, from, index, index_bytes, error);
  if (status == 0)
    status = write_zeros(p, from, error);
  free(index);
  is_packed(p, i, p->save->bytes - from);
  return status;
}

int bursar_repack_pack(const struct bursar_archive *archive, struct bursar_save *save, struct bursar_error *error) {
  struct packing p = {.archive = archive, .save = save};
  struct bursar_buffer out;
  if (archive->shown != archive->stored)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s is packed already", archive->source.path);
  if (bursar_safetensors_find(archive->shown, text(BURSAR_ARCHIVE_HEADER)))
    return bursar_error_set(error, BURSAR_FAILED, "%.500s has a tensor that is called " BURSAR_ARCHIVE_HEADER,
                            archive->source.path);
  int status = bursar_pack_begin(&p.packer, error);
  if (status == 0)
    status = reserve_header(&p, error);
  if (status == 0)
    status = pack_plain_header(&p, error);
  for (size_t i = 1; i < p.count && status == 0; i++)
    status = pack_tensor(&p, i, error);
  if (status == 0) {
    status = make_header(&p, p.header_bytes, &out, error);
    if (status == 0 && out.used != p.header_bytes)
      status = bursar_error_set(error, BURSAR_FAILED, "the header of %.500s came out longer than it should",
                                archive->source.path);
    if (status == 0)
      status = bursar_save_overwrite(save, 0, out.data, out.used, error);
    bursar_buffer_free(&out);
  }
  bursar_pack_end(&p.packer);
  free(p.tensors);
  free(p.shapes);
  free(p.metadata);
  free(p.block);
  return status;
}

/* --- and back -------------------------------------------------------------------------------------------------------- */

int bursar_repack_unpack(const struct bursar_archive *archive, struct bursar_save *save, unsigned threads,
                         struct bursar_error *error) {
  const struct bursar_safetensors *shown = archive->shown;
  if (!archive->header)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s is not packed", archive->source.path);
  int status = bursar_save_expect(save, archive->header_bytes + shown->data_bytes, error);
  if (status == 0)
    status = bursar_save_write(save, archive->header, archive->header_bytes, error);
  char *piece = malloc(PIECE);
  if (status == 0 && !piece)
    status = no_memory(error);
  for (size_t i = 0; i < shown->count && status == 0; i++) {
    const struct bursar_tensor *tensor = &shown->tensors[i];
    for (uint64_t at = 0, bytes = tensor->to - tensor->from; at < bytes && status == 0; at += PIECE) {
      size_t length = (size_t)(bytes - at < PIECE ? bytes - at : PIECE);
      status = bursar_archive_read(archive, tensor, at, piece, length, threads, error);
      if (status == 0)
        status = bursar_save_write(save, piece, length, error);
    }
  }
  free(piece);
  return status;
}
