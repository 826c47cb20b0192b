#include "base/escape.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BROKEN UINT32_MAX

/* Decodes one character strictly (no surrogates, no overlong forms).  Returns the bytes used; a broken one uses one
 * byte and gives BROKEN. */
static size_t decode(const unsigned char *at, size_t left, uint32_t *out) {
  if (at[0] < 0x80) {
    *out = at[0];
    return 1;
  }
  size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  *out = BROKEN;
  if (at[0] < 0xc2 || at[0] > 0xf4 || length > left)
    return 1;
  uint32_t value = at[0] & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((at[i] & 0xc0) != 0x80)
      return 1;
    value = value << 6 | (at[i] & 0x3f);
  }
  if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
    return 1;
  *out = value;
  return length;
}

/* What a terminal obeys or what hides or turns text: controls, separators, direction marks, invisible characters. */
static bool is_unprintable(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
         (c >= 0xe0000 && c <= 0xe0fff) || (c & 0xfffe) == 0xfffe;
}

/* Near enough for columns to line up: East Asian wide and emoji take two, combining marks none. */
static size_t width_of(uint32_t c) {
  if (c < 0x300)
    return 1;
  if (c <= 0x36f || (c >= 0x1ab0 && c <= 0x1aff) || (c >= 0x20d0 && c <= 0x20ff) || (c >= 0xfe00 && c <= 0xfe0f) ||
      (c >= 0xfe20 && c <= 0xfe2f))
    return 0;
  if ((c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) ||
      (c >= 0xf900 && c <= 0xfaff) || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
      (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd))
    return 2;
  return 1;
}

/* One character of terminal text. */
struct cell {
  char bytes[16];
  uint8_t length;
  uint8_t columns;
};

static size_t next_cell(const unsigned char *at, size_t left, struct cell *cell) {
  uint32_t c;
  size_t used = decode(at, left, &c);
  if (c != BROKEN && !is_unprintable(c)) {
    memcpy(cell->bytes, at, used);
    cell->length = (uint8_t)used;
    cell->columns = (uint8_t)width_of(c);
    return used;
  }
  int length = c == BROKEN || c < 0x80 ? snprintf(cell->bytes, sizeof cell->bytes, "\\x%02x", at[0])
                                       : snprintf(cell->bytes, sizeof cell->bytes, "\\u{%x}", c);
  cell->length = cell->columns = (uint8_t)length;
  return used;
}

size_t bursar_escape_terminal(struct bursar_buffer *out, struct bursar_text text) {
  const unsigned char *at = (const unsigned char *)text.bytes;
  size_t columns = 0;
  for (size_t i = 0; at && i < text.length && !out->failed;) {
    struct cell cell;
    i += next_cell(at + i, text.length - i, &cell);
    bursar_buffer_add(out, cell.bytes, cell.length);
    columns += cell.columns;
  }
  return columns;
}

void bursar_escape_terminal_into(char *out, size_t room, const char *text) {
  size_t length = strlen(text), used = 0;
  for (size_t i = 0; i < length;) {
    struct cell cell;
    i += next_cell((const unsigned char *)text + i, length - i, &cell);
    if (used + cell.length >= room)
      break;
    memcpy(out + used, cell.bytes, cell.length);
    used += cell.length;
  }
  out[used] = 0;
}

size_t bursar_escape_columns(struct bursar_text text) {
  const unsigned char *at = (const unsigned char *)text.bytes;
  size_t columns = 0;
  for (size_t i = 0; at && i < text.length;) {
    struct cell cell;
    i += next_cell(at + i, text.length - i, &cell);
    columns += cell.columns;
  }
  return columns;
}

size_t bursar_escape_terminal_cut(struct bursar_buffer *out, struct bursar_text text, size_t columns) {
  size_t all = bursar_escape_columns(text);
  if (all <= columns)
    return bursar_escape_terminal(out, text);
  if (!columns)
    return 0;
  /* The end of a path or a name says more than its beginning: give it two thirds. */
  size_t head = (columns - 1) / 3, tail_from = all - (columns - 1 - head);
  const unsigned char *at = (const unsigned char *)text.bytes;
  size_t seen = 0, shown = 0;
  bool marked = false;
  for (size_t i = 0; i < text.length && !out->failed;) {
    struct cell cell;
    i += next_cell(at + i, text.length - i, &cell);
    if (!marked && seen + cell.columns > head) {
      bursar_buffer_text(out, "\xe2\x80\xa6");
      shown++;
      marked = true;
    }
    if (!marked || seen >= tail_from) {
      bursar_buffer_add(out, cell.bytes, cell.length);
      shown += cell.columns;
    }
    seen += cell.columns;
  }
  return shown;
}

void bursar_escape_html(struct bursar_buffer *out, struct bursar_text text) {
  const unsigned char *at = (const unsigned char *)text.bytes;
  for (size_t i = 0; at && i < text.length && !out->failed;) {
    uint32_t c;
    size_t used = decode(at + i, text.length - i, &c);
    if (c == BROKEN || is_unprintable(c))
      bursar_buffer_text(out, "\xef\xbf\xbd");
    else if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'' || c == '`')
      bursar_buffer_format(out, "&#%u;", c);
    else
      bursar_buffer_add(out, at + i, used);
    i += used;
  }
}

void bursar_escape_json(struct bursar_buffer *out, struct bursar_text text) {
  const unsigned char *at = (const unsigned char *)text.bytes;
  if (!at) {
    bursar_buffer_text(out, "null");
    return;
  }
  bursar_buffer_char(out, '"');
  size_t plain = 0, i = 0; /* [plain, i) goes out as it is, in one piece */
  while (i < text.length && !out->failed) {
    uint32_t c;
    size_t used = decode(at + i, text.length - i, &c);
    bool as_is = c != BROKEN && !is_unprintable(c) && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
    if (!as_is) {
      bursar_buffer_add(out, at + plain, i - plain);
      if (c == BROKEN)
        bursar_buffer_text(out, "\\ufffd");
      else if (c == '"' || c == '\\')
        bursar_buffer_format(out, "\\%c", (char)c);
      else if (c > 0xffff)
        bursar_buffer_format(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
      else
        bursar_buffer_format(out, "\\u%04x", c);
      plain = i + used;
    }
    i += used;
  }
  bursar_buffer_add(out, at + plain, text.length - plain);
  bursar_buffer_char(out, '"');
}

void bursar_escape_csv(struct bursar_buffer *out, struct bursar_text text) {
  const unsigned char *at = (const unsigned char *)text.bytes;
  if (!at || !text.length)
    return;
  bursar_buffer_char(out, '"');
  if (strchr("=+-@\t\r", at[0]) && at[0])
    bursar_buffer_char(out, '\'');
  for (size_t i = 0; i < text.length && !out->failed;) {
    uint32_t c;
    size_t used = decode(at + i, text.length - i, &c);
    if (c == BROKEN || is_unprintable(c))
      bursar_buffer_text(out, "\xef\xbf\xbd");
    else if (c == '"')
      bursar_buffer_text(out, "\"\"");
    else
      bursar_buffer_add(out, at + i, used);
    i += used;
  }
  bursar_buffer_char(out, '"');
}
