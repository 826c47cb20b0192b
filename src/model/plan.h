/* plan.h: the tensors of a file that is to be written, and where the bytes of each come from.
 *
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine); sources stay the caller's.  Errors: a line.  Threads:
 * one at a time.  Class N. */
#ifndef BURSAR_MODEL_PLAN_H
#define BURSAR_MODEL_PLAN_H

#include "base/index.h"
#include "model/extent.h"
#include "model/safetensors.h"
#include "model/save.h"

struct bursar_plan {
  struct bursar_text name;
  const struct bursar_source *source;
  struct bursar_extent data;
  uint32_t dtype, rank;
  uint32_t swapped; /* bytes that stand the wrong way round, each so many; 0: none do */
  uint32_t
      element; /* bytes of one, where elements do not follow each other: then `data` is read into memory; 0: they do */
  uint64_t *strides; /* in elements */
  uint64_t shape[];
};

struct bursar_plans {
  struct bursar_plan **list;
  uint32_t count, most;
  struct bursar_index names;
  uint32_t *numbers;    /* by the number of a name: what the next one of it is called */
  uint64_t used, limit; /* bytes of the source that tensors are made of: each once */
};

/* For at most so many tensors, which are made of `limit` bytes. */
int bursar_plan_begin(struct bursar_plans *plans, uint32_t most, uint64_t limit, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* A tensor of that name, or of one with a number behind it where it is taken; an empty one is "array".  Shape and strides
 * are the caller's to fill in. */
int bursar_plan_add(struct bursar_plans *plans, struct bursar_text name, uint32_t rank, struct bursar_plan **out,
                    struct bursar_error *error) __attribute__((warn_unused_result));
/* So many bytes of the source are used once more: what is used more often than it is there is no model. */
int bursar_plan_use(struct bursar_plans *plans, const struct bursar_source *source, uint64_t bytes,
                    struct bursar_error *error) __attribute__((warn_unused_result));
/* Writes the whole file. */
int bursar_plan_write(const struct bursar_plans *plans, const struct bursar_safetensors_pair *metadata,
                      size_t metadata_count, struct bursar_save *save, struct bursar_error *error)
    __attribute__((warn_unused_result));
void bursar_plan_end(struct bursar_plans *plans);

#endif
