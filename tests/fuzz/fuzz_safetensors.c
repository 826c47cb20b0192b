/* The header of a safetensors file from any bytes at all: what is accepted holds together, and is written and read again. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
  if (!holds)
    abort();
}

/* Each byte belongs to one tensor, each name is found. */
static void check(const struct bursar_safetensors *container) {
  uint64_t end = 0, bytes;
  for (size_t i = 0; i < container->count; i++) {
    const struct bursar_tensor *tensor = &container->tensors[i];
    must(tensor->from == end && tensor->dtype < BURSAR_DTYPES);
    must(bursar_dtype_bytes(tensor->dtype, tensor->shape, tensor->rank, &bytes) && tensor->to - tensor->from == bytes);
    must(bursar_safetensors_find(container, tensor->name) == tensor);
    end = tensor->to;
  }
  must(end == container->data_bytes);
}

static void write_again(const struct bursar_safetensors *container) {
  size_t bytes = container->count * sizeof *container->tensors;
  struct bursar_tensor *tensors = malloc(bytes + 1);
  struct bursar_safetensors *again = NULL;
  struct bursar_error error;
  struct bursar_buffer out;
  must(tensors);
  if (bytes)
    memcpy(tensors, container->tensors, bytes);
  bursar_buffer_init(&out, BURSAR_SAFETENSORS_HEADER_MOST + BURSAR_SAFETENSORS_LENGTH);
  must(bursar_safetensors_header(tensors, container->count, true, 0, container->metadata, container->metadata_count,
                                 &out, &error) == 0);
  must(bursar_buffer_finish(&out) == 0);
  size_t header_bytes = out.used - BURSAR_SAFETENSORS_LENGTH;
  char *header = malloc(header_bytes);
  must(header);
  memcpy(header, out.data + BURSAR_SAFETENSORS_LENGTH, header_bytes);
  must(bursar_safetensors_parse(header, header_bytes, container->data_bytes, "again", &again, &error) == 0);
  must(again->count == container->count && again->metadata_count == container->metadata_count);
  check(again);
  bursar_safetensors_free(again);
  bursar_buffer_free(&out);
  free(tensors);
}

/* The first four bytes say how many follow the header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct bursar_safetensors *container;
  struct bursar_error error;
  uint32_t data_bytes;
  if (size < sizeof data_bytes)
    return 0;
  memcpy(&data_bytes, data, sizeof data_bytes);
  size -= sizeof data_bytes;
  char *header = malloc(size ? size : 1);
  must(header);
  memcpy(header, data + sizeof data_bytes, size);
  if (bursar_safetensors_parse(header, size, data_bytes, "fuzz", &container, &error) == 0) {
    check(container);
    write_again(container);
    bursar_safetensors_free(container);
  } else {
    must(!container && error.text[0] && !strchr(error.text, '\n'));
  }
  return 0;
}
