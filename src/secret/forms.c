#include "secret/forms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "secret/wipe.h"

const char *const bursar_forms_names[BURSAR_FORMS_NAMES] = {
    [BURSAR_FORMS_RAW] = "raw",
    [BURSAR_FORMS_UTF8] = "utf-8",
    [BURSAR_FORMS_LATIN1] = "latin-1",
    [BURSAR_FORMS_UTF16LE] = "utf-16-le",
    [BURSAR_FORMS_UTF16BE] = "utf-16-be",
    [BURSAR_FORMS_UTF32LE] = "utf-32-le",
    [BURSAR_FORMS_UTF32BE] = "utf-32-be",
    [BURSAR_FORMS_REVERSED] = "reversed",
    [BURSAR_FORMS_SWAPPED] = "swapped",
    [BURSAR_FORMS_HEX] = "hex",
    [BURSAR_FORMS_HEX_UPPER] = "hex-upper",
    [BURSAR_FORMS_BASE64] = "base64",
    [BURSAR_FORMS_BASE64_URL] = "base64-url",
    [BURSAR_FORMS_DIGITS] = "int-digits",
    [BURSAR_FORMS_DIGITS_BE] = "int-digits-be",
    [BURSAR_FORMS_INT_LE] = "int-le",
    [BURSAR_FORMS_INT_BE] = "int-be",
    [BURSAR_FORMS_DECIMAL] = "decimal",
    [BURSAR_FORMS_FLOAT_LE] = "float-le",
    [BURSAR_FORMS_FLOAT_BE] = "float-be",
    [BURSAR_FORMS_REPR] = "repr",
};

#define DECIMAL_MOST \
  512u /* bytes of an int whose decimal text is looked for: the division is long, and the text unusual */

/* --- the room -------------------------------------------------------------------------------------------------------- */

struct writer {
  struct bursar_forms *out;
  const struct bursar_forms_secret *secret;
  unsigned char *at, *end;
  bool full;
};

void bursar_forms_copy(void *to, const void *from, size_t bytes) {
#if defined(__x86_64__)
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
  volatile unsigned char *target = to;
  for (size_t i = 0; i < bytes; i++)
    target[i] = ((const unsigned char *)from)[i];
#endif
}

static unsigned char *room_for(struct writer *writer, size_t bytes) {
  if (bytes > (size_t)(writer->end - writer->at)) {
    writer->full = true;
    return NULL;
  }
  return writer->at;
}

/* What was written at `at` is a form that stands for `stands` bytes of the secret. */
static void keep(struct writer *writer, enum bursar_forms_name name, unsigned char *at, size_t length, size_t stands) {
  struct bursar_forms *out = writer->out;
  for (size_t i = 0; i < out->count; i++)
    if (out->at[i].length == length && memcmp(out->at[i].at, at, length) == 0)
      return;
  if (length < BURSAR_FORMS_LEAST || out->count == BURSAR_FORMS_COUNT)
    return;
  size_t half = (length + 1) / 2, least = (length * BURSAR_FORMS_LEAST + stands - 1) / stands;
  least = least > half ? least : half;
  out->at[out->count++] = (struct bursar_forms_one){.at = at,
                                                    .length = length,
                                                    .least = writer->secret->whole || least > length ? length : least,
                                                    .name = (uint8_t)name};
  writer->at = at + length;
}

/* --- bytes ----------------------------------------------------------------------------------------------------------- */

static void add_raw(struct writer *writer, enum bursar_forms_name name) {
  size_t n = writer->secret->length;
  unsigned char *at = room_for(writer, n);
  if (!at)
    return;
  bursar_forms_copy(at, writer->secret->at, n);
  keep(writer, name, at, n, n);
}

/* The bytes of each element the other way round; of one element that is all of it. */
static void add_turned(struct writer *writer, enum bursar_forms_name name, size_t element) {
  const unsigned char *secret = writer->secret->at;
  size_t n = writer->secret->length;
  unsigned char *at = room_for(writer, n);
  if (!at || n % element)
    return;
  for (size_t i = 0; i < n; i++)
    at[i] = secret[i / element * element + (element - 1 - i % element)];
  keep(writer, name, at, n, n);
}

static void add_hex(struct writer *writer, enum bursar_forms_name name, const char *digits) {
  size_t n = writer->secret->length;
  unsigned char *at = room_for(writer, 2 * n);
  if (!at)
    return;
  for (size_t i = 0; i < n; i++) {
    at[2 * i] = (unsigned char)digits[writer->secret->at[i] >> 4];
    at[2 * i + 1] = (unsigned char)digits[writer->secret->at[i] & 15];
  }
  keep(writer, name, at, 2 * n, n);
}

/* Where the secret begins `shift` bytes behind a group of three: only characters all of whose six bits are its own. */
static void add_base64(struct writer *writer, enum bursar_forms_name name, size_t shift, const char *last_two) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const unsigned char *secret = writer->secret->at;
  size_t n = writer->secret->length, first = (shift * 8 + 5) / 6, last = (shift + n) * 8 / 6;
  unsigned char *at = room_for(writer, last - first);
  if (!at)
    return;
  for (size_t i = first; i < last; i++) {
    size_t bit = i * 6 - shift * 8;
    unsigned two = (unsigned)secret[bit / 8] << 8 | (bit / 8 + 1 < n ? secret[bit / 8 + 1] : 0u);
    unsigned six = two >> (10 - bit % 8) & 63;
    at[i - first] = (unsigned char)(six < 62 ? letters[six] : last_two[six - 62]);
  }
  keep(writer, name, at, last - first, n);
}

/* --- text ------------------------------------------------------------------------------------------------------------ */

/* The next character, or -1 where this is no text. */
static int32_t next_character(const unsigned char **at, const unsigned char *end) {
  const unsigned char *p = *at;
  uint32_t lead = *p++;
  unsigned more = lead < 0x80 ? 0 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  uint32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : more ? 0x80 : 0;
  if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || more > (size_t)(end - p))
    return -1;
  uint32_t character = more ? lead & (0x3fu >> more) : lead;
  for (; more; more--, p++) {
    if ((*p & 0xc0) != 0x80)
      return -1;
    character = character << 6 | (*p & 0x3fu);
  }
  *at = p;
  return character < least || character > 0x10ffff ? -1 : (int32_t)character;
}

/* Is it text, and does it go into Latin-1 without being ASCII? */
static bool is_text(const struct bursar_forms_secret *secret, bool *latin) {
  const unsigned char *at = secret->at, *end = at + secret->length;
  uint32_t most = 0;
  while (at < end) {
    int32_t character = next_character(&at, end);
    if (character < 0)
      return false;
    most = (uint32_t)character > most ? (uint32_t)character : most;
  }
  *latin = most >= 0x80 && most < 0x100;
  return true;
}

static unsigned char *put(unsigned char *at, uint32_t value, unsigned bytes, bool big) {
  for (unsigned i = 0; i < bytes; i++)
    at[i] = (unsigned char)(value >> 8 * (big ? bytes - 1 - i : i));
  return at + bytes;
}

static void add_wide(struct writer *writer, enum bursar_forms_name name, unsigned unit, bool big) {
  const unsigned char *from = writer->secret->at, *end = from + writer->secret->length;
  unsigned char *at = room_for(writer, 4 * writer->secret->length), *to = at;
  if (!at)
    return;
  while (from < end) {
    uint32_t character = (uint32_t)next_character(&from, end);
    if (unit == 2 && character >= 0x10000) {
      to = put(to, 0xd800 + ((character - 0x10000) >> 10), 2, big);
      to = put(to, 0xdc00 + ((character - 0x10000) & 0x3ff), 2, big);
    } else {
      to = put(to, character, unit, big);
    }
  }
  keep(writer, name, at, (size_t)(to - at), writer->secret->length);
}

static void add_texts(struct writer *writer) {
  bool latin;
  if (!is_text(writer->secret, &latin))
    return;
  if (latin)
    add_wide(writer, BURSAR_FORMS_LATIN1, 1, false);
  add_wide(writer, BURSAR_FORMS_UTF16LE, 2, false);
  add_wide(writer, BURSAR_FORMS_UTF16BE, 2, true);
  add_wide(writer, BURSAR_FORMS_UTF32LE, 4, false);
  add_wide(writer, BURSAR_FORMS_UTF32BE, 4, true);
}

/* --- numbers --------------------------------------------------------------------------------------------------------- */

/* As CPython keeps an int: 30 bits in each 32, the lowest first.  `big`: the bytes are read from the highest. */
static void add_digits(struct writer *writer, enum bursar_forms_name name, bool big) {
  const unsigned char *secret = writer->secret->at;
  size_t n = writer->secret->length, digits = 0, taken = 0;
  unsigned char *at = room_for(writer, (n * 8 + 29) / 30 * 4), *to = at;
  uint64_t bits = 0;
  unsigned have = 0;
  if (!at)
    return;
  for (; taken < n || bits; digits++) {
    while (have < 30 && taken < n) {
      bits |= (uint64_t)secret[big ? n - 1 - taken : taken] << have;
      taken++;
      have += 8;
    }
    to = put(to, (uint32_t)(bits & 0x3fffffff), 4, false);
    bits >>= 30;
    have = have > 30 ? have - 30 : 0;
  }
  while (digits && !(to[-1] | to[-2] | to[-3] | to[-4])) {
    to -= 4;
    digits--;
  }
  keep(writer, name, at, (size_t)(to - at), n);
}

/* Divides by ten until nothing is left; the number lies behind the text meanwhile. */
static void add_decimal(struct writer *writer) {
  size_t n = writer->secret->length, most = n * 5 / 2 + 1, used = 0, left = n;
  unsigned char *at = n <= DECIMAL_MOST ? room_for(writer, most + n) : NULL;
  if (!at)
    return;
  unsigned char *number = at + most;
  bursar_forms_copy(number, writer->secret->at, n);
  while (left) {
    unsigned rest = 0;
    for (size_t i = left; i-- > 0;) {
      rest = rest << 8 | number[i];
      number[i] = (unsigned char)(rest / 10);
      rest %= 10;
    }
    at[used++] = (unsigned char)('0' + rest);
    while (left && !number[left - 1])
      left--;
  }
  for (size_t i = 0; i < used / 2; i++) {
    unsigned char digit = at[i];
    at[i] = at[used - 1 - i];
    at[used - 1 - i] = digit;
  }
  keep(writer, BURSAR_FORMS_DECIMAL, at, used, n);
}

static void add_int_hex(struct writer *writer, enum bursar_forms_name name, const char *digits) {
  size_t n = writer->secret->length, used = 0;
  unsigned char *at = room_for(writer, 2 * n);
  if (!at)
    return;
  for (size_t i = n; i-- > 0;) {
    unsigned byte = writer->secret->at[i];
    if (i < n - 1 || byte >> 4)
      at[used++] = (unsigned char)digits[byte >> 4];
    at[used++] = (unsigned char)digits[byte & 15];
  }
  keep(writer, name, at, used, n);
}

/* The shortest text that reads back as the same double, as Python's repr writes it. */
static void add_repr(struct writer *writer) {
  char text[40], digits[20];
  double value, back = 0;
  int exponent = 0, used = 0;
  unsigned char *at = room_for(writer, sizeof text);
  if (!at)
    return;
  bursar_forms_copy(&value, writer->secret->at, sizeof value);
  for (int more = 0; more < 17; more++) {
    used = 0;
    snprintf(text, sizeof text, "%.*e", more, value);
    back = strtod(text, NULL);
    if (back == value || more == 16)
      break;
  }
  for (const char *p = text; *p && *p != 'e'; p++) /* whatever the locale puts between them */
    if (*p >= '0' && *p <= '9')
      digits[used++] = *p;
  const char *e = strchr(text, 'e');
  if (!e || back != value) {
    bursar_wipe(text, sizeof text); /* not a number, or infinite */
    return;
  }
  exponent = atoi(e + 1);
  unsigned char *to = at;
  if (exponent < -4 || exponent >= 16) {
    for (int i = 0; i < used; i++) {
      *to++ = (unsigned char)digits[i];
      if (i == 0 && used > 1)
        *to++ = '.';
    }
    to += sprintf((char *)to, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
  } else {
    for (int i = exponent < 0 ? exponent : 0; i < used || i <= exponent + 1; i++) {
      if (i == exponent + 1)
        *to++ = '.';
      *to++ = (unsigned char)(i < 0 || i >= used ? '0' : digits[i]);
    }
  }
  keep(writer, BURSAR_FORMS_REPR, at, (size_t)(to - at), sizeof value);
  bursar_wipe(text, sizeof text);
  bursar_wipe(digits, sizeof digits);
  bursar_wipe(&value, sizeof value);
  bursar_wipe(&back, sizeof back);
}

/* --- all of it ------------------------------------------------------------------------------------------------------- */

size_t bursar_forms_room(const struct bursar_forms_secret *secret) {
  size_t n = secret->length;
  return (n > BURSAR_FORMS_TEXTS && secret->kind == BURSAR_FORMS_BYTES ? 3 * n : 48 * n) + 256;
}

static int check(const struct bursar_forms_secret *secret) {
  uint64_t seen[4] = {0};
  unsigned different = 0;
  if (secret->length < BURSAR_FORMS_LEAST || secret->length > BURSAR_FORMS_MOST)
    return -ERANGE;
  if (secret->kind != BURSAR_FORMS_BYTES && secret->length > BURSAR_FORMS_TEXTS)
    return -ERANGE;
  for (size_t i = 0; i < secret->length && different < BURSAR_FORMS_DIFFERENT; i++) {
    unsigned byte = secret->at[i];
    different += !(seen[byte / 64] >> (byte % 64) & 1);
    seen[byte / 64] |= 1ull << (byte % 64);
  }
  return different < BURSAR_FORMS_DIFFERENT ? -EINVAL : 0;
}

int bursar_forms_check(const struct bursar_forms_secret *secret) { return check(secret); }

static void add_bytes(struct writer *writer) {
  const struct bursar_forms_secret *secret = writer->secret;
  add_raw(writer, secret->kind == BURSAR_FORMS_TEXT ? BURSAR_FORMS_UTF8 : BURSAR_FORMS_RAW);
  add_turned(writer, BURSAR_FORMS_REVERSED, secret->length);
  if (secret->element > 1)
    add_turned(writer, BURSAR_FORMS_SWAPPED, secret->element);
  if (secret->length > BURSAR_FORMS_TEXTS)
    return;
  add_texts(writer);
  add_hex(writer, BURSAR_FORMS_HEX, "0123456789abcdef");
  add_hex(writer, BURSAR_FORMS_HEX_UPPER, "0123456789ABCDEF");
  for (size_t shift = 0; shift < 3; shift++) {
    add_base64(writer, BURSAR_FORMS_BASE64, shift, "+/");
    add_base64(writer, BURSAR_FORMS_BASE64_URL, shift, "-_");
  }
  add_digits(writer, BURSAR_FORMS_DIGITS, false);
  add_digits(writer, BURSAR_FORMS_DIGITS_BE, true);
}

int bursar_forms_make(const struct bursar_forms_secret *secret, unsigned char *room, size_t bytes,
                      struct bursar_forms *out) {
  struct writer writer = {.out = out, .secret = secret, .at = room, .end = room + bytes};
  out->count = 0;
  int status = check(secret);
  if (status < 0)
    return status;
  switch (secret->kind) {
    case BURSAR_FORMS_INT:
      add_digits(&writer, BURSAR_FORMS_DIGITS, false);
      add_raw(&writer, BURSAR_FORMS_INT_LE);
      add_turned(&writer, BURSAR_FORMS_INT_BE, secret->length);
      add_decimal(&writer);
      add_int_hex(&writer, BURSAR_FORMS_HEX, "0123456789abcdef");
      add_int_hex(&writer, BURSAR_FORMS_HEX_UPPER, "0123456789ABCDEF");
      break;
    case BURSAR_FORMS_FLOAT:
      add_raw(&writer, BURSAR_FORMS_FLOAT_LE);
      add_turned(&writer, BURSAR_FORMS_FLOAT_BE, secret->length);
      add_repr(&writer);
      break;
    default: add_bytes(&writer);
  }
  return writer.full ? -ENOSPC : 0;
}
