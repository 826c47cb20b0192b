/* archive.h: the tensors of a model's file, however they lie there: plain or packed, in a sealed file or not.
 *
 * A packed file is a container too: it has its tensors by the same names, packed ones as bytes, the header of the plain file as
 * one more, and says so in its metadata.
 * Ownership: the caller's struct, ended by _close; what the source stands on stays the caller's.  Threads: any may read at
 * once.  Errors: a line.  Class N. */
#ifndef BURSAR_MODEL_ARCHIVE_H
#define BURSAR_MODEL_ARCHIVE_H

#include "model/safetensors.h"
#include "model/source.h"

#define BURSAR_ARCHIVE_KEY "bursar.pack" /* in a packed file's metadata: the version of the format */
#define BURSAR_ARCHIVE_VERSION "1"
#define BURSAR_ARCHIVE_HEADER "bursar.pack.header" /* the tensor that has the plain file's header */
#define BURSAR_ARCHIVE_MODEL "bursar.model"        /* in the metadata: what a model is besides its tensors */
#define BURSAR_ARCHIVE_WORDS 24u                   /* bytes of it before what is packed */

struct bursar_archive {
  struct bursar_source source;
  struct bursar_safetensors *shown;  /* the model: what a plain file would have */
  struct bursar_safetensors *stored; /* the file; the same where nothing is packed */
  char *header;                      /* of the plain file, with its length; malloc; NULL: it is one itself */
  size_t header_bytes;
};

int bursar_archive_open(struct bursar_source source, struct bursar_archive *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
void bursar_archive_close(struct bursar_archive *archive);
/* What its metadata says under a key; NULL: nothing. */
const struct bursar_text *bursar_archive_said(const struct bursar_archive *archive, const char *key);
/* A tensor of `shown`, as it lies in the file; *packed: it has to be unpacked. */
const struct bursar_tensor *bursar_archive_stored(const struct bursar_archive *archive,
                                                  const struct bursar_tensor *tensor, bool *packed);
/* What loading all of it takes at its peak, by so many threads: the tensors with what each has besides, what unpacking and
 * decrypting work with, and the objects that a description becomes, at most. */
uint64_t bursar_archive_load_bytes(const struct bursar_archive *archive, unsigned threads);
/* [from, from + bytes) of a tensor of `shown`. */
int bursar_archive_read(const struct bursar_archive *archive, const struct bursar_tensor *tensor, uint64_t from,
                        void *out, size_t bytes, unsigned threads, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Several of `shown`, whole; what lies one behind the other is read at once. */
struct bursar_archive_wanted {
  const struct bursar_tensor *tensor;
  void *out;
};
int bursar_archive_read_all(const struct bursar_archive *archive, const struct bursar_archive_wanted *wanted,
                            size_t count, unsigned threads, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
