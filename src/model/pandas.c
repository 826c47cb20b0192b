#include "model/pandas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/dtype.h"
#include "model/extent.h"
#include "model/ndarray.h"

#define COLUMNS (1u << 20)

/* Their modules moved: only what follows pandas' own counts. */
static const char *const classes[] = {"DataFrame",
                                      "Series",
                                      "BlockManager",
                                      "SingleBlockManager",
                                      "_unpickle_block",
                                      "_new_Index",
                                      "_new_DatetimeIndex",
                                      "Index",
                                      "RangeIndex",
                                      "DatetimeIndex",
                                      "TimedeltaIndex",
                                      "CategoricalIndex",
                                      "MultiIndex",
                                      "Int64Index",
                                      "UInt64Index",
                                      "Float64Index",
                                      "__pyx_unpickle_NDArrayBacked",
                                      "DatetimeArray",
                                      "TimedeltaArray",
                                      "Categorical",
                                      "CategoricalDtype",
                                      "StringArray",
                                      "StringDtype",
                                      "NA",
                                      "ArrowStringArray",
                                      "ArrowStringArrayNumpySemantics",
                                      "IntegerArray",
                                      "FloatingArray",
                                      "BooleanArray",
                                      "Int8Dtype",
                                      "Int16Dtype",
                                      "Int32Dtype",
                                      "Int64Dtype",
                                      "UInt8Dtype",
                                      "UInt16Dtype",
                                      "UInt32Dtype",
                                      "UInt64Dtype",
                                      "Float32Dtype",
                                      "Float64Dtype",
                                      "BooleanDtype"};
static const char *const modules[] = {"pandas",
                                      "pandas.arrays",
                                      "pandas.core.frame",
                                      "pandas.core.series",
                                      "pandas.core.internals.managers",
                                      "pandas._libs.internals",
                                      "pandas._libs.arrays",
                                      "pandas._libs.missing",
                                      "pandas.core.indexes.base",
                                      "pandas.core.indexes.range",
                                      "pandas.core.indexes.datetimes",
                                      "pandas.core.indexes.timedeltas",
                                      "pandas.core.indexes.category",
                                      "pandas.core.indexes.multi",
                                      "pandas.core.indexes.numeric",
                                      "pandas.core.arrays.datetimes",
                                      "pandas.core.arrays.timedeltas",
                                      "pandas.core.arrays.categorical",
                                      "pandas.core.arrays.string_",
                                      "pandas.core.arrays.string_arrow",
                                      "pandas.core.arrays.integer",
                                      "pandas.core.arrays.floating",
                                      "pandas.core.arrays.boolean",
                                      "pandas.core.dtypes.dtypes"};
static const char *const arrow[] = {"pyarrow.lib._restore_array", "pyarrow.lib.type_for_alias", "pyarrow.lib.py_buffer",
                                    "pyarrow.lib.chunked_array"};

struct rewriting {
  struct bursar_nodes *nodes;
  const struct bursar_source *source;
  struct bursar_error *error;
};

static bool is(struct bursar_text text, const char *word) {
  return text.bytes && text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

/* Behind the last dot. */
static struct bursar_text last_of(struct bursar_text name) {
  uint32_t at = name.bytes ? name.length : 0;
  if (!at)
    return (struct bursar_text){NULL, 0};
  while (at && name.bytes[at - 1] != '.')
    at--;
  return (struct bursar_text){name.bytes + at, name.length - at};
}

bool bursar_pandas_knows(struct bursar_text name) {
  bool module = false, class = false;
  for (size_t i = 0; i < sizeof arrow / sizeof *arrow; i++)
    if (is(name, arrow[i]))
      return true;
  struct bursar_text last = last_of(name);
  if (last.length + 1 >= name.length)
    return false;
  struct bursar_text first = {name.bytes, name.length - last.length - 1};
  for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
    module = module || is(first, modules[i]);
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
    class = class || is(last, classes[i]);
  return module && class;
}

/* --- errors: each returns false ------------------------------------------------------------------------------------------ */

static bool wrong(const struct rewriting *r, uint32_t node, const char *why) {
  (void)!bursar_error_set(r->error, BURSAR_FAILED, "%.500s: byte %llu: %s", r->source->path,
                          (unsigned long long)r->nodes->nodes[node].place, why);
  return false;
}

static bool too_much(const struct rewriting *r) {
  (void)!bursar_error_set(r->error, BURSAR_FAILED, "%.500s has more in it than a model does, or there is no memory",
                          r->source->path);
  return false;
}

/* --- making nodes: 0 is handed on ---------------------------------------------------------------------------------------- */

static uint32_t text(const struct rewriting *r, struct bursar_text words) {
  char kept[BURSAR_NODES_SHORT]; /* the table of texts may move */
  if (words.length > sizeof kept)
    return 0;
  memcpy(kept, words.bytes ? words.bytes : "", words.length);
  return bursar_nodes_add_text(r->nodes, BURSAR_NODE_TEXT, kept, words.length, 0);
}

static uint32_t word(const struct rewriting *r, const char *words) {
  return text(r, (struct bursar_text){words, (uint32_t)strlen(words)});
}

static uint32_t number(const struct rewriting *r, int64_t value) {
  uint32_t node = bursar_nodes_add(r->nodes, BURSAR_NODE_INT, 0);
  if (node)
    r->nodes->nodes[node].number = value;
  return node;
}

static uint32_t plain(const struct rewriting *r, enum bursar_node_kind kind) {
  return bursar_nodes_add(r->nodes, kind, 0);
}

static uint32_t row(const struct rewriting *r, const uint32_t *items, size_t count) {
  uint32_t node = plain(r, BURSAR_NODE_ROW);
  for (size_t i = 0; node && i < count; i++)
    if (!items[i] || !bursar_nodes_append(r->nodes, node, items[i]))
      return 0;
  return node;
}

/* The node becomes a record of that kind, without fields. */
static bool become(const struct rewriting *r, uint32_t node, const char *kind) {
  if (!bursar_nodes_keep(r->nodes, node, kind, strlen(kind)))
    return too_much(r);
  struct bursar_node *at = &r->nodes->nodes[node];
  at->kind = BURSAR_NODE_RECORD;
  memset(&at->many, 0, sizeof at->many);
  return true;
}

static bool field(const struct rewriting *r, uint32_t record, const char *name, uint32_t value) {
  uint32_t key = value ? word(r, name) : 0;
  return (key && bursar_nodes_append(r->nodes, record, key) && bursar_nodes_append(r->nodes, record, value)) ||
         too_much(r);
}

static uint32_t record(const struct rewriting *r, const char *kind) {
  uint32_t node = plain(r, BURSAR_NODE_NONE);
  return node && become(r, node, kind) ? node : 0;
}

/* --- reading nodes ------------------------------------------------------------------------------------------------------- */

static struct bursar_text maker(const struct rewriting *r, uint32_t node) {
  struct bursar_text name = bursar_nodes_maker(r->nodes, node);
  return name.bytes && bursar_pandas_knows(name) ? last_of(name) : (struct bursar_text){NULL, 0};
}

static uint32_t argument(const struct rewriting *r, uint32_t node, uint32_t which) {
  const struct bursar_object *object = node ? bursar_nodes_object(r->nodes, node) : NULL;
  uint32_t given[8] = {0};
  return object && bursar_nodes_links(r->nodes, object->arguments, given, 8) > which ? given[which] : 0;
}

static uint32_t state_of(const struct rewriting *r, uint32_t node) {
  const struct bursar_object *object = node ? bursar_nodes_object(r->nodes, node) : NULL;
  return object ? object->state : 0;
}

static uint32_t value(const struct rewriting *r, uint32_t dict, const char *key) {
  return dict ? bursar_nodes_value(r->nodes, dict, key) : 0;
}

static uint32_t or_none(const struct rewriting *r, uint32_t node) { return node ? node : plain(r, BURSAR_NODE_NONE); }

/* The content of bytes that lie as they are. */
static bool content(const struct rewriting *r, uint32_t node, struct bursar_extent *out) {
  const struct bursar_node *at = &r->nodes->nodes[node];
  if (!node || (at->kind != BURSAR_NODE_BYTES && at->kind != BURSAR_NODE_BYTEARRAY) || at->form != BURSAR_FORM_RAW)
    return wrong(r, node, "a column of texts has no bytes: save it with protocol 3 or later");
  *out = (struct bursar_extent){at->extent.at, at->extent.length, at->extent.length, at->form};
  return true;
}

static bool read_word(const struct rewriting *r, const struct bursar_extent *from, uint64_t at, unsigned bytes,
                      uint64_t *out) {
  *out = 0;
  if (at > from->length || bytes > from->length - at)
    return false;
  return bursar_source_read(r->source, from->at + at, out, bytes, 1, r->error) == 0;
}

/* --- arrays of pandas' own ----------------------------------------------------------------------------------------------- */

/* An array of references may be kept as a pickle of its own (joblib): then it is that one. */
static bool open_array(const struct rewriting *r, uint32_t node, struct bursar_ndarray *out) {
  if (bursar_ndarray_of(r->nodes, r->source, node, out, r->error) < 0)
    return false;
  uint32_t whole = out->whole;
  if (!whole)
    return true;
  bursar_ndarray_end(out);
  if (!bursar_ndarray_is(r->nodes, whole))
    return wrong(r, node, "an array of references has none");
  return bursar_ndarray_of(r->nodes, r->source, whole, out, r->error) == 0;
}

/* Of (dtype, array, …), in any order: the array, and the other. */
static uint32_t backed(const struct rewriting *r, uint32_t node, uint32_t *dtype) {
  uint32_t parts[3] = {0}, state = state_of(r, node), found = 0;
  uint32_t count = state ? bursar_nodes_links(r->nodes, state, parts, 3) : 0;
  *dtype = 0;
  for (uint32_t i = 0; i < count && i < 2; i++)
    if (bursar_ndarray_is(r->nodes, parts[i]))
      found = parts[i];
    else
      *dtype = parts[i];
  return found;
}

/* Times are kept with their unit: "<M8[ns]". */
static uint32_t times(const struct rewriting *r, uint32_t node, uint32_t array, uint32_t values) {
  struct bursar_ndarray found;
  char unit[16] = "ns";
  struct bursar_text of = last_of(bursar_nodes_text(r->nodes, argument(r, node, 0)));
  uint32_t made, name = of.bytes ? text(r, of) : 0;
  if (!open_array(r, array, &found))
    return 0;
  const char *open = found.type.text.data ? strchr(found.type.text.data, '[') : NULL;
  const char *close = open ? strchr(open, ']') : NULL;
  if (open && close && (size_t)(close - open) < sizeof unit)
    snprintf(unit, sizeof unit, "%.*s", (int)(close - open - 1), open + 1);
  bursar_ndarray_end(&found);
  made = record(r, "times");
  if (!name || !made || !field(r, made, "of", name) || !field(r, made, "unit", word(r, unit)) ||
      !field(r, made, "tz", plain(r, BURSAR_NODE_NONE)) || !field(r, made, "values", values))
    return 0;
  return made;
}

/* ["python", is a NaN missing] */
static uint32_t text_type(const struct rewriting *r, uint32_t dtype, const char *otherwise) {
  uint32_t storage = argument(r, dtype, 0), missing = argument(r, dtype, 1), parts[2];
  if (!storage)
    storage = value(r, state_of(r, dtype), "storage");
  if (!missing)
    missing = value(r, state_of(r, dtype), "_na_value");
  parts[0] = storage && r->nodes->nodes[storage].kind == BURSAR_NODE_TEXT ? storage : word(r, otherwise);
  bool nan = missing && r->nodes->nodes[missing].kind == BURSAR_NODE_FLOAT;
  parts[1] = plain(r, nan ? BURSAR_NODE_TRUE : BURSAR_NODE_FALSE);
  return row(r, parts, 2);
}

static bool texts_of_objects(const struct rewriting *r, uint32_t node, uint32_t array, uint32_t dtype) {
  struct bursar_ndarray found;
  if (!open_array(r, array, &found))
    return false;
  uint32_t list = found.objects;
  bursar_ndarray_end(&found);
  uint32_t type = text_type(r, dtype, "python"), items = plain(r, BURSAR_NODE_ROW);
  if (!list || !items)
    return wrong(r, node, "a column of texts has none");
  for (uint32_t cell = r->nodes->nodes[list].many.chain.first; cell; cell = r->nodes->cells[cell].next) {
    uint32_t one = r->nodes->cells[cell].node;
    if (r->nodes->nodes[one].kind != BURSAR_NODE_TEXT)
      one = plain(r, BURSAR_NODE_NONE);
    if (!one || !bursar_nodes_append(r->nodes, items, one))
      return too_much(r);
  }
  return become(r, node, "texts") && field(r, node, "dtype", type) && field(r, node, "texts", items);
}

/* _restore_array((type, length, nulls, offset, [validity, offsets, bytes], …)) */
static bool texts_of_arrow(const struct rewriting *r, uint32_t array, uint32_t items) {
  uint32_t parts[7] = {0}, buffers[3] = {0}, whole = argument(r, array, 0);
  struct bursar_extent valid = {0}, offsets, bytes;
  if (!is(bursar_nodes_maker(r->nodes, array), arrow[0]) || bursar_nodes_links(r->nodes, whole, parts, 7) < 5 ||
      bursar_nodes_links(r->nodes, parts[4], buffers, 3) != 3)
    return wrong(r, array, "a column of texts is none");
  bool large = bursar_nodes_is(r->nodes, argument(r, parts[0], 0), "large_string");
  if (!large && !bursar_nodes_is(r->nodes, argument(r, parts[0], 0), "string"))
    return wrong(r, array, "a column of pyarrow's has something else than texts");
  bool has_valid = r->nodes->nodes[buffers[0]].kind != BURSAR_NODE_NONE;
  if ((has_valid && !content(r, argument(r, buffers[0], 0), &valid)) ||
      !content(r, argument(r, buffers[1], 0), &offsets) || !content(r, argument(r, buffers[2], 0), &bytes))
    return false;
  int64_t length = r->nodes->nodes[parts[1]].number, from = r->nodes->nodes[parts[3]].number;
  if (r->nodes->nodes[parts[1]].kind != BURSAR_NODE_INT || r->nodes->nodes[parts[3]].kind != BURSAR_NODE_INT ||
      length < 0 || from < 0 || length > (int64_t)BURSAR_NODES_MOST || from > (int64_t)UINT32_MAX)
    return wrong(r, array, "a column of texts has no length");
  unsigned size = large ? 8 : 4;
  uint64_t bits = 0, start = 0, end;
  if (length && !read_word(r, &offsets, (uint64_t)from * size, size, &start))
    return wrong(r, array, "a column of texts is broken");
  for (int64_t i = from; i < from + length; i++) {
    if ((has_valid && (i == from || i % 8 == 0) && !read_word(r, &valid, (uint64_t)i / 8, 1, &bits)) ||
        !read_word(r, &offsets, (uint64_t)(i + 1) * size, size, &end) || start > end || end > bytes.length)
      return wrong(r, array, "a column of texts is broken");
    bool there = !has_valid || bits >> i % 8 & 1;
    uint32_t one = bursar_nodes_add(r->nodes, there ? BURSAR_NODE_TEXT : BURSAR_NODE_NONE, bytes.at + start);
    if (!one || !bursar_nodes_append(r->nodes, items, one))
      return too_much(r);
    if (there) {
      r->nodes->nodes[one].form = BURSAR_FORM_UTF8;
      r->nodes->nodes[one].extent.at = bytes.at + start;
      r->nodes->nodes[one].extent.length = end - start;
    }
    start = end;
  }
  return true;
}

static bool rewrite_arrow(const struct rewriting *r, uint32_t node) {
  uint32_t state = state_of(r, node), array = value(r, state, "_pa_array");
  uint32_t dtype = value(r, state, "_dtype"), items = plain(r, BURSAR_NODE_ROW);
  if (!array)
    array = value(r, state, "_data");
  if (!array || !items)
    return wrong(r, node, "a column of texts is none");
  uint32_t type = text_type(r, dtype, "pyarrow");
  if (!is(bursar_nodes_maker(r->nodes, array), arrow[3])) {
    if (!texts_of_arrow(r, array, items))
      return false;
  } else {
    uint32_t list = argument(r, array, 0);
    if (!list || r->nodes->nodes[list].kind != BURSAR_NODE_LIST)
      return wrong(r, node, "a column of texts is none");
    for (uint32_t cell = r->nodes->nodes[list].many.chain.first; cell; cell = r->nodes->cells[cell].next)
      if (!texts_of_arrow(r, r->nodes->cells[cell].node, items))
        return false;
  }
  return become(r, node, "texts") && field(r, node, "dtype", type) && field(r, node, "texts", items);
}

static bool rewrite_backed(const struct rewriting *r, uint32_t node) {
  uint32_t dtype, array = backed(r, node, &dtype), class = argument(r, node, 0);
  struct bursar_text of = class ? last_of(bursar_nodes_text(r->nodes, class)) : (struct bursar_text){NULL, 0};
  if (!array || !of.bytes)
    return wrong(r, node, "an array of pandas' has no numbers");
  if (is(of, "StringArray"))
    return texts_of_objects(r, node, array, dtype);
  if (is(of, "Categorical")) {
    uint32_t state = state_of(r, dtype), categories = value(r, state, "categories"),
             sorted = value(r, state, "ordered");
    bool ordered = sorted && r->nodes->nodes[sorted].kind == BURSAR_NODE_TRUE;
    if (!categories)
      return wrong(r, node, "categories are none");
    return become(r, node, "categorical") &&
           field(r, node, "ordered", plain(r, ordered ? BURSAR_NODE_TRUE : BURSAR_NODE_FALSE)) &&
           field(r, node, "codes", array) && field(r, node, "categories", categories);
  }
  if (!is(of, "DatetimeArray") && !is(of, "TimedeltaArray"))
    return wrong(r, node, "an array of pandas' is of a class that is not known");
  uint32_t made = times(r, node, array, array);
  if (!made)
    return r->error->status ? false : too_much(r);
  struct bursar_node *at = &r->nodes->nodes[node];
  bool shared = at->shared;
  *at = r->nodes->nodes[made];
  at->shared = shared;
  return true;
}

static bool rewrite_masked(const struct rewriting *r, uint32_t node, struct bursar_text of) {
  uint32_t state = state_of(r, node), data = value(r, state, "_data"), mask = value(r, state, "_mask");
  uint32_t name = text(r, of);
  if (!data || !mask || !name)
    return wrong(r, node, "an array of pandas' has no numbers");
  return become(r, node, "masked") && field(r, node, "of", name) && field(r, node, "values", data) &&
         field(r, node, "mask", mask);
}

/* --- indexes ------------------------------------------------------------------------------------------------------------- */

static uint32_t as_row(const struct rewriting *r, uint32_t container) {
  uint32_t node = plain(r, BURSAR_NODE_ROW);
  uint8_t kind = container ? r->nodes->nodes[container].kind : BURSAR_NODE_NONE;
  if (!node || (kind != BURSAR_NODE_LIST && kind != BURSAR_NODE_TUPLE))
    return 0;
  for (uint32_t cell = r->nodes->nodes[container].many.chain.first; cell; cell = r->nodes->cells[cell].next)
    if (!bursar_nodes_append(r->nodes, node, r->nodes->cells[cell].node))
      return 0;
  return node;
}

static bool rewrite_index(const struct rewriting *r, uint32_t node) {
  uint32_t class = argument(r, node, 0), facts = argument(r, node, 1);
  struct bursar_text of = class ? last_of(bursar_nodes_text(r->nodes, class)) : (struct bursar_text){NULL, 0};
  uint32_t name = value(r, facts, "name"), freq = value(r, facts, "freq"), data = value(r, facts, "data");
  if (!facts || !of.bytes || state_of(r, node))
    return wrong(r, node, "an index of pandas' is none");
  if (is(of, "RangeIndex")) {
    uint32_t bounds[3] = {value(r, facts, "start"), value(r, facts, "stop"), value(r, facts, "step")};
    uint32_t all = row(r, bounds, 3);
    if (!all)
      return wrong(r, node, "an index has no bounds");
    return become(r, node, "range index") && field(r, node, "bounds", all) && field(r, node, "name", or_none(r, name));
  }
  if (is(of, "MultiIndex")) {
    uint32_t levels = as_row(r, value(r, facts, "levels")), codes = as_row(r, value(r, facts, "codes"));
    uint32_t names = as_row(r, value(r, facts, "names"));
    if (!levels || !codes || !names)
      return wrong(r, node, "an index of several levels has none");
    return become(r, node, "multi index") && field(r, node, "levels", levels) && field(r, node, "codes", codes) &&
           field(r, node, "names", names);
  }
  if (!data || (freq && r->nodes->nodes[freq].kind != BURSAR_NODE_NONE))
    return wrong(r, node, data ? "an index of times has a frequency, which is not kept" : "an index has no labels");
  return become(r, node, "index") && field(r, node, "name", or_none(r, name)) &&
         field(r, node, "freq", plain(r, BURSAR_NODE_NONE)) && field(r, node, "data", data);
}

/* --- frames and series --------------------------------------------------------------------------------------------------- */

struct manager {
  uint32_t axes[2], axis_count;
  uint32_t blocks; /* a list */
};

/* By arguments, or by a state of four with what it is in the last. */
static bool open_manager(const struct rewriting *r, uint32_t node, struct manager *out) {
  uint32_t parts[4] = {0}, state = state_of(r, node), axes = argument(r, node, 1);
  out->blocks = argument(r, node, 0);
  if (!axes && state && bursar_nodes_links(r->nodes, state, parts, 4) == 4) {
    uint32_t facts = value(r, parts[3], "0.14.1");
    axes = value(r, facts, "axes");
    out->blocks = value(r, facts, "blocks");
  }
  out->axis_count = axes ? bursar_nodes_links(r->nodes, axes, out->axes, 2) : 0;
  return out->blocks && out->axis_count && out->axis_count <= 2;
}

/* (values, places, …), or a dict of them. */
static bool open_block(const struct rewriting *r, uint32_t block, uint32_t *values, uint32_t *places) {
  bool called = is(maker(r, block), "_unpickle_block");
  *values = called ? argument(r, block, 0) : value(r, block, "values");
  *places = called ? argument(r, block, 1) : value(r, block, "mgr_locs");
  return *values && *places;
}

/* Which column a block's number `i` is. */
static bool place_of(const struct rewriting *r, uint32_t places, uint64_t i, uint64_t *out) {
  const struct bursar_object *object = bursar_nodes_object(r->nodes, places);
  if (object && bursar_nodes_is(r->nodes, object->of, "builtins.slice")) {
    uint32_t start = argument(r, places, 0), step = argument(r, places, 2);
    if (!start || r->nodes->nodes[start].kind != BURSAR_NODE_INT)
      return false;
    int64_t by = step && r->nodes->nodes[step].kind == BURSAR_NODE_INT ? r->nodes->nodes[step].number : 1;
    *out = (uint64_t)r->nodes->nodes[start].number + i * (uint64_t)by; /* too large is found to be none */
    return true;
  }
  struct bursar_ndarray array;
  if (!bursar_ndarray_is(r->nodes, places) || bursar_ndarray_of(r->nodes, r->source, places, &array, r->error) < 0)
    return false;
  bool fine = array.type.dtype == BURSAR_DTYPE_I64 && !array.type.swapped && array.data.form == BURSAR_FORM_RAW &&
              read_word(r, &array.data, i * 8, 8, out);
  bursar_ndarray_end(&array);
  return fine;
}

/* Rows of a block of references are lists; of numbers, views. */
static bool rows_of(const struct rewriting *r, uint32_t values, uint32_t array, uint32_t *out, uint64_t count,
                    uint64_t length) {
  struct bursar_ndarray found;
  if (!open_array(r, array, &found))
    return false;
  uint32_t list = found.objects;
  bool fits = found.rank == 2 && found.shape[0] == count && found.shape[1] == length && (list || !found.type.objects);
  bursar_ndarray_end(&found);
  if (!fits)
    return wrong(r, array, "a block of a frame is none");
  uint32_t cell = list ? r->nodes->nodes[list].many.chain.first : 0;
  for (uint64_t i = 0; i < count; i++) {
    if (list) {
      uint32_t size = number(r, (int64_t)length), shape = row(r, &size, 1), items = plain(r, BURSAR_NODE_ROW);
      for (uint64_t k = 0; items && k < length; k++, cell = r->nodes->cells[cell].next)
        if (!bursar_nodes_append(r->nodes, items, r->nodes->cells[cell].node))
          return too_much(r);
      out[i] = record(r, "objects");
      if (!out[i] || !field(r, out[i], "shape", shape) || !field(r, out[i], "items", items))
        return too_much(r);
      continue;
    }
    uint32_t parts[2] = {array, number(r, (int64_t)i)}, view = plain(r, BURSAR_NODE_VIEW);
    if (!view || !parts[1] || !bursar_nodes_append(r->nodes, view, parts[0]) ||
        !bursar_nodes_append(r->nodes, view, parts[1]))
      return too_much(r);
    out[i] = values == array ? view : times(r, values, array, view);
    if (!out[i])
      return r->error->status ? false : too_much(r);
  }
  return true;
}

/* The columns of one block, to their places. */
static bool take_block(const struct rewriting *r, uint32_t block, uint32_t *columns, uint64_t count) {
  uint32_t values, places, dtype, array, one;
  uint64_t rows = 1, length = 0, place;
  if (!open_block(r, block, &values, &places))
    return wrong(r, block, "a block of a frame is none");
  array = bursar_ndarray_is(r->nodes, values) ? values : backed(r, values, &dtype);
  if (array) {
    struct bursar_ndarray found;
    if (!open_array(r, array, &found))
      return false;
    bool flat = found.rank != 2;
    rows = flat ? 1 : found.shape[0];
    length = flat ? 0 : found.shape[1];
    bursar_ndarray_end(&found);
    array = flat ? 0 : array;
  }
  if (rows > count)
    return wrong(r, block, "a frame has more columns than names");
  uint32_t *made = array ? calloc(rows + 1, sizeof *made) : &one;
  one = values;
  bool done = made && (!array || rows_of(r, values, array, made, rows, length));
  for (uint64_t i = 0; done && i < rows; i++) {
    done = place_of(r, places, i, &place) && place < count && !columns[place];
    if (done)
      columns[place] = made[i];
    else
      (void)wrong(r, block, "columns of a frame have no places, or the same");
  }
  if (array)
    free(made);
  return done;
}

static bool take_blocks(const struct rewriting *r, uint32_t node, const struct manager *manager, uint32_t *columns,
                        uint64_t count) {
  bool done = true;
  for (uint32_t cell = r->nodes->nodes[manager->blocks].many.chain.first; cell && done;
       cell = r->nodes->cells[cell].next)
    done = take_block(r, r->nodes->cells[cell].node, columns, count);
  for (uint64_t i = 0; i < count && done; i++)
    done = columns[i] != 0 || wrong(r, node, "a column of a frame is not there");
  return done;
}

/* How many columns there are in all blocks. */
static bool count_columns(const struct rewriting *r, const struct manager *manager, uint64_t *out) {
  *out = 0;
  uint8_t kind = r->nodes->nodes[manager->blocks].kind;
  if (kind != BURSAR_NODE_LIST && kind != BURSAR_NODE_TUPLE)
    return wrong(r, manager->blocks, "a frame has no blocks");
  for (uint32_t cell = r->nodes->nodes[manager->blocks].many.chain.first; cell; cell = r->nodes->cells[cell].next) {
    uint32_t values, places, dtype, block = r->nodes->cells[cell].node;
    struct bursar_ndarray found;
    if (!open_block(r, block, &values, &places))
      return wrong(r, block, "a block of a frame is none");
    uint32_t array = bursar_ndarray_is(r->nodes, values) ? values : backed(r, values, &dtype);
    if (!array) {
      *out += 1;
      continue;
    }
    if (!open_array(r, array, &found))
      return false;
    *out += found.rank == 2 ? found.shape[0] : 1;
    bursar_ndarray_end(&found);
    if (*out > COLUMNS)
      return wrong(r, block, "a frame has more columns than any has");
  }
  return true;
}

static bool rewrite_frame(const struct rewriting *r, uint32_t node, bool series) {
  uint32_t state = state_of(r, node), managed = value(r, state, "_mgr"), name = value(r, state, "_name");
  struct manager manager;
  uint64_t count;
  if (!managed)
    managed = value(r, state, "_data");
  if (!name)
    name = value(r, state, "name");
  if (!managed || !open_manager(r, managed, &manager) || manager.axis_count != (series ? 1u : 2u))
    return wrong(r, node, "a frame of pandas' is none");
  if (!count_columns(r, &manager, &count))
    return false;
  uint32_t *columns = calloc(count + 1, sizeof *columns);
  bool done = columns ? take_blocks(r, node, &manager, columns, count) : too_much(r);
  uint32_t data = !done ? 0 : series ? columns[0] : row(r, columns, count);
  free(columns);
  if (!done)
    return false;
  if (series)
    return (count == 1 || wrong(r, node, "a series is none")) && become(r, node, "series") &&
           field(r, node, "index", manager.axes[0]) && field(r, node, "name", or_none(r, name)) &&
           field(r, node, "data", data);
  return become(r, node, "frame") && field(r, node, "index", manager.axes[1]) &&
         field(r, node, "columns", manager.axes[0]) && field(r, node, "data", data);
}

/* --- all of them --------------------------------------------------------------------------------------------------------- */

static bool rewrite_part(const struct rewriting *r, uint32_t node, struct bursar_text of) {
  if (is(of, "_new_Index") || is(of, "_new_DatetimeIndex"))
    return rewrite_index(r, node);
  if (is(of, "__pyx_unpickle_NDArrayBacked"))
    return rewrite_backed(r, node);
  if (is(of, "ArrowStringArray") || is(of, "ArrowStringArrayNumpySemantics"))
    return rewrite_arrow(r, node);
  if (is(of, "IntegerArray") || is(of, "FloatingArray") || is(of, "BooleanArray"))
    return rewrite_masked(r, node, of);
  return true;
}

int bursar_pandas_rewrite(struct bursar_nodes *nodes, const struct bursar_source *source, struct bursar_error *error) {
  const struct rewriting r = {nodes, source, error};
  uint32_t count = nodes->count;
  *error = (struct bursar_error){0};
  /* Frames first: they look into the arrays that their blocks are. */
  for (uint32_t i = 1; i < count; i++) {
    struct bursar_text of = maker(&r, i);
    bool series = is(of, "Series");
    if ((series || is(of, "DataFrame")) && !rewrite_frame(&r, i, series))
      return BURSAR_FAILED;
  }
  for (uint32_t i = 1; i < count; i++)
    if (!rewrite_part(&r, i, maker(&r, i)))
      return BURSAR_FAILED;
  return 0;
}
