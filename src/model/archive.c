#include "model/archive.h"

#include <stdlib.h>
#include <string.h>

#include "model/pack.h"
#include "model/zstd.h"

static int damaged(const struct bursar_archive *archive, const char *why, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s is damaged: %s", archive->source.path, why);
}

static struct bursar_text text(const char *word) { return (struct bursar_text){word, (uint32_t)strlen(word)}; }

static uint64_t get64(const unsigned char *from) {
  uint64_t value = 0;
  for (unsigned i = 0; i < 8; i++)
    value |= (uint64_t)from[i] << 8 * i;
  return value;
}

static const struct bursar_text *said(const struct bursar_safetensors *container, const char *key) {
  for (size_t i = 0; i < container->metadata_count; i++) {
    const struct bursar_text *is = &container->metadata[i].key;
    if (is->length == strlen(key) && memcmp(is->bytes, key, is->length) == 0)
      return &container->metadata[i].value;
  }
  return NULL;
}

const struct bursar_text *bursar_archive_said(const struct bursar_archive *archive, const char *key) {
  return said(archive->shown, key);
}

/* Its length with what stands before it, how many bytes of tensors follow it in a plain file, how many it has packed, 8 bytes each;
 * then it, packed by zstd. */
static int read_header(struct bursar_archive *archive, uint64_t *data_bytes, struct bursar_error *error) {
  const struct bursar_tensor *tensor = bursar_safetensors_find(archive->stored, text(BURSAR_ARCHIVE_HEADER));
  uint64_t bytes = tensor ? tensor->to - tensor->from : 0, most = 2ull * BURSAR_SAFETENSORS_HEADER_MOST;
  struct bursar_zstd zstd;
  if (bytes <= BURSAR_ARCHIVE_WORDS || bytes > most)
    return damaged(archive, "it is packed, and the plain header is missing", error);
  unsigned char *packed = malloc(bytes);
  int status =
      packed ? bursar_source_read(&archive->source, archive->stored->data_at + tensor->from, packed, bytes, 1, error)
             : bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  uint64_t length = status == 0 ? get64(packed) : 0;
  if (status == 0 &&
      (length <= BURSAR_SAFETENSORS_LENGTH || length > BURSAR_SAFETENSORS_HEADER_MOST + BURSAR_SAFETENSORS_LENGTH))
    status = damaged(archive, "the plain header that it was packed with is none", error);
  if (status == 0)
    status = bursar_zstd_load(error);
  if (status == 0 && !(archive->header = malloc(length)))
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  if (status == 0) {
    bursar_zstd_begin(&zstd);
    uint64_t is = get64(packed + 16);
    if (is > bytes - BURSAR_ARCHIVE_WORDS ||
        !bursar_zstd_unpack(&zstd, packed + BURSAR_ARCHIVE_WORDS, is, archive->header, length) ||
        get64((unsigned char *)archive->header) != length - BURSAR_SAFETENSORS_LENGTH)
      status = damaged(archive, "the plain header that it was packed with is none", error);
    bursar_zstd_end(&zstd);
    archive->header_bytes = length;
    *data_bytes = get64(packed + 8);
  }
  free(packed);
  return status;
}

static int check_all_are_there(const struct bursar_archive *archive, struct bursar_error *error) {
  for (size_t i = 0; i < archive->shown->count; i++) {
    bool packed;
    const struct bursar_tensor *stored = bursar_archive_stored(archive, &archive->shown->tensors[i], &packed);
    if (!stored || (packed && (stored->dtype != BURSAR_DTYPE_U8 || stored->rank != 1)))
      return damaged(archive, "a tensor of the plain header is not in it", error);
  }
  return 0;
}

int bursar_archive_open(struct bursar_source source, struct bursar_archive *out, struct bursar_error *error) {
  *out = (struct bursar_archive){.source = source};
  int status = bursar_safetensors_read(&source, &out->stored, error);
  if (status < 0)
    return status;
  const struct bursar_text *version = said(out->stored, BURSAR_ARCHIVE_KEY);
  if (!version) {
    out->shown = out->stored;
    return 0;
  }
  uint64_t data_bytes = 0;
  if (version->length != strlen(BURSAR_ARCHIVE_VERSION) ||
      memcmp(version->bytes, BURSAR_ARCHIVE_VERSION, version->length) != 0)
    status = bursar_error_set(error, BURSAR_FAILED, "%.500s was packed by a newer bursar: version 1 is read here",
                              source.path);
  if (status == 0)
    status = read_header(out, &data_bytes, error);
  if (status == 0) {
    size_t bytes = out->header_bytes - BURSAR_SAFETENSORS_LENGTH;
    char *copy = malloc(bytes);
    if (copy)
      memcpy(copy, out->header + BURSAR_SAFETENSORS_LENGTH, bytes);
    status = copy ? bursar_safetensors_parse(copy, bytes, data_bytes, source.path, &out->shown, error)
                  : bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  }
  if (status == 0)
    status = check_all_are_there(out, error);
  if (status < 0)
    bursar_archive_close(out);
  return status;
}

void bursar_archive_close(struct bursar_archive *archive) {
  if (archive->shown != archive->stored)
    bursar_safetensors_free(archive->shown);
  bursar_safetensors_free(archive->stored);
  free(archive->header);
  archive->shown = archive->stored = NULL;
  archive->header = NULL;
}

const struct bursar_tensor *bursar_archive_stored(const struct bursar_archive *archive,
                                                  const struct bursar_tensor *tensor, bool *packed) {
  *packed = false;
  if (archive->shown == archive->stored)
    return tensor;
  const struct bursar_tensor *stored = bursar_safetensors_find(archive->stored, tensor->name);
  /* A packed tensor has fewer bytes than it had. */
  *packed = stored && (stored->dtype != tensor->dtype || stored->to - stored->from != tensor->to - tensor->from);
  return stored;
}

int bursar_archive_read(const struct bursar_archive *archive, const struct bursar_tensor *tensor, uint64_t from,
                        void *out, size_t bytes, unsigned threads, struct bursar_error *error) {
  bool packed;
  const struct bursar_tensor *stored = bursar_archive_stored(archive, tensor, &packed);
  uint64_t at = archive->stored->data_at + stored->from;
  if (!packed)
    return bursar_source_read(&archive->source, at + from, out, bytes, threads, error);
  const struct bursar_packed what = {
      .source = &archive->source, .at = at, .stored = stored->to - stored->from, .bytes = tensor->to - tensor->from};
  return bursar_pack_read(&what, from, out, bytes, threads, error);
}

#define SMALL (1u << 18)   /* bytes of a tensor that is read with others */
#define AT_ONCE (1u << 20) /* of them together */
#define PIECES 512u

/* How many from here on lie in the file one behind the other, and where the first does. */
static size_t gather(const struct bursar_archive *archive, const struct bursar_archive_wanted *wanted, size_t count,
                     struct iovec pieces[PIECES], uint64_t *from) {
  uint64_t bytes = 0, next = 0;
  size_t found = 0;
  while (found < count && found < PIECES) {
    bool packed;
    const struct bursar_tensor *stored = bursar_archive_stored(archive, wanted[found].tensor, &packed);
    uint64_t size = stored->to - stored->from;
    if (packed || size > SMALL || bytes + size > AT_ONCE || (found && stored->from != next))
      break;
    if (!found)
      *from = archive->stored->data_at + stored->from;
    pieces[found] = (struct iovec){wanted[found].out, (size_t)size};
    found++;
    bytes += size;
    next = stored->to;
  }
  return found;
}

int bursar_archive_read_all(const struct bursar_archive *archive, const struct bursar_archive_wanted *wanted,
                            size_t count, unsigned threads, struct bursar_error *error) {
  struct iovec pieces[PIECES];
  int status = 0;
  for (size_t at = 0; status == 0 && at < count;) {
    uint64_t from = 0;
    size_t found = gather(archive, wanted + at, count - at, pieces, &from);
    const struct bursar_tensor *tensor = wanted[at].tensor;
    if (found > 1)
      status = bursar_source_scatter(&archive->source, from, pieces, found, error);
    else
      status = bursar_archive_read(archive, tensor, 0, wanted[at].out, tensor->to - tensor->from, threads, error);
    at += found > 1 ? found : 1;
  }
  return status;
}

/* Measured: a description of many small nodes becomes up to 22 times as many bytes of Python objects while it is built. */
#define DESCRIPTION_TIMES 24u
#define TENSOR_EACH 500u           /* measured: its name, its array's own bytes, and its part of the header */
#define PACKED_EACH (4u << 20)     /* a thread that unpacks: blocks and zstd's tables */
#define SEALED_EACH (192u * 1024u) /* one that decrypts */

uint64_t bursar_archive_load_bytes(const struct bursar_archive *archive, unsigned threads) {
  const struct bursar_safetensors *shown = archive->shown;
  uint64_t bytes = shown->data_bytes + shown->count * TENSOR_EACH;
  if (archive->stored != shown)
    bytes += (uint64_t)threads * PACKED_EACH;
  if (archive->source.unsealed)
    bytes += (uint64_t)threads * SEALED_EACH;
  const struct bursar_text *description = said(shown, BURSAR_ARCHIVE_MODEL);
  return bytes + (description ? (uint64_t)description->length * DESCRIPTION_TIMES : 0);
}
