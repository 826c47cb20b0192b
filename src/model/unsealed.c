#include "model/unsealed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/payload.h"
#include "model/threads.h"
#include "secret/wipe.h"

#define EACH 64u /* chunks that are worth a thread: 4 MiB */

static int unreadable(const struct bursar_unsealed *file, int why, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "cannot read %.500s: %s", file->path, strerror(why));
}

static int damaged(const struct bursar_unsealed *file, uint64_t at, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED,
                          "cannot open %.500s: it was changed or cut off, %llu bytes from its beginning", file->path,
                          (unsigned long long)at);
}

/* Fewer only at the end; a negative errno. */
static ssize_t read_at(int fd, void *to, size_t bytes, uint64_t at) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t got = pread(fd, (char *)to + done, bytes - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return got < 0 ? -errno : (ssize_t)done;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

/* --- chunks ---------------------------------------------------------------------------------------------------------- */

/* A stretch of chunks, read by one thread. */
struct stretch {
  struct bursar_unsealed *file;
  uint64_t first, end;   /* chunks */
  uint64_t from, to;     /* what is wanted of them */
  unsigned char *out;    /* where `from` goes */
  unsigned char *sealed; /* a chunk's room, and another for what is wanted in part */
  struct bursar_error error;
  int status;
};

static uint64_t last_chunk(const struct bursar_unsealed *file) {
  return file->bytes ? (file->bytes - 1) / BURSAR_PAYLOAD_CHUNK : 0;
}

static int open_chunk(struct stretch *s, struct bursar_crypto_aead *aead, uint64_t number) {
  struct bursar_unsealed *file = s->file;
  uint64_t start = number * BURSAR_PAYLOAD_CHUNK, last = last_chunk(file);
  size_t bytes = (size_t)(number < last ? BURSAR_PAYLOAD_CHUNK : file->bytes - start);
  ssize_t got = read_at(file->fd, s->sealed, bytes + BURSAR_CRYPTO_TAG, file->at + number * BURSAR_PAYLOAD_SEALED);
  if (got < 0)
    return unreadable(file, (int)-got, &s->error);
  if (got < (ssize_t)(bytes + BURSAR_CRYPTO_TAG))
    return damaged(file, start, &s->error);
  uint64_t from = s->from > start ? s->from : start, to = s->to < start + bytes ? s->to : start + bytes;
  bool whole = from == start && to == start + bytes;
  unsigned char *out = whole ? s->out + (start - s->from) : s->sealed + BURSAR_PAYLOAD_SEALED;
  if (!bursar_payload_open(aead, number, number == last, s->sealed, bytes, out))
    return damaged(file, start, &s->error);
  if (!whole) {
    if (from < to)
      memcpy(s->out + (from - s->from), out + (from - start), (size_t)(to - from));
    bursar_wipe(out, bytes);
  }
  return 0;
}

static void *open_stretch(void *argument) {
  struct stretch *s = argument;
  struct bursar_crypto_aead aead = {NULL};
  s->sealed = malloc(BURSAR_PAYLOAD_SEALED + BURSAR_PAYLOAD_CHUNK);
  s->status = s->sealed ? bursar_vault_open(&s->file->key, false, &s->error)
                        : bursar_error_set(&s->error, BURSAR_FAILED, "not enough memory");
  if (s->status == 0) {
    bool begun = bursar_crypto_aead_begin(&aead, (const unsigned char *)s->file->key.data, false);
    s->status = bursar_vault_close(&s->file->key, false, &s->error);
    if (s->status == 0 && !begun)
      s->status = bursar_error_set(&s->error, BURSAR_FAILED, "OpenSSL's libcrypto has no ChaCha20-Poly1305 here");
  }
  for (uint64_t number = s->first; s->status == 0 && number < s->end; number++)
    s->status = open_chunk(s, &aead, number);
  bursar_crypto_aead_end(&aead);
  free(s->sealed);
  return NULL;
}

int bursar_unsealed_read(struct bursar_unsealed *file, uint64_t from, void *out, size_t bytes, unsigned threads,
                         struct bursar_error *error) {
  struct stretch stretches[BURSAR_THREADS_MOST];
  if (from > file->bytes || bytes > file->bytes - from)
    return damaged(file, file->bytes, error);
  if (!bytes)
    return 0;
  uint64_t first = from / BURSAR_PAYLOAD_CHUNK, count = (from + bytes - 1) / BURSAR_PAYLOAD_CHUNK + 1 - first;
  unsigned parts = bursar_threads_parts(count, EACH, threads);
  for (unsigned i = 0; i < parts; i++)
    stretches[i] = (struct stretch){.file = file,
                                    .first = first + count * i / parts,
                                    .end = first + count * (i + 1) / parts,
                                    .from = from,
                                    .to = from + bytes,
                                    .out = out};
  bursar_threads_run(stretches, sizeof *stretches, parts, open_stretch);
  for (unsigned i = 0; i < parts; i++)
    if (stretches[i].status < 0) {
      bursar_wipe(out, bytes);
      if (error)
        *error = stretches[i].error;
      return stretches[i].status;
    }
  return 0;
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

/* Up to the first chunk; *header is malloc's. */
static int read_header(struct bursar_unsealed *file, uint64_t size, char **header, struct bursar_error *error) {
  size_t room = 4096, have = 0;
  for (;; room *= 4) {
    room = room < BURSAR_AGE_HEADER_MOST ? room : BURSAR_AGE_HEADER_MOST;
    char *more = realloc(*header, room);
    if (!more)
      return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
    *header = more;
    ssize_t got = read_at(file->fd, more, room, 0);
    if (got < 0)
      return unreadable(file, (int)-got, error);
    have = (size_t)got;
    file->at = bursar_age_header_bytes(more, have);
    if (file->at || have < room || room == BURSAR_AGE_HEADER_MOST)
      break;
  }
  if (file->at && file->at <= size)
    return 0;
  static const char magic[] = "age-encryption.org/", armor[] = "-----BEGIN AGE";
  const char *why = have >= sizeof magic - 1 && memcmp(*header, magic, sizeof magic - 1) == 0 ? "its header is cut off"
                    : have >= sizeof armor - 1 && memcmp(*header, armor, sizeof armor - 1) == 0
                        ? "it is in armour: bursar model open it to a file first"
                        : "it is no file that age sealed";
  return bursar_error_set(error, BURSAR_FAILED, "cannot open %.500s: %s", file->path, why);
}

int bursar_unsealed_begin(int fd, const char *path, const struct bursar_age_keys *keys, struct bursar_unsealed *out,
                          struct bursar_error *error) {
  struct stat is;
  char *header = NULL;
  *out = (struct bursar_unsealed){.fd = fd, .path = path};
  if (fstat(fd, &is) != 0)
    return unreadable(out, errno, error);
  int status = S_ISREG(is.st_mode) ? read_header(out, (uint64_t)is.st_size, &header, error)
                                   : bursar_error_set(error, BURSAR_FAILED, "%.500s is no file", path);
  if (status == 0)
    status = bursar_age_open(header, (size_t)out->at, keys, path, &out->key, error);
  free(header);
  if (status < 0)
    return status;
  out->sealed_bytes = (uint64_t)is.st_size - out->at;
  struct stretch last = {.file = out};
  if (!bursar_payload_bytes(out->sealed_bytes, &out->bytes)) {
    status = damaged(out, 0, error);
  } else {
    last.first = last_chunk(out);
    last.end = last.first + 1;
    last.from = last.to = out->bytes + BURSAR_PAYLOAD_CHUNK; /* nothing of it is wanted */
    open_stretch(&last);
    status = last.status;
    if (status < 0 && error)
      *error = last.error;
  }
  if (status < 0)
    bursar_unsealed_end(out);
  return status;
}

void bursar_unsealed_end(struct bursar_unsealed *file) {
  if (file->key.pool)
    (void)!bursar_vault_return(&file->key, NULL);
  file->key = (struct bursar_vault_slot){.pool = 0};
}
