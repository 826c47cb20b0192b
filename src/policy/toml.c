#include "policy/toml.h"

#include <errno.h>
#include <string.h>

#include "policy/toml_plain.h"
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

/* The bytes of a character, strictly decoded; 0: it is none. */
static size_t utf8(const char *text, size_t left) {
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

/* --- values without quotes ---------------------------------------------------------------------------------------------- */

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

static bool read_plain(struct parser *p, uint32_t *out) {
  const char *wrong = NULL;
  if (!new_node(p, BURSAR_TOML_TIME, here(p), out))
    return false;
  size_t bytes = bursar_toml_plain(p->at, p->end, node_at(p, *out), &wrong);
  if (wrong)
    return FAIL(p, "%s", wrong);
  if (!bytes)
    return more(p) && *p->at != '\n' && *p->at != '#'
               ? FAIL(p, "no value stands here; texts go in quotes, as in \"300 MiB\"")
               : FAIL(p, "there is no value; write one behind the =");
  node_at(p, *out)->text = (struct bursar_text){p->at, (uint32_t)bytes};
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
  uint32_t to = 0;
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
    size_t used = utf8(text + i, bytes - i);
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
