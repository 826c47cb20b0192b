/* hashes.h: SHA-256 of each tensor of a model's file, and of the file, as its metadata may have them.
 *
 *   bursar.sha256.tensors   64 digits for each tensor, in the order of their bytes: of its bytes, unpacked
 *   bursar.sha256           of what stands before the tensors, these 64 digits taken as zeros: it has the other hashes, and tensors
 *                           leave no hole, so that no byte of the file is left out
 *
 * Ownership: the caller's memory.  Threads: any.  Errors: a line that names file and tensor.  Class N. */
#ifndef BURSAR_MODEL_HASHES_H
#define BURSAR_MODEL_HASHES_H

#include "model/archive.h"
#include "model/crypto.h"

#define BURSAR_HASHES_FILE "bursar.sha256"
#define BURSAR_HASHES_TENSORS "bursar.sha256.tensors"
#define BURSAR_HASHES_DIGITS 64u

void bursar_hashes_print(const unsigned char hash[BURSAR_CRYPTO_HASH], char out[BURSAR_HASHES_DIGITS + 1]);
bool bursar_hashes_are_there(const struct bursar_archive *archive);
/* Of a tensor of `shown`. */
int bursar_hashes_of_tensor(const struct bursar_archive *archive, const struct bursar_tensor *tensor,
                            unsigned char out[BURSAR_CRYPTO_HASH], struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Of all bytes, as sha256sum has it. */
int bursar_hashes_of_source(const struct bursar_source *source, unsigned char out[BURSAR_CRYPTO_HASH],
                            struct bursar_error *error) __attribute__((warn_unused_result));
/* Is everything as the file's own hashes say?  By so many threads. */
int bursar_hashes_verify(const struct bursar_archive *archive, unsigned threads, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
