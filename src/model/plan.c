#include "model/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (4u << 20) /* bytes that are written at once */
#define SUFFIX 16u

static int no_memory(struct bursar_error *error) {
  (void)!bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  return BURSAR_FAILED;
}

int bursar_plan_begin(struct bursar_plans *plans, uint32_t most, uint64_t limit, struct bursar_error *error) {
  *plans = (struct bursar_plans){.most = most, .limit = limit};
  plans->list = calloc((size_t)most + 1, sizeof *plans->list);
  plans->numbers = calloc((size_t)most + 1, sizeof *plans->numbers);
  return plans->list && plans->numbers && bursar_index_init_texts(&plans->names, most) == 0 ? 0 : no_memory(error);
}

void bursar_plan_end(struct bursar_plans *plans) {
  for (uint32_t i = 0; i < plans->count; i++)
    free(plans->list[i]);
  free(plans->list);
  free(plans->numbers);
  bursar_index_free(&plans->names);
  *plans = (struct bursar_plans){.list = NULL};
}

int bursar_plan_add(struct bursar_plans *plans, struct bursar_text name, uint32_t rank, struct bursar_plan **out,
                    struct bursar_error *error) {
  if (!name.length)
    name = (struct bursar_text){"array", 5};
  if (plans->count == plans->most)
    return bursar_error_set(error, BURSAR_FAILED, "there are too many tensors");
  size_t numbers = 2 * (size_t)rank;
  struct bursar_plan *plan = calloc(1, sizeof *plan + numbers * sizeof *plan->shape + name.length + SUFFIX);
  if (!plan)
    return no_memory(error);
  char *text = (char *)(plan->shape + numbers);
  memcpy(text, name.bytes, name.length);
  plan->name = (struct bursar_text){text, name.length};
  plan->strides = plan->shape + rank;
  plan->rank = rank;
  static const char reserved[] = "__metadata__";
  uint32_t number = UINT32_MAX;
  if (name.length != strlen(reserved) || memcmp(name.bytes, reserved, name.length) != 0)
    number = bursar_index_of_text(&plans->names, plan->name);
  /* A name that is met for the first time has the next number. */
  uint32_t *next = number == UINT32_MAX ? NULL : &plans->numbers[number];
  for (uint32_t suffix = next && *next ? *next : 2; number != plans->count; suffix++) {
    plan->name.length = name.length + (uint32_t)snprintf(text + name.length, SUFFIX, "#%u", suffix);
    number = bursar_index_of_text(&plans->names, plan->name);
    if (next)
      *next = suffix + 1;
  }
  plans->list[plans->count++] = plan;
  *out = plan;
  return 0;
}

int bursar_plan_use(struct bursar_plans *plans, const struct bursar_source *source, uint64_t bytes,
                    struct bursar_error *error) {
  if (bytes > plans->limit - plans->used)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s: its arrays are made of the same bytes again and again",
                            source->path);
  plans->used += bytes;
  return 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------------- */

static void swap(unsigned char *at, size_t bytes, uint32_t size) {
  for (size_t i = 0; size && i + size <= bytes; i += size)
    for (uint32_t k = 0; k < size / 2; k++) {
      unsigned char kept = at[i + k];
      at[i + k] = at[i + size - 1 - k];
      at[i + size - 1 - k] = kept;
    }
}

static int write_through(const struct bursar_plan *plan, unsigned char *piece, struct bursar_save *save,
                         struct bursar_error *error) {
  struct bursar_extent_reader reader;
  uint64_t left = plan->data.bytes;
  bursar_extent_begin(&reader, plan->source, plan->data);
  while (left) {
    size_t wanted = left < PIECE ? (size_t)left : PIECE;
    int64_t got = bursar_extent_read(&reader, piece, wanted, error);
    if (got < 0)
      return (int)got;
    if ((size_t)got < wanted)
      return bursar_error_set(error, BURSAR_FAILED, "%.500s has changed while it was read", plan->source->path);
    swap(piece, wanted, plan->swapped);
    int status = bursar_save_write(save, piece, wanted, error);
    if (status < 0)
      return status;
    left -= wanted;
  }
  return 0;
}

static int write_gathered(const struct bursar_plan *plan, const unsigned char *data, unsigned char *piece,
                          struct bursar_save *save, struct bursar_error *error) {
  uint64_t at[64] = {0}, elements = 1, from = 0;
  size_t used = 0;
  int status = 0;
  for (uint32_t i = 0; i < plan->rank; i++)
    elements *= plan->shape[i];
  for (uint64_t n = 0; n < elements && status == 0; n++) {
    memcpy(piece + used, data + from * plan->element, plan->element);
    used += plan->element;
    if (used + plan->element > PIECE || n + 1 == elements) {
      swap(piece, used, plan->swapped);
      status = bursar_save_write(save, piece, used, error);
      used = 0;
    }
    for (uint32_t i = plan->rank; i-- > 0;) {
      from += plan->strides[i];
      if (++at[i] < plan->shape[i])
        break;
      from -= plan->strides[i] * plan->shape[i];
      at[i] = 0;
    }
  }
  return status;
}

static int write_one(const struct bursar_plan *plan, unsigned char *piece, struct bursar_save *save,
                     struct bursar_error *error) {
  struct bursar_extent_reader reader;
  if (!plan->element)
    return write_through(plan, piece, save, error);
  unsigned char *data = malloc(plan->data.bytes + 1);
  if (!data)
    return bursar_error_set(error, BURSAR_FAILED, "no memory for a tensor of %llu bytes",
                            (unsigned long long)plan->data.bytes);
  bursar_extent_begin(&reader, plan->source, plan->data);
  int64_t got = bursar_extent_read(&reader, data, plan->data.bytes, error);
  int status = got < 0 ? (int)got : write_gathered(plan, data, piece, save, error);
  free(data);
  return status;
}

int bursar_plan_write(const struct bursar_plans *plans, const struct bursar_safetensors_pair *metadata,
                      size_t metadata_count, struct bursar_save *save, struct bursar_error *error) {
  struct bursar_tensor *tensors = calloc((size_t)plans->count + 1, sizeof *tensors);
  unsigned char *piece = malloc(PIECE);
  struct bursar_buffer header;
  bursar_buffer_init(&header, BURSAR_SAFETENSORS_HEADER_MOST + BURSAR_SAFETENSORS_LENGTH);
  int status = tensors && piece ? 0 : no_memory(error);
  for (uint32_t i = 0; i < plans->count && status == 0; i++) {
    const struct bursar_plan *plan = plans->list[i];
    tensors[i] =
        (struct bursar_tensor){.name = plan->name, .shape = plan->shape, .rank = plan->rank, .dtype = plan->dtype};
  }
  if (status == 0)
    status = bursar_safetensors_header(tensors, plans->count, false, 0, metadata, metadata_count, &header, error);
  if (status == 0 && bursar_buffer_finish(&header) < 0)
    status = no_memory(error);
  uint64_t bytes = header.used + (status == 0 && plans->count ? tensors[plans->count - 1].to : 0);
  if (status == 0)
    status = bursar_save_expect(save, bytes, error);
  if (status == 0)
    status = bursar_save_write(save, header.data, header.used, error);
  for (uint32_t i = 0; i < plans->count && status == 0; i++) {
    /* The shape is the plan's own, whatever the order is. */
    const struct bursar_plan *plan = (const struct bursar_plan *)(const void *)((const char *)tensors[i].shape -
                                                                                offsetof(struct bursar_plan, shape));
    status = write_one(plan, piece, save, error);
  }
  if (status == 0 && save->bytes != bytes)
    status = bursar_error_set(error, BURSAR_FAILED, "a tensor has other bytes than its type and shape");
  bursar_buffer_free(&header);
  free(piece);
  free(tensors);
  return status;
}
