/* zip.h: what a zip file holds, by its directory, with nothing in it trusted.
 *
 * Refused are members that lie over each other, names that are there twice, what is encrypted, and ways of packing other than
 * none and deflate.
 * Ownership: the caller's struct, ended by _close (a zeroed one is fine); names are borrowed from it.  Errors: a line.
 * Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_ZIP_H
#define BURSAR_MODEL_ZIP_H

#include "base/index.h"
#include "model/save.h"
#include "model/source.h"

struct bursar_zip_member {
  struct bursar_text name;
  uint64_t at;            /* of its bytes, in the file; 0 until _open is through */
  uint64_t stored, bytes; /* in the file, and unpacked */
  uint64_t head;          /* where it begins */
  uint32_t sum;           /* CRC-32 */
  bool packed;
};

struct bursar_zip {
  const struct bursar_source *source;
  struct bursar_zip_member *members;
  size_t count;
  bool packed; /* any is */
  char *directory;
  struct bursar_index names;
};

int bursar_zip_open(const struct bursar_source *source, struct bursar_zip *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* NULL: there is none of that name. */
const struct bursar_zip_member *bursar_zip_find(struct bursar_zip *zip, struct bursar_text name);
/* Reads a member that is not packed through, and compares its sum. */
int bursar_zip_check(const struct bursar_source *source, const struct bursar_zip_member *member,
                     struct bursar_error *error) __attribute__((warn_unused_result));
/* Appends a member, unpacked, to a file. */
int bursar_zip_extract(const struct bursar_zip *zip, const struct bursar_zip_member *member, struct bursar_save *to,
                       struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_zip_close(struct bursar_zip *zip);

#endif
