#include "model/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/index.h"
#include "model/parse.h"

#define TENSOR_LEAST 44u /* bytes that one takes in a header: "":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */

/* What a container is behind what its header shows. */
struct container {
  struct bursar_safetensors shown;
  char *header;
  struct bursar_tensor *tensors;
  struct bursar_safetensors_pair *metadata;
  uint64_t *numbers; /* of all shapes */
  struct bursar_index index;
};

static bool is(struct bursar_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

/* --- errors ---------------------------------------------------------------------------------------------------------- */

/* A name as it may stand in an error: not all of a long one. */
struct shown_name {
  char text[80];
};

static const char *show(struct shown_name *out, struct bursar_text name) {
  size_t length = name.length < sizeof out->text - 4 ? name.length : sizeof out->text - 4;
  memcpy(out->text, name.bytes, length);
  memcpy(out->text + length, length < name.length ? "..." : "", length < name.length ? 4 : 1);
  return out->text;
}

static int refuse(struct bursar_error *error, const char *path, const char *why) {
  return bursar_error_set(error, BURSAR_FAILED, "%.500s is no safetensors file: %s", path, why);
}

static int refuse_tensor(struct bursar_error *error, const char *path, struct bursar_text name, const char *why) {
  struct shown_name shown;
  return bursar_error_set(error, BURSAR_FAILED, "%.500s is no safetensors file: tensor \"%s\" %s", path,
                          show(&shown, name), why);
}

static int out_of_memory(struct bursar_error *error, const char *path) {
  return bursar_error_set(error, BURSAR_FAILED, "no memory for the header of %.500s", path);
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

struct reading {
  struct container *container;
  struct bursar_parse in;
  size_t tensors, numbers, pairs; /* so far */
  bool has_metadata;
};

static bool read_shape(struct reading *r, struct bursar_tensor *tensor) {
  struct bursar_parse *in = &r->in;
  tensor->shape = r->container->numbers + r->numbers;
  if (!bursar_parse_want(in, '[', "a shape, which begins with [, is wanted there"))
    return false;
  if (bursar_parse_take(in, ']'))
    return true;
  do {
    if (!bursar_parse_number(in, &r->container->numbers[r->numbers]))
      return false;
    r->numbers++;
    tensor->rank++;
  } while (bursar_parse_more(in, ']'));
  return !in->wrong;
}

static bool read_offsets(struct bursar_parse *in, struct bursar_tensor *tensor) {
  return bursar_parse_want(in, '[', "offsets, which begin with [, are wanted there") &&
         bursar_parse_number(in, &tensor->from) && bursar_parse_want(in, ',', "a second offset is wanted there") &&
         bursar_parse_number(in, &tensor->to) && bursar_parse_want(in, ']', "no third offset may be there");
}

static bool read_dtype(struct bursar_parse *in, struct bursar_tensor *tensor) {
  struct bursar_text name;
  if (!bursar_parse_string(in, &name))
    return false;
  tensor->dtype = bursar_dtype_of(name);
  return tensor->dtype < BURSAR_DTYPES || bursar_parse_refuse(in, "a type that is not known stands before it");
}

static bool read_tensor(struct reading *r, struct bursar_text name) {
  enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
  struct bursar_parse *in = &r->in;
  struct bursar_tensor *tensor = &r->container->tensors[r->tensors++];
  unsigned seen = 0;
  *tensor = (struct bursar_tensor){.name = name};
  if (!bursar_parse_want(in, '{', "what a tensor is, which begins with {, is wanted there"))
    return false;
  do {
    struct bursar_text field;
    if (!bursar_parse_string(in, &field) || !bursar_parse_want(in, ':', "a colon is wanted there"))
      return false;
    unsigned which = is(field, "dtype") ? DTYPE : is(field, "shape") ? SHAPE : is(field, "data_offsets") ? OFFSETS : 0;
    if (!which || seen & which)
      return bursar_parse_refuse(in,
                                 which ? "a field stands there twice" : "a field that is not known stands before it");
    seen |= which;
    if (!(which == DTYPE ? read_dtype(in, tensor) : which == SHAPE ? read_shape(r, tensor) : read_offsets(in, tensor)))
      return false;
  } while (bursar_parse_more(in, '}'));
  return !in->wrong &&
         (seen == ALL || bursar_parse_refuse(in, "a tensor without dtype, shape or data_offsets ends there"));
}

static bool read_metadata(struct reading *r) {
  struct bursar_parse *in = &r->in;
  if (r->has_metadata)
    return bursar_parse_refuse(in, "__metadata__ stands there twice");
  r->has_metadata = true;
  if (!bursar_parse_want(in, '{', "texts by name, which begin with {, are wanted there"))
    return false;
  if (bursar_parse_take(in, '}'))
    return true;
  do {
    struct bursar_safetensors_pair *pair = &r->container->metadata[r->pairs++];
    if (!bursar_parse_string(in, &pair->key) || !bursar_parse_want(in, ':', "a colon is wanted there") ||
        !bursar_parse_string(in, &pair->value))
      return false;
  } while (bursar_parse_more(in, '}'));
  return !in->wrong;
}

static bool read_all(struct reading *r) {
  struct bursar_parse *in = &r->in;
  if (in->start == in->end || *in->start != '{')
    return bursar_parse_refuse(in, "a header begins with {");
  (void)bursar_parse_take(in, '{');
  if (!bursar_parse_take(in, '}'))
    do {
      struct bursar_text name;
      if (!bursar_parse_string(in, &name) || !bursar_parse_want(in, ':', "a colon is wanted there") ||
          !(is(name, "__metadata__") ? read_metadata(r) : read_tensor(r, name)))
        return false;
    } while (bursar_parse_more(in, '}'));
  return !in->wrong && (bursar_parse_ended(in) || bursar_parse_refuse(in, "the header should end there"));
}

/* Room for as much as a header of that text can say; what it does not say is never touched. */
static bool make_room(struct container *container, const char *header, size_t bytes) {
  size_t braces = 0, commas = 0, colons = 0;
  for (size_t i = 0; i < bytes; i++) {
    braces += header[i] == '{';
    commas += header[i] == ',';
    colons += header[i] == ':';
  }
  size_t tensors = braces < bytes / TENSOR_LEAST + 1 ? braces + 1 : bytes / TENSOR_LEAST + 2;
  container->tensors = malloc(tensors * sizeof *container->tensors);
  container->numbers = malloc((commas + braces + 1) * sizeof *container->numbers);
  container->metadata = malloc((colons + 1) * sizeof *container->metadata);
  return container->tensors && container->numbers && container->metadata;
}

/* --- what is wrong with all of them together -------------------------------------------------------------------------- */

static int by_place(const void *left, const void *right) {
  const struct bursar_tensor *a = left, *b = right;
  return a->from != b->from ? (a->from < b->from ? -1 : 1) : a->to != b->to ? (a->to < b->to ? -1 : 1) : 0;
}

static void sort(struct bursar_tensor *tensors, size_t count) {
  for (size_t i = 1; i < count; i++)
    if (by_place(&tensors[i - 1], &tensors[i]) > 0) {
      qsort(tensors, count, sizeof *tensors, by_place);
      return;
    }
}

static int check_places(const struct container *container, const char *path, struct bursar_error *error) {
  uint64_t end = 0, bytes;
  for (size_t i = 0; i < container->shown.count; i++) {
    const struct bursar_tensor *tensor = &container->tensors[i];
    if (!bursar_dtype_bytes(tensor->dtype, tensor->shape, tensor->rank, &bytes))
      return refuse_tensor(error, path, tensor->name, "has a shape of more than can be, or of no whole bytes");
    if (tensor->to < tensor->from || tensor->to - tensor->from != bytes)
      return refuse_tensor(error, path, tensor->name, "has other bytes than its type and shape");
    if (tensor->from != end)
      return refuse_tensor(error, path, tensor->name,
                           tensor->from > end ? "has a hole before it" : "lies over another");
    end = tensor->to;
  }
  if (end == container->shown.data_bytes)
    return 0;
  return refuse(error, path, end < container->shown.data_bytes ? "something follows the last tensor" : "it is cut off");
}

static int check_names(struct container *container, const char *path, struct bursar_error *error) {
  struct bursar_index keys = {0};
  if (bursar_index_init_texts(&container->index, (uint32_t)container->shown.count) != 0 ||
      bursar_index_init_texts(&keys, (uint32_t)container->shown.metadata_count) != 0)
    return out_of_memory(error, path);
  bool twice = false;
  for (size_t i = 0; i < container->shown.metadata_count; i++)
    twice = twice || bursar_index_of_text(&keys, container->metadata[i].key) != i;
  bursar_index_free(&keys);
  if (twice)
    return refuse(error, path, "__metadata__ has a name twice");
  for (size_t i = 0; i < container->shown.count; i++)
    if (bursar_index_of_text(&container->index, container->tensors[i].name) != i)
      return refuse_tensor(error, path, container->tensors[i].name, "is there twice");
  return 0;
}

static void *shrunk(void *at, size_t bytes) {
  void *less = realloc(at, bytes ? bytes : 1);
  return less ? less : at;
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

int bursar_safetensors_parse(char *header, size_t bytes, uint64_t data_bytes, const char *path,
                             struct bursar_safetensors **out, struct bursar_error *error) {
  struct container *container = calloc(1, sizeof *container);
  struct reading r = {.container = container};
  *out = NULL;
  if (!container) {
    free(header);
    return out_of_memory(error, path);
  }
  container->header = header;
  container->shown.data_at = BURSAR_SAFETENSORS_LENGTH + (uint64_t)bytes;
  container->shown.data_bytes = data_bytes;
  int status = 0;
  if (bytes > BURSAR_SAFETENSORS_HEADER_MOST)
    status = refuse(error, path, "its header is longer than 100,000,000 bytes");
  else if (!make_room(container, header, bytes))
    status = out_of_memory(error, path);
  else if (!bursar_parse_begin(&r.in, header, bytes) || !read_all(&r))
    status = bursar_error_set(error, BURSAR_FAILED, "%.500s is no safetensors file: %s (byte %zu of its header)", path,
                              r.in.wrong, bursar_parse_place(&r.in));
  container->shown.count = r.tensors;
  container->shown.metadata_count = r.pairs;
  if (status == 0) {
    sort(container->tensors, r.tensors);
    status = check_places(container, path, error);
  }
  if (status == 0)
    status = check_names(container, path, error);
  if (status < 0) {
    bursar_safetensors_free(&container->shown);
    return status;
  }
  container->shown.tensors = container->tensors = shrunk(container->tensors, r.tensors * sizeof *container->tensors);
  container->shown.metadata = container->metadata = shrunk(container->metadata, r.pairs * sizeof *container->metadata);
  *out = &container->shown;
  return 0;
}

static uint64_t length_of(const unsigned char bytes[BURSAR_SAFETENSORS_LENGTH]) {
  uint64_t length = 0;
  for (unsigned i = 0; i < BURSAR_SAFETENSORS_LENGTH; i++)
    length |= (uint64_t)bytes[i] << 8 * i;
  return length;
}

int bursar_safetensors_read(const struct bursar_source *source, struct bursar_safetensors **out,
                            struct bursar_error *error) {
  unsigned char length[BURSAR_SAFETENSORS_LENGTH];
  *out = NULL;
  if (source->bytes < sizeof length)
    return refuse(error, source->path, "it has less than 8 bytes");
  int status = bursar_source_read(source, 0, length, sizeof length, 1, error);
  uint64_t bytes = status == 0 ? length_of(length) : 0, rest = source->bytes - sizeof length;
  if (status < 0)
    return status;
  if (bytes > BURSAR_SAFETENSORS_HEADER_MOST)
    return refuse(error, source->path, "its header would be longer than 100,000,000 bytes");
  if (bytes > rest)
    return refuse(error, source->path, "its header would be longer than the file");
  char *header = malloc(bytes + 1);
  if (!header)
    return out_of_memory(error, source->path);
  status = bursar_source_read(source, sizeof length, header, bytes, 1, error);
  if (status == 0)
    return bursar_safetensors_parse(header, bytes, rest - bytes, source->path, out, error);
  free(header);
  return status;
}

const struct bursar_tensor *bursar_safetensors_find(const struct bursar_safetensors *shown, struct bursar_text name) {
  struct container *container = (struct container *)(uintptr_t)shown;
  uint32_t number = bursar_index_of_text(&container->index, name); /* which is full: nothing is added */
  return number < shown->count ? &shown->tensors[number] : NULL;
}

void bursar_safetensors_free(struct bursar_safetensors *shown) {
  struct container *container = (struct container *)shown;
  if (!container)
    return;
  bursar_index_free(&container->index);
  free(container->tensors);
  free(container->metadata);
  free(container->numbers);
  free(container->header);
  free(container);
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

/* Larger alignments first, so that each tensor is aligned in the file; then by name. */
static int by_alignment(const void *left, const void *right) {
  const struct bursar_tensor *a = left, *b = right;
  if (a->dtype != b->dtype)
    return a->dtype > b->dtype ? -1 : 1;
  size_t length = a->name.length < b->name.length ? a->name.length : b->name.length;
  int order = memcmp(a->name.bytes, b->name.bytes, length);
  return order ? order : a->name.length < b->name.length ? -1 : a->name.length > b->name.length;
}

static void add_text(struct bursar_buffer *out, struct bursar_text text) {
  static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt";
  bursar_buffer_char(out, '"');
  for (uint32_t i = 0; i < text.length; i++) {
    char c = text.bytes[i];
    const char *escaped = c ? strchr(from, c) : NULL;
    if (escaped)
      bursar_buffer_format(out, "\\%c", into[escaped - from]);
    else if ((unsigned char)c < 0x20)
      bursar_buffer_format(out, "\\u%04x", c);
    else
      bursar_buffer_char(out, c);
  }
  bursar_buffer_char(out, '"');
}

static void add_tensor(struct bursar_buffer *out, const struct bursar_tensor *tensor) {
  add_text(out, tensor->name);
  bursar_buffer_format(out, ":{\"dtype\":\"%s\",\"shape\":[", bursar_dtype_facts[tensor->dtype].name);
  for (uint32_t i = 0; i < tensor->rank; i++) {
    if (i)
      bursar_buffer_char(out, ',');
    bursar_buffer_number(out, tensor->shape[i]);
  }
  bursar_buffer_text(out, "],\"data_offsets\":[");
  bursar_buffer_number(out, tensor->from);
  bursar_buffer_char(out, ',');
  bursar_buffer_number(out, tensor->to);
  bursar_buffer_text(out, "]}");
}

static int place(struct bursar_tensor *tensors, size_t count, bool in_order, struct bursar_error *error) {
  struct shown_name shown;
  uint64_t at = 0, bytes;
  if (!in_order)
    qsort(tensors, count, sizeof *tensors, by_alignment);
  for (size_t i = 0; i < count; i++) {
    if (!bursar_dtype_bytes(tensors[i].dtype, tensors[i].shape, tensors[i].rank, &bytes) ||
        __builtin_add_overflow(at, bytes, &tensors[i].to) || tensors[i].to > INT64_MAX)
      return bursar_error_set(error, BURSAR_FAILED,
                              "tensor \"%s\" has a shape of more than can be, or of no whole bytes",
                              show(&shown, tensors[i].name));
    tensors[i].from = at;
    at = tensors[i].to;
  }
  return 0;
}

static int check_unique(const struct bursar_tensor *tensors, size_t count, struct bursar_error *error) {
  struct bursar_index names;
  struct shown_name shown;
  int status = bursar_index_init_texts(&names, (uint32_t)count);
  if (status != 0)
    return bursar_error_set(error, BURSAR_FAILED, "no memory for the names of the tensors");
  for (size_t i = 0; i < count && status == 0; i++)
    if (is(tensors[i].name, "__metadata__"))
      status = bursar_error_set(error, BURSAR_FAILED, "no tensor may be called __metadata__");
    else if (bursar_index_of_text(&names, tensors[i].name) != i)
      status = bursar_error_set(error, BURSAR_FAILED, "two tensors are called \"%s\"", show(&shown, tensors[i].name));
  bursar_index_free(&names);
  return status;
}

int bursar_safetensors_header(struct bursar_tensor *tensors, size_t count, bool in_order, size_t least,
                              const struct bursar_safetensors_pair *metadata, size_t metadata_count,
                              struct bursar_buffer *out, struct bursar_error *error) {
  struct bursar_buffer text;
  unsigned char length[BURSAR_SAFETENSORS_LENGTH];
  int status = count > UINT32_MAX ? bursar_error_set(error, BURSAR_FAILED, "there are too many tensors")
                                  : check_unique(tensors, count, error);
  if (status == 0)
    status = place(tensors, count, in_order, error);
  if (status < 0)
    return status;
  bursar_buffer_init(&text, BURSAR_SAFETENSORS_HEADER_MOST);
  bursar_buffer_char(&text, '{');
  if (metadata_count)
    bursar_buffer_text(&text, "\"__metadata__\":{");
  for (size_t i = 0; i < metadata_count; i++) {
    if (i)
      bursar_buffer_char(&text, ',');
    add_text(&text, metadata[i].key);
    bursar_buffer_char(&text, ':');
    add_text(&text, metadata[i].value);
  }
  if (metadata_count)
    bursar_buffer_char(&text, '}');
  for (size_t i = 0; i < count; i++) {
    if (i || metadata_count)
      bursar_buffer_char(&text, ',');
    add_tensor(&text, &tensors[i]);
  }
  bursar_buffer_char(&text, '}');
  while ((text.used % 8 || text.used + sizeof length < least) && !text.failed)
    bursar_buffer_char(&text, ' ');
  for (unsigned i = 0; i < sizeof length; i++)
    length[i] = (unsigned char)((uint64_t)text.used >> 8 * i);
  int failed = bursar_buffer_finish(&text);
  if (failed == 0) {
    bursar_buffer_add(out, length, sizeof length);
    bursar_buffer_add(out, text.data, text.used);
  }
  bursar_buffer_free(&text);
  if (failed == -EFBIG)
    return bursar_error_set(error, BURSAR_FAILED, "names, shapes and metadata are longer than 100,000,000 bytes");
  return failed ? bursar_error_set(error, BURSAR_FAILED, "no memory for the header") : 0;
}
