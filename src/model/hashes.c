#include "model/hashes.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model/threads.h"

#define AT_ONCE (1u << 20)

void bursar_hashes_print(const unsigned char hash[BURSAR_CRYPTO_HASH], char out[BURSAR_HASHES_DIGITS + 1]) {
  static const char digits[] = "0123456789abcdef";
  for (unsigned i = 0; i < BURSAR_CRYPTO_HASH; i++) {
    out[2 * i] = digits[hash[i] >> 4];
    out[2 * i + 1] = digits[hash[i] & 15];
  }
  out[BURSAR_HASHES_DIGITS] = 0;
}

bool bursar_hashes_are_there(const struct bursar_archive *archive) {
  return bursar_archive_said(archive, BURSAR_HASHES_FILE) && bursar_archive_said(archive, BURSAR_HASHES_TENSORS);
}

/* --- hashing ----------------------------------------------------------------------------------------------------------- */

struct stretch {
  const struct bursar_archive *archive; /* NULL: the source as it is */
  const struct bursar_tensor *tensor;
  const struct bursar_source *source;
  uint64_t bytes;
};

static int read_piece(const struct stretch *s, uint64_t from, void *out, size_t bytes, struct bursar_error *error) {
  return s->archive ? bursar_archive_read(s->archive, s->tensor, from, out, bytes, 1, error)
                    : bursar_source_read(s->source, from, out, bytes, 1, error);
}

static int hash_stretch(const struct stretch *s, unsigned char out[BURSAR_CRYPTO_HASH], struct bursar_error *error) {
  struct bursar_crypto_sha256 hash = {NULL};
  int status = bursar_crypto_load(error);
  if (status < 0)
    return status;
  char *piece = malloc(s->bytes < AT_ONCE ? (size_t)s->bytes + 1 : AT_ONCE);
  bool done = piece && bursar_crypto_sha256_begin(&hash);
  for (uint64_t at = 0; status == 0 && done && at < s->bytes;) {
    size_t bytes = s->bytes - at < AT_ONCE ? (size_t)(s->bytes - at) : AT_ONCE;
    status = read_piece(s, at, piece, bytes, error);
    done = status < 0 || bursar_crypto_sha256_add(&hash, piece, bytes);
    at += bytes;
  }
  done = bursar_crypto_sha256_end(&hash, out) && done;
  free(piece);
  return status < 0 || done ? status : bursar_error_set(error, BURSAR_FAILED, "not enough memory");
}

int bursar_hashes_of_tensor(const struct bursar_archive *archive, const struct bursar_tensor *tensor,
                            unsigned char out[BURSAR_CRYPTO_HASH], struct bursar_error *error) {
  const struct stretch s = {.archive = archive, .tensor = tensor, .bytes = tensor->to - tensor->from};
  return hash_stretch(&s, out, error);
}

int bursar_hashes_of_source(const struct bursar_source *source, unsigned char out[BURSAR_CRYPTO_HASH],
                            struct bursar_error *error) {
  const struct stretch s = {.source = source, .bytes = source->bytes};
  return hash_stretch(&s, out, error);
}

/* --- what the file says ------------------------------------------------------------------------------------------------ */

static bool same(const unsigned char hash[BURSAR_CRYPTO_HASH], const char *digits) {
  char is[BURSAR_HASHES_DIGITS + 1];
  bursar_hashes_print(hash, is);
  return memcmp(is, digits, BURSAR_HASHES_DIGITS) == 0;
}

/* All before the tensors of the plain file. */
static int read_head(const struct bursar_archive *archive, char **out, size_t *bytes, struct bursar_error *error) {
  *bytes = archive->header ? archive->header_bytes : (size_t)archive->shown->data_at;
  *out = malloc(*bytes);
  if (!*out)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  if (!archive->header)
    return bursar_source_read(&archive->source, 0, *out, *bytes, 1, error);
  memcpy(*out, archive->header, *bytes);
  return 0;
}

static int verify_head(const struct bursar_archive *archive, const struct bursar_text *digits,
                       struct bursar_error *error) {
  unsigned char hash[BURSAR_CRYPTO_HASH];
  struct bursar_crypto_sha256 sha = {NULL};
  char *head = NULL;
  size_t bytes;
  int status = read_head(archive, &head, &bytes, error);
  char *place = status == 0 ? memmem(head, bytes, digits->bytes, BURSAR_HASHES_DIGITS) : NULL;
  if (place)
    memset(place, '0', BURSAR_HASHES_DIGITS);
  bool done = place && bursar_crypto_sha256_begin(&sha) && bursar_crypto_sha256_add(&sha, head, bytes);
  done = bursar_crypto_sha256_end(&sha, hash) && done;
  if (status == 0 && !(done && same(hash, digits->bytes)))
    status = bursar_error_set(error, BURSAR_FAILED,
                              "%.500s was changed: its names, shapes and metadata are not as it was saved",
                              archive->source.path);
  free(head);
  return status;
}

struct part {
  const struct bursar_archive *archive;
  const char *digits;
  _Atomic size_t *next;
  size_t failed; /* the tensor */
  int status;
  struct bursar_error error;
};

static void *verify_tensors(void *argument) {
  struct part *part = argument;
  const struct bursar_safetensors *shown = part->archive->shown;
  unsigned char hash[BURSAR_CRYPTO_HASH];
  while (part->status == 0) {
    size_t i = atomic_fetch_add(part->next, 1);
    if (i >= shown->count)
      break;
    const struct bursar_tensor *tensor = &shown->tensors[i];
    part->failed = i;
    part->status = bursar_hashes_of_tensor(part->archive, tensor, hash, &part->error);
    if (part->status == 0 && !same(hash, part->digits + i * BURSAR_HASHES_DIGITS))
      part->status = bursar_error_set(&part->error, BURSAR_FAILED, "%.400s was changed: %.*s is not as it was saved",
                                      part->archive->source.path,
                                      (int)(tensor->name.length < 200 ? tensor->name.length : 200), tensor->name.bytes);
  }
  return NULL;
}

int bursar_hashes_verify(const struct bursar_archive *archive, unsigned threads, struct bursar_error *error) {
  const struct bursar_text *file = bursar_archive_said(archive, BURSAR_HASHES_FILE),
                           *each = bursar_archive_said(archive, BURSAR_HASHES_TENSORS);
  struct part parts[BURSAR_THREADS_MOST];
  _Atomic size_t next = 0;
  if (!file || !each)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s has no hashes: bursar.save(…, hashes=True) puts them in",
                            archive->source.path);
  if (file->length != BURSAR_HASHES_DIGITS || each->length != archive->shown->count * BURSAR_HASHES_DIGITS)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s was changed: its hashes are not those of its tensors",
                            archive->source.path);
  int status = bursar_crypto_load(error);
  if (status == 0)
    status = verify_head(archive, file, error);
  if (status < 0)
    return status;
  unsigned count = bursar_threads_parts(archive->shown->count, 1, threads);
  for (unsigned i = 0; i < count; i++)
    parts[i] = (struct part){.archive = archive, .digits = each->bytes, .next = &next};
  bursar_threads_run(parts, sizeof *parts, count, verify_tensors);
  const struct part *first = NULL;
  for (unsigned i = 0; i < count; i++)
    if (parts[i].status < 0 && (!first || parts[i].failed < first->failed))
      first = &parts[i];
  if (first && error)
    *error = first->error;
  return first ? first->status : 0;
}
