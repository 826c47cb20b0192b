#include "model/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/extent.h"

#define WINDOW 65536u
#define LINE 4096u        /* bytes of a number, or a name, on a line of protocol 0 */
#define LONGEST_INT 1024u /* bytes of a whole number: Python reads no more than 4300 digits of one */
#define MARK UINT32_MAX

struct list {
  uint32_t *at;
  size_t count, room;
};

struct machine {
  struct bursar_pickle *pickle;
  struct bursar_nodes *nodes;
  struct bursar_error *error;
  struct list stack, memo;
  uint32_t memo_count; /* of MEMOIZE */
  uint32_t marks;
  uint64_t at, place, frame_end; /* place: of the operation; frame_end 0: outside of frames */
  uint64_t texts_left;           /* bytes of texts that may still be read through */
  uint64_t window_at;
  size_t window_bytes;
  unsigned char *window;
};

/* --- errors: each returns false ------------------------------------------------------------------------------------------ */

static bool wrong(struct machine *m, const char *why) {
  (void)!bursar_error_set(m->error, BURSAR_FAILED, "%.500s is no pickle that can be read: byte %llu: %s",
                          m->pickle->source->path, (unsigned long long)m->place, why);
  return false;
}

static bool too_much(struct machine *m) {
  return wrong(m, "it has more in it than a model does (4,194,304 things), or there is no memory");
}

/* --- the stream ---------------------------------------------------------------------------------------------------------- */

static bool has(struct machine *m, uint64_t bytes) {
  if (bytes > m->pickle->end - m->at)
    return wrong(m, "the pickle is cut off");
  if (m->frame_end && bytes > m->frame_end - m->at)
    return wrong(m, "it goes beyond its frame");
  return true;
}

/* So many bytes, no more than a window's half, in memory; NULL: not there. */
static const unsigned char *take(struct machine *m, uint64_t bytes) {
  if (!has(m, bytes))
    return NULL;
  if (m->at < m->window_at || m->at + bytes > m->window_at + m->window_bytes) {
    uint64_t left = m->pickle->end - m->at;
    m->window_bytes = left < WINDOW ? (size_t)left : WINDOW;
    m->window_at = m->at;
    if (bursar_source_read(m->pickle->source, m->at, m->window, m->window_bytes, 1, m->error) < 0) {
      m->window_bytes = 0;
      return NULL;
    }
  }
  const unsigned char *found = m->window + (m->at - m->window_at);
  m->at += bytes;
  if (m->frame_end && m->at == m->frame_end)
    m->frame_end = 0;
  return found;
}

static bool number(struct machine *m, unsigned bytes, uint64_t *out) {
  const unsigned char *at = take(m, bytes);
  *out = 0;
  for (unsigned i = 0; at && i < bytes; i++)
    *out |= (uint64_t)at[i] << 8 * i;
  return at != NULL;
}

/* Passes bytes that stay where they are. */
static bool pass(struct machine *m, uint64_t bytes) {
  if (!has(m, bytes))
    return false;
  m->at += bytes;
  if (m->frame_end && m->at == m->frame_end)
    m->frame_end = 0;
  return true;
}

/* To the end of a line: where it begins and how long it is without it. */
static bool line(struct machine *m, uint64_t *at, uint64_t *length) {
  *at = m->at;
  for (;;) {
    const unsigned char *c = take(m, 1);
    if (!c)
      return false;
    if (*c == '\n')
      break;
  }
  *length = m->at - 1 - *at;
  return true;
}

static bool read_at(struct machine *m, uint64_t at, char *out, uint64_t length) {
  if (at >= m->window_at && at + length <= m->window_at + m->window_bytes) {
    memcpy(out, m->window + (at - m->window_at), (size_t)length);
    return true;
  }
  return bursar_source_read(m->pickle->source, at, out, (size_t)length, 1, m->error) == 0;
}

/* A line that is short. */
static bool short_line(struct machine *m, char out[LINE], uint64_t *length) {
  uint64_t at;
  if (!line(m, &at, length))
    return false;
  if (*length >= LINE)
    return wrong(m, "a line is too long there");
  if (!read_at(m, at, out, *length))
    return false;
  out[*length] = 0;
  return strlen(out) == *length || wrong(m, "a zero byte stands in a line there");
}

/* --- stack and memo ------------------------------------------------------------------------------------------------------ */

static bool make_room(struct machine *m, struct list *list, size_t wanted) {
  if (wanted <= list->room)
    return true;
  size_t room = list->room ? list->room : 64;
  while (room < wanted)
    room *= 2;
  uint32_t *larger = wanted <= BURSAR_NODES_MOST ? realloc(list->at, room * sizeof *larger) : NULL;
  if (!larger)
    return too_much(m);
  memset(larger + list->room, 0, (room - list->room) * sizeof *larger);
  list->at = larger;
  list->room = room;
  return true;
}

/* 0 says that there was no memory for it. */
static bool push(struct machine *m, uint32_t node) {
  if (!node)
    return too_much(m);
  if (!make_room(m, &m->stack, m->stack.count + 1))
    return false;
  m->stack.at[m->stack.count++] = node;
  m->marks += node == MARK;
  return true;
}

/* What is on top, which is no mark; 0: an error. */
static uint32_t top(struct machine *m) {
  uint32_t node = m->stack.count ? m->stack.at[m->stack.count - 1] : MARK;
  if (node != MARK)
    return node;
  (void)wrong(m, "the stack has nothing for it");
  return 0;
}

static uint32_t pop(struct machine *m) {
  uint32_t node = top(m);
  m->stack.count -= node != 0;
  return node;
}

/* Where what stands above the last mark begins. */
static bool above_mark(struct machine *m, size_t *from) {
  if (!m->marks)
    return wrong(m, "there is no mark for it");
  size_t at = m->stack.count;
  while (m->stack.at[at - 1] != MARK)
    at--;
  *from = at;
  return true;
}

static void drop_to(struct machine *m, size_t from) {
  m->stack.count = from - 1;
  m->marks--;
}

static bool remember(struct machine *m, uint64_t slot) {
  uint32_t node = top(m);
  if (!node)
    return false;
  if (slot >= BURSAR_NODES_MOST)
    return wrong(m, "its memo has a number that is too large");
  if (!make_room(m, &m->memo, (size_t)slot + 1))
    return false;
  m->memo_count += m->memo.at[slot] == 0;
  m->memo.at[slot] = node;
  return true;
}

static bool recall(struct machine *m, uint64_t slot) {
  uint32_t node = slot < m->memo.room ? m->memo.at[slot] : 0;
  if (!node)
    return wrong(m, "nothing was kept under that number");
  m->nodes->nodes[node].shared = true;
  return push(m, node);
}

static bool slot_of_line(struct machine *m, uint64_t *slot) {
  char text[LINE], *end;
  uint64_t length;
  if (!short_line(m, text, &length))
    return false;
  *slot = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : UINT64_MAX;
  return (*slot != UINT64_MAX && !*end) || wrong(m, "its memo has a number that is none");
}

/* --- atoms --------------------------------------------------------------------------------------------------------------- */

static bool push_int(struct machine *m, int64_t value) {
  uint32_t node = bursar_nodes_add(m->nodes, BURSAR_NODE_INT, m->place);
  if (node)
    m->nodes->nodes[node].number = value;
  return push(m, node);
}

static bool push_plain(struct machine *m, enum bursar_node_kind kind) {
  return push(m, bursar_nodes_add(m->nodes, kind, m->place));
}

static bool push_real(struct machine *m, double value) {
  uint32_t node = bursar_nodes_add(m->nodes, BURSAR_NODE_FLOAT, m->place);
  if (node)
    m->nodes->nodes[node].real = value;
  return push(m, node);
}

/* Digits that fit no word stay digits, and are checked to be some. */
static bool push_digits(struct machine *m, char *text, size_t length) {
  size_t sign = *text == '-', digits = length - sign;
  if (digits == 0 || digits > 4300 || strspn(text + sign, "0123456789") != digits)
    return wrong(m, "a number is none there");
  while (digits > 1 && text[sign] == '0') /* JSON has none before others */
    memmove(text + sign, text + sign + 1, digits--);
  if (digits < 19)
    return push_int(m, strtoll(text, NULL, 10));
  return push(m, bursar_nodes_add_text(m->nodes, BURSAR_NODE_LONG, text, sign + digits, m->place));
}

static bool push_line_int(struct machine *m, bool is_long) {
  char text[LINE];
  uint64_t length;
  if (!short_line(m, text, &length))
    return false;
  if (!is_long && strcmp(text, "00") == 0)
    return push_plain(m, BURSAR_NODE_FALSE);
  if (!is_long && strcmp(text, "01") == 0)
    return push_plain(m, BURSAR_NODE_TRUE);
  if (length && text[length - 1] == 'L')
    text[--length] = 0;
  return push_digits(m, text, (size_t)length);
}

static bool push_line_float(struct machine *m) {
  char text[LINE], *end;
  uint64_t length;
  if (!short_line(m, text, &length))
    return false;
  double value = strtod(text, &end);
  if (!length || *end || strpbrk(text, "xX() \t"))
    return wrong(m, "a number is none there");
  return push_real(m, value);
}

static bool push_binary_float(struct machine *m) {
  const unsigned char *at = take(m, 8);
  uint64_t bits = 0;
  double value;
  if (!at)
    return false;
  for (unsigned i = 0; i < 8; i++)
    bits = bits << 8 | at[i];
  memcpy(&value, &bits, sizeof value);
  return push_real(m, value);
}

static bool push_long(struct machine *m, unsigned size) {
  uint64_t length;
  if (!number(m, size, &length))
    return false;
  if (length > LONGEST_INT)
    return wrong(m, "a whole number has more than 1024 bytes");
  uint64_t from = m->at, value = 0;
  if (length > 8) {
    uint32_t node = pass(m, length) ? bursar_nodes_add(m->nodes, BURSAR_NODE_LONG, m->place) : 0;
    if (!node)
      return m->error->status ? false : too_much(m);
    m->nodes->nodes[node].extent.at = from;
    m->nodes->nodes[node].extent.length = length;
    return push(m, node);
  }
  if (!number(m, (unsigned)length, &value))
    return false;
  if (length && length < 8 && value >> (8 * length - 1))
    value |= UINT64_MAX << 8 * length;
  return push_int(m, (int64_t)value);
}

/* A text, or bytes, which stay in the file; short texts are had in memory too. */
static bool push_extent(struct machine *m, enum bursar_node_kind kind, enum bursar_form form, uint64_t at,
                        uint64_t length) {
  char text[BURSAR_NODES_SHORT];
  uint32_t node = bursar_nodes_add(m->nodes, kind, m->place);
  if (!node)
    return too_much(m);
  m->nodes->nodes[node].form = (uint8_t)form;
  m->nodes->nodes[node].extent.at = at;
  m->nodes->nodes[node].extent.length = length;
  if (kind == BURSAR_NODE_TEXT && length <= sizeof text) {
    if (!read_at(m, at, text, length))
      return false;
    bool plain = form == BURSAR_FORM_UTF8 || !memchr(text, '\\', (size_t)length);
    for (size_t i = 0; i < length && form != BURSAR_FORM_UTF8; i++)
      plain = plain && !(text[i] & 0x80);
    if (plain && !bursar_nodes_keep(m->nodes, node, text, (size_t)length))
      return too_much(m);
  }
  return push(m, node);
}

static bool push_counted(struct machine *m, enum bursar_node_kind kind, enum bursar_form form, unsigned size) {
  uint64_t length;
  if (!number(m, size, &length))
    return false;
  uint64_t at = m->at;
  return pass(m, length) && push_extent(m, kind, form, at, length);
}

static bool push_line(struct machine *m, enum bursar_form form) {
  uint64_t at, length;
  char ends[2];
  if (!line(m, &at, &length))
    return false;
  if (form == BURSAR_FORM_ESCAPED) { /* in quotes */
    if (length < 2 || !read_at(m, at, ends, 1) || !read_at(m, at + length - 1, ends + 1, 1) || ends[0] != ends[1] ||
        (ends[0] != '\'' && ends[0] != '"'))
      return wrong(m, "a text has no quotes there");
    at++;
    length -= 2;
  }
  return push_extent(m, BURSAR_NODE_TEXT, form, at, length);
}

/* --- containers ---------------------------------------------------------------------------------------------------------- */

/* A container of what stands from `from` on, which is then gone. */
static bool gather(struct machine *m, enum bursar_node_kind kind, size_t from, bool marked) {
  uint32_t node = bursar_nodes_add(m->nodes, kind, m->place);
  if (!node)
    return too_much(m);
  if (kind == BURSAR_NODE_DICT && (m->stack.count - from) % 2)
    return wrong(m, "a key has no value there");
  for (size_t i = from; i < m->stack.count; i++)
    if (!bursar_nodes_append(m->nodes, node, m->stack.at[i]))
      return too_much(m);
  if (marked)
    drop_to(m, from);
  else
    m->stack.count = from;
  return push(m, node);
}

static bool gather_marked(struct machine *m, enum bursar_node_kind kind) {
  size_t from;
  return above_mark(m, &from) && gather(m, kind, from, true);
}

static bool gather_few(struct machine *m, size_t count) {
  if (m->stack.count < count)
    return wrong(m, "the stack has nothing for it");
  for (size_t i = m->stack.count - count; i < m->stack.count; i++)
    if (m->stack.at[i] == MARK)
      return wrong(m, "the stack has nothing for it");
  return gather(m, BURSAR_NODE_TUPLE, m->stack.count - count, false);
}

/* Adds what stands from `from` on to what stands before it. */
static bool add_to(struct machine *m, size_t from, bool marked, enum bursar_node_kind kind) {
  size_t before = from - (marked ? 2 : 1);
  uint32_t to = from > (marked ? 1u : 0u) ? m->stack.at[before] : MARK;
  bool pairs = kind == BURSAR_NODE_DICT;
  if (to == MARK)
    return wrong(m, "the stack has nothing for it");
  struct bursar_node *node = &m->nodes->nodes[to];
  struct bursar_object *object = kind == BURSAR_NODE_SET ? NULL : bursar_nodes_object(m->nodes, to);
  if (node->kind != kind && !object)
    return wrong(m, "something is added to what has no place for it");
  if (pairs && (m->stack.count - from) % 2)
    return wrong(m, "a key has no value there");
  for (size_t i = from; i < m->stack.count; i++)
    if (object ? !bursar_nodes_link(m->nodes, pairs ? &object->pairs : &object->items, m->stack.at[i])
               : !bursar_nodes_append(m->nodes, to, m->stack.at[i]))
      return too_much(m);
  if (marked)
    drop_to(m, from);
  else
    m->stack.count = from;
  return true;
}

static bool add_marked(struct machine *m, enum bursar_node_kind kind) {
  size_t from;
  return above_mark(m, &from) && add_to(m, from, true, kind);
}

static bool add_few(struct machine *m, size_t count, enum bursar_node_kind kind) {
  if (m->stack.count < count + 1)
    return wrong(m, "the stack has nothing for it");
  for (size_t i = m->stack.count - count; i < m->stack.count; i++)
    if (m->stack.at[i] == MARK)
      return wrong(m, "the stack has nothing for it");
  return add_to(m, m->stack.count - count, false, kind);
}

/* --- names and calls ----------------------------------------------------------------------------------------------------- */

static bool push_name(struct machine *m, struct bursar_text module, struct bursar_text name) {
  char whole[BURSAR_ALLOWED_NAME];
  if (!bursar_allowed_name(module, name, whole))
    return wrong(m, "a name is empty, or longer than a name");
  struct bursar_text text = {whole, (uint32_t)strlen(whole)};
  if (!bursar_allowed_known(text, m->pickle->allow))
    bursar_refusals_add(m->pickle->refusals, m->place, text);
  return push(m, bursar_nodes_add_text(m->nodes, BURSAR_NODE_NAME, whole, text.length, m->place));
}

static bool push_lines_name(struct machine *m) {
  char module[LINE], name[LINE];
  uint64_t lengths[2];
  if (!short_line(m, module, &lengths[0]) || !short_line(m, name, &lengths[1]))
    return false;
  return push_name(m, (struct bursar_text){module, (uint32_t)lengths[0]},
                   (struct bursar_text){name, (uint32_t)lengths[1]});
}

static bool push_stack_name(struct machine *m) {
  uint32_t name = pop(m), module = name ? pop(m) : 0;
  if (!module)
    return false;
  /* What is said here is copied: the table of texts may move. */
  char kept[2 * BURSAR_NODES_SHORT];
  struct bursar_text words[2] = {bursar_nodes_text(m->nodes, module), bursar_nodes_text(m->nodes, name)};
  if (m->nodes->nodes[module].kind != BURSAR_NODE_TEXT || m->nodes->nodes[name].kind != BURSAR_NODE_TEXT ||
      !words[0].bytes || !words[1].bytes)
    return wrong(m, "a name is made of what is no text");
  memcpy(kept, words[0].bytes, words[0].length);
  memcpy(kept + words[0].length, words[1].bytes, words[1].length);
  return push_name(m, (struct bursar_text){kept, words[0].length},
                   (struct bursar_text){kept + words[0].length, words[1].length});
}

static bool push_extension(struct machine *m, unsigned size) {
  char text[64];
  uint64_t code;
  if (!number(m, size, &code))
    return false;
  int length = snprintf(text, sizeof text, "extension code %llu", (unsigned long long)code);
  bursar_refusals_add(m->pickle->refusals, m->place, (struct bursar_text){text, (uint32_t)length});
  return push(m, bursar_nodes_add_text(m->nodes, BURSAR_NODE_NAME, text, (size_t)length, m->place));
}

static bool push_persistent(struct machine *m, bool from_line) {
  char text[LINE];
  uint64_t length;
  if (from_line) {
    if (!short_line(m, text, &length) ||
        !push(m, bursar_nodes_add_text(m->nodes, BURSAR_NODE_TEXT, text, (size_t)length, m->place)))
      return false;
  }
  uint32_t id = pop(m), node = id ? bursar_nodes_add(m->nodes, BURSAR_NODE_PERSISTENT, m->place) : 0;
  if (!node)
    return id ? too_much(m) : false;
  m->nodes->nodes[node].id = id;
  if (!m->pickle->persistent)
    bursar_refusals_add(m->pickle->refusals, m->place, (struct bursar_text){"a persistent id", 15});
  return push(m, node);
}

/* bytes and bytearrays that older protocols make of a text: its characters are the bytes. */
static bool push_bytes_of(struct machine *m, enum bursar_node_kind kind, uint32_t from) {
  struct bursar_node was = {.kind = BURSAR_NODE_BYTES};
  if (from)
    was = m->nodes->nodes[from];
  if (was.kind != BURSAR_NODE_TEXT && was.kind != BURSAR_NODE_BYTES)
    return wrong(m, "bytes are made of what has none");
  struct bursar_extent extent = {was.extent.at, was.extent.length, 0, was.form};
  if (extent.length > m->texts_left)
    return wrong(m, "the same text is made bytes again and again");
  m->texts_left -= extent.length;
  if (bursar_extent_measure(m->pickle->source, &extent, m->error) < 0)
    return false;
  return push_extent(m, kind, was.form, extent.at, extent.length);
}

/* Calls of Python's own that need no object; false and *done false: it is none. */
static bool push_known(struct machine *m, uint32_t of, uint32_t arguments, bool *done) {
  uint32_t given[3] = {0};
  uint32_t count = bursar_nodes_links(m->nodes, arguments, given, 3);
  const struct bursar_node *first = &m->nodes->nodes[given[0]];
  *done = true;
  bool latin = count == 2 && first->kind == BURSAR_NODE_TEXT &&
               (bursar_nodes_is(m->nodes, given[1], "latin1") || bursar_nodes_is(m->nodes, given[1], "latin-1"));
  if (bursar_nodes_is(m->nodes, of, "_codecs.encode"))
    return latin ? push_bytes_of(m, BURSAR_NODE_BYTES, given[0]) : wrong(m, "a text is encoded as no bytes are");
  if (bursar_nodes_is(m->nodes, of, "builtins.bytearray") && (count < 2 || latin))
    return push_bytes_of(m, BURSAR_NODE_BYTEARRAY, given[0]);
  if (bursar_nodes_is(m->nodes, of, "builtins.bytes") && count == 0)
    return push_bytes_of(m, BURSAR_NODE_BYTES, 0);
  bool set = bursar_nodes_is(m->nodes, of, "builtins.set"),
       frozen = bursar_nodes_is(m->nodes, of, "builtins.frozenset");
  if ((set || frozen) && (count == 0 || (count == 1 && first->kind == BURSAR_NODE_LIST))) {
    uint32_t node = bursar_nodes_add(m->nodes, set ? BURSAR_NODE_SET : BURSAR_NODE_FROZENSET, m->place);
    for (uint32_t cell = count && node ? m->nodes->nodes[given[0]].many.chain.first : 0; cell;
         cell = m->nodes->cells[cell].next)
      if (!bursar_nodes_append(m->nodes, node, m->nodes->cells[cell].node))
        return too_much(m);
    return push(m, node);
  }
  return *done = false;
}

static bool is_name(const struct machine *m, uint32_t node) { return m->nodes->nodes[node].kind == BURSAR_NODE_NAME; }

static bool push_object(struct machine *m, uint32_t of, uint32_t arguments, bool made) {
  uint32_t given[3] = {0};
  bool done = false;
  if (!is_name(m, of))
    return wrong(m, "it calls what is no name");
  if (m->nodes->nodes[arguments].kind != BURSAR_NODE_TUPLE)
    return wrong(m, "arguments are no tuple");
  if (!made && (push_known(m, of, arguments, &done) || done))
    return done && !m->error->status;
  /* Protocol 0 and 1: an object of a class of nobody's but object's. */
  if (!made && bursar_nodes_is(m->nodes, of, "copyreg._reconstructor")) {
    if (bursar_nodes_links(m->nodes, arguments, given, 3) != 3 || !is_name(m, given[0]) ||
        !bursar_nodes_is(m->nodes, given[1], "builtins.object") || m->nodes->nodes[given[2]].kind != BURSAR_NODE_NONE)
      return wrong(m, "an object has a base that is not object: save it anew with protocol 2 or later");
    of = given[0];
    arguments = bursar_nodes_add(m->nodes, BURSAR_NODE_TUPLE, m->place);
    made = true;
  }
  uint32_t node = arguments ? bursar_nodes_add_object(m->nodes, of, arguments, m->place) : 0;
  if (node)
    m->nodes->nodes[node].made = made;
  return push(m, node);
}

static bool call(struct machine *m, bool made) {
  uint32_t arguments = pop(m), of = arguments ? pop(m) : 0;
  return of && push_object(m, of, arguments, made);
}

/* With keywords, of which there may be none. */
static bool call_with_keywords(struct machine *m) {
  uint32_t keywords = pop(m);
  if (!keywords)
    return false;
  if (m->nodes->nodes[keywords].kind != BURSAR_NODE_DICT || m->nodes->nodes[keywords].many.count)
    return wrong(m, "an object is made with arguments by name, which a model's description has not");
  return call(m, true);
}

/* Protocol 0 and 1, of classes of Python 2: arguments stand above the mark, with the class below them. */
static bool call_old(struct machine *m, bool named) {
  size_t from;
  uint32_t of = 0;
  if (!above_mark(m, &from))
    return false;
  if (named) {
    if (!push_lines_name(m))
      return false;
    of = pop(m);
  } else if (from < m->stack.count) {
    of = m->stack.at[from];
  }
  if (!of || !is_name(m, of))
    return wrong(m, "it calls what is no name");
  if (!named) {
    memmove(m->stack.at + from, m->stack.at + from + 1, (m->stack.count - from - 1) * sizeof *m->stack.at);
    m->stack.count--;
  }
  if (!gather(m, BURSAR_NODE_TUPLE, from, true))
    return false;
  return push_object(m, of, pop(m), false);
}

static bool build(struct machine *m) {
  uint32_t state = pop(m), node = state ? top(m) : 0;
  struct bursar_object *object = node ? bursar_nodes_object(m->nodes, node) : NULL;
  if (!node)
    return false;
  if (!object)
    return wrong(m, "a state is set on what is no object");
  if (object->state)
    return wrong(m, "a state is set twice");
  object->state = state;
  if (!m->pickle->built)
    return true;
  uint64_t at = m->at;
  if (!m->pickle->built(m->pickle->context, node, &at, m->error))
    return false;
  if (at != m->at && m->frame_end)
    return wrong(m, "an array stands inside of a frame");
  m->at = at;
  return true;
}

/* --- operations ---------------------------------------------------------------------------------------------------------- */

static bool begin_frame(struct machine *m) {
  uint64_t length;
  if (m->frame_end)
    return wrong(m, "a frame begins in another");
  if (!number(m, 8, &length) || !has(m, length))
    return false;
  m->frame_end = length ? m->at + length : 0;
  return true;
}

static bool check_protocol(struct machine *m) {
  uint64_t version;
  return number(m, 1, &version) && (version <= 5 || wrong(m, "its protocol is later than 5"));
}

static bool drop(struct machine *m) {
  if (!m->stack.count)
    return wrong(m, "the stack has nothing for it");
  m->marks -= m->stack.at[--m->stack.count] == MARK;
  return true;
}

static bool drop_marked(struct machine *m) {
  size_t from;
  if (!above_mark(m, &from))
    return false;
  drop_to(m, from);
  return true;
}

static bool duplicate(struct machine *m) {
  uint32_t node = top(m);
  if (node)
    m->nodes->nodes[node].shared = true;
  return node && push(m, node);
}

static bool sized(struct machine *m, unsigned size, bool (*with)(struct machine *, uint64_t)) {
  uint64_t value;
  return number(m, size, &value) && with(m, value);
}

static bool push_small(struct machine *m, uint64_t value) { return push_int(m, (int64_t)value); }
static bool push_word(struct machine *m, uint64_t value) { return push_int(m, (int32_t)(uint32_t)value); }

static bool step_atom(struct machine *m, unsigned char operation, bool *known) {
  switch (operation) {
    case 'N': return push_plain(m, BURSAR_NODE_NONE);
    case 0x88: return push_plain(m, BURSAR_NODE_TRUE);
    case 0x89: return push_plain(m, BURSAR_NODE_FALSE);
    case 'I': return push_line_int(m, false);
    case 'L': return push_line_int(m, true);
    case 'J': return sized(m, 4, push_word);
    case 'K': return sized(m, 1, push_small);
    case 'M': return sized(m, 2, push_small);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'F': return push_line_float(m);
    case 'G': return push_binary_float(m);
    case 'S': return push_line(m, BURSAR_FORM_ESCAPED);
    case 'T': return push_counted(m, BURSAR_NODE_TEXT, BURSAR_FORM_RAW, 4);
    case 'U': return push_counted(m, BURSAR_NODE_TEXT, BURSAR_FORM_RAW, 1);
    case 'V': return push_line(m, BURSAR_FORM_UNICODE);
    case 'X': return push_counted(m, BURSAR_NODE_TEXT, BURSAR_FORM_UTF8, 4);
    case 0x8c: return push_counted(m, BURSAR_NODE_TEXT, BURSAR_FORM_UTF8, 1);
    case 0x8d: return push_counted(m, BURSAR_NODE_TEXT, BURSAR_FORM_UTF8, 8);
    case 'B': return push_counted(m, BURSAR_NODE_BYTES, BURSAR_FORM_RAW, 4);
    case 'C': return push_counted(m, BURSAR_NODE_BYTES, BURSAR_FORM_RAW, 1);
    case 0x8e: return push_counted(m, BURSAR_NODE_BYTES, BURSAR_FORM_RAW, 8);
    case 0x96: return push_counted(m, BURSAR_NODE_BYTEARRAY, BURSAR_FORM_RAW, 8);
    default: return *known = false;
  }
}

static bool step_container(struct machine *m, unsigned char operation, bool *known) {
  switch (operation) {
    case ']': return push_plain(m, BURSAR_NODE_LIST);
    case '}': return push_plain(m, BURSAR_NODE_DICT);
    case ')': return push_plain(m, BURSAR_NODE_TUPLE);
    case 0x8f: return push_plain(m, BURSAR_NODE_SET);
    case 'l': return gather_marked(m, BURSAR_NODE_LIST);
    case 'd': return gather_marked(m, BURSAR_NODE_DICT);
    case 't': return gather_marked(m, BURSAR_NODE_TUPLE);
    case 0x91: return gather_marked(m, BURSAR_NODE_FROZENSET);
    case 0x85: return gather_few(m, 1);
    case 0x86: return gather_few(m, 2);
    case 0x87: return gather_few(m, 3);
    case 'a': return add_few(m, 1, BURSAR_NODE_LIST);
    case 's': return add_few(m, 2, BURSAR_NODE_DICT);
    case 'e': return add_marked(m, BURSAR_NODE_LIST);
    case 'u': return add_marked(m, BURSAR_NODE_DICT);
    case 0x90: return add_marked(m, BURSAR_NODE_SET);
    default: return *known = false;
  }
}

static bool step_other(struct machine *m, unsigned char operation) {
  uint64_t slot;
  switch (operation) {
    case '(': return push(m, MARK);
    case '0': return drop(m);
    case '1': return drop_marked(m);
    case '2': return duplicate(m);
    case 'p': return slot_of_line(m, &slot) && remember(m, slot);
    case 'q': return sized(m, 1, remember);
    case 'r': return sized(m, 4, remember);
    case 0x94: return remember(m, m->memo_count);
    case 'g': return slot_of_line(m, &slot) && recall(m, slot);
    case 'h': return sized(m, 1, recall);
    case 'j': return sized(m, 4, recall);
    case 'c': return push_lines_name(m);
    case 0x93: return push_stack_name(m);
    case 0x82: return push_extension(m, 1);
    case 0x83: return push_extension(m, 2);
    case 0x84: return push_extension(m, 4);
    case 'P': return push_persistent(m, true);
    case 'Q': return push_persistent(m, false);
    case 'R': return call(m, false);
    case 0x81: return call(m, true);
    case 0x92: return call_with_keywords(m);
    case 'i': return call_old(m, true);
    case 'o': return call_old(m, false);
    case 'b': return build(m);
    case 0x80: return check_protocol(m);
    case 0x95: return begin_frame(m);
    case 0x97:
    case 0x98: return wrong(m, "its buffers are kept outside of it");
    default: return wrong(m, "that operation is none");
  }
}

static bool step(struct machine *m, unsigned char operation) {
  bool known = true;
  if (step_atom(m, operation, &known))
    return true;
  if (known)
    return false;
  known = true;
  if (step_container(m, operation, &known))
    return true;
  return known ? false : step_other(m, operation);
}

static bool run(struct machine *m, uint32_t *root) {
  for (;;) {
    m->place = m->at;
    const unsigned char *operation = take(m, 1);
    if (!operation)
      return false;
    if (*operation == '.')
      break;
    if (!step(m, *operation))
      return false;
  }
  *root = pop(m);
  return *root != 0;
}

int bursar_pickle_read(struct bursar_pickle *pickle, uint32_t *root, struct bursar_error *error) {
  struct bursar_error none;
  struct machine m = {.pickle = pickle,
                      .nodes = pickle->nodes,
                      .error = error ? error : &none,
                      .at = pickle->at,
                      .texts_left = pickle->end - pickle->at,
                      .window = malloc(WINDOW)};
  *root = 0;
  *m.error = (struct bursar_error){0};
  m.place = m.at;
  bool done = m.window ? run(&m, root) : too_much(&m);
  pickle->at = m.at;
  free(m.window);
  free(m.stack.at);
  free(m.memo.at);
  return done ? 0 : BURSAR_FAILED;
}
