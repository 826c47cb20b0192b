#include "model/ndarray.h"

#include <stdlib.h>
#include <string.h>

#include "model/extent.h"
#include "model/literal.h"

#define NPY_HEADER (1u << 20) /* bytes of an npy file's header, at most */

static int wrong(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node, const char *why,
                 struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu: an array %s", source->path,
                          (unsigned long long)(node ? nodes->nodes[node].place : 0), why);
}

bool bursar_ndarray_bytes(const struct bursar_ndarray *array, uint64_t *out) {
  return !__builtin_mul_overflow(array->elements, array->type.bytes, out) && *out <= INT64_MAX;
}

static bool take_shape(const struct bursar_nodes *nodes, uint32_t node, struct bursar_ndarray *out) {
  uint32_t sizes[BURSAR_NDARRAY_RANK];
  uint8_t kind = node ? nodes->nodes[node].kind : BURSAR_NODE_NONE;
  if (kind != BURSAR_NODE_TUPLE && kind != BURSAR_NODE_LIST)
    return false;
  out->rank = bursar_nodes_links(nodes, node, sizes, BURSAR_NDARRAY_RANK);
  out->elements = 1;
  uint64_t possible = 1; /* what there would be without zeros: NumPy holds it to the same */
  for (uint32_t i = 0; i < out->rank; i++) {
    if (out->rank > BURSAR_NDARRAY_RANK || nodes->nodes[sizes[i]].kind != BURSAR_NODE_INT ||
        nodes->nodes[sizes[i]].number < 0)
      return false;
    out->shape[i] = (uint64_t)nodes->nodes[sizes[i]].number;
    if (__builtin_mul_overflow(out->elements, out->shape[i], &out->elements) ||
        __builtin_mul_overflow(possible, out->shape[i] ? out->shape[i] : 1, &possible) || possible > INT64_MAX)
      return false;
  }
  return true;
}

/* Its content: an extent, or the list of what it refers to. */
static int take_content(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                        uint32_t content, struct bursar_ndarray *out, struct bursar_error *error) {
  const struct bursar_node *data = &nodes->nodes[content];
  uint64_t bytes;
  if (out->type.objects) {
    if (data->kind == BURSAR_NODE_OBJECT) {
      out->whole = content;
      return 0;
    }
    if (data->kind != BURSAR_NODE_LIST || data->many.count != out->elements)
      return wrong(nodes, source, node, "of references has other ones than its shape", error);
    out->objects = content;
    return 0;
  }
  bool text = data->kind == BURSAR_NODE_TEXT && (data->form == BURSAR_FORM_RAW || data->form == BURSAR_FORM_ESCAPED);
  if (!text && data->kind != BURSAR_NODE_BYTES && data->kind != BURSAR_NODE_BYTEARRAY)
    return wrong(nodes, source, node, "has no bytes", error);
  out->data = (struct bursar_extent){data->extent.at, data->extent.length, 0, data->form};
  if (!bursar_ndarray_bytes(out, &bytes))
    return wrong(nodes, source, node, "has a shape of more than can be", error);
  /* No form has more bytes than it has letters: so no more than that is read through. */
  int status = bytes > out->data.length ? wrong(nodes, source, node, "has other bytes than its type and shape", error)
                                        : bursar_extent_measure(source, &out->data, error);
  if (status == 0 && bytes != out->data.bytes)
    status = wrong(nodes, source, node, "has other bytes than its type and shape", error);
  return status;
}

/* _reconstruct(ndarray, …), with the state (version, shape, dtype, is Fortran's, bytes). */
static int of_reconstruct(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                          struct bursar_ndarray *out, struct bursar_error *error) {
  const struct bursar_object *object = bursar_nodes_object(nodes, node);
  uint32_t arguments[3] = {0}, state[5] = {0};
  if (bursar_nodes_links(nodes, object->arguments, arguments, 3) != 3 ||
      !bursar_nodes_is(nodes, arguments[0], "numpy.ndarray") || !object->state ||
      bursar_nodes_links(nodes, object->state, state, 5) != 5 || !take_shape(nodes, state[1], out))
    return wrong(nodes, source, node, "has no shape", error);
  uint8_t fortran = nodes->nodes[state[3]].kind;
  out->fortran = fortran == BURSAR_NODE_TRUE || (fortran == BURSAR_NODE_INT && nodes->nodes[state[3]].number == 1);
  int status = bursar_typed_of(nodes, source, state[2], &out->type, error);
  return status < 0 ? status : take_content(nodes, source, node, state[4], out, error);
}

/* _frombuffer(bytes, dtype, shape, order) */
static int of_frombuffer(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                         struct bursar_ndarray *out, struct bursar_error *error) {
  const struct bursar_object *object = bursar_nodes_object(nodes, node);
  uint32_t arguments[4] = {0};
  if (bursar_nodes_links(nodes, object->arguments, arguments, 4) != 4 || object->state ||
      !take_shape(nodes, arguments[2], out))
    return wrong(nodes, source, node, "has no shape", error);
  out->fortran = bursar_nodes_is(nodes, arguments[3], "F");
  if (!out->fortran && !bursar_nodes_is(nodes, arguments[3], "C"))
    return wrong(nodes, source, node, "has an order that is none", error);
  int status = bursar_typed_of(nodes, source, arguments[1], &out->type, error);
  if (status == 0 && out->type.objects)
    status = wrong(nodes, source, node, "of references has bytes", error);
  return status < 0 ? status : take_content(nodes, source, node, arguments[0], out, error);
}

static int of_joblib(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                     struct bursar_ndarray *out, struct bursar_error *error) {
  uint32_t state = bursar_nodes_object(nodes, node)->state;
  uint32_t kind = state ? bursar_nodes_value(nodes, state, "subclass") : 0;
  uint32_t order = state ? bursar_nodes_value(nodes, state, "order") : 0;
  uint32_t type = state ? bursar_nodes_value(nodes, state, "dtype") : 0;
  if (!kind || (!bursar_nodes_is(nodes, kind, "numpy.ndarray") && !bursar_nodes_is(nodes, kind, "numpy.memmap")))
    return wrong(nodes, source, node, "is of a class that is not NumPy's own", error);
  if (!type || !take_shape(nodes, bursar_nodes_value(nodes, state, "shape"), out))
    return wrong(nodes, source, node, "has no shape", error);
  out->fortran = order && bursar_nodes_is(nodes, order, "F");
  return bursar_typed_of(nodes, source, type, &out->type, error);
}

static int of_npy(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                  struct bursar_ndarray *out, struct bursar_error *error) {
  uint32_t state = bursar_nodes_object(nodes, node)->state;
  uint32_t descr = bursar_nodes_value(nodes, state, "descr");
  uint32_t fortran = bursar_nodes_value(nodes, state, "fortran_order");
  if (!descr || !fortran || !take_shape(nodes, bursar_nodes_value(nodes, state, "shape"), out))
    return wrong(nodes, source, node, "has no shape", error);
  out->fortran = nodes->nodes[fortran].kind == BURSAR_NODE_TRUE;
  return bursar_typed_of_descr(nodes, source, descr, &out->type, error);
}

static bool is_one_of(const struct bursar_nodes *nodes, uint32_t node, const char *first, const char *second) {
  const struct bursar_object *object = bursar_nodes_object(nodes, node);
  return object &&
         (bursar_nodes_is(nodes, object->of, first) || (second && bursar_nodes_is(nodes, object->of, second)));
}

bool bursar_ndarray_is(const struct bursar_nodes *nodes, uint32_t node) {
  return is_one_of(nodes, node, "numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer") ||
         is_one_of(nodes, node, BURSAR_NDARRAY_JOBLIB, BURSAR_NDARRAY_NPY);
}

int bursar_ndarray_of(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                      struct bursar_ndarray *out, struct bursar_error *error) {
  *out = (struct bursar_ndarray){.rank = 0};
  int status;
  if (is_one_of(nodes, node, BURSAR_NDARRAY_JOBLIB, BURSAR_NDARRAY_NPY)) {
    status = is_one_of(nodes, node, BURSAR_NDARRAY_NPY, NULL) ? of_npy(nodes, source, node, out, error)
                                                              : of_joblib(nodes, source, node, out, error);
    uint32_t cell = bursar_nodes_object(nodes, node)->items.first;
    if (status == 0 && cell)
      status = take_content(nodes, source, node, nodes->cells[cell].node, out, error);
  } else {
    status = is_one_of(nodes, node, "numpy._core.numeric._frombuffer", NULL)
                 ? of_frombuffer(nodes, source, node, out, error)
                 : of_reconstruct(nodes, source, node, out, error);
  }
  if (status < 0)
    bursar_ndarray_end(out);
  return status;
}

bool bursar_ndarray_fill(struct bursar_nodes *nodes, uint32_t node, uint64_t at, uint64_t bytes, uint32_t content) {
  if (!content) {
    content = bursar_nodes_add(nodes, BURSAR_NODE_BYTES, at);
    if (!content)
      return false;
    nodes->nodes[content].extent.at = at;
    nodes->nodes[content].extent.length = bytes;
  }
  return bursar_nodes_link(nodes, &bursar_nodes_object(nodes, node)->items, content);
}

/* "\x93NUMPY", version, length, a literal of a dict. */
int bursar_ndarray_npy(struct bursar_nodes *nodes, const struct bursar_source *source, uint64_t *at, uint64_t end,
                       uint32_t *out, struct bursar_error *error) {
  unsigned char head[12];
  if (end - *at < sizeof head)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu: an npy file is cut off", source->path,
                            (unsigned long long)*at);
  int status = bursar_source_read(source, *at, head, sizeof head, 1, error);
  if (status < 0)
    return status;
  unsigned long_length = head[6] > 1;
  uint64_t length = head[8] | (uint64_t)head[9] << 8;
  if (long_length)
    length |= (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24;
  uint64_t from = *at + (long_length ? 12 : 10);
  if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3 || length > NPY_HEADER || length > end - from)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s: byte %llu: it is no npy file that is known", source->path,
                            (unsigned long long)*at);
  char *text = malloc(length + 1);
  if (!text)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  status = bursar_source_read(source, from, text, length, 1, error);
  uint32_t dict = 0;
  if (status == 0)
    status = bursar_literal_read(nodes, text, length, from, source->path, &dict, error);
  free(text);
  if (status < 0)
    return status;
  uint32_t name = bursar_nodes_add_text(nodes, BURSAR_NODE_NAME, BURSAR_NDARRAY_NPY, strlen(BURSAR_NDARRAY_NPY), *at);
  uint32_t none = name ? bursar_nodes_add(nodes, BURSAR_NODE_TUPLE, *at) : 0;
  uint32_t node = none ? bursar_nodes_add_object(nodes, name, none, *at) : 0;
  if (!node)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s has more in it than a model does", source->path);
  bursar_nodes_object(nodes, node)->state = dict;
  *at = from + length;
  *out = node;
  return 0;
}

void bursar_ndarray_end(struct bursar_ndarray *array) { bursar_typed_end(&array->type); }
