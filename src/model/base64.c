#include "model/base64.h"

#include <stdint.h>

static const char letters64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t bursar_base64_encode(const void *bytes, size_t count, char *out) {
  const unsigned char *from = bytes;
  char *to = out;
  uint32_t held = 0;
  unsigned bits = 0;
  for (size_t i = 0; i < count; i++) {
    held = held << 8 | from[i];
    for (bits += 8; bits >= 6; bits -= 6)
      *to++ = letters64[held >> (bits - 6) & 63];
  }
  if (bits)
    *to++ = letters64[held << (6 - bits) & 63];
  return (size_t)(to - out);
}

static int value_of(char c) {
  return c >= 'A' && c <= 'Z'   ? c - 'A'
         : c >= 'a' && c <= 'z' ? c - 'a' + 26
         : c >= '0' && c <= '9' ? c - '0' + 52
         : c == '+'             ? 62
         : c == '/'             ? 63
                                : -1;
}

ssize_t bursar_base64_decode(const char *letters, size_t count, unsigned char *out) {
  unsigned char *to = out;
  uint32_t held = 0;
  unsigned bits = 0;
  if (count % 4 == 1)
    return -1;
  for (size_t i = 0; i < count; i++) {
    int value = value_of(letters[i]);
    if (value < 0)
      return -1;
    held = held << 6 | (uint32_t)value;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      *to++ = (unsigned char)(held >> bits);
    }
  }
  return held & ((1u << bits) - 1) ? -1 : to - out;
}
