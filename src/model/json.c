#include "model/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WORDS 260u /* of 4 bytes: the longest number there is */

/* The bytes of one character, surrogates too; 0: none. */
static unsigned character(const unsigned char *at, size_t left, uint32_t *out) {
  unsigned more = at[0] < 0x80 ? 0 : at[0] < 0xc2 ? 4 : at[0] < 0xe0 ? 1 : at[0] < 0xf0 ? 2 : at[0] < 0xf5 ? 3 : 4;
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (more > 3 || more >= left)
    return 0;
  *out = more ? at[0] & (0x3fu >> more) : at[0];
  for (unsigned i = 1; i <= more; i++) {
    if ((at[i] & 0xc0) != 0x80)
      return 0;
    *out = *out << 6 | (at[i] & 0x3f);
  }
  return *out < least[more] || *out > 0x10ffff ? 0 : more + 1;
}

static void put(struct bursar_buffer *out, const unsigned char *at, unsigned bytes, uint32_t c) {
  if (c < 0x20 || c == 0x7f || (c >= 0xd800 && c < 0xe000))
    bursar_buffer_format(out, "\\u%04x", c);
  else if (c == '"' || c == '\\')
    bursar_buffer_format(out, "\\%c", (char)c);
  else
    bursar_buffer_add(out, at, bytes);
}

bool bursar_json_text(struct bursar_buffer *out, struct bursar_text text) {
  bursar_buffer_char(out, '"');
  for (size_t i = 0; i < text.length;) {
    uint32_t c;
    const unsigned char *at = (const unsigned char *)text.bytes + i;
    unsigned bytes = character(at, text.length - i, &c);
    if (!bytes)
      return false;
    put(out, at, bytes, c);
    i += bytes;
  }
  bursar_buffer_char(out, '"');
  return true;
}

void bursar_json_latin(struct bursar_buffer *out, struct bursar_text text) {
  bursar_buffer_char(out, '"');
  for (size_t i = 0; i < text.length; i++) {
    unsigned char c = (unsigned char)text.bytes[i];
    unsigned char two[2] = {(unsigned char)(0xc0 | c >> 6), (unsigned char)(0x80 | (c & 0x3f))};
    if (c < 0x80)
      put(out, &c, 1, c);
    else
      put(out, two, 2, c);
  }
  bursar_buffer_char(out, '"');
}

void bursar_json_real(struct bursar_buffer *out, double value) {
  char text[40];
  if (!isfinite(value)) {
    bursar_buffer_format(out, "{\"$\":\"float\",\"value\":\"%s\"}", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
    return;
  }
  snprintf(text, sizeof text, "%.17g", value);
  bursar_buffer_text(out, text);
  if (!strpbrk(text, ".e"))
    bursar_buffer_text(out, ".0");
}

void bursar_json_long(struct bursar_buffer *out, const unsigned char *bytes, size_t count) {
  uint32_t words[WORDS] = {0}, parts[WORDS * 2];
  size_t used = (count + 3) / 4, made = 0;
  bool negative = count && bytes[count - 1] & 0x80;
  uint32_t carry = negative;
  if (used > WORDS)
    return;
  for (size_t i = 0; i < used * 4; i++) {
    unsigned char byte = i < count ? bytes[i] : negative ? 0xff : 0;
    words[i / 4] |= (uint32_t)(unsigned char)(negative ? ~byte : byte) << 8 * (i % 4);
  }
  for (size_t i = 0; i < used && carry; i++)
    carry = ++words[i] == 0;
  if (carry)
    words[used++] = 1;
  do { /* nine digits at a time */
    uint64_t rest = 0;
    for (size_t i = used; i-- > 0;) {
      rest = rest << 32 | words[i];
      words[i] = (uint32_t)(rest / 1000000000u);
      rest %= 1000000000u;
    }
    parts[made++] = (uint32_t)rest;
    while (used && !words[used - 1])
      used--;
  } while (used);
  bursar_buffer_format(out, "%s%u", negative ? "-" : "", parts[--made]);
  while (made)
    bursar_buffer_format(out, "%09u", parts[--made]);
}
