#include "model/parse.h"

#include <string.h>

static bool fail(struct bursar_parse *in, const char *wrong) {
  if (!in->wrong)
    in->wrong = wrong;
  return false;
}

bool bursar_parse_refuse(struct bursar_parse *in, const char *wrong) { return fail(in, wrong); }
size_t bursar_parse_place(const struct bursar_parse *in) { return (size_t)(in->at - in->start); }

/* --- UTF-8 ----------------------------------------------------------------------------------------------------------- */

/* The bytes of one character; 0: none.  Shortest forms alone, no surrogates. */
static unsigned character(const unsigned char *at, size_t left) {
  unsigned more = at[0] < 0x80 ? 0 : at[0] < 0xc2 ? 4 : at[0] < 0xe0 ? 1 : at[0] < 0xf0 ? 2 : at[0] < 0xf5 ? 3 : 4;
  if (more > 3 || more >= left)
    return 0;
  for (unsigned i = 1; i <= more; i++)
    if ((at[i] & 0xc0) != 0x80)
      return 0;
  if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
      (at[0] == 0xf4 && at[1] > 0x8f))
    return 0;
  return more + 1;
}

/* Where what is no UTF-8 begins, or the end. */
static char *check(char *at, const char *end) {
  while (at < end) {
    uint64_t word;
    if (end - at >= (ptrdiff_t)sizeof word) {
      memcpy(&word, at, sizeof word);
      if (!(word & 0x8080808080808080u)) {
        at += sizeof word;
        continue;
      }
    }
    unsigned length = character((const unsigned char *)at, (size_t)(end - at));
    if (!length)
      break;
    at += length;
  }
  return at;
}

bool bursar_parse_begin(struct bursar_parse *in, char *text, size_t length) {
  *in = (struct bursar_parse){text, text, text + length, NULL};
  in->at = check(text, in->end);
  if (in->at < in->end)
    return fail(in, "it is no UTF-8 there");
  in->at = text;
  return true;
}

/* --- between things -------------------------------------------------------------------------------------------------- */

static bool skip(struct bursar_parse *in) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
    in->at++;
  return in->at < in->end;
}

bool bursar_parse_take(struct bursar_parse *in, char c) {
  if (in->wrong || !skip(in) || *in->at != c)
    return false;
  in->at++;
  return true;
}

bool bursar_parse_want(struct bursar_parse *in, char c, const char *wanted) {
  return bursar_parse_take(in, c) || fail(in, wanted);
}

bool bursar_parse_more(struct bursar_parse *in, char close) {
  if (bursar_parse_take(in, ','))
    return true;
  if (!bursar_parse_take(in, close))
    (void)fail(in, close == '}' ? "a comma or } is wanted there" : "a comma or ] is wanted there");
  return false;
}

bool bursar_parse_ended(struct bursar_parse *in) { return !in->wrong && !skip(in); }

/* --- texts and numbers ----------------------------------------------------------------------------------------------- */

static bool hex(struct bursar_parse *in, const char *at, uint32_t *out) {
  if (in->end - at < 4)
    return false;
  *out = 0;
  for (unsigned i = 0; i < 4; i++) {
    char c = at[i], low = (char)(c | 0x20);
    if (c >= '0' && c <= '9')
      *out = *out << 4 | (uint32_t)(c - '0');
    else if (low >= 'a' && low <= 'f')
      *out = *out << 4 | (uint32_t)(low - 'a' + 10);
    else
      return false;
  }
  return true;
}

static char *put(char *to, uint32_t c) {
  unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  *to++ = (char)(more ? (0xff00u >> (more + 1) & 0xff) | c >> 6 * more : c);
  while (more--)
    *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
  return to;
}

/* Behind a backslash; what it stands for takes no more room than it did itself. */
static bool unescape(struct bursar_parse *in, char **to) {
  static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
  uint32_t c, low;
  if (in->at == in->end)
    return fail(in, "a text has no end");
  const char *plain = strchr(from, *in->at);
  if (plain && *plain) {
    *(*to)++ = into[plain - from];
    in->at++;
    return true;
  }
  if (*in->at != 'u' || !hex(in, in->at + 1, &c))
    return fail(in, "a backslash there means nothing");
  in->at += 5;
  if (c >= 0xd800 && c < 0xdc00 && in->end - in->at > 1 && in->at[0] == '\\' && in->at[1] == 'u' &&
      hex(in, in->at + 2, &low) && low >= 0xdc00 && low < 0xe000) {
    c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    in->at += 6;
  }
  if (c >= 0xd800 && c < 0xe000)
    return fail(in, "half a character stands before it");
  *to = put(*to, c);
  return true;
}

bool bursar_parse_string(struct bursar_parse *in, struct bursar_text *out) {
  if (!bursar_parse_want(in, '"', "a text in quotes is wanted there"))
    return false;
  char *first = in->at, *to = first;
  for (;;) {
    if (in->at == in->end)
      return fail(in, "a text has no end");
    unsigned char c = (unsigned char)*in->at++;
    if (c == '"')
      break;
    if (c < 0x20)
      return fail(in, "a control character stands before it");
    if (c != '\\')
      *to++ = (char)c;
    else if (!unescape(in, &to))
      return false;
  }
  *out = (struct bursar_text){first, (uint32_t)(to - first)};
  return true;
}

bool bursar_parse_number(struct bursar_parse *in, uint64_t *out) {
  uint64_t value = 0;
  if (in->wrong || !skip(in) || *in->at < '0' || *in->at > '9')
    return fail(in, "a whole number, 0 or more, is wanted there");
  bool zero = *in->at == '0';
  const char *first = in->at;
  for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
    unsigned digit = (unsigned)(*in->at - '0');
    if (value > ((uint64_t)INT64_MAX - digit) / 10)
      return fail(in, "a number is too large there");
    value = value * 10 + digit;
  }
  if (zero && in->at - first > 1)
    return fail(in, "a number begins with 0 before it");
  if (in->at < in->end && (*in->at == '.' || (*in->at | 0x20) == 'e'))
    return fail(in, "a whole number is wanted there");
  *out = value;
  return true;
}
