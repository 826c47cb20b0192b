/* describe.h: a pickle's nodes as what bursar.load builds a model of: tensors, and a description of the rest.
 *
 * The description is the one that python/bursar/_describe.py writes: the same kinds of nodes, held to the same lists.
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine).  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_DESCRIBE_H
#define BURSAR_MODEL_DESCRIBE_H

#include "model/allowed.h"
#include "model/nodes.h"
#include "model/plan.h"
#include "model/tensors.h"

#define BURSAR_DESCRIBE_KEY "bursar.model" /* in a file's metadata */

struct bursar_described {
  struct bursar_plans plans;
  struct bursar_buffer text; /* the description */
  bool plain;                /* there is none: all is a dict of arrays by name */
};

/* What is of pandas' is written over in the nodes.  `find` says where storages lie; NULL: there are none. */
int bursar_describe(struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t root,
                    struct bursar_allowed_more allow, bursar_tensors_find_storage *find, void *context,
                    struct bursar_described *out, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_describe_end(struct bursar_described *described);

#endif
