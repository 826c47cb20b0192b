#include "policy/toml_plain.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static int hex(char c) {
  return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
static bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' || c == '_';
}

static bool digits(const char *at, const char *end, int count) {
  for (int i = 0; i < count; i++)
    if (at + i >= end || !is_digit(at[i]))
      return false;
  return true;
}

static int number_of(const char *at, int count) {
  int value = 0;
  for (int i = 0; i < count; i++)
    value = 10 * value + at[i] - '0';
  return value;
}

/* HH:MM:SS and its fraction; the bytes that it takes, 0: it is none. */
static size_t clock_bytes(const char *at, const char *end) {
  if (!digits(at, end, 2) || end - at < 8 || at[2] != ':' || !digits(at + 3, end, 2) || at[5] != ':' ||
      !digits(at + 6, end, 2) || number_of(at, 2) > 23 || number_of(at + 3, 2) > 59 || number_of(at + 6, 2) > 59)
    return 0;
  size_t bytes = 8;
  if (at + bytes < end && at[bytes] == '.' && digits(at + bytes + 1, end, 1))
    for (bytes++; at + bytes < end && is_digit(at[bytes]);)
      bytes++;
  return bytes;
}

static size_t zone_bytes(const char *at, const char *end) {
  if (at < end && (*at == 'Z' || *at == 'z'))
    return 1;
  bool is = end - at >= 6 && (*at == '+' || *at == '-') && digits(at + 1, end, 2) && at[3] == ':' &&
            digits(at + 4, end, 2);
  return is && number_of(at + 1, 2) < 24 && number_of(at + 4, 2) < 60 ? 6 : 0;
}

static int days_in(int year, int month) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return days[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

/* The bytes of a date, a time or both that stand here; 0: neither does.  *exists: the calendar has it. */
static size_t time_bytes(const char *at, const char *end, bool *exists) {
  const char *begin = at;
  *exists = true;
  if (!digits(at, end, 4) || end - at < 10 || at[4] != '-' || !digits(at + 5, end, 2) || at[7] != '-' ||
      !digits(at + 8, end, 2))
    return clock_bytes(at, end);
  int year = number_of(at, 4), month = number_of(at + 5, 2), day = number_of(at + 8, 2);
  *exists = year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= days_in(year, month);
  at += 10;
  if (at < end && (*at == 'T' || *at == 't' || *at == ' ')) {
    size_t clock = clock_bytes(at + 1, end);
    if (clock)
      at += 1 + clock + zone_bytes(at + 1 + clock, end);
  }
  return (size_t)(at - begin);
}

/* Digits of the base with single underscores between them, from `at` on. */
static const char *digits_end(const char *at, const char *end, int base) {
  while (at < end && hex(*at) >= 0 && hex(*at) < base)
    at += end - at > 2 && at[1] == '_' && hex(at[2]) >= 0 && hex(at[2]) < base ? 2 : 1;
  return at;
}

static int64_t integer_of(const char *at, const char *end, int base, bool negative, bool *fits) {
  int64_t value = 0;
  *fits = true;
  for (; at < end; at++)
    if (*at != '_' && (__builtin_mul_overflow(value, base, &value) ||
                       __builtin_sub_overflow(value, hex(*at), &value))) /* below 0, where there is one more */
      *fits = false;
  if (!negative && value == INT64_MIN)
    *fits = false;
  return !*fits ? 0 : negative ? value : -value;
}

static double real_of(const char *at, const char *end) {
  char text[512];
  size_t used = 0;
  for (; at < end && used + 1 < sizeof text; at++)
    if (*at != '_')
      text[used++] = *at;
  text[used] = 0;
  /* The program may have set another decimal point.  The C locale is glibc's own: nothing is allocated for it. */
  locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (!plain)
    return NAN;
  double value = strtod_l(text, NULL, plain);
  freelocale(plain);
  return value;
}

/* The bytes of a word that stands for a value. */
static size_t word_bytes(const char *at, const char *end, struct bursar_toml_node *node) {
  static const struct {
    const char *word;
    enum bursar_toml_kind kind;
    double real;
  } words[] = {{"true", BURSAR_TOML_BOOLEAN, 1},        {"false", BURSAR_TOML_BOOLEAN, 0},
               {"inf", BURSAR_TOML_REAL, HUGE_VAL},     {"+inf", BURSAR_TOML_REAL, HUGE_VAL},
               {"-inf", BURSAR_TOML_REAL, -HUGE_VAL},   {"nan", BURSAR_TOML_REAL, (double)NAN},
               {"+nan", BURSAR_TOML_REAL, (double)NAN}, {"-nan", BURSAR_TOML_REAL, (double)NAN}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    size_t bytes = strlen(words[i].word);
    if ((size_t)(end - at) < bytes || memcmp(at, words[i].word, bytes) != 0 || (at + bytes < end && is_bare(at[bytes])))
      continue;
    node->kind = (uint8_t)words[i].kind;
    if (words[i].kind == BURSAR_TOML_BOOLEAN)
      node->boolean = words[i].real != 0;
    else
      node->real = words[i].real;
    return bytes;
  }
  return 0;
}

/* 0: no number stands here.  *fits: it is one of 64 bits. */
static size_t number_bytes(const char *at, const char *end, struct bursar_toml_node *node, bool *fits) {
  const char *begin = at;
  int base = end - at > 2 && at[0] == '0' ? (at[1] == 'x' ? 16 : at[1] == 'o' ? 8 : at[1] == 'b' ? 2 : 10) : 10;
  *fits = true;
  node->kind = BURSAR_TOML_INTEGER;
  if (base != 10 && hex(at[2]) >= 0 && hex(at[2]) < base) {
    const char *stop = digits_end(at + 2, end, base);
    node->integer = integer_of(at + 2, stop, base, false, fits);
    return (size_t)(stop - at);
  }
  bool negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+'))
    at++;
  if (at >= end || !is_digit(*at))
    return 0;
  const char *whole = at, *stop = *at == '0' ? at + 1 : digits_end(at, end, 10), *whole_end = stop;
  if (end - stop > 1 && *stop == '.' && is_digit(stop[1]))
    stop = digits_end(stop + 1, end, 10);
  const char *power = stop + 1;
  if (stop < end && (*stop == 'e' || *stop == 'E')) {
    power += power < end && (*power == '+' || *power == '-');
    if (power < end && is_digit(*power))
      stop = digits_end(power, end, 10);
  }
  if (stop == whole_end) {
    node->integer = integer_of(whole, stop, 10, negative, fits);
  } else {
    node->kind = BURSAR_TOML_REAL;
    node->real = real_of(begin, stop);
    *fits = stop - begin < 500;
  }
  return (size_t)(stop - begin);
}

size_t bursar_toml_plain(const char *at, const char *end, struct bursar_toml_node *out, const char **wrong) {
  bool exists = true, fits = true;
  size_t bytes = word_bytes(at, end, out);
  if (bytes)
    return bytes;
  out->kind = BURSAR_TOML_TIME;
  bytes = time_bytes(at, end, &exists);
  if (!exists)
    *wrong = "no such date; the year, month and day are to be in the calendar";
  if (bytes)
    return bytes;
  bytes = number_bytes(at, end, out, &fits);
  if (!fits)
    *wrong = "too large a number; 64 bits hold up to 9223372036854775807";
  return bytes;
}
