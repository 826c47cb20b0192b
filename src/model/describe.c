#include "model/describe.h"

#include <stdlib.h>
#include <string.h>

#include "model/extent.h"
#include "model/json.h"
#include "model/ndarray.h"
#include "model/pandas.h"

#define DEEPEST 150u /* of nodes in nodes: bursar.load goes as deep with Python's own stack */
#define PATH 4096u   /* bytes of a tensor's name; what is longer has a short one */
#define PART 512u    /* of one word in it */

struct describing {
  const struct bursar_nodes *nodes;
  const struct bursar_source *source;
  struct bursar_allowed_more allow;
  struct bursar_described *out;
  struct bursar_tensors tensors;
  struct bursar_error *error;
  unsigned char *seen; /* a bit for each node */
  size_t path_length;
  unsigned depth;
  bool named; /* the path is whole */
  char path[PATH];
};

static bool visit(struct describing *d, uint32_t node);

/* --- errors: each returns false ------------------------------------------------------------------------------------------ */

static bool wrong(const struct describing *d, uint32_t node, const char *why) {
  (void)!bursar_error_set(d->error, BURSAR_FAILED, "%.400s: byte %llu%s%.200s: %s", d->source->path,
                          (unsigned long long)d->nodes->nodes[node].place, d->path_length ? ", at " : "", d->path, why);
  return false;
}

static bool wrong_name(const struct describing *d, uint32_t node, struct bursar_text name, const char *why) {
  (void)!bursar_error_set(d->error, BURSAR_FAILED, "%.400s: byte %llu%s%.200s: %.*s %s", d->source->path,
                          (unsigned long long)d->nodes->nodes[node].place, d->path_length ? ", at " : "", d->path,
                          (int)(name.length < 200 ? name.length : 200), name.bytes, why);
  return false;
}

/* --- where it is --------------------------------------------------------------------------------------------------------- */

struct place {
  size_t length;
  bool named;
};

static struct place enter(struct describing *d, struct bursar_text part) {
  struct place before = {d->path_length, d->named};
  size_t dot = d->path_length && part.length;
  if (d->path_length + dot + part.length >= PATH || part.length > PART) {
    d->named = false;
    return before;
  }
  if (dot)
    d->path[d->path_length] = '.';
  memcpy(d->path + d->path_length + dot, part.length ? part.bytes : "", part.length);
  d->path_length += dot + part.length;
  d->path[d->path_length] = 0;
  return before;
}

static void leave(struct describing *d, struct place before) {
  d->path_length = before.length;
  d->named = before.named;
  d->path[d->path_length] = 0;
}

static struct place enter_number(struct describing *d, int64_t number) {
  char text[24];
  struct bursar_buffer digits;
  bursar_buffer_init(&digits, sizeof text);
  bursar_buffer_format(&digits, "%lld", (long long)number);
  struct place before = enter(d, (struct bursar_text){digits.data ? digits.data : "", (uint32_t)digits.used});
  bursar_buffer_free(&digits);
  return before;
}

/* Is it UTF-8 that may be a tensor's name? */
static bool is_name(struct bursar_text text) {
  struct bursar_buffer shown;
  bursar_buffer_init(&shown, 8 * PART);
  bool fine = text.bytes && text.length <= PART && bursar_json_text(&shown, text) &&
              !(shown.data && strstr(shown.data, "\\ud")) && !memchr(text.bytes, 0, text.length);
  bursar_buffer_free(&shown);
  return fine;
}

/* By a dict's key: a text or a whole number; others have no name. */
static struct place enter_key(struct describing *d, uint32_t key) {
  const struct bursar_node *node = &d->nodes->nodes[key];
  struct bursar_text text = bursar_nodes_text(d->nodes, key);
  if (node->kind == BURSAR_NODE_INT)
    return enter_number(d, node->number);
  bool named = node->kind == BURSAR_NODE_TEXT && is_name(text);
  return enter(d, named ? text : (struct bursar_text){"", 0});
}

static struct bursar_text name_here(const struct describing *d) {
  return d->named ? (struct bursar_text){d->path, (uint32_t)d->path_length} : (struct bursar_text){"", 0};
}

/* --- writing ------------------------------------------------------------------------------------------------------------- */

static struct bursar_buffer *text_of(struct describing *d) { return &d->out->text; }
static void add(struct describing *d, const char *text) { bursar_buffer_text(text_of(d), text); }

static bool may_go_on(struct describing *d, uint32_t node) {
  if (!text_of(d)->failed)
    return true;
  return wrong(d, node, "what it is besides its arrays is longer than a file's header may be (100,000,000 bytes)");
}

/* {"$":"KIND" and what it is called, where it is met again. */
static void begin(struct describing *d, uint32_t node, const char *kind) {
  bursar_buffer_format(text_of(d), "{\"$\":\"%s\"", kind);
  if (d->nodes->nodes[node].shared)
    bursar_buffer_format(text_of(d), ",\"id\":%u", node);
}

static bool add_row(struct describing *d, struct bursar_chain chain) {
  bool done = true;
  int64_t number = 0;
  add(d, "[");
  for (uint32_t cell = chain.first; cell && done; cell = d->nodes->cells[cell].next) {
    struct place before = enter_number(d, number);
    if (number++)
      add(d, ",");
    done = visit(d, d->nodes->cells[cell].node);
    leave(d, before);
  }
  add(d, "]");
  return done;
}

static bool add_items(struct describing *d, struct bursar_chain chain) {
  add(d, ",\"items\":");
  return add_row(d, chain);
}

static bool add_pairs(struct describing *d, const char *name, struct bursar_chain chain) {
  bool done = true;
  bursar_buffer_format(text_of(d), ",\"%s\":[", name);
  for (uint32_t cell = chain.first; cell && done; cell = d->nodes->cells[cell].next) {
    uint32_t key = d->nodes->cells[cell].node;
    add(d, cell == chain.first ? "[" : ",[");
    done = visit(d, key);
    add(d, ",");
    struct place before = enter_key(d, key);
    cell = d->nodes->cells[cell].next;
    done = done && visit(d, d->nodes->cells[cell].node);
    leave(d, before);
    add(d, "]");
  }
  add(d, "]");
  return done;
}

/* An extent in memory, which is freed by the caller; NULL: an error. */
static char *content_of(struct describing *d, uint32_t node, struct bursar_extent extent) {
  if (extent.length > BURSAR_SAFETENSORS_HEADER_MOST) {
    (void)wrong(d, node, "a text, or bytes, longer than a file's header may be (100,000,000 bytes)");
    return NULL;
  }
  char *content = malloc(extent.length + 1);
  struct bursar_extent_reader reader;
  if (!content) {
    (void)wrong(d, node, "not enough memory");
    return NULL;
  }
  bursar_extent_begin(&reader, d->source, extent);
  int64_t got = bursar_extent_read(&reader, content, extent.length, d->error);
  if (got < 0) {
    free(content);
    return NULL;
  }
  content[got] = 0;
  return content;
}

static bool add_base64(struct describing *d, uint32_t node, struct bursar_extent extent) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (bursar_extent_measure(d->source, &extent, d->error) < 0)
    return false;
  unsigned char *content = (unsigned char *)content_of(d, node, extent);
  add(d, ",\"base64\":\"");
  for (uint64_t i = 0; content && i < extent.bytes; i += 3) {
    uint64_t left = extent.bytes - i;
    uint32_t three = (uint32_t)content[i] << 16 | (left > 1 ? (uint32_t)content[i + 1] << 8 : 0) |
                     (left > 2 ? content[i + 2] : 0);
    const char four[] = {letters[three >> 18], letters[three >> 12 & 63], left > 1 ? letters[three >> 6 & 63] : '=',
                         left > 2 ? letters[three & 63] : '='};
    bursar_buffer_add(text_of(d), four, sizeof four);
  }
  add(d, "\"");
  free(content);
  return content != NULL;
}

static struct bursar_extent extent_of(const struct describing *d, uint32_t node) {
  const struct bursar_node *at = &d->nodes->nodes[node];
  return (struct bursar_extent){at->extent.at, at->extent.length, at->extent.length, at->form};
}

/* --- plain things -------------------------------------------------------------------------------------------------------- */

/* As UTF-8 what is written with \u, and Latin-1 else. */
static bool add_unicode(struct describing *d, uint32_t node, const char *content, uint64_t length) {
  struct bursar_buffer text;
  bursar_buffer_init(&text, 3 * BURSAR_SAFETENSORS_HEADER_MOST);
  for (uint64_t i = 0; i < length; i++) {
    uint32_t c = (unsigned char)content[i];
    unsigned digits = c == '\\' && i + 1 < length ? (content[i + 1] == 'u' ? 4 : content[i + 1] == 'U' ? 8 : 0) : 0;
    if (digits) {
      char word[9] = "", *end;
      memcpy(word, content + i + 2, length - i - 2 < digits ? length - i - 2 : digits);
      c = (uint32_t)strtoul(word, &end, 16);
      if (end - word != (ptrdiff_t)digits || c > 0x10ffff || word[0] == '+' || word[0] == '-' || word[0] == ' ') {
        bursar_buffer_free(&text);
        return wrong(d, node, "a text has a character that is none");
      }
      i += digits + 1;
    }
    unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    bursar_buffer_char(&text, (char)(more ? (0xff00u >> (more + 1) & 0xff) | c >> 6 * more : c));
    while (more--)
      bursar_buffer_char(&text, (char)(0x80 | (c >> 6 * more & 0x3f)));
  }
  bool done = bursar_json_text(text_of(d), (struct bursar_text){text.data ? text.data : "", (uint32_t)text.used});
  if (text.failed && !text_of(d)->failed)
    text_of(d)->failed = text.failed;
  bursar_buffer_free(&text);
  return done || wrong(d, node, "a text has a character that is none");
}

static bool add_text(struct describing *d, uint32_t node) {
  struct bursar_text kept = bursar_nodes_text(d->nodes, node);
  uint8_t form = d->nodes->nodes[node].form;
  struct bursar_extent extent = extent_of(d, node);
  if (kept.bytes)
    return bursar_json_text(text_of(d), kept) || wrong(d, node, "a text is no UTF-8");
  /* UTF-8 and \u are read as they are: they are letters, and no bytes. */
  if (form == BURSAR_FORM_UTF8 || form == BURSAR_FORM_UNICODE)
    extent.form = BURSAR_FORM_RAW;
  if (bursar_extent_measure(d->source, &extent, d->error) < 0)
    return false;
  char *content = content_of(d, node, extent);
  struct bursar_text text = {content, (uint32_t)extent.bytes};
  bool done = content != NULL;
  if (content && form == BURSAR_FORM_UTF8)
    done = bursar_json_text(text_of(d), text) || wrong(d, node, "a text is no UTF-8");
  else if (content && form == BURSAR_FORM_UNICODE)
    done = add_unicode(d, node, content, extent.bytes);
  else if (content)
    bursar_json_latin(text_of(d), text);
  free(content);
  return done;
}

static bool add_long(struct describing *d, uint32_t node) {
  struct bursar_text digits = bursar_nodes_text(d->nodes, node);
  if (digits.bytes) {
    bursar_buffer_add(text_of(d), digits.bytes, digits.length);
    return true;
  }
  char *content = content_of(d, node, extent_of(d, node));
  if (content)
    bursar_json_long(text_of(d), (const unsigned char *)content, d->nodes->nodes[node].extent.length);
  free(content);
  return content != NULL;
}

static bool add_name(struct describing *d, uint32_t node) {
  struct bursar_text name = bursar_nodes_text(d->nodes, node), shown;
  const char *kind = bursar_allowed_kind(name, &shown);
  if (!kind && !bursar_allowed_makes(name, d->allow))
    return wrong_name(d, node, name, "means nothing there");
  bursar_buffer_format(text_of(d), "{\"$\":\"%s\",\"name\":", kind ? kind : "name");
  bool done = bursar_json_text(text_of(d), kind ? shown : name) || wrong(d, node, "a name is no UTF-8");
  add(d, "}");
  return done;
}

/* --- arrays -------------------------------------------------------------------------------------------------------------- */

static bool add_shape(struct describing *d, const struct bursar_ndarray *array, bool reversed) {
  add(d, ",\"shape\":[");
  for (uint32_t i = 0; i < array->rank; i++)
    bursar_buffer_format(text_of(d), "%s%llu", i ? "," : "",
                         (unsigned long long)array->shape[reversed ? array->rank - 1 - i : i]);
  add(d, "]");
  return true;
}

static void add_type(struct describing *d, const struct bursar_typed *type) {
  add(d, ",\"dtype\":");
  bursar_buffer_add(text_of(d), type->text.data, type->text.used);
}

static bool plan_array(struct describing *d, const struct bursar_ndarray *array, struct bursar_text name, uint32_t rank,
                       struct bursar_plan **plan) {
  if (bursar_plan_use(&d->out->plans, d->source, array->data.length, d->error) < 0 ||
      bursar_plan_add(&d->out->plans, name, rank, plan, d->error) < 0)
    return false;
  (*plan)->source = d->source;
  (*plan)->data = array->data;
  (*plan)->dtype = array->type.dtype;
  return true;
}

/* Of numbers: a tensor by its shape, in C's order, where there is one of that type; else its bytes. */
static bool add_numbers(struct describing *d, uint32_t node, const struct bursar_ndarray *array) {
  bool fortran = array->fortran && array->rank > 1;
  bool typed = array->type.dtype != BURSAR_DTYPES;
  struct bursar_plan *plan;
  if (!plan_array(d, array, name_here(d), typed ? array->rank : 1, &plan))
    return false;
  begin(d, node, "array");
  if (fortran)
    add(d, ",\"fortran\":true");
  if (typed) {
    plan->swapped = array->type.swapped;
    for (uint32_t i = 0; i < array->rank; i++)
      plan->shape[i] = array->shape[fortran ? array->rank - 1 - i : i];
  } else {
    plan->dtype = BURSAR_DTYPE_U8;
    plan->shape[0] = array->data.bytes;
    add_type(d, &array->type);
    add_shape(d, array, fortran);
  }
  add(d, ",\"name\":");
  (void)!bursar_json_text(text_of(d), plan->name);
  add(d, "}");
  return true;
}

static bool add_array(struct describing *d, uint32_t node) {
  struct bursar_ndarray array;
  bool done;
  if (bursar_ndarray_of(d->nodes, d->source, node, &array, d->error) < 0)
    return false;
  if (array.whole) {
    done = wrong(d, node, "an array of references has none");
  } else if (array.objects) {
    begin(d, node, "objects");
    add_shape(d, &array, false);
    done = add_items(d, d->nodes->nodes[array.objects].many.chain);
    add(d, "}");
  } else {
    done = add_numbers(d, node, &array);
  }
  bursar_ndarray_end(&array);
  return done;
}

/* What stands for the array of an array: of references, it is kept as a pickle of its own. */
static uint32_t resolved(const struct describing *d, uint32_t node) {
  for (unsigned i = 0; i < 2 && bursar_ndarray_is(d->nodes, node); i++) {
    uint32_t cell = bursar_nodes_object(d->nodes, node)->items.first;
    if (!cell || d->nodes->nodes[d->nodes->cells[cell].node].kind != BURSAR_NODE_OBJECT)
      break;
    uint32_t whole = d->nodes->cells[cell].node;
    d->nodes->nodes[whole].shared = d->nodes->nodes[whole].shared || d->nodes->nodes[node].shared;
    node = whole;
  }
  return node;
}

static bool add_dtype(struct describing *d, uint32_t node) {
  struct bursar_typed type;
  if (bursar_typed_of(d->nodes, d->source, node, &type, d->error) < 0)
    return false;
  begin(d, node, "dtype");
  add_type(d, &type);
  add(d, "}");
  bursar_typed_end(&type);
  return true;
}

/* scalar(dtype, bytes) */
static bool add_scalar(struct describing *d, uint32_t node) {
  uint32_t parts[2] = {0};
  struct bursar_typed type;
  const struct bursar_object *object = bursar_nodes_object(d->nodes, node);
  if (bursar_nodes_links(d->nodes, object->arguments, parts, 2) != 2 || object->state)
    return wrong(d, node, "a number of NumPy's is none");
  if (bursar_typed_of(d->nodes, d->source, parts[0], &type, d->error) < 0)
    return false;
  const struct bursar_node *bytes = &d->nodes->nodes[parts[1]];
  struct bursar_extent extent = extent_of(d, parts[1]);
  bool done = !type.objects && (bytes->kind == BURSAR_NODE_BYTES || bytes->kind == BURSAR_NODE_TEXT) &&
              (bytes->kind == BURSAR_NODE_BYTES || bytes->form != BURSAR_FORM_UTF8) && type.bytes <= extent.length &&
              extent.length / 16 <= type.bytes;
  if (!done)
    (void)wrong(d, node, "a number of NumPy's has no bytes");
  done = done && bursar_extent_measure(d->source, &extent, d->error) == 0;
  if (done && extent.bytes != type.bytes)
    done = wrong(d, node, "a number of NumPy's has other bytes than its type");
  if (done) {
    begin(d, node, "scalar");
    add_type(d, &type);
    done = add_base64(d, node, extent);
    add(d, "}");
  }
  bursar_typed_end(&type);
  return done;
}

/* --- tensors ------------------------------------------------------------------------------------------------------------- */

static bool add_tensor(struct describing *d, uint32_t node, uint32_t tensor, bool parameter, bool grad) {
  struct bursar_plan *plan;
  struct bursar_buffer more;
  bool own_grad;
  bursar_buffer_init(&more, BURSAR_NODES_TEXTS);
  int status =
      bursar_tensors_place(&d->tensors, tensor, name_here(d), &d->out->plans, &plan, &more, &own_grad, d->error);
  if (status == 0) {
    begin(d, node, "tensor");
    bursar_buffer_format(text_of(d), ",\"parameter\":%s,\"grad\":%s", parameter ? "true" : "false",
                         (parameter ? grad : own_grad) ? "true" : "false");
    bursar_buffer_add(text_of(d), more.data ? more.data : "", more.used);
    add(d, ",\"name\":");
    (void)!bursar_json_text(text_of(d), plan->name);
    add(d, "}");
  }
  bursar_buffer_free(&more);
  return status == 0;
}

/* _rebuild_parameter(tensor, requires_grad, hooks) */
static bool add_parameter(struct describing *d, uint32_t node) {
  const struct bursar_object *object = bursar_nodes_object(d->nodes, node);
  uint32_t parts[3] = {0};
  if (bursar_nodes_links(d->nodes, object->arguments, parts, 3) != 3 || !bursar_tensors_is(d->nodes, parts[0]) ||
      object->state)
    return wrong(d, node, "a parameter is none");
  return add_tensor(d, node, parts[0], true, d->nodes->nodes[parts[1]].kind == BURSAR_NODE_TRUE);
}

/* --- objects ------------------------------------------------------------------------------------------------------------- */

static bool add_object(struct describing *d, uint32_t node) {
  const struct bursar_object object = *bursar_nodes_object(d->nodes, node);
  struct bursar_text name = bursar_nodes_text(d->nodes, object.of);
  if (bursar_ndarray_is(d->nodes, node))
    return add_array(d, node);
  if (bursar_nodes_is(d->nodes, object.of, "numpy._core.multiarray.scalar"))
    return add_scalar(d, node);
  if (bursar_nodes_is(d->nodes, object.of, "numpy.dtype"))
    return add_dtype(d, node);
  if (bursar_tensors_is(d->nodes, node))
    return add_tensor(d, node, node, false, false);
  if (bursar_nodes_is(d->nodes, object.of, "torch._utils._rebuild_parameter"))
    return add_parameter(d, node);
  if (!bursar_allowed_makes(name, d->allow))
    return wrong_name(d, node, name, "is called there, which means nothing");
  begin(d, node, "object");
  if (d->nodes->nodes[node].made)
    add(d, ",\"new\":true");
  add(d, ",\"of\":");
  bool done = bursar_json_text(text_of(d), name) || wrong(d, node, "a name is no UTF-8");
  if (done && d->nodes->nodes[object.arguments].many.count) {
    bool first = true;
    add(d, ",\"arguments\":[");
    for (uint32_t cell = d->nodes->nodes[object.arguments].many.chain.first; cell && done;
         cell = d->nodes->cells[cell].next) {
      add(d, first ? "" : ",");
      first = false;
      done = visit(d, d->nodes->cells[cell].node);
    }
    add(d, "]");
  }
  if (object.items.first)
    done = done && add_items(d, object.items);
  if (object.pairs.first)
    done = done && add_pairs(d, "pairs", object.pairs);
  if (done && object.state && d->nodes->nodes[object.state].kind != BURSAR_NODE_NONE) {
    add(d, ",\"state\":");
    done = visit(d, object.state);
  }
  add(d, "}");
  return done;
}

static bool add_bytes(struct describing *d, uint32_t node) {
  bool array = d->nodes->nodes[node].kind == BURSAR_NODE_BYTEARRAY;
  if (!array) {
    begin(d, node, "bytes");
  } else {
    begin(d, node, "object");
    add(d, ",\"of\":\"builtins.bytearray\",\"arguments\":[{\"$\":\"bytes\"");
  }
  bool done = add_base64(d, node, extent_of(d, node));
  add(d, array ? "}]}" : "}");
  return done;
}

static bool add_many(struct describing *d, uint32_t node) {
  static const char *const kinds[] = {"list", "tuple", "set", "frozenset", "dict"};
  const struct bursar_node *at = &d->nodes->nodes[node];
  begin(d, node, kinds[at->kind - BURSAR_NODE_LIST]);
  bool done = at->kind == BURSAR_NODE_DICT ? add_pairs(d, "items", at->many.chain) : add_items(d, at->many.chain);
  add(d, "}");
  return done;
}

/* --- what others were made into ------------------------------------------------------------------------------------------ */

static bool add_record(struct describing *d, uint32_t node) {
  struct bursar_text kind = bursar_nodes_text(d->nodes, node);
  char word[32] = "";
  bool done = true;
  memcpy(word, kind.bytes, kind.length < sizeof word ? kind.length : sizeof word - 1);
  begin(d, node, word);
  for (uint32_t cell = d->nodes->nodes[node].many.chain.first; cell && done; cell = d->nodes->cells[cell].next) {
    struct bursar_text name = bursar_nodes_text(d->nodes, d->nodes->cells[cell].node);
    bursar_buffer_format(text_of(d), ",\"%.*s\":", (int)name.length, name.bytes);
    cell = d->nodes->cells[cell].next;
    struct place before = enter(d, name);
    done = visit(d, d->nodes->cells[cell].node);
    leave(d, before);
  }
  add(d, "}");
  return done;
}

/* A row of an array: all rows are views of one tensor. */
static bool add_view(struct describing *d, uint32_t node) {
  uint32_t parts[2];
  struct bursar_ndarray array;
  const struct bursar_chain chain = d->nodes->nodes[node].many.chain;
  parts[0] = d->nodes->cells[chain.first].node;
  parts[1] = d->nodes->cells[chain.last].node;
  uint64_t which = (uint64_t)d->nodes->nodes[parts[1]].number;
  struct bursar_object *object = bursar_nodes_object(d->nodes, parts[0]);
  if (bursar_ndarray_of(d->nodes, d->source, parts[0], &array, d->error) < 0)
    return false;
  struct bursar_plan *plan = object->plan ? d->out->plans.list[object->plan - 1] : NULL;
  bool done = plan || plan_array(d, &array, name_here(d), 1, &plan);
  if (done && !object->plan) {
    object->plan = d->out->plans.count;
    plan->dtype = BURSAR_DTYPE_U8;
    plan->shape[0] = array.data.bytes;
  }
  if (done) {
    uint64_t step = array.fortran ? array.type.bytes * array.shape[0] : array.type.bytes;
    uint64_t from = array.fortran ? which * array.type.bytes : which * array.shape[1] * array.type.bytes;
    bursar_buffer_format(text_of(d),
                         "{\"$\":\"array\",\"view\":true,\"offset\":%llu,\"strides\":[%llu],\"shape\":[%llu]",
                         (unsigned long long)from, (unsigned long long)step, (unsigned long long)array.shape[1]);
    add_type(d, &array.type);
    add(d, ",\"name\":");
    (void)!bursar_json_text(text_of(d), plan->name);
    add(d, "}");
  }
  bursar_ndarray_end(&array);
  return done;
}

static bool dispatch(struct describing *d, uint32_t node) {
  const struct bursar_node *at = &d->nodes->nodes[node];
  switch ((enum bursar_node_kind)at->kind) {
    case BURSAR_NODE_NONE: add(d, "null"); return true;
    case BURSAR_NODE_FALSE: add(d, "false"); return true;
    case BURSAR_NODE_TRUE: add(d, "true"); return true;
    case BURSAR_NODE_INT: bursar_buffer_format(text_of(d), "%lld", (long long)at->number); return true;
    case BURSAR_NODE_LONG: return add_long(d, node);
    case BURSAR_NODE_FLOAT: bursar_json_real(text_of(d), at->real); return true;
    case BURSAR_NODE_TEXT: return add_text(d, node);
    case BURSAR_NODE_BYTES:
    case BURSAR_NODE_BYTEARRAY: return add_bytes(d, node);
    case BURSAR_NODE_LIST:
    case BURSAR_NODE_TUPLE:
    case BURSAR_NODE_SET:
    case BURSAR_NODE_FROZENSET:
    case BURSAR_NODE_DICT: return add_many(d, node);
    case BURSAR_NODE_NAME: return add_name(d, node);
    case BURSAR_NODE_OBJECT: return add_object(d, node);
    case BURSAR_NODE_RECORD: return add_record(d, node);
    case BURSAR_NODE_ROW: return add_row(d, at->many.chain);
    case BURSAR_NODE_VIEW: return add_view(d, node);
    case BURSAR_NODE_PERSISTENT: break;
  }
  return wrong(d, node, "a storage stands alone");
}

static bool visit(struct describing *d, uint32_t node) {
  node = resolved(d, node);
  const struct bursar_node *at = &d->nodes->nodes[node];
  bool again = at->shared && (at->kind >= BURSAR_NODE_BYTES) && at->kind != BURSAR_NODE_NAME;
  if (again && d->seen[node / 8] & 1u << node % 8) {
    bursar_buffer_format(text_of(d), "{\"$\":\"again\",\"id\":%u}", node);
    return may_go_on(d, node);
  }
  d->seen[node / 8] |= (unsigned char)(1u << node % 8);
  if (d->depth == DEEPEST)
    return wrong(d, node, "things lie in things more than 150 deep");
  d->depth++;
  bool done = dispatch(d, node);
  d->depth--;
  return done && may_go_on(d, node);
}

/* --- arrays by name ------------------------------------------------------------------------------------------------------ */

/* A dict of arrays that safetensors has types for: each is a tensor, and there is nothing to be described. */
static bool is_plain(const struct describing *d, uint32_t root, bool *failed) {
  const struct bursar_node *at = &d->nodes->nodes[root];
  bool plain = at->kind == BURSAR_NODE_DICT && at->many.count;
  for (uint32_t cell = plain ? at->many.chain.first : 0; cell && plain;) {
    uint32_t key = d->nodes->cells[cell].node, value = d->nodes->cells[d->nodes->cells[cell].next].node;
    struct bursar_text name = bursar_nodes_text(d->nodes, key);
    struct bursar_ndarray array;
    cell = d->nodes->cells[d->nodes->cells[cell].next].next;
    plain = d->nodes->nodes[key].kind == BURSAR_NODE_TEXT && is_name(name) && name.length &&
            !bursar_nodes_is(d->nodes, key, "__metadata__") && !d->nodes->nodes[value].shared &&
            bursar_ndarray_is(d->nodes, value);
    if (!plain)
      break;
    if (bursar_ndarray_of(d->nodes, d->source, value, &array, d->error) < 0) {
      *failed = true;
      return false;
    }
    plain = array.type.dtype != BURSAR_DTYPES && !array.whole && !array.objects;
    bursar_ndarray_end(&array);
  }
  return plain;
}

static bool add_plain(struct describing *d, uint32_t root) {
  struct bursar_chain chain = d->nodes->nodes[root].many.chain;
  bool done = true;
  for (uint32_t cell = chain.first; cell && done;) {
    uint32_t key = d->nodes->cells[cell].node, value = d->nodes->cells[d->nodes->cells[cell].next].node;
    struct bursar_text name = bursar_nodes_text(d->nodes, key);
    struct bursar_ndarray array;
    struct bursar_plan *plan;
    cell = d->nodes->cells[d->nodes->cells[cell].next].next;
    if (bursar_ndarray_of(d->nodes, d->source, value, &array, d->error) < 0)
      return false;
    done = plan_array(d, &array, name, array.rank, &plan);
    if (done) {
      uint64_t step = 1;
      plan->swapped = array.type.swapped;
      plan->element = array.fortran && array.rank > 1 && array.elements ? (uint32_t)array.type.bytes : 0;
      for (uint32_t i = 0; i < array.rank; i++) {
        plan->shape[i] = array.shape[i];
        plan->strides[i] = step;
        step *= array.shape[i];
      }
    }
    bursar_ndarray_end(&array);
    if (done && (plan->name.length != name.length)) /* a key that is there twice: the last one stays in a dict */
      done = wrong(d, key, "a name is there twice");
  }
  return done;
}

static uint32_t count_arrays(const struct bursar_nodes *nodes) {
  uint32_t count = 0;
  for (uint32_t i = 1; i < nodes->count; i++)
    count += bursar_ndarray_is(nodes, i) || bursar_tensors_is(nodes, i);
  return count;
}

int bursar_describe(struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t root,
                    struct bursar_allowed_more allow, bursar_tensors_find_storage *find, void *context,
                    struct bursar_described *out, struct bursar_error *error) {
  struct describing *d = calloc(1, sizeof *d);
  bool failed = false;
  *out = (struct bursar_described){.plain = false};
  bursar_buffer_init(&out->text, BURSAR_SAFETENSORS_HEADER_MOST);
  if (bursar_pandas_rewrite(nodes, source, error) < 0) {
    free(d);
    return BURSAR_FAILED;
  }
  if (!d)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  *d = (struct describing){.nodes = nodes, .source = source, .allow = allow, .out = out, .error = error, .named = true};
  d->tensors.source = source;
  d->seen = calloc((size_t)nodes->count / 8 + 1, 1);
  if (!d->seen) {
    free(d);
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  }
  int status = bursar_plan_begin(&out->plans, count_arrays(nodes), source->bytes, error);
  if (status == 0 && find)
    status = bursar_tensors_collect(nodes, source, find, context, &d->tensors, error);
  if (status == 0) {
    out->plain = is_plain(d, root, &failed);
    if (out->plain) {
      status = add_plain(d, root) ? 0 : BURSAR_FAILED;
    } else if (!failed) {
      add(d, "{\"version\":1,\"model\":");
      failed = !visit(d, root);
      add(d, "}");
      failed = failed || !may_go_on(d, root);
    }
  }
  if (failed)
    status = BURSAR_FAILED;
  bursar_tensors_end(&d->tensors);
  free(d->seen);
  free(d);
  return status;
}

void bursar_describe_end(struct bursar_described *described) {
  bursar_plan_end(&described->plans);
  bursar_buffer_free(&described->text);
}
