#include "model/typed.h"

#include <stdio.h>
#include <string.h>

#include "model/dtype.h"
#include "model/extent.h"
#include "model/json.h"

#define DEEPEST 8u   /* records in records */
#define FIELDS 1024u /* of a record */
#define RANK 32u
#define TEXT (1u << 20)
#define WORDS 64u

struct reading {
  const struct bursar_nodes *nodes;
  const struct bursar_source *source;
  struct bursar_error *error;
};

static int wrong(const struct reading *r, uint32_t node, const char *why) {
  return bursar_error_set(r->error, BURSAR_FAILED, "%.500s: byte %llu: a type of NumPy's %s", r->source->path,
                          (unsigned long long)r->nodes->nodes[node].place, why);
}

static bool whole(const struct reading *r, uint32_t node, uint64_t *out) {
  *out = 0;
  if (!node || r->nodes->nodes[node].kind != BURSAR_NODE_INT || r->nodes->nodes[node].number < 0)
    return false;
  *out = (uint64_t)r->nodes->nodes[node].number;
  return true;
}

static bool is_none(const struct reading *r, uint32_t node) { return r->nodes->nodes[node].kind == BURSAR_NODE_NONE; }

/* --- a plain type: a letter, a size, an order, a unit of time ------------------------------------------------------------ */

static uint32_t dtype_of(char kind, uint64_t bytes) {
  static const struct {
    char kind;
    uint8_t bytes;
    uint8_t dtype;
  } known[] = {{'b', 1, BURSAR_DTYPE_BOOL}, {'u', 1, BURSAR_DTYPE_U8},  {'i', 1, BURSAR_DTYPE_I8},
               {'u', 2, BURSAR_DTYPE_U16},  {'i', 2, BURSAR_DTYPE_I16}, {'f', 2, BURSAR_DTYPE_F16},
               {'u', 4, BURSAR_DTYPE_U32},  {'i', 4, BURSAR_DTYPE_I32}, {'f', 4, BURSAR_DTYPE_F32},
               {'c', 8, BURSAR_DTYPE_C64},  {'f', 8, BURSAR_DTYPE_F64}, {'i', 8, BURSAR_DTYPE_I64},
               {'u', 8, BURSAR_DTYPE_U64}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].kind == kind && known[i].bytes == bytes)
      return known[i].dtype;
  return BURSAR_DTYPES;
}

/* `word`: "f8", "U5", "M8", "V10"; `unit`: "[25s]", or nothing. */
static int plain(const struct reading *r, uint32_t node, char order, const char *word, const char *unit,
                 struct bursar_typed *out) {
  char kind = word[0];
  uint64_t count = 0;
  const char *at = word + 1;
  for (; *at >= '0' && *at <= '9' && count < UINT32_MAX; at++)
    count = count * 10 + (uint64_t)(*at - '0');
  if (kind == 'O') {
    out->objects = true;
    count = 8;
  }
  if (!kind || !strchr("biufcSUVmMO", kind) || *at || count > INT32_MAX || (!strchr("SUV", kind) && !count))
    return wrong(r, node, "is none that is known");
  bool known = kind == 'f'          ? count == 2 || count == 4 || count == 8 || count == 16
               : kind == 'c'        ? count == 8 || count == 16 || count == 32
               : kind == 'b'        ? count == 1
               : strchr("iu", kind) ? count == 1 || count == 2 || count == 4 || count == 8
               : strchr("mM", kind) ? count == 8
                                    : true;
  if (!known)
    return wrong(r, node, "is none that is known");
  out->bytes = kind == 'U' ? count * 4 : count;
  bool ordered = !strchr("SVbO", kind) && out->bytes > 1;
  out->dtype = dtype_of(kind, out->bytes);
  out->swapped = !ordered || order != '>' ? 0 : kind == 'c' ? (uint32_t)count / 2 : kind == 'U' ? 4 : (uint32_t)count;
  bursar_buffer_format(&out->text, "\"%c%c", ordered ? (order == '>' ? '>' : '<') : '|', kind);
  if (kind != 'O')
    bursar_buffer_format(&out->text, "%llu", (unsigned long long)count);
  bursar_buffer_format(&out->text, "%s\"", unit);
  return 0;
}

static bool is_unit(const char *unit) {
  static const char *const units[] = {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (strcmp(unit, units[i]) == 0)
      return true;
  return false;
}

/* --- records ------------------------------------------------------------------------------------------------------------- */

/* What a record is made of, while it is being written. */
struct record {
  struct bursar_buffer names, formats, offsets;
  uint64_t bytes;
  size_t fields;
};

static void begin_record(struct record *record) {
  *record = (struct record){.bytes = 0};
  bursar_buffer_init(&record->names, TEXT);
  bursar_buffer_init(&record->formats, TEXT);
  bursar_buffer_init(&record->offsets, TEXT);
}

static int add_field(const struct reading *r, struct record *record, uint32_t name, struct bursar_typed *type,
                     uint64_t offset) {
  struct bursar_text text = bursar_nodes_text(r->nodes, name);
  if (!text.bytes || r->nodes->nodes[name].kind != BURSAR_NODE_TEXT || record->fields++ >= FIELDS)
    return wrong(r, name, "has fields without names, or too many");
  const char *comma = record->fields > 1 ? "," : "";
  bursar_buffer_text(&record->names, comma);
  if (!bursar_json_text(&record->names, text))
    return wrong(r, name, "has a name that is no UTF-8");
  bursar_buffer_text(&record->formats, comma);
  bursar_buffer_add(&record->formats, type->text.data, type->text.used);
  bursar_buffer_format(&record->offsets, "%s%llu", comma, (unsigned long long)offset);
  return 0;
}

static void end_record(struct record *record, uint64_t bytes, struct bursar_typed *out) {
  struct bursar_buffer *const parts[] = {&record->names, &record->formats, &record->offsets};
  static const char *const keys[] = {"{\"names\":[", "],\"formats\":[", "],\"offsets\":["};
  for (unsigned i = 0; i < 3; i++) {
    bursar_buffer_text(&out->text, keys[i]);
    bursar_buffer_add(&out->text, parts[i]->data ? parts[i]->data : "", parts[i]->used);
    if (parts[i]->failed && !out->text.failed)
      out->text.failed = parts[i]->failed;
    bursar_buffer_free(parts[i]);
  }
  bursar_buffer_format(&out->text, "],\"itemsize\":%llu}", (unsigned long long)bytes);
  out->bytes = bytes;
}

static void begin(struct bursar_typed *out) {
  *out = (struct bursar_typed){.dtype = BURSAR_DTYPES};
  bursar_buffer_init(&out->text, TEXT);
}

/* So many of a type make one: out is of the base, and becomes it. */
static int several(const struct reading *r, uint32_t shape, struct bursar_typed *base, struct bursar_typed *out) {
  uint32_t sizes[RANK] = {shape};
  uint32_t rank = r->nodes->nodes[shape].kind == BURSAR_NODE_INT ? 1 : bursar_nodes_links(r->nodes, shape, sizes, RANK);
  uint64_t size, bytes = base->bytes;
  if (rank > RANK || (rank == 0 && r->nodes->nodes[shape].kind != BURSAR_NODE_TUPLE))
    return wrong(r, shape, "has a shape that is none");
  bursar_buffer_text(&out->text, "{\"base\":");
  bursar_buffer_add(&out->text, base->text.data, base->text.used);
  bursar_buffer_text(&out->text, ",\"shape\":[");
  for (uint32_t i = 0; i < rank; i++) {
    if (!whole(r, sizes[i], &size) || __builtin_mul_overflow(bytes, size, &bytes) || bytes > INT32_MAX)
      return wrong(r, shape, "has a shape that is none");
    bursar_buffer_format(&out->text, "%s%llu", i ? "," : "", (unsigned long long)size);
  }
  bursar_buffer_text(&out->text, "]}");
  out->bytes = bytes;
  return 0;
}

/* --- as a pickle says it ------------------------------------------------------------------------------------------------- */

static int of_dtype(const struct reading *r, uint32_t node, unsigned depth, struct bursar_typed *out);

/* (metadata, (unit, number, 1, 1)) */
static int unit_of(const struct reading *r, uint32_t node, char out[WORDS]) {
  uint32_t pair[2], parts[4] = {0};
  struct bursar_extent_reader reader;
  char unit[8] = "";
  uint64_t number;
  out[0] = 0;
  if (bursar_nodes_links(r->nodes, node, pair, 2) != 2 || bursar_nodes_links(r->nodes, pair[1], parts, 4) != 4 ||
      !whole(r, parts[1], &number) || number > INT32_MAX)
    return wrong(r, node, "has no unit of time");
  struct bursar_text text = bursar_nodes_text(r->nodes, parts[0]);
  if (text.bytes && text.length < sizeof unit) {
    memcpy(unit, text.bytes, text.length);
  } else if (r->nodes->nodes[parts[0]].kind == BURSAR_NODE_BYTES) {
    const struct bursar_node *at = &r->nodes->nodes[parts[0]];
    bursar_extent_begin(&reader, r->source, (struct bursar_extent){at->extent.at, at->extent.length, 0, at->form});
    int64_t got = bursar_extent_read(&reader, unit, sizeof unit - 1, r->error);
    if (got < 0)
      return (int)got;
  }
  if (strcmp(unit, "generic") == 0)
    return 0;
  if (!is_unit(unit))
    return wrong(r, node, "has no unit of time");
  if (number == 1)
    snprintf(out, WORDS, "[%s]", unit);
  else
    snprintf(out, WORDS, "[%llu%s]", (unsigned long long)number, unit);
  return 0;
}

static int of_fields(const struct reading *r, uint32_t names, uint32_t fields, uint32_t bytes, unsigned depth,
                     struct bursar_typed *out) {
  struct record record;
  uint64_t size, offset;
  int status = 0;
  if (!whole(r, bytes, &size) || size > INT32_MAX || r->nodes->nodes[names].kind != BURSAR_NODE_TUPLE)
    return wrong(r, names, "is a record of no size");
  begin_record(&record);
  /* As a rule they stand in the order of their names; only few are searched for. */
  uint32_t next = r->nodes->nodes[fields].kind == BURSAR_NODE_DICT ? r->nodes->nodes[fields].many.chain.first : 0;
  for (uint32_t cell = r->nodes->nodes[names].many.chain.first; cell && status == 0;
       cell = r->nodes->cells[cell].next) {
    uint32_t name = r->nodes->cells[cell].node, pair[2];
    struct bursar_text text = bursar_nodes_text(r->nodes, name);
    struct bursar_typed type;
    char key[BURSAR_NODES_SHORT + 1];
    memcpy(key, text.bytes ? text.bytes : "", text.length);
    key[text.length] = 0;
    uint32_t there = next ? r->nodes->cells[next].next : 0, field = 0;
    if (there && bursar_nodes_is(r->nodes, r->nodes->cells[next].node, key)) {
      field = r->nodes->cells[there].node;
      next = r->nodes->cells[there].next;
    } else {
      field = bursar_nodes_value(r->nodes, fields, key);
    }
    if (!field || bursar_nodes_links(r->nodes, field, pair, 2) != 2 || !whole(r, pair[1], &offset)) {
      status = wrong(r, name, "has a field that is none");
      break;
    }
    begin(&type);
    status = of_dtype(r, pair[0], depth + 1, &type);
    if (status == 0 && (type.objects || offset > size || type.bytes > size - offset))
      status = wrong(r, name, type.objects ? "has references in it" : "has a field beyond its end");
    if (status == 0)
      status = add_field(r, &record, name, &type, offset);
    bursar_typed_end(&type);
  }
  end_record(&record, size, out);
  return status;
}

static int of_dtype(const struct reading *r, uint32_t node, unsigned depth, struct bursar_typed *out) {
  const struct bursar_object *object = bursar_nodes_object(r->nodes, node);
  uint32_t arguments[1] = {0}, state[9] = {0};
  char word[WORDS], unit[WORDS] = "", order = '<';
  if (!object || !bursar_nodes_is(r->nodes, object->of, "numpy.dtype") || depth > DEEPEST ||
      bursar_nodes_links(r->nodes, object->arguments, arguments, 1) < 1)
    return wrong(r, node, "is none");
  struct bursar_text text = bursar_nodes_text(r->nodes, arguments[0]);
  if (!text.bytes || text.length >= sizeof word)
    return wrong(r, node, "is none that is known");
  memcpy(word, text.bytes, text.length);
  word[text.length] = 0;
  uint32_t parts = object->state ? bursar_nodes_links(r->nodes, object->state, state, 9) : 0;
  if (object->state && (parts < 8 || parts > 9))
    return wrong(r, node, "has a state that is none");
  if (parts) {
    struct bursar_text given = bursar_nodes_text(r->nodes, state[1]);
    order = given.bytes && given.length == 1 && *given.bytes == '>' ? '>' : '<';
  }
  if (parts && !is_none(r, state[3]))
    return of_fields(r, state[3], state[4], state[5], depth, out);
  if (parts && !is_none(r, state[2])) {
    uint32_t pair[2];
    struct bursar_typed base;
    begin(&base);
    int status = bursar_nodes_links(r->nodes, state[2], pair, 2) == 2 ? of_dtype(r, pair[0], depth + 1, &base)
                                                                      : wrong(r, node, "is made of what is none");
    if (status == 0)
      status = base.objects ? wrong(r, node, "has references in it") : several(r, pair[1], &base, out);
    bursar_typed_end(&base);
    return status;
  }
  if (parts == 9 && (word[0] == 'm' || word[0] == 'M')) {
    int status = unit_of(r, state[8], unit);
    if (status < 0)
      return status;
  }
  return plain(r, node, order, word, unit, out);
}

/* --- as an npy file says it ---------------------------------------------------------------------------------------------- */

static int of_descr(const struct reading *r, uint32_t node, unsigned depth, struct bursar_typed *out);

/* (name, descr) or (name, descr, shape); padding has no name. */
static int of_item(const struct reading *r, uint32_t item, unsigned depth, struct record *record) {
  uint32_t parts[3] = {0}, count = bursar_nodes_links(r->nodes, item, parts, 3);
  struct bursar_typed type, all;
  if (count < 2 || count > 3 || depth >= DEEPEST)
    return wrong(r, item, "has a field that is none");
  begin(&type);
  begin(&all);
  int status = of_descr(r, parts[1], depth + 1, &type);
  struct bursar_typed *field = &type;
  if (status == 0 && count == 3) {
    status = several(r, parts[2], &type, &all);
    field = &all;
  }
  if (status == 0 && (type.objects || record->bytes > INT32_MAX))
    status = wrong(r, item, "has references in it, or is too large");
  struct bursar_text name = bursar_nodes_text(r->nodes, parts[0]);
  if (status == 0 && !(name.bytes && name.length == 0))
    status = add_field(r, record, parts[0], field, record->bytes);
  record->bytes += field->bytes;
  bursar_typed_end(&type);
  bursar_typed_end(&all);
  return status;
}

static int of_descr(const struct reading *r, uint32_t node, unsigned depth, struct bursar_typed *out) {
  struct bursar_text text = bursar_nodes_text(r->nodes, node);
  char word[WORDS], unit[WORDS] = "";
  if (r->nodes->nodes[node].kind == BURSAR_NODE_LIST) {
    struct record record;
    int status = 0;
    begin_record(&record);
    for (uint32_t cell = r->nodes->nodes[node].many.chain.first; cell && status == 0; cell = r->nodes->cells[cell].next)
      status = of_item(r, r->nodes->cells[cell].node, depth, &record);
    end_record(&record, record.bytes, out);
    return status;
  }
  if (!text.bytes || text.length < 2 || text.length >= sizeof word || !strchr("<>|=", text.bytes[0]))
    return wrong(r, node, "is none that is known");
  memcpy(word, text.bytes + 1, text.length - 1);
  word[text.length - 1] = 0;
  char *bracket = strchr(word, '[');
  if (bracket && (word[0] == 'm' || word[0] == 'M')) {
    char *close = strchr(bracket, ']'), *letters = bracket + 1 + strspn(bracket + 1, "0123456789");
    snprintf(unit, sizeof unit, "%s", bracket);
    *bracket = 0;
    if (!close || close[1] || letters - bracket > 10)
      return wrong(r, node, "has no unit of time");
    *close = 0;
    if (!is_unit(letters))
      return wrong(r, node, "has no unit of time");
  }
  return plain(r, node, text.bytes[0], word, unit, out);
}

/* --- either -------------------------------------------------------------------------------------------------------------- */

static int finish(const struct reading *r, uint32_t node, int status, struct bursar_typed *out) {
  if (status == 0 && out->text.failed)
    status = wrong(r, node, "is too large");
  if (status < 0)
    bursar_typed_end(out);
  return status;
}

int bursar_typed_of(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                    struct bursar_typed *out, struct bursar_error *error) {
  const struct reading r = {nodes, source, error};
  begin(out);
  return finish(&r, node, of_dtype(&r, node, 0, out), out);
}

int bursar_typed_of_descr(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                          struct bursar_typed *out, struct bursar_error *error) {
  const struct reading r = {nodes, source, error};
  begin(out);
  return finish(&r, node, of_descr(&r, node, 0, out), out);
}

void bursar_typed_end(struct bursar_typed *typed) { bursar_buffer_free(&typed->text); }
