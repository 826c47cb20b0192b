/* convert.h: a model from what people have: pickle, joblib, npy, npz and torch's checkpoints, with no code of theirs run.
 *
 * Arrays' bytes go from file to file, 4 MiB at a time; only what lies in another order than it is written in is in memory, one
 * tensor at a time.  What is packed by deflate is unpacked into a file without a name beside the new one.
 * Ownership: the caller's struct, ended by _end (a zeroed one is fine), also after an error.  Errors: a line.  Threads: any,
 * each with files of its own.  Class N. */
#ifndef BURSAR_MODEL_CONVERT_H
#define BURSAR_MODEL_CONVERT_H

#include "model/pickle.h"

struct bursar_converted {
  const char *format;             /* what it was; NULL: not known */
  bool hdf5;                      /* it is HDF5, or Keras's: for Python, with h5py */
  struct bursar_refusals refused; /* names that are on no list */
  uint32_t tensors;
  uint64_t bytes; /* of all tensors */
  bool described; /* it has more in it than arrays by name */
};

/* Reads `in`, which is never touched, and writes `out`: whole, or not at all.  `record`: when and by what it was made goes
 * with it, as bursar.save does it.  Names that are refused are listed in the
 * result, and the error tells the first. */
int bursar_convert(const char *in, const char *out, struct bursar_allowed_more allow, bool record,
                   struct bursar_converted *result, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_convert_end(struct bursar_converted *result);

#endif
