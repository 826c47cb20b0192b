#include "model/tensors.h"

#include <stdlib.h>
#include <string.h>

#define RANK 64u

static int wrong(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node, const char *why,
                 struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu of its pickle: a tensor %s", source->path,
                          (unsigned long long)nodes->nodes[node].place, why);
}

/* --- types --------------------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name, *storage;
  uint32_t dtype;
} types[] = {{"float32", "FloatStorage", BURSAR_DTYPE_F32},
             {"float64", "DoubleStorage", BURSAR_DTYPE_F64},
             {"float16", "HalfStorage", BURSAR_DTYPE_F16},
             {"bfloat16", "BFloat16Storage", BURSAR_DTYPE_BF16},
             {"int64", "LongStorage", BURSAR_DTYPE_I64},
             {"int32", "IntStorage", BURSAR_DTYPE_I32},
             {"int16", "ShortStorage", BURSAR_DTYPE_I16},
             {"int8", "CharStorage", BURSAR_DTYPE_I8},
             {"uint8", "ByteStorage", BURSAR_DTYPE_U8},
             {"bool", "BoolStorage", BURSAR_DTYPE_BOOL},
             {"complex64", "ComplexFloatStorage", BURSAR_DTYPE_C64},
             {"uint16", "", BURSAR_DTYPE_U16},
             {"uint32", "", BURSAR_DTYPE_U32},
             {"uint64", "", BURSAR_DTYPE_U64},
             {"float8_e4m3fn", "", BURSAR_DTYPE_F8_E4M3},
             {"float8_e5m2", "", BURSAR_DTYPE_F8_E5M2},
             {"float8_e4m3fnuz", "", BURSAR_DTYPE_F8_E4M3FNUZ},
             {"float8_e5m2fnuz", "", BURSAR_DTYPE_F8_E5M2FNUZ},
             {"float8_e8m0fnu", "", BURSAR_DTYPE_F8_E8M0}};

#define TYPES (sizeof types / sizeof *types)

/* "torch.NAME"; BURSAR_DTYPES: none. */
static uint32_t type_of(struct bursar_text name, bool storage) {
  static const char prefix[] = "torch.";
  size_t length = strlen(prefix);
  for (size_t i = 0; name.bytes && name.length > length && memcmp(name.bytes, prefix, length) == 0 && i < TYPES; i++) {
    const char *word = storage ? types[i].storage : types[i].name;
    if (strlen(word) == name.length - length && memcmp(word, name.bytes + length, strlen(word)) == 0)
      return types[i].dtype;
  }
  return BURSAR_DTYPES;
}

static const char *name_of(uint32_t dtype) {
  size_t i = 0;
  while (types[i].dtype != dtype)
    i++;
  return types[i].name;
}

static uint64_t bytes_of(uint32_t dtype) { return bursar_dtype_facts[dtype].bits / 8; }

/* --- what a pickle says of one ------------------------------------------------------------------------------------------- */

bool bursar_tensors_is(const struct bursar_nodes *nodes, uint32_t node) {
  const struct bursar_object *object = bursar_nodes_object(nodes, node);
  return object && (bursar_nodes_is(nodes, object->of, "torch._utils._rebuild_tensor_v2") ||
                    bursar_nodes_is(nodes, object->of, "torch._utils._rebuild_tensor_v3") ||
                    bursar_nodes_is(nodes, object->of, "torch._utils._rebuild_tensor"));
}

static bool whole(const struct bursar_nodes *nodes, uint32_t node, uint64_t *out) {
  if (!node || nodes->nodes[node].kind != BURSAR_NODE_INT || nodes->nodes[node].number < 0)
    return false;
  *out = (uint64_t)nodes->nodes[node].number;
  return true;
}

static uint64_t *room_for(struct bursar_tensors *out, uint32_t count) {
  if (!out->numbers || out->number_count + count > out->number_room) {
    uint32_t room = out->number_room ? out->number_room : 256;
    while (room < out->number_count + count)
      room *= 2;
    uint64_t *larger = realloc(out->numbers, room * sizeof *larger);
    if (!larger)
      return NULL;
    out->numbers = larger;
    out->number_room = room;
  }
  uint64_t *found = out->numbers + out->number_count;
  out->number_count += count;
  return found;
}

/* Shape and strides; false: they are none, or reach beyond a storage of so many elements. */
static bool take_numbers(const struct bursar_nodes *nodes, const uint32_t arguments[4], uint64_t elements,
                         struct bursar_tensors *out, struct bursar_tensors_view *view) {
  uint32_t sizes[RANK], strides[RANK];
  uint64_t count = 1, last, step = 1;
  if (nodes->nodes[arguments[2]].kind != BURSAR_NODE_TUPLE || nodes->nodes[arguments[3]].kind != BURSAR_NODE_TUPLE ||
      !whole(nodes, arguments[1], &view->offset))
    return false;
  view->rank = bursar_nodes_links(nodes, arguments[2], sizes, RANK);
  if (view->rank > RANK || bursar_nodes_links(nodes, arguments[3], strides, RANK) != view->rank)
    return false;
  view->numbers = out->number_count;
  uint64_t *numbers = room_for(out, view->rank * 2);
  if (!numbers)
    return false;
  last = view->offset;
  view->contiguous = true;
  for (uint32_t i = view->rank; i-- > 0;) {
    uint64_t size, stride, reach;
    if (!whole(nodes, sizes[i], &size) || !whole(nodes, strides[i], &stride) ||
        __builtin_mul_overflow(count, size, &count))
      return false;
    if (size && (__builtin_mul_overflow(size - 1, stride, &reach) || __builtin_add_overflow(last, reach, &last)))
      return false;
    view->contiguous = view->contiguous && (size == 1 || stride == step);
    step = count;
    numbers[i] = size;
    numbers[view->rank + i] = stride;
  }
  view->contiguous = view->contiguous || !count;
  return !__builtin_mul_overflow(count, bytes_of(view->dtype), &view->bytes) && view->bytes <= INT64_MAX &&
         (!count || last < elements) && view->offset <= elements;
}

struct collecting {
  const struct bursar_nodes *nodes;
  struct bursar_tensors *out;
  struct bursar_index keys;
  bursar_tensors_find_storage *find;
  void *context;
  struct bursar_error *error;
};

/* ('storage', type, key, device, elements) */
static int take_storage(struct collecting *c, uint32_t node, uint32_t persistent, uint32_t *dtype, uint32_t *number,
                        uint64_t *elements) {
  const struct bursar_nodes *nodes = c->nodes;
  struct bursar_tensors *out = c->out;
  uint32_t parts[5] = {0};
  uint64_t bytes;
  if (nodes->nodes[persistent].kind != BURSAR_NODE_PERSISTENT ||
      bursar_nodes_links(nodes, nodes->nodes[persistent].id, parts, 5) != 5 ||
      !bursar_nodes_is(nodes, parts[0], "storage") || !bursar_nodes_text(nodes, parts[2]).bytes ||
      !whole(nodes, parts[4], elements))
    return wrong(nodes, out->source, node, "has no storage", c->error);
  if (*dtype == BURSAR_DTYPES)
    *dtype = type_of(bursar_nodes_text(nodes, parts[1]), true);
  else /* the storage has bytes, and no type */
    *elements /= bytes_of(*dtype);
  if (*dtype == BURSAR_DTYPES)
    return wrong(nodes, out->source, node, "is of a type that safetensors has not", c->error);
  *number = bursar_index_of_text(&c->keys, bursar_nodes_text(nodes, parts[2]));
  struct bursar_tensors_storage *storage = &out->storages[*number];
  if (*number == out->storage_count) {
    out->storage_count++;
    int status = c->find(c->context, bursar_nodes_text(nodes, parts[2]), &storage->at, &storage->bytes, c->error);
    if (status < 0)
      return status;
  }
  if (__builtin_mul_overflow(*elements, bytes_of(*dtype), &bytes) || bytes > storage->bytes)
    return wrong(nodes, out->source, node, "has a storage that is shorter than it says", c->error);
  return 0;
}

static bool same(const struct bursar_tensors *t, const struct bursar_tensors_view *a,
                 const struct bursar_tensors_view *b) {
  return a->dtype == b->dtype && a->rank == b->rank && a->offset == b->offset &&
         memcmp(t->numbers + a->numbers, t->numbers + b->numbers, 2 * a->rank * sizeof *t->numbers) == 0;
}

static int take(struct collecting *c, uint32_t node) {
  const struct bursar_object *object = bursar_nodes_object(c->nodes, node);
  struct bursar_tensors *out = c->out;
  struct bursar_tensors_view *view = &out->views[out->count];
  uint32_t arguments[8] = {0}, count = bursar_nodes_links(c->nodes, object->arguments, arguments, 8);
  bool typed = bursar_nodes_is(c->nodes, object->of, "torch._utils._rebuild_tensor_v3");
  uint64_t elements = 0;
  *view = (struct bursar_tensors_view){.node = node, .dtype = BURSAR_DTYPES};
  if (count < 4 || count > 8 || (typed && count < 7) || object->state)
    return wrong(c->nodes, out->source, node, "is made of what is none", c->error);
  if (typed) {
    view->dtype = type_of(bursar_nodes_text(c->nodes, arguments[6]), false);
    if (view->dtype == BURSAR_DTYPES)
      return wrong(c->nodes, out->source, node, "is of a type that safetensors has not", c->error);
  }
  view->grad = count > 4 && c->nodes->nodes[arguments[4]].kind == BURSAR_NODE_TRUE;
  int status = take_storage(c, node, arguments[0], &view->dtype, &view->storage, &elements);
  if (status < 0)
    return status;
  if (!take_numbers(c->nodes, arguments, elements, out, view))
    return wrong(c->nodes, out->source, node, "is beyond its storage, or has a shape that is none", c->error);
  struct bursar_tensors_storage *storage = &out->storages[view->storage];
  if (!storage->views++)
    *storage = (struct bursar_tensors_storage){storage->at, storage->bytes, 0, out->count, 1, true, NULL};
  storage->alike = storage->alike && same(out, &out->views[storage->first], view);
  if (__builtin_add_overflow(storage->views_bytes, view->bytes, &storage->views_bytes))
    storage->views_bytes = UINT64_MAX;
  out->count++;
  return 0;
}

int bursar_tensors_collect(const struct bursar_nodes *nodes, const struct bursar_source *source,
                           bursar_tensors_find_storage *find, void *context, struct bursar_tensors *out,
                           struct bursar_error *error) {
  struct collecting c = {.nodes = nodes, .out = out, .find = find, .context = context, .error = error};
  uint32_t count = 0;
  *out = (struct bursar_tensors){.source = source};
  for (uint32_t i = 1; i < nodes->count; i++)
    count += bursar_tensors_is(nodes, i);
  out->views = calloc((size_t)count + 1, sizeof *out->views);
  out->storages = calloc((size_t)count + 1, sizeof *out->storages);
  if (!out->views || !out->storages || bursar_index_init_texts(&c.keys, count) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  int status = 0;
  for (uint32_t i = 1; i < nodes->count && status == 0; i++)
    if (bursar_tensors_is(nodes, i))
      status = take(&c, i);
  bursar_index_free(&c.keys);
  return status;
}

/* --- what becomes of one ------------------------------------------------------------------------------------------------- */

static struct bursar_tensors_view *view_of(struct bursar_tensors *tensors, uint32_t node) {
  uint32_t low = 0, high = tensors->count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (tensors->views[middle].node < node)
      low = middle + 1;
    else
      high = middle;
  }
  return low < tensors->count && tensors->views[low].node == node ? &tensors->views[low] : NULL;
}

/* The storage, as bytes. */
static int place_storage(struct bursar_tensors *tensors, struct bursar_tensors_storage *storage,
                         struct bursar_text name, struct bursar_plans *plans, struct bursar_error *error) {
  int status = storage->plan ? 0 : bursar_plan_use(plans, tensors->source, storage->bytes, error);
  if (storage->plan || status < 0)
    return status;
  struct bursar_plan *plan;
  status = bursar_plan_add(plans, name, 1, &plan, error);
  if (status < 0)
    return status;
  plan->source = tensors->source;
  plan->data = (struct bursar_extent){storage->at, storage->bytes, storage->bytes, BURSAR_FORM_RAW};
  plan->dtype = BURSAR_DTYPE_U8;
  plan->shape[0] = storage->bytes;
  storage->plan = plan;
  return 0;
}

static int place_view(struct bursar_tensors *tensors, struct bursar_tensors_view *view, struct bursar_text name,
                      struct bursar_plans *plans, struct bursar_error *error) {
  const struct bursar_tensors_storage *storage = &tensors->storages[view->storage];
  const uint64_t *numbers = tensors->numbers + view->numbers;
  uint64_t element = bytes_of(view->dtype), from = view->offset * element;
  /* A view with holes is read with all that it spans. */
  uint64_t bytes = view->bytes;
  for (uint32_t i = 0; !view->contiguous && i < view->rank; i++)
    bytes = (i ? bytes : element) + (numbers[i] - 1) * numbers[view->rank + i] * element;
  struct bursar_plan *plan;
  int status = bursar_plan_use(plans, tensors->source, view->bytes, error);
  if (status == 0)
    status = bursar_plan_add(plans, name, view->rank, &plan, error);
  if (status < 0)
    return status;
  view->plan = plan;
  plan->source = tensors->source;
  plan->data = (struct bursar_extent){storage->at + from, bytes, bytes, BURSAR_FORM_RAW};
  plan->dtype = view->dtype;
  plan->element = view->contiguous ? 0 : (uint32_t)element;
  memcpy(plan->shape, numbers, view->rank * sizeof *numbers);
  memcpy(plan->strides, numbers + view->rank, view->rank * sizeof *numbers);
  return 0;
}

static void list(struct bursar_buffer *out, const uint64_t *numbers, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    bursar_buffer_format(out, "%s%llu", i ? "," : "", (unsigned long long)numbers[i]);
}

int bursar_tensors_place(struct bursar_tensors *tensors, uint32_t node, struct bursar_text name,
                         struct bursar_plans *plans, struct bursar_plan **plan, struct bursar_buffer *more, bool *grad,
                         struct bursar_error *error) {
  struct bursar_tensors_view *view = view_of(tensors, node);
  if (!view)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s: a tensor is none", tensors->source->path);
  struct bursar_tensors_storage *storage = &tensors->storages[view->storage];
  const uint64_t *numbers = tensors->numbers + view->numbers;
  *grad = view->grad;
  bool whole_storage = (storage->views > 1 && !storage->alike && storage->bytes <= storage->views_bytes) ||
                       storage->bytes < view->bytes;
  if (whole_storage) {
    int status = place_storage(tensors, storage, name, plans, error);
    if (status < 0)
      return status;
    *plan = storage->plan;
    bursar_buffer_format(more, ",\"view\":true,\"offset\":%llu,\"dtype\":\"%s\",\"shape\":[",
                         (unsigned long long)view->offset, name_of(view->dtype));
    list(more, numbers, view->rank);
    bursar_buffer_text(more, "],\"strides\":[");
    list(more, numbers + view->rank, view->rank);
    bursar_buffer_text(more, "]");
    return 0;
  }
  /* Those that are alike are one. */
  struct bursar_tensors_view *first = storage->alike ? &tensors->views[storage->first] : view;
  int status = first->plan ? 0 : place_view(tensors, first, name, plans, error);
  *plan = first->plan;
  return status;
}

void bursar_tensors_end(struct bursar_tensors *tensors) {
  free(tensors->views);
  free(tensors->storages);
  free(tensors->numbers);
  *tensors = (struct bursar_tensors){.source = NULL};
}
