/* pack.h: a tensor's bytes, packed in blocks that can each be read alone (docs/formats.md draws it).
 *
 *   head (16 bytes)      for each block the size of each of its parts      the parts, one behind the other      zeros up to 8
 *
 * Ownership: the caller's memory; a packer is one thread's.  Errors: a line, or false.  Class N. */
#ifndef BURSAR_MODEL_PACK_H
#define BURSAR_MODEL_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/source.h"
#include "model/zstd.h"

#define BURSAR_PACK_HEAD 16u
#define BURSAR_PACK_LEAST 4096u      /* bytes that are worth it */
#define BURSAR_PACK_PARTS 8u         /* of a block, at most */
#define BURSAR_PACK_BLOCK (1u << 20) /* bytes of one, at most */

enum bursar_pack_coding {
  BURSAR_PACK_NONE,   /* it is kept as it is */
  BURSAR_PACK_PLANES, /* floats, taken apart (planes.h), each plane packed by letters or not at all */
  BURSAR_PACK_WHOLE   /* blocks of bytes, packed by repetitions */
};

struct bursar_pack_layout {
  uint8_t coding, element; /* element: bytes; 1 where it is whole */
  uint8_t packed;          /* planes: a bit for each that is worth it */
  uint32_t block;          /* bytes, before */
  uint32_t parts;          /* of a block */
};

/* What a packer works with. */
struct bursar_packer {
  struct bursar_zstd zstd;
  unsigned char *planes, *room; /* malloc: a block's planes; room for a packed block */
};
int bursar_pack_begin(struct bursar_packer *packer, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_pack_end(struct bursar_packer *packer);

/* How a tensor's bytes are best kept: some blocks of it are tried. */
int bursar_pack_choose(struct bursar_packer *packer, const struct bursar_source *source, uint64_t at, uint64_t bytes,
                       bool is_float, unsigned element, struct bursar_pack_layout *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
uint64_t bursar_pack_blocks(const struct bursar_pack_layout *layout, uint64_t bytes);
/* Head and sizes together. */
uint64_t bursar_pack_index(const struct bursar_pack_layout *layout, uint64_t bytes);
void bursar_pack_head(const struct bursar_pack_layout *layout, unsigned char out[BURSAR_PACK_HEAD]);
/* A block into packer->room; its bytes, and the size of each part as it is written (the top bit: as it was). */
size_t bursar_pack_block(struct bursar_packer *packer, const struct bursar_pack_layout *layout, const void *in,
                         size_t bytes, uint32_t sizes[BURSAR_PACK_PARTS]);

/* A packed tensor in a file: where its bytes lie there, and how many it has unpacked. */
struct bursar_packed {
  const struct bursar_source *source;
  uint64_t at, stored; /* in the source */
  uint64_t bytes;      /* unpacked */
};
/* [from, from + bytes) of it. */
int bursar_pack_read(const struct bursar_packed *tensor, uint64_t from, void *out, size_t bytes, unsigned threads,
                     struct bursar_error *error) __attribute__((warn_unused_result));

#endif
