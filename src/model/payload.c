#include "model/payload.h"

#include <string.h>

/* Eleven bytes of the number, one that says whether it is the last. */
static void nonce_of(uint64_t number, bool last, unsigned char out[BURSAR_CRYPTO_NONCE]) {
  memset(out, 0, BURSAR_CRYPTO_NONCE);
  for (unsigned i = 0; i < 8; i++)
    out[10 - i] = (unsigned char)(number >> 8 * i);
  out[11] = last;
}

bool bursar_payload_bytes(uint64_t sealed, uint64_t *out) {
  uint64_t whole = sealed / BURSAR_PAYLOAD_SEALED, rest = sealed % BURSAR_PAYLOAD_SEALED;
  /* A last chunk is empty only where there is nothing at all. */
  if (rest ? rest < BURSAR_CRYPTO_TAG || (rest == BURSAR_CRYPTO_TAG && whole) : !whole)
    return false;
  *out = whole * BURSAR_PAYLOAD_CHUNK + (rest ? rest - BURSAR_CRYPTO_TAG : 0);
  return true;
}

bool bursar_payload_seal(struct bursar_crypto_aead *aead, uint64_t number, bool last, const void *in, size_t bytes,
                         unsigned char *out) {
  unsigned char nonce[BURSAR_CRYPTO_NONCE];
  nonce_of(number, last, nonce);
  return bursar_crypto_aead_seal(aead, nonce, in, bytes, out);
}

bool bursar_payload_open(struct bursar_crypto_aead *aead, uint64_t number, bool last, const unsigned char *in,
                         size_t bytes, void *out) {
  unsigned char nonce[BURSAR_CRYPTO_NONCE];
  nonce_of(number, last, nonce);
  return bursar_crypto_aead_open(aead, nonce, in, bytes, out);
}
