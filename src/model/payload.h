/* payload.h: what follows the header of a sealed file: chunks of 64 KiB, each with its number, the last one marked, so that none
 * can be changed, moved, left out or added.
 *
 * Ownership: the caller's memory; a context is one thread's (crypto.h).  Errors: false where it is not what was sealed.
 * Class N. */
#ifndef BURSAR_MODEL_PAYLOAD_H
#define BURSAR_MODEL_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/crypto.h"

#define BURSAR_PAYLOAD_CHUNK 65536u
#define BURSAR_PAYLOAD_SEALED (BURSAR_PAYLOAD_CHUNK + BURSAR_CRYPTO_TAG)

/* What is in so many sealed bytes.  False: no file has that many. */
bool bursar_payload_bytes(uint64_t sealed, uint64_t *out);
/* The chunk's number, and whether it is the last.  `out` has room for the tag. */
bool bursar_payload_seal(struct bursar_crypto_aead *aead, uint64_t number, bool last, const void *in, size_t bytes,
                         unsigned char *out);
/* `in` has bytes and the tag.  out may be in. */
bool bursar_payload_open(struct bursar_crypto_aead *aead, uint64_t number, bool last, const unsigned char *in,
                         size_t bytes, void *out);

#endif
