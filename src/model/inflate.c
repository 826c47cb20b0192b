#include "model/inflate.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#define PIECE 65536u
#define MUCH (4ull << 30)
#define RATIO 100u
#define ANY_HEAD (15 + 32) /* of zlib or gzip, in zlib's numbers */
#define NO_HEAD (-15)
#define FINE 0
#define STREAM_END 1
#define BUF_ERROR (-5) /* no progress: more is wanted */

/* zlib's z_stream, which is the same since 1.0. */
struct stream {
  const unsigned char *next_in;
  unsigned avail_in;
  unsigned long total_in;
  unsigned char *next_out;
  unsigned avail_out;
  unsigned long total_out;
  const char *message;
  void *state, *alloc, *free, *opaque;
  int data_type;
  unsigned long adler, reserved;
};

static int (*begin)(struct stream *, int, const char *, int);
static int (*inflate)(struct stream *, int);
static int (*end)(struct stream *);
static bool loaded;

static void load(void) {
  void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return;
  *(void **)(void *)&begin = dlsym(library, "inflateInit2_");
  *(void **)(void *)&inflate = dlsym(library, "inflate");
  *(void **)(void *)&end = dlsym(library, "inflateEnd");
  loaded = begin && inflate && end;
}

static int wrong(const struct bursar_source *source, uint64_t at, const char *why, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s: what is packed at byte %llu %s", source->path,
                          (unsigned long long)at, why);
}

/* One step: from the source where there is nothing left, and on to the file. */
static int step(const struct bursar_source *source, struct stream *stream, uint64_t *at, uint64_t last,
                unsigned char *in, unsigned char *out, struct bursar_save *to, bool *ended,
                struct bursar_error *error) {
  if (!stream->avail_in && *at < last) {
    size_t more = last - *at < PIECE ? (size_t)(last - *at) : PIECE;
    int status = bursar_source_read(source, *at, in, more, 1, error);
    if (status < 0)
      return status;
    stream->next_in = in;
    stream->avail_in = (unsigned)more;
    *at += more;
  }
  stream->next_out = out;
  stream->avail_out = PIECE;
  int result = inflate(stream, 0);
  *ended = result == STREAM_END;
  if (result != FINE && result != STREAM_END && result != BUF_ERROR) /* or it wants a dictionary, which nobody has */
    return wrong(source, *at - stream->avail_in, "is broken", error);
  if (stream->avail_out == PIECE && !*ended && !stream->avail_in && *at == last)
    return wrong(source, last, "is cut off", error);
  return bursar_save_write(to, out, PIECE - stream->avail_out, error);
}

int bursar_inflate(const struct bursar_source *source, uint64_t at, uint64_t bytes, enum bursar_inflate_how how,
                   struct bursar_save *to, uint64_t *out, struct bursar_error *error) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct stream stream = {.next_in = NULL};
  uint64_t from = to->bytes, first = at, last = at + bytes;
  bool ended = false;
  (void)pthread_once(&once, load);
  if (!loaded)
    return bursar_error_set(error, BURSAR_FAILED,
                            "%.500s is packed, which needs zlib's library, and that was not found: install zlib1g",
                            source->path);
  unsigned char *in = malloc(2 * PIECE);
  if (!in || begin(&stream, how == BURSAR_INFLATE_RAW ? NO_HEAD : ANY_HEAD, "1.2.3", (int)sizeof stream) != 0) {
    free(in);
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  }
  int status = 0;
  while (status == 0 && !ended) {
    status = step(source, &stream, &at, last, in, in + PIECE, to, &ended, error);
    uint64_t made = to->bytes - from;
    if (status == 0 && made > MUCH && made / RATIO > bytes)
      status =
          wrong(source, first, "is more than 4 GiB, and more than a hundred times as much as it is packed into", error);
  }
  if (status == 0 && (at < last || stream.avail_in))
    status = wrong(source, at - stream.avail_in, "is followed by something else", error);
  (void)end(&stream);
  free(in);
  *out = to->bytes - from;
  return status;
}
