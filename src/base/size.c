#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
  const char *name;
  uint64_t bytes;
};

static const struct unit units[] = {
    {"", 1},
    {"b", 1},
    {"k", 1ull << 10},
    {"kib", 1ull << 10},
    {"ki", 1ull << 10},
    {"m", 1ull << 20},
    {"mib", 1ull << 20},
    {"mi", 1ull << 20},
    {"g", 1ull << 30},
    {"gib", 1ull << 30},
    {"gi", 1ull << 30},
    {"t", 1ull << 40},
    {"tib", 1ull << 40},
    {"ti", 1ull << 40},
    {"kb", 1000},
    {"mb", 1000000},
    {"gb", 1000000000},
    {"tb", 1000000000000},
};

static const char *skip_spaces(const char *at) {
  while (*at == ' ' || *at == '\t')
    at++;
  return at;
}

/* The digits after the point, as billionths: enough for every byte of a terabyte to be off by less than a KiB. */
static const char *parse_fraction(const char *at, uint64_t *billionths) {
  uint64_t scale = 100000000;
  for (*billionths = 0; *at >= '0' && *at <= '9'; at++) {
    *billionths += (uint64_t)(*at - '0') * scale;
    scale /= 10;
  }
  return at;
}

static const struct unit *find_unit(const char *at) {
  size_t length = strlen(at);
  while (length && (at[length - 1] == ' ' || at[length - 1] == '\t'))
    length--;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (strlen(units[i].name) == length && strncasecmp(units[i].name, at, length) == 0)
      return &units[i];
  return NULL;
}

int bursar_size_parse(const char *text, uint64_t *out) {
  const char *at = skip_spaces(text);
  if (*at < '0' || *at > '9')
    return -EINVAL;
  uint64_t whole = 0, billionths = 0;
  for (; *at >= '0' && *at <= '9'; at++)
    if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole))
      return -ERANGE;
  if (*at == '.') {
    if (at[1] < '0' || at[1] > '9')
      return -EINVAL;
    at = parse_fraction(at + 1, &billionths);
  }
  const struct unit *unit = find_unit(skip_spaces(at));
  if (!unit)
    return -EINVAL;
  uint64_t bytes;
  uint64_t part = (uint64_t)((unsigned __int128)unit->bytes * billionths / 1000000000u);
  if (__builtin_mul_overflow(whole, unit->bytes, &bytes) || __builtin_add_overflow(bytes, part, &bytes))
    return -ERANGE;
  *out = bytes;
  return 0;
}

/* Three significant digits, without ever rounding 1023.9 up to a four-digit 1024 of the smaller unit. */
static char *print_scaled(double value, unsigned step, const char *const *names, char *out) {
  unsigned unit = 0;
  while (names[unit + 1] && value >= (value >= 100 ? step - 0.5 : step)) {
    value /= step;
    unit++;
  }
  int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  snprintf(out, BURSAR_SIZE_TEXT, "%.*f %s", digits, value, names[unit]);
  return out;
}

char *bursar_size_print(uint64_t bytes, char out[BURSAR_SIZE_TEXT]) {
  static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", NULL};
  if (bytes < 1024) {
    snprintf(out, BURSAR_SIZE_TEXT, "%u B", (unsigned)bytes);
    return out;
  }
  /* A round size prints as it was typed: 512 MiB, 64 KiB. */
  unsigned unit = 0;
  uint64_t whole = bytes;
  while (whole % 1024 == 0 && whole >= 1024 && names[unit + 1]) {
    whole /= 1024;
    unit++;
  }
  if (whole < 1024) {
    snprintf(out, BURSAR_SIZE_TEXT, "%u %s", (unsigned)whole, names[unit]);
    return out;
  }
  return print_scaled((double)bytes, 1024, names, out);
}

char *bursar_size_count(uint64_t count, char out[BURSAR_SIZE_TEXT]) {
  static const char *const names[] = {"", "k", "M", "G", "T", "P", "E", NULL};
  if (count < 10000) {
    snprintf(out, BURSAR_SIZE_TEXT, "%u", (unsigned)count);
    return out;
  }
  return print_scaled((double)count, 1000, names, out);
}
