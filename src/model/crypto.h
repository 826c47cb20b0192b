/* crypto.h: what sealed files and hashes need of OpenSSL's libcrypto, which is looked for when it is first needed: without it everything
 * else works.
 *
 * Ownership: as each says.  Secrets stay where the caller has them; what libcrypto copies of them it wipes at the end of the
 * call, or of the context.  Threads: any; a context is one thread's at a time.  Errors: false, or a line.  Class N. */
#ifndef BURSAR_MODEL_CRYPTO_H
#define BURSAR_MODEL_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define BURSAR_CRYPTO_KEY 32u
#define BURSAR_CRYPTO_TAG 16u
#define BURSAR_CRYPTO_NONCE 12u
#define BURSAR_CRYPTO_HASH 32u

/* 0, or an error that says what to install.  All others need it. */
int bursar_crypto_load(struct bursar_error *error) __attribute__((warn_unused_result));
int bursar_crypto_random(void *out, size_t bytes, struct bursar_error *error) __attribute__((warn_unused_result));

bool bursar_crypto_hmac(const void *key, size_t key_bytes, const void *data, size_t bytes,
                        unsigned char out[BURSAR_CRYPTO_HASH]);
/* HKDF-SHA256; 32 bytes of it. */
bool bursar_crypto_hkdf(const void *key, size_t key_bytes, const void *salt, size_t salt_bytes, const char *info,
                        unsigned char out[BURSAR_CRYPTO_KEY]);
/* 2^log_n rounds, r = 8, p = 1; takes a KiB for each of them. */
bool bursar_crypto_scrypt(const void *passphrase, size_t bytes, const void *salt, size_t salt_bytes, unsigned log_n,
                          unsigned char out[BURSAR_CRYPTO_KEY]);
/* X25519; `point` NULL: the base point.  False: the result would be zero, whatever the secret is. */
bool bursar_crypto_x25519(const unsigned char secret[BURSAR_CRYPTO_KEY], const unsigned char *point,
                          unsigned char out[BURSAR_CRYPTO_KEY]);

/* SHA-256 of what is added piece by piece. */
struct bursar_crypto_sha256 {
  void *context; /* NULL: none */
};
bool bursar_crypto_sha256_begin(struct bursar_crypto_sha256 *hash);
bool bursar_crypto_sha256_add(struct bursar_crypto_sha256 *hash, const void *bytes, size_t count);
/* Also of one that failed: then false.  `out` NULL: it is given up. */
bool bursar_crypto_sha256_end(struct bursar_crypto_sha256 *hash, unsigned char out[BURSAR_CRYPTO_HASH]);

/* ChaCha20-Poly1305 under one key. */
struct bursar_crypto_aead {
  void *context; /* NULL: none */
};
bool bursar_crypto_aead_begin(struct bursar_crypto_aead *aead, const unsigned char key[BURSAR_CRYPTO_KEY], bool seal);
void bursar_crypto_aead_end(struct bursar_crypto_aead *aead);
/* `out` has room for the tag behind. */
bool bursar_crypto_aead_seal(struct bursar_crypto_aead *aead, const unsigned char nonce[BURSAR_CRYPTO_NONCE],
                             const void *in, size_t bytes, unsigned char *out);
/* `in` has bytes and a tag; false: it is not what was sealed, and `out` is wiped.  out may be in. */
bool bursar_crypto_aead_open(struct bursar_crypto_aead *aead, const unsigned char nonce[BURSAR_CRYPTO_NONCE],
                             const unsigned char *in, size_t bytes, void *out);

#endif
