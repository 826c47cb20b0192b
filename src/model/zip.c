#include "model/zip.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/inflate.h"

#define PIECE 65536u
#define END 22u                    /* bytes of the record at the end */
#define COMMENT 65535u             /* that may follow it */
#define LOCATOR 20u                /* of zip64, before it */
#define END64 56u                  /* what that points to */
#define ENTRY 46u                  /* of the directory, before its name */
#define HEAD 30u                   /* before a member, before its name */
#define DIRECTORY_MOST (64u << 20) /* bytes */
#define MEMBERS_MOST (1u << 20)
#define NO32 UINT32_MAX

static int wrong(const struct bursar_source *source, uint64_t at, const char *why, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s is no zip file that can be read: byte %llu: %s", source->path,
                          (unsigned long long)at, why);
}

static uint64_t get(const void *from, unsigned bytes) {
  const unsigned char *at = from;
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; i++)
    value |= (uint64_t)at[i] << 8 * i;
  return value;
}

/* --- where the directory is ---------------------------------------------------------------------------------------------- */

struct directory {
  uint64_t at, bytes, count;
};

static int find_64(const struct bursar_source *source, uint64_t end_at, struct directory *out,
                   struct bursar_error *error) {
  unsigned char locator[LOCATOR], end[END64];
  if (end_at < LOCATOR + END64)
    return 0;
  int status = bursar_source_read(source, end_at - LOCATOR, locator, sizeof locator, 1, error);
  if (status < 0 || get(locator, 4) != 0x07064b50)
    return status;
  uint64_t at = get(locator + 8, 8);
  if (at > end_at - LOCATOR - END64)
    return wrong(source, end_at - LOCATOR, "its end lies beyond its end", error);
  status = bursar_source_read(source, at, end, sizeof end, 1, error);
  if (status < 0)
    return status;
  if (get(end, 4) != 0x06064b50)
    return wrong(source, at, "there is no end of a large zip file", error);
  *out = (struct directory){get(end + 48, 8), get(end + 40, 8), get(end + 32, 8)};
  return 0;
}

static int find_directory(const struct bursar_source *source, struct directory *out, struct bursar_error *error) {
  uint64_t most = END + COMMENT, bytes = source->bytes < most ? source->bytes : most, from = source->bytes - bytes;
  unsigned char *tail = malloc(bytes + 1);
  if (!tail)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  int status = bursar_source_read(source, from, tail, bytes, 1, error);
  uint64_t at = bytes >= END ? bytes - END + 1 : 0;
  /* Where its comment ends the file, so that no other is taken for it. */
  while (status == 0 && at > 0 &&
         (get(tail + at - 1, 4) != 0x06054b50 || get(tail + at - 1 + 20, 2) != bytes - (at - 1) - END))
    at--;
  if (status == 0 && at == 0)
    status = wrong(source, source->bytes, "its end is not there: it is cut off", error);
  if (status == 0) {
    const unsigned char *end = tail + at - 1;
    uint64_t end_at = from + at - 1;
    *out = (struct directory){get(end + 16, 4), get(end + 12, 4), get(end + 10, 2)};
    if (get(end + 4, 2) != 0 || get(end + 8, 2) != get(end + 10, 2))
      status = wrong(source, end_at, "it is one of several files", error);
    if (status == 0)
      status = find_64(source, end_at, out, error);
    if (status == 0 && (out->at > end_at || out->bytes > end_at - out->at || out->bytes > DIRECTORY_MOST ||
                        out->count > MEMBERS_MOST || out->count * ENTRY > out->bytes))
      status = wrong(source, end_at, "its directory is not where it is said to be, or too large", error);
  }
  free(tail);
  return status;
}

/* --- members ------------------------------------------------------------------------------------------------------------- */

/* Sizes and places of more than 32 bits stand in a field behind the name. */
static bool take_64(const unsigned char *extra, size_t length, struct bursar_zip_member *member) {
  uint64_t *const wanted[] = {&member->bytes, &member->stored, &member->head};
  while (length >= 4) {
    size_t size = (size_t)get(extra + 2, 2), used = 0;
    if (size > length - 4)
      return false;
    for (unsigned i = 0; get(extra, 2) == 1 && i < 3; i++)
      if (*wanted[i] == NO32) {
        if (used + 8 > size)
          return false;
        *wanted[i] = get(extra + 4 + used, 8);
        used += 8;
      }
    extra += 4 + size;
    length -= 4 + size;
  }
  return true;
}

static int take_member(struct bursar_zip *zip, uint64_t place, const unsigned char *entry, size_t left, size_t *used,
                       struct bursar_error *error) {
  struct bursar_zip_member *member = &zip->members[zip->count++];
  if (left < ENTRY || get(entry, 4) != 0x02014b50)
    return wrong(zip->source, place, "its directory is broken", error);
  size_t name = (size_t)get(entry + 28, 2), extra = (size_t)get(entry + 30, 2), comment = (size_t)get(entry + 32, 2);
  uint64_t flags = get(entry + 8, 2), way = get(entry + 10, 2);
  if (name + extra + comment > left - ENTRY)
    return wrong(zip->source, place, "its directory is broken", error);
  *member = (struct bursar_zip_member){.name = {(const char *)entry + ENTRY, (uint32_t)name},
                                       .bytes = get(entry + 24, 4),
                                       .stored = get(entry + 20, 4),
                                       .head = get(entry + 42, 4),
                                       .sum = (uint32_t)get(entry + 16, 4),
                                       .packed = way == 8};
  if (flags & 1)
    return wrong(zip->source, place, "a member is encrypted", error);
  if (way != 0 && way != 8)
    return wrong(zip->source, place, "a member is packed in a way other than deflate", error);
  if (!take_64(entry + ENTRY + name, extra, member))
    return wrong(zip->source, place, "its directory is broken", error);
  if (!member->packed && member->stored != member->bytes)
    return wrong(zip->source, place, "a member has two sizes", error);
  zip->packed = zip->packed || member->packed;
  *used = ENTRY + name + extra + comment;
  return 0;
}

static int by_head(const void *left, const void *right) {
  const struct bursar_zip_member *a = left, *b = right;
  return a->head < b->head ? -1 : a->head > b->head;
}

/* Where members' bytes are; each lies behind the one before. */
static int place_members(struct bursar_zip *zip, uint64_t directory, struct bursar_error *error) {
  const struct bursar_source *source = zip->source;
  uint64_t last = 0;
  qsort(zip->members, zip->count, sizeof *zip->members, by_head);
  for (size_t i = 0; i < zip->count; i++) {
    struct bursar_zip_member *member = &zip->members[i];
    unsigned char head[HEAD];
    char name[65536];
    if (member->head < last || member->head > directory || directory - member->head < HEAD)
      return wrong(source, member->head, member->head < last ? "a member lies over another" : "a member is not there",
                   error);
    int status = bursar_source_read(source, member->head, head, sizeof head, 1, error);
    if (status < 0)
      return status;
    uint64_t length = get(head + 26, 2), extra = get(head + 28, 2);
    member->at = member->head + HEAD + length + extra;
    if (get(head, 4) != 0x04034b50 || length != member->name.length || member->at > directory ||
        member->stored > directory - member->at)
      return wrong(source, member->head, "a member is not there", error);
    status = bursar_source_read(source, member->head + HEAD, name, length, 1, error);
    if (status < 0)
      return status;
    if (memcmp(name, member->name.bytes, length) != 0)
      return wrong(source, member->head, "a member has two names", error);
    last = member->at + member->stored;
  }
  return 0;
}

static int check_names(struct bursar_zip *zip, struct bursar_error *error) {
  if (bursar_index_init_texts(&zip->names, (uint32_t)zip->count) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  for (size_t i = 0; i < zip->count; i++)
    if (bursar_index_of_text(&zip->names, zip->members[i].name) != i)
      return wrong(zip->source, zip->members[i].head, "a name is there twice", error);
  return 0;
}

int bursar_zip_open(const struct bursar_source *source, struct bursar_zip *out, struct bursar_error *error) {
  struct directory directory = {0};
  size_t used = 0, more = 0;
  *out = (struct bursar_zip){.source = source};
  int status = find_directory(source, &directory, error);
  if (status < 0)
    return status;
  out->members = calloc((size_t)directory.count + 1, sizeof *out->members);
  out->directory = malloc((size_t)directory.bytes + 1);
  if (!out->members || !out->directory) {
    bursar_zip_close(out);
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  }
  status = bursar_source_read(source, directory.at, out->directory, (size_t)directory.bytes, 1, error);
  for (uint64_t i = 0; i < directory.count && status == 0; i++, used += more)
    status = take_member(out, directory.at + used, (const unsigned char *)out->directory + used,
                         (size_t)directory.bytes - used, &more, error);
  if (status == 0 && used != directory.bytes)
    status = wrong(source, directory.at + used, "its directory has more in it than it says", error);
  if (status == 0)
    status = place_members(out, directory.at, error);
  if (status == 0)
    status = check_names(out, error);
  if (status < 0)
    bursar_zip_close(out);
  return status;
}

const struct bursar_zip_member *bursar_zip_find(struct bursar_zip *zip, struct bursar_text name) {
  uint32_t number = bursar_index_of_text(&zip->names, name); /* which is full: nothing is added */
  return number < zip->count ? &zip->members[number] : NULL;
}

void bursar_zip_close(struct bursar_zip *zip) {
  bursar_index_free(&zip->names);
  free(zip->members);
  free(zip->directory);
  *zip = (struct bursar_zip){.source = NULL};
}

/* --- bytes --------------------------------------------------------------------------------------------------------------- */

/* CRC-32, four bytes at a time. */
static uint32_t table[4][256];

static void make_table(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (unsigned k = 0; k < 8; k++)
      c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
    table[0][i] = c;
  }
  for (unsigned t = 1; t < 4; t++)
    for (uint32_t i = 0; i < 256; i++)
      table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t sum(uint32_t c, const unsigned char *at, size_t length) {
  c = ~c;
  for (; length >= 4; length -= 4, at += 4) {
    c ^= (uint32_t)get(at, 4);
    c = table[3][c & 0xff] ^ table[2][c >> 8 & 0xff] ^ table[1][c >> 16 & 0xff] ^ table[0][c >> 24];
  }
  for (; length; length--)
    c = c >> 8 ^ table[0][(c ^ *at++) & 0xff];
  return ~c;
}

static int check(const struct bursar_source *source, uint64_t at, uint64_t bytes,
                 const struct bursar_zip_member *member, struct bursar_save *to, struct bursar_error *error) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, make_table);
  uint32_t found = 0;
  unsigned char piece[PIECE];
  while (bytes) {
    size_t more = bytes < sizeof piece ? (size_t)bytes : sizeof piece;
    int status = bursar_source_read(source, at, piece, more, 1, error);
    if (status == 0 && to)
      status = bursar_save_write(to, piece, more, error);
    if (status < 0)
      return status;
    found = sum(found, piece, more);
    at += more;
    bytes -= more;
  }
  return found == member->sum ? 0 : wrong(source, member->head, "a member has changed: its sum is another", error);
}

int bursar_zip_check(const struct bursar_source *source, const struct bursar_zip_member *member,
                     struct bursar_error *error) {
  return check(source, member->at, member->bytes, member, NULL, error);
}

int bursar_zip_extract(const struct bursar_zip *zip, const struct bursar_zip_member *member, struct bursar_save *to,
                       struct bursar_error *error) {
  uint64_t from = to->bytes, made;
  if (!member->packed)
    return check(zip->source, member->at, member->bytes, member, to, error);
  int status = bursar_inflate(zip->source, member->at, member->stored, BURSAR_INFLATE_RAW, to, &made, error);
  if (status < 0)
    return status;
  if (made != member->bytes)
    return wrong(zip->source, member->head, "a member is not as long as it says", error);
  struct bursar_source unpacked = {.fd = to->fd, .path = zip->source->path, .bytes = to->bytes};
  return check(&unpacked, from, made, member, NULL, error);
}
