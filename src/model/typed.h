/* typed.h: what an element of a NumPy array is, as a pickle or an npy file's header says it.
 *
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine).  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_TYPED_H
#define BURSAR_MODEL_TYPED_H

#include "model/nodes.h"
#include "model/source.h"

struct bursar_typed {
  uint64_t bytes;
  uint32_t dtype;            /* of a tensor; BURSAR_DTYPES: none has it */
  uint32_t swapped;          /* bytes that stand the wrong way round, each so many; 0: none do */
  bool objects;              /* references, not numbers */
  struct bursar_buffer text; /* JSON, as _describe.py's _dtype_text makes it */
};

/* Of a pickled numpy.dtype. */
int bursar_typed_of(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                    struct bursar_typed *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* Of the 'descr' of an npy file. */
int bursar_typed_of_descr(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                          struct bursar_typed *out, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_typed_end(struct bursar_typed *typed);

#endif
