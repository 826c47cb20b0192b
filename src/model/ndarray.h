/* ndarray.h: an array of NumPy's, as a pickle, joblib or an npy file says it: its type, its shape and where its bytes lie.
 *
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine).  Errors: a line.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_NDARRAY_H
#define BURSAR_MODEL_NDARRAY_H

#include "model/typed.h"

#define BURSAR_NDARRAY_RANK 64u
#define BURSAR_NDARRAY_JOBLIB "joblib.numpy_pickle.NumpyArrayWrapper"
#define BURSAR_NDARRAY_NPY "an npy file" /* the name of what _npy makes: no pickle can have it */

struct bursar_ndarray {
  struct bursar_typed type;
  uint64_t shape[BURSAR_NDARRAY_RANK];
  uint64_t elements;
  struct bursar_extent data;
  uint32_t rank;
  bool fortran;
  uint32_t objects; /* of references: the list of what they refer to */
  uint32_t whole;   /* of references: the node of the array itself, where it is another */
};

/* Is the node an array? */
bool bursar_ndarray_is(const struct bursar_nodes *nodes, uint32_t node);
int bursar_ndarray_of(const struct bursar_nodes *nodes, const struct bursar_source *source, uint32_t node,
                      struct bursar_ndarray *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* Makes a node for an npy file that lies at [*at, end), *at behind its header then.  Its bytes, or the pickle that is there in
 * their place, are not linked yet: its shape and type say how many follow. */
int bursar_ndarray_npy(struct bursar_nodes *nodes, const struct bursar_source *source, uint64_t *at, uint64_t end,
                       uint32_t *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* Of an array of joblib's, or of an npy file's: what follows it in the file is its content: bytes, or a node. */
bool bursar_ndarray_fill(struct bursar_nodes *nodes, uint32_t node, uint64_t at, uint64_t bytes, uint32_t content);
/* The bytes that an array has; false: more than can be. */
bool bursar_ndarray_bytes(const struct bursar_ndarray *array, uint64_t *out);
void bursar_ndarray_end(struct bursar_ndarray *array);

#endif
