#include "model/extent.h"

#include <string.h>

#define LONGEST 10u /* bytes of one character, however it is written: \UXXXXXXXX */

void bursar_extent_begin(struct bursar_extent_reader *reader, const struct bursar_source *source,
                         struct bursar_extent extent) {
  reader->source = source;
  reader->at = extent.at;
  reader->end = extent.at + extent.length;
  reader->form = extent.form;
  reader->used = reader->had = 0;
}

static int fill(struct bursar_extent_reader *reader, struct bursar_error *error) {
  size_t kept = reader->had - reader->used, more = sizeof reader->piece - kept;
  memmove(reader->piece, reader->piece + reader->used, kept);
  if (more > reader->end - reader->at)
    more = (size_t)(reader->end - reader->at);
  reader->used = 0;
  reader->had = kept + more;
  int status = bursar_source_read(reader->source, reader->at, reader->piece + kept, more, 1, error);
  reader->at += more;
  return status;
}

static int digit(char c) {
  char low = (char)(c | 0x20);
  return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* The number in `count` hexadecimal digits; -1: they are none. */
static int64_t hex(const char *at, size_t left, size_t count) {
  int64_t value = 0;
  if (left < count)
    return -1;
  for (size_t i = 0; i < count; i++) {
    if (digit(at[i]) < 0)
      return -1;
    value = value << 4 | digit(at[i]);
  }
  return value;
}

/* One character: the bytes that it takes, 0 where it is none; *out is then not set. */
static size_t utf8(const unsigned char *at, size_t left, int64_t *out) {
  if (at[0] < 0x80) {
    *out = at[0];
    return 1;
  }
  if (left < 2 || (at[0] != 0xc2 && at[0] != 0xc3) || (at[1] & 0xc0) != 0x80)
    return 0;
  *out = (at[0] & 3) << 6 | (at[1] & 0x3f);
  return 2;
}

static size_t unicode(const char *at, size_t left, int64_t *out) {
  if (at[0] != '\\' || left < 2 || (at[1] != 'u' && at[1] != 'U')) {
    *out = (unsigned char)at[0];
    return 1;
  }
  size_t count = at[1] == 'u' ? 4 : 8;
  *out = hex(at + 2, left - 2, count);
  return *out < 0 ? 0 : count + 2;
}

static size_t escaped(const char *at, size_t left, int64_t *out) {
  static const char from[] = "\\'\"abfnrtv", into[] = "\\'\"\a\b\f\n\r\t\v";
  if (at[0] != '\\') {
    *out = (unsigned char)at[0];
    return 1;
  }
  if (left < 2)
    return 0;
  const char *plain = at[1] ? strchr(from, at[1]) : NULL;
  if (plain) {
    *out = (unsigned char)into[plain - from];
    return 2;
  }
  if (at[1] == 'x') {
    *out = hex(at + 2, left - 2, 2);
    return *out < 0 ? 0 : 4;
  }
  size_t used = 1;
  for (*out = 0; used < 4 && used < left && at[used] >= '0' && at[used] <= '7'; used++)
    *out = *out << 3 | (at[used] - '0');
  return used > 1 ? used : 0;
}

static int broken(const struct bursar_extent_reader *reader, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu: no byte is written there", reader->source->path,
                          (unsigned long long)(reader->at - (reader->had - reader->used)));
}

static int64_t read_raw(struct bursar_extent_reader *reader, char *out, size_t bytes, struct bursar_error *error) {
  if (bytes > reader->end - reader->at)
    bytes = (size_t)(reader->end - reader->at);
  int status = bursar_source_read(reader->source, reader->at, out, bytes, 1, error);
  reader->at += bytes;
  return status < 0 ? status : (int64_t)bytes;
}

int64_t bursar_extent_read(struct bursar_extent_reader *reader, void *out, size_t bytes, struct bursar_error *error) {
  unsigned char *to = out;
  size_t done = 0;
  if (reader->form == BURSAR_FORM_RAW)
    return read_raw(reader, out, bytes, error);
  while (done < bytes) {
    int64_t value = 0;
    if (reader->had - reader->used < LONGEST && reader->at < reader->end) {
      int status = fill(reader, error);
      if (status < 0)
        return status;
    }
    const char *at = reader->piece + reader->used;
    size_t left = reader->had - reader->used;
    if (!left)
      break;
    size_t used = reader->form == BURSAR_FORM_UTF8      ? utf8((const unsigned char *)at, left, &value)
                  : reader->form == BURSAR_FORM_UNICODE ? unicode(at, left, &value)
                                                        : escaped(at, left, &value);
    if (!used || value > 0xff)
      return broken(reader, error);
    reader->used += used;
    to[done++] = (unsigned char)value;
  }
  return (int64_t)done;
}

int bursar_extent_measure(const struct bursar_source *source, struct bursar_extent *extent,
                          struct bursar_error *error) {
  struct bursar_extent_reader reader;
  char piece[4096];
  int64_t got;
  if (extent->form == BURSAR_FORM_RAW) {
    extent->bytes = extent->length;
    return 0;
  }
  bursar_extent_begin(&reader, source, *extent);
  extent->bytes = 0;
  while ((got = bursar_extent_read(&reader, piece, sizeof piece, error)) > 0)
    extent->bytes += (uint64_t)got;
  return got < 0 ? (int)got : 0;
}
