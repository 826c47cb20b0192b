/* tensors.h: the tensors of a torch checkpoint: which storage each is a view of, and which share one.
 *
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine).  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_TENSORS_H
#define BURSAR_MODEL_TENSORS_H

#include "model/nodes.h"
#include "model/plan.h"

struct bursar_tensors_view {
  uint32_t node, storage;
  uint32_t dtype, rank;
  uint64_t offset;  /* in elements */
  uint64_t bytes;   /* of a copy that has no holes */
  uint32_t numbers; /* where its shape is, and its strides behind it */
  bool grad, contiguous;
  struct bursar_plan *plan; /* NULL until it is asked for */
};

struct bursar_tensors_storage {
  uint64_t at, bytes;
  uint64_t views_bytes;
  uint32_t first, views; /* of views: the first one, and how many */
  bool alike;            /* all views are the same */
  struct bursar_plan *plan;
};

struct bursar_tensors {
  const struct bursar_source *source;
  struct bursar_tensors_view *views; /* by node */
  struct bursar_tensors_storage *storages;
  uint64_t *numbers;
  uint32_t count, storage_count, number_count, number_room;
};

/* Where a storage of that name lies. */
typedef int bursar_tensors_find_storage(void *context, struct bursar_text key, uint64_t *at, uint64_t *bytes,
                                        struct bursar_error *error);

bool bursar_tensors_is(const struct bursar_nodes *nodes, uint32_t node);
/* Finds all of them. */
int bursar_tensors_collect(const struct bursar_nodes *nodes, const struct bursar_source *source,
                           bursar_tensors_find_storage *find, void *context, struct bursar_tensors *out,
                           struct bursar_error *error) __attribute__((warn_unused_result));
/* What a tensor becomes: a plan, made at the first call by that name, and what the description says of it behind its name. */
int bursar_tensors_place(struct bursar_tensors *tensors, uint32_t node, struct bursar_text name,
                         struct bursar_plans *plans, struct bursar_plan **plan, struct bursar_buffer *more, bool *grad,
                         struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_tensors_end(struct bursar_tensors *tensors);

#endif
