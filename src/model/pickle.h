/* pickle.h: a pickle read as what it says, with none of it done.
 *
 * The stream of operations, of protocol 0 to 5, is run by a machine that makes nodes (nodes.h) where Python makes objects: a
 * call becomes a node that says what was to be called with what.  Bytes stay in the file.  A name that is on no list
 * (allowed.h) is written down with its place, and the machine goes on, so that all of them are known; then the pickle is
 * refused.
 * What it costs is bounded by nodes.h's limits, whatever the stream says.
 * Ownership: the caller's structs.  Errors: a line with the byte.  Threads: one at a
 * time.  Class N. */
#ifndef BURSAR_MODEL_PICKLE_H
#define BURSAR_MODEL_PICKLE_H

#include "model/allowed.h"
#include "model/nodes.h"
#include "model/refusals.h"
#include "model/source.h"

struct bursar_pickle {
  const struct bursar_source *source;
  uint64_t at, end; /* what may be read; at: behind the pickle afterwards */
  struct bursar_nodes *nodes;
  struct bursar_allowed_more allow;
  struct bursar_refusals *refusals;
  bool persistent; /* what is kept beside the pickle is known to the caller */
  /* Called when an object has got its state, *at behind that operation: joblib puts arrays there, which are then passed by
   * moving *at.  False: an error.  NULL: nothing is there. */
  bool (*built)(void *context, uint32_t node, uint64_t *at, struct bursar_error *error);
  void *context;
};

/* Reads one pickle; *root is what it says.  Names that are refused are no error here. */
int bursar_pickle_read(struct bursar_pickle *pickle, uint32_t *root, struct bursar_error *error)
    __attribute__((warn_unused_result));
#endif
