#include "model/bech32.h"

#include <stdint.h>
#include <string.h>

#include "secret/wipe.h"

#define CHECK 6u /* letters */
#define DATA ((BURSAR_BECH32_BYTES * 8 + 4) / 5)

static const char letters32[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t step(uint32_t check, unsigned value) {
  static const uint32_t generator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
  uint32_t top = check >> 25;
  check = (check & 0x1ffffff) << 5 ^ value;
  for (unsigned i = 0; i < 5; i++)
    check ^= top >> i & 1 ? generator[i] : 0;
  return check;
}

static uint32_t begin(const char *kind) {
  uint32_t check = 1;
  for (const char *at = kind; *at; at++)
    check = step(check, (unsigned char)*at >> 5);
  check = step(check, 0);
  for (const char *at = kind; *at; at++)
    check = step(check, *at & 31);
  return check;
}

void bursar_bech32_encode(const char *kind, bool upper, const unsigned char bytes[BURSAR_BECH32_BYTES],
                          char out[BURSAR_BECH32_WORD]) {
  size_t at = strlen(kind);
  uint32_t check = begin(kind), held = 0;
  unsigned bits = 0;
  memcpy(out, kind, at);
  out[at++] = '1';
  for (unsigned i = 0, next = 0; i < DATA; i++) {
    if (bits < 5 && next < BURSAR_BECH32_BYTES) {
      held = held << 8 | bytes[next++];
      bits += 8;
    }
    unsigned value = (bits >= 5 ? held >> (bits - 5) : held << (5 - bits)) & 31;
    bits = bits >= 5 ? bits - 5 : 0;
    check = step(check, value);
    out[at++] = letters32[value];
  }
  for (unsigned i = 0; i < CHECK; i++)
    check = step(check, 0);
  check ^= 1;
  for (unsigned i = 0; i < CHECK; i++)
    out[at++] = letters32[check >> 5 * (CHECK - 1 - i) & 31];
  out[at] = 0;
  for (size_t i = 0; upper && i < at; i++)
    out[i] = (char)(out[i] >= 'a' && out[i] <= 'z' ? out[i] - 32 : out[i]);
  bursar_wipe(&held, sizeof held);
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static char small(char c) { return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c); }

bool bursar_bech32_decode(const char *kind, const char *word, size_t length, unsigned char out[BURSAR_BECH32_BYTES]) {
  size_t before = strlen(kind);
  uint32_t check = begin(kind), held = 0;
  unsigned bits = 0, cases = 0, made = 0;
  if (length != before + 1 + DATA + CHECK || word[before] != '1')
    return false;
  for (size_t i = 0; i < length; i++)
    cases |= !is_letter(word[i]) ? 0 : word[i] >= 'a' ? 1 : 2;
  for (size_t i = 0; i < before; i++)
    if (small(word[i]) != kind[i])
      return false;
  if (cases == 3)
    return false;
  for (size_t i = before + 1; i < length; i++) {
    const char *found = word[i] ? strchr(letters32, small(word[i])) : NULL;
    if (!found)
      return false;
    unsigned value = (unsigned)(found - letters32);
    check = step(check, value);
    if (i >= length - CHECK)
      continue;
    held = held << 5 | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      if (made < BURSAR_BECH32_BYTES)
        out[made++] = (unsigned char)(held >> bits);
    }
  }
  bool right = check == 1 && made == BURSAR_BECH32_BYTES && !(held & ((1u << bits) - 1));
  bursar_wipe(&held, sizeof held);
  if (!right)
    bursar_wipe(out, BURSAR_BECH32_BYTES);
  return right;
}
