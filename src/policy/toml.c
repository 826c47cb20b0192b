#include "policy/toml.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "prim/prim.h"

/* How a table or an array came to be, which decides who may add to it. */
#define NAMED 1u   /* by a header: not by another one, nor by dotted keys */
#define DOTTED 2u  /* by dotted keys under the header `epoch`: by those of no other */
#define WRITTEN 4u /* as a value: by nobody */
#define TABLES 8u  /* an array whose items headers add */

#define SHOWN 60 /* bytes of a key or a text in a message */

struct parser {
  const char *at, *end, *line_begins;
  uint32_t line;
  const char *counted; /* up to where the columns of this line are known */
  uint32_t column;
  char *texts; /* room for what is decoded: never more than what it is decoded from */
  struct bursar_toml *toml;
  uint32_t room;
  struct bursar_mistakes *mistakes;
  uint32_t table; /* that statements go into */
  uint32_t epoch; /* headers so far */
  uint32_t deep;  /* brackets that are open */
};

struct place {
  uint32_t line, column;
};

static struct bursar_toml_node *node_at(const struct parser *p, uint32_t node) { return &p->toml->nodes[node]; }

size_t bursar_toml_utf8(const char *text, size_t left) {
  const unsigned char *at = (const unsigned char *)text;
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (at[0] < 0x80)
    return 1;
  size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
  if (at[0] < 0xc2 || at[0] > 0xf4 || length > left)
    return 0;
  uint32_t value = at[0] & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((at[i] & 0xc0) != 0x80)
      return 0;
    value = value << 6 | (at[i] & 0x3f);
  }
  return value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? 0 : length;
}

/* --- where it is, and what is said ---------------------------------------------------------------------------------------- */

static struct place here(struct parser *p) {
  if (p->counted < p->line_begins || p->counted > p->at) {
    p->counted = p->line_begins;
    p->column = 1;
  }
  for (; p->counted < p->at; p->counted++)
    p->column += ((unsigned char)p->counted[0] & 0xc0) != 0x80;
  return (struct place){p->line, p->column};
}

#define FAIL_AT(p, place, ...) (bursar_mistakes_add((p)->mistakes, (place).line, (place).column, __VA_ARGS__), false)
#define FAIL(p, ...) FAIL_AT(p, here(p), __VA_ARGS__)

/* For "%.*s": at the most so much, and no half of a character. */
static int shown(struct bursar_text text) {
  uint32_t length = text.length > SHOWN ? SHOWN : text.length;
  while (length && length < text.length && ((unsigned char)text.bytes[length] & 0xc0) == 0x80)
    length--;
  return (int)length;
}
#define TEXT(text) shown(text), (text).bytes

const char *bursar_toml_kind_name(uint8_t kind) {
  static const char *const names[] = {"a table",  "an array",      "a text",          "a number",
                                      "a number", "true or false", "a date or a time"};
  return kind < sizeof names / sizeof *names ? names[kind] : "nothing";
}

/* --- characters ------------------------------------------------------------------------------------------------------------ */

static bool more(const struct parser *p) { return p->at < p->end; }
static char peek(const struct parser *p) { return more(p) ? *p->at : '\n'; }
static bool starts(const struct parser *p, const char *text) {
  size_t bytes = strlen(text);
  return (size_t)(p->end - p->at) >= bytes && memcmp(p->at, text, bytes) == 0;
}

static bool take(struct parser *p, char c) {
  if (!more(p) || *p->at != c)
    return false;
  p->at++;
  return true;
}

static void newline(struct parser *p) { /* which it stands at */
  p->line_begins = ++p->at;
  p->line++;
}

static void skip_blanks(struct parser *p) {
  while (more(p) && (*p->at == ' ' || *p->at == '\t'))
    p->at++;
}

static bool is_control(char c) { return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static int hex(char c) {
  return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
static bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' || c == '_';
}

static bool skip_comment(struct parser *p) {
  if (!more(p) || *p->at != '#')
    return true;
  while (more(p) && *p->at != '\n') {
    if (is_control(*p->at))
      return FAIL(p, "a comment with a control character; leave it out");
    p->at++;
  }
  return true;
}

/* In arrays. */
static bool skip_lines(struct parser *p) {
  for (;;) {
    skip_blanks(p);
    if (!skip_comment(p))
      return false;
    if (!more(p) || *p->at != '\n')
      return true;
    newline(p);
  }
}

/* --- texts ----------------------------------------------------------------------------------------------------------------- */

static void put_character(struct parser *p, uint32_t c) {
  if (c < 0x80) {
    *p->texts++ = (char)c;
  } else if (c < 0x800) {
    *p->texts++ = (char)(0xc0 | c >> 6);
    *p->texts++ = (char)(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    *p->texts++ = (char)(0xe0 | c >> 12);
    *p->texts++ = (char)(0x80 | (c >> 6 & 0x3f));
    *p->texts++ = (char)(0x80 | (c & 0x3f));
  } else {
    *p->texts++ = (char)(0xf0 | c >> 18);
    *p->texts++ = (char)(0x80 | (c >> 12 & 0x3f));
    *p->texts++ = (char)(0x80 | (c >> 6 & 0x3f));
    *p->texts++ = (char)(0x80 | (c & 0x3f));
  }
}

static struct bursar_text end_text(struct parser *p, const char *begin) {
  struct bursar_text text = {begin, (uint32_t)(p->texts - begin)};
  *p->texts++ = 0;
  return text;
}

static bool read_code(struct parser *p, struct place began, int digits) {
  uint32_t c = 0;
  for (int i = 0; i < digits; i++, p->at++) {
    if (hex(peek(p)) < 0)
      return FAIL_AT(p, began, "an escape with too few digits; \\u takes four, \\U eight, of 0-9 and a-f");
    c = c << 4 | (uint32_t)hex(*p->at);
  }
  if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
    return FAIL_AT(p, began, "an escape of what is no character; use one up to \\U0010FFFF, and no surrogate");
  put_character(p, c);
  return true;
}

/* A backslash at a line's end: what is blank up to the next text is left out. */
static bool skip_folded(struct parser *p, struct place began) {
  skip_blanks(p);
  if (more(p) && *p->at != '\n')
    return FAIL_AT(p, began, "a backslash before a blank; double it, or use '…' quotes, in which it is a plain one");
  while (more(p) && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n')) {
    if (*p->at == '\n')
      newline(p);
    else
      p->at++;
  }
  return true;
}

static bool read_escape(struct parser *p, bool many_lines) {
  static const char names[] = "btnfr\"\\", meant[] = "\b\t\n\f\r\"\\";
  struct place began = here(p);
  p->at++;
  char c = peek(p);
  const char *found = more(p) && c ? strchr(names, c) : NULL;
  if (found) {
    p->at++;
    *p->texts++ = meant[found - names];
    return true;
  }
  if (many_lines && more(p) && (c == '\n' || c == ' ' || c == '\t'))
    return skip_folded(p, began);
  if (more(p) && (c == 'u' || c == 'U')) {
    p->at++;
    return read_code(p, began, c == 'u' ? 4 : 8);
  }
  return FAIL_AT(p, began,
                 "an escape that is none; double the backslash, or use '…' quotes, in which it is a plain one");
}

static bool read_short_text(struct parser *p, struct bursar_text *out) {
  struct place began = here(p);
  const char *begin = p->texts;
  char quote = *p->at++;
  while (more(p) && *p->at != quote && *p->at != '\n') {
    if (is_control(*p->at))
      return FAIL(p, "a control character in a text; write it as an escape, such as \\u0001");
    if (quote == '"' && *p->at == '\\') {
      if (!read_escape(p, false))
        return false;
    } else {
      *p->texts++ = *p->at++;
    }
  }
  if (!take(p, quote))
    return FAIL_AT(p, began, "a text that does not end in its line; add %c, or begin it with three of them", quote);
  *out = end_text(p, begin);
  return true;
}

static bool read_long_text(struct parser *p, struct bursar_text *out) {
  struct place began = here(p);
  const char *begin = p->texts;
  char quote = *p->at, quotes[4] = {quote, quote, quote, 0};
  p->at += 3;
  if (more(p) && *p->at == '\n')
    newline(p);
  while (more(p) && !starts(p, quotes)) {
    if (*p->at == '\n') {
      *p->texts++ = '\n';
      newline(p);
    } else if (is_control(*p->at)) {
      return FAIL(p, "a control character in a text; write it as an escape, such as \\u0001");
    } else if (quote == '"' && *p->at == '\\') {
      if (!read_escape(p, true))
        return false;
    } else {
      *p->texts++ = *p->at++;
    }
  }
  if (!more(p))
    return FAIL_AT(p, began, "a text that does not end; add %s", quotes);
  p->at += 3;
  for (int i = 0; i < 2 && take(p, quote); i++)
    *p->texts++ = quote; /* up to two stand before the end */
  *out = end_text(p, begin);
  return true;
}

static bool read_text(struct parser *p, struct bursar_text *out) {
  return starts(p, "\"\"\"") || starts(p, "'''") ? read_long_text(p, out) : read_short_text(p, out);
}

/* --- numbers, dates and words ---------------------------------------------------------------------------------------------- */

static bool new_node(struct parser *p, enum bursar_toml_kind kind, struct place place, uint32_t *out) {
  if (p->toml->count == p->room)
    return FAIL_AT(p, place, "more than %u keys and values; leave some out", BURSAR_TOML_NODES);
  *out = p->toml->count++;
  *node_at(p, *out) = (struct bursar_toml_node){.kind = (uint8_t)kind,
                                                .line = place.line,
                                                .column = place.column,
                                                .value_line = place.line,
                                                .value_column = place.column};
  return true;
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
static size_t time_bytes(const struct parser *p, bool *exists) {
  const char *at = p->at;
  *exists = true;
  if (!digits(at, p->end, 4) || p->end - at < 10 || at[4] != '-' || !digits(at + 5, p->end, 2) || at[7] != '-' ||
      !digits(at + 8, p->end, 2))
    return clock_bytes(at, p->end);
  int year = number_of(at, 4), month = number_of(at + 5, 2), day = number_of(at + 8, 2);
  *exists = year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= days_in(year, month);
  at += 10;
  if (at < p->end && (*at == 'T' || *at == 't' || *at == ' ')) {
    size_t clock = clock_bytes(at + 1, p->end);
    if (clock)
      at += 1 + clock + zone_bytes(at + 1 + clock, p->end);
  }
  return (size_t)(at - p->at);
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

static bool is_word_end(const struct parser *p, size_t bytes) {
  return p->at + bytes >= p->end || !is_bare(p->at[bytes]);
}

/* The bytes of a word that stands for a value. */
static size_t word_bytes(const struct parser *p, struct bursar_toml_node *node) {
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
    if (!starts(p, words[i].word) || !is_word_end(p, bytes))
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
static size_t number_bytes(const struct parser *p, struct bursar_toml_node *node, bool *fits) {
  const char *at = p->at, *end = p->end;
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
    node->real = real_of(p->at, stop);
    *fits = stop - p->at < 500;
  }
  return (size_t)(stop - p->at);
}

static bool read_plain(struct parser *p, uint32_t *out) {
  struct place began = here(p);
  struct bursar_toml_node *node;
  bool exists, fits = true;
  if (!new_node(p, BURSAR_TOML_TIME, began, out))
    return false;
  node = node_at(p, *out);
  size_t bytes = word_bytes(p, node);
  if (!bytes) {
    bytes = time_bytes(p, &exists);
    if (bytes && !exists)
      return FAIL(p, "no such date; the year, month and day are to be in the calendar");
  }
  if (!bytes)
    bytes = number_bytes(p, node, &fits);
  if (!fits)
    return FAIL(p, "too large a number; 64 bits hold up to 9223372036854775807");
  if (!bytes)
    return more(p) && *p->at != '\n' && *p->at != '#'
               ? FAIL(p, "no value stands here; texts go in quotes, as in \"300 MiB\"")
               : FAIL(p, "there is no value; write one behind the =");
  node->text = (struct bursar_text){p->at, (uint32_t)bytes};
  p->at += bytes;
  return true;
}

/* --- keys and tables ------------------------------------------------------------------------------------------------------- */

static bool read_key(struct parser *p, struct bursar_text *out) {
  const char *begin = p->texts;
  if (more(p) && (*p->at == '"' || *p->at == '\'')) {
    if (starts(p, "\"\"\"") || starts(p, "'''"))
      return FAIL(p, "a key in three quotes; one is enough");
    return read_short_text(p, out);
  }
  while (more(p) && is_bare(*p->at))
    *p->texts++ = *p->at++;
  *out = end_text(p, begin);
  return out->length || FAIL(p, "no key stands here; letters, digits, - and _ need no quotes, anything else does");
}

static uint32_t find(const struct parser *p, uint32_t table, struct bursar_text key) {
  uint32_t at = node_at(p, table)->first;
  while (at &&
         !(node_at(p, at)->key.length == key.length && memcmp(node_at(p, at)->key.bytes, key.bytes, key.length) == 0))
    at = node_at(p, at)->next;
  return at;
}

static void append(struct parser *p, uint32_t to, uint32_t node) {
  struct bursar_toml_node *parent = node_at(p, to);
  if (parent->last)
    node_at(p, parent->last)->next = node;
  else
    parent->first = node;
  parent->last = node;
}

static bool is_written(const struct bursar_toml_node *node) { return node->how & WRITTEN; }
static bool is_closed(const struct parser *p, const struct bursar_toml_node *node) {
  return node->how & NAMED || (node->how & DOTTED && node->epoch != p->epoch);
}

static bool say_taken(struct parser *p, struct place place, struct bursar_text key, uint32_t by) {
  const struct bursar_toml_node *there = node_at(p, by);
  return there->kind == BURSAR_TOML_TABLE && !is_written(there)
             ? FAIL_AT(p, place, "'%.*s' has its table in line %u; add to it there", TEXT(key), there->line)
             : FAIL_AT(p, place, "'%.*s' is %s already, in line %u; leave one of the two", TEXT(key),
                       bursar_toml_kind_name(there->kind), there->line);
}

static bool new_table(struct parser *p, uint32_t in, struct bursar_text key, struct place place, uint32_t *out) {
  if (!new_node(p, BURSAR_TOML_TABLE, place, out))
    return false;
  node_at(p, *out)->key = key;
  append(p, in, *out);
  return true;
}

/* From a table to the one that a part of a header's name leads to. */
static bool step(struct parser *p, struct bursar_text key, struct place place, uint32_t *table) {
  uint32_t found = find(p, *table, key);
  if (!found)
    return new_table(p, *table, key, place, table);
  const struct bursar_toml_node *node = node_at(p, found);
  if (is_written(node) || (node->kind != BURSAR_TOML_TABLE && !(node->how & TABLES)))
    return say_taken(p, place, key, found);
  *table = node->how & TABLES ? node->last : found;
  return true;
}

/* The same for a key before a dot; `inside`: of an inline table, which knows no headers. */
static bool step_dotted(struct parser *p, struct bursar_text key, struct place place, bool inside, uint32_t *table) {
  uint32_t found = find(p, *table, key);
  if (!found && !new_table(p, *table, key, place, &found))
    return false;
  struct bursar_toml_node *node = node_at(p, found);
  if (node->kind != BURSAR_TOML_TABLE || is_written(node) || (!inside && is_closed(p, node)))
    return say_taken(p, place, key, found);
  if (!inside) {
    node->how |= DOTTED;
    node->epoch = p->epoch;
  }
  *table = found;
  return true;
}

/* What was appended last. */
static void take_back(struct parser *p, uint32_t from) {
  struct bursar_toml_node *parent = node_at(p, from);
  uint32_t before = 0;
  for (uint32_t at = parent->first; at != parent->last; at = node_at(p, at)->next)
    before = at;
  parent->last = before;
  if (before)
    node_at(p, before)->next = 0;
  else
    parent->first = 0;
}

static bool read_value(struct parser *p, uint32_t *out);

/* KEY.KEY = VALUE, into a table; *to: the one that it went into. */
static bool read_pair(struct parser *p, uint32_t table, bool inside, uint32_t *to) {
  struct bursar_text key;
  struct place place;
  uint32_t value;
  for (;;) {
    place = here(p);
    if (!read_key(p, &key))
      return false;
    skip_blanks(p);
    if (!take(p, '.'))
      break;
    if (!step_dotted(p, key, place, inside, &table))
      return false;
    skip_blanks(p);
  }
  uint32_t there = find(p, table, key);
  if (!take(p, '='))
    return FAIL(p, "no = behind the key '%.*s'; write KEY = VALUE, and quotes around a key with other characters",
                TEXT(key));
  skip_blanks(p);
  if (!read_value(p, &value))
    return false;
  if (there)
    return say_taken(p, place, key, there);
  struct bursar_toml_node *node = node_at(p, value);
  node->key = key;
  node->line = place.line;
  node->column = place.column;
  append(p, table, value);
  *to = table;
  return true;
}

static bool read_array(struct parser *p, struct place began, uint32_t array) {
  p->at++;
  for (;;) {
    uint32_t item;
    if (!skip_lines(p))
      return false;
    if (take(p, ']'))
      return true;
    if (!more(p))
      return FAIL_AT(p, began, "an array that does not end; add ]");
    if (!read_value(p, &item))
      return false;
    append(p, array, item);
    if (!skip_lines(p))
      return false;
    if (!take(p, ',') && peek(p) != ']')
      return more(p) ? FAIL(p, "no comma between an array's items; add one, or ] at its end")
                     : FAIL_AT(p, began, "an array that does not end; add ]");
  }
}

static bool read_inline(struct parser *p, uint32_t table) {
  uint32_t to;
  p->at++;
  skip_blanks(p);
  if (take(p, '}'))
    return true;
  for (;;) {
    if (!read_pair(p, table, true, &to))
      return false;
    skip_blanks(p);
    if (take(p, '}'))
      return true;
    if (!take(p, ','))
      return FAIL(p, "a table in braces that does not end in its line; add }, or a comma, or write it as [TABLE]");
    skip_blanks(p);
  }
}

static bool read_value(struct parser *p, uint32_t *out) {
  struct place began = here(p);
  char c = peek(p);
  if (c == '"' || c == '\'') {
    struct bursar_text text;
    if (!read_text(p, &text) || !new_node(p, BURSAR_TOML_STRING, began, out))
      return false;
    node_at(p, *out)->text = text;
    return true;
  }
  if (c != '[' && c != '{')
    return read_plain(p, out);
  if (p->deep == BURSAR_TOML_DEEP)
    return FAIL(p, "more than %u brackets within one another; write it flatter", BURSAR_TOML_DEEP);
  if (!new_node(p, c == '[' ? BURSAR_TOML_ARRAY : BURSAR_TOML_TABLE, began, out))
    return false;
  p->deep++;
  if (!(c == '[' ? read_array(p, began, *out) : read_inline(p, *out)))
    return false;
  p->deep--;
  node_at(p, *out)->how = WRITTEN;
  return true;
}

/* --- statements ------------------------------------------------------------------------------------------------------------ */

static bool begin_table(struct parser *p, uint32_t in, struct bursar_text key, struct place place) {
  uint32_t found = find(p, in, key);
  if (found && (node_at(p, found)->kind != BURSAR_TOML_TABLE || is_written(node_at(p, found)) ||
                is_closed(p, node_at(p, found))))
    return say_taken(p, place, key, found);
  if (!found && !new_table(p, in, key, place, &found))
    return false;
  node_at(p, found)->how |= NAMED;
  node_at(p, found)->line = place.line;
  node_at(p, found)->column = place.column;
  p->table = found;
  return true;
}

static bool begin_item(struct parser *p, uint32_t in, struct bursar_text key, struct place place) {
  uint32_t array = find(p, in, key), item;
  if (array && !(node_at(p, array)->how & TABLES))
    return say_taken(p, place, key, array);
  if (!array) {
    if (!new_node(p, BURSAR_TOML_ARRAY, place, &array))
      return false;
    node_at(p, array)->key = key;
    node_at(p, array)->how = NAMED | TABLES;
    append(p, in, array);
  }
  if (!new_node(p, BURSAR_TOML_TABLE, place, &item))
    return false;
  append(p, array, item);
  p->table = item;
  return true;
}

/* What follows a header that is wrong is no other table's: it goes into one that nobody sees. */
static bool lose(struct parser *p) {
  uint32_t nowhere;
  if (!new_node(p, BURSAR_TOML_TABLE, here(p), &nowhere))
    return false;
  p->table = nowhere;
  return true;
}

static bool read_header(struct parser *p) {
  struct bursar_text key;
  struct place place;
  uint32_t table = 0;
  bool many = starts(p, "[[");
  p->epoch++;
  p->at += many ? 2 : 1;
  for (;;) {
    skip_blanks(p);
    place = here(p);
    if (!read_key(p, &key))
      return false;
    skip_blanks(p);
    if (!take(p, '.'))
      break;
    if (!step(p, key, place, &table))
      return false;
  }
  if (!starts(p, many ? "]]" : "]"))
    return FAIL(p,
                "a header that does not end; write %s, with quotes around a name with other characters than letters, "
                "digits, - and _",
                many ? "[[TABLE]]" : "[TABLE]");
  p->at += many ? 2 : 1;
  return many ? begin_item(p, table, key, place) : begin_table(p, table, key, place);
}

static bool end_statement(struct parser *p) {
  skip_blanks(p);
  if (more(p) && *p->at != '\n' && *p->at != '#')
    return FAIL(p, "something more stands in this line; end it here, and put texts in quotes, as in \"300 MiB\"");
  return skip_comment(p);
}

/* Whether the rest of the line closes what is open there. */
static bool line_closes(const struct parser *p) {
  uint32_t deep = p->deep;
  for (const char *at = p->at; deep && at < p->end && *at != '\n'; at++)
    deep += *at == '[' || *at == '{' ? 1u : *at == ']' || *at == '}' ? (uint32_t)-1 : 0;
  return !deep;
}

/* One that something stands behind says something else than it seems to (300 MiB). */
static bool read_setting(struct parser *p) {
  uint32_t to;
  if (!read_pair(p, p->table, false, &to))
    return false;
  if (end_statement(p))
    return true;
  take_back(p, to);
  return false;
}

static bool read_statement(struct parser *p) {
  bool header = more(p) && *p->at == '[';
  uint32_t line = p->line;
  if (header ? read_header(p) && end_statement(p) : read_setting(p))
    return true;
  if (p->line != line || !line_closes(p) || p->toml->count == p->room || (header && !lose(p)))
    return false;
  p->deep = 0;
  while (more(p) && *p->at != '\n')
    p->at++;
  return true;
}

static void read_document(struct parser *p) {
  while (more(p)) {
    skip_blanks(p);
    bool goes_on = true;
    if (more(p) && *p->at == '#') {
      uint32_t line = p->line;
      if (!skip_comment(p))
        while (more(p) && *p->at != '\n' && p->line == line)
          p->at++;
    } else if (more(p) && *p->at != '\n') {
      goes_on = read_statement(p);
    }
    if (!goes_on)
      return;
    if (more(p))
      newline(p);
  }
}

/* The text, with each line's end as one character.  False: it is no UTF-8. */
static bool copy_text(struct parser *p, const char *text, size_t bytes, char *to) {
  char *begin = to;
  p->at = p->line_begins = p->counted = begin;
  for (size_t i = 0; i < bytes;) {
    if (text[i] == '\r' && i + 1 < bytes && text[i + 1] == '\n')
      i++;
    size_t used = bursar_toml_utf8(text + i, bytes - i);
    p->end = to;
    if (!used) {
      for (p->at = begin; p->at < to;) {
        if (*p->at == '\n')
          newline(p);
        else
          p->at++;
      }
      return FAIL(p, "a character that is no UTF-8; save the file as UTF-8");
    }
    memcpy(to, text + i, used);
    to += used;
    i += used;
  }
  p->end = to;
  *to = 0;
  return true;
}

int bursar_toml_parse(const char *text, size_t bytes, struct bursar_toml *out, struct bursar_mistakes *mistakes) {
  uint32_t before = mistakes->count + mistakes->more;
  memset(out, 0, sizeof *out);
  if (bytes > BURSAR_TOML_BYTES) {
    bursar_mistakes_add(mistakes, 0, 0, "more than %u KiB; leave some out", BURSAR_TOML_BYTES >> 10);
    return -E2BIG;
  }
  uint32_t room = bytes + 4 < BURSAR_TOML_NODES ? (uint32_t)bytes + 4 : BURSAR_TOML_NODES;
  out->bytes = room * sizeof *out->nodes + 2 * (bytes + 1);
  out->bytes = (out->bytes + BURSAR_PRIM_PAGE - 1) & ~(size_t)(BURSAR_PRIM_PAGE - 1);
  out->memory = bursar_prim_reserve(out->bytes, true);
  if (!out->memory) {
    bursar_mistakes_add(mistakes, 0, 0, "no memory to read it; free some");
    return -ENOMEM;
  }
  out->nodes = out->memory;
  char *copy = (char *)(out->nodes + room);
  struct parser p = {
      .line = 1, .column = 1, .texts = copy + bytes + 1, .toml = out, .room = room, .mistakes = mistakes};
  out->count = 1; /* the root: zeros are a table */
  out->nodes[0].line = out->nodes[0].column = 1;
  if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
    bursar_mistakes_add(mistakes, 1, 1, "a byte order mark; save the file as UTF-8 without one");
  else if (copy_text(&p, text, bytes, copy))
    read_document(&p);
  return mistakes->count + mistakes->more > before ? -EINVAL : 0;
}

void bursar_toml_free(struct bursar_toml *toml) {
  if (toml && toml->memory)
    bursar_prim_release(toml->memory, toml->bytes);
  if (toml)
    memset(toml, 0, sizeof *toml);
}
