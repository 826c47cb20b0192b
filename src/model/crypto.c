#include "model/crypto.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "secret/wipe.h"

#define X25519 1034 /* NID_X25519 */
#define GET_TAG 0x10
#define SET_TAG 0x11
#define SCRYPT_R 8u

/* libcrypto's functions, with its types as pointers to nothing in particular. */
#define FUNCTIONS(X)                                                                                               \
  X(void *, EVP_sha256, (void))                                                                                    \
  X(void *, EVP_MD_CTX_new, (void))                                                                                \
  X(void, EVP_MD_CTX_free, (void *))                                                                               \
  X(int, EVP_DigestInit_ex, (void *, const void *, void *))                                                        \
  X(int, EVP_DigestUpdate, (void *, const void *, size_t))                                                         \
  X(int, EVP_DigestFinal_ex, (void *, unsigned char *, unsigned *))                                                \
  X(unsigned char *, HMAC, (const void *, const void *, int, const void *, size_t, unsigned char *, unsigned *))   \
  X(int, EVP_PBE_scrypt,                                                                                           \
    (const void *, size_t, const void *, size_t, uint64_t, uint64_t, uint64_t, uint64_t, unsigned char *, size_t)) \
  X(void *, EVP_PKEY_new_raw_private_key, (int, void *, const unsigned char *, size_t))                            \
  X(void *, EVP_PKEY_new_raw_public_key, (int, void *, const unsigned char *, size_t))                             \
  X(int, EVP_PKEY_get_raw_public_key, (const void *, unsigned char *, size_t *))                                   \
  X(void, EVP_PKEY_free, (void *))                                                                                 \
  X(void *, EVP_PKEY_CTX_new, (void *, void *))                                                                    \
  X(void, EVP_PKEY_CTX_free, (void *))                                                                             \
  X(int, EVP_PKEY_derive_init, (void *))                                                                           \
  X(int, EVP_PKEY_derive_set_peer, (void *, void *))                                                               \
  X(int, EVP_PKEY_derive, (void *, unsigned char *, size_t *))                                                     \
  X(void *, EVP_chacha20_poly1305, (void))                                                                         \
  X(void *, EVP_CIPHER_CTX_new, (void))                                                                            \
  X(void, EVP_CIPHER_CTX_free, (void *))                                                                           \
  X(int, EVP_CIPHER_CTX_ctrl, (void *, int, int, void *))                                                          \
  X(int, EVP_CipherInit_ex, (void *, const void *, void *, const unsigned char *, const unsigned char *, int))     \
  X(int, EVP_CipherUpdate, (void *, unsigned char *, int *, const unsigned char *, int))                           \
  X(int, EVP_CipherFinal_ex, (void *, unsigned char *, int *))                                                     \
  X(void, ERR_clear_error, (void))

#define DECLARE(type, name, arguments) static type(*name) arguments;
FUNCTIONS(DECLARE)
#undef DECLARE

static bool loaded;

static void load(void) {
  static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.4", "libcrypto.so"};
  void *library = NULL;
  for (unsigned i = 0; !library && i < sizeof names / sizeof *names; i++)
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  bool all = library != NULL;
#define FIND(type, name, arguments) all = all && (*(void **)(void *)&name = dlsym(library, #name)) != NULL;
  FUNCTIONS(FIND)
#undef FIND
  loaded = all;
}

int bursar_crypto_load(struct bursar_error *error) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, load);
  return loaded ? 0
                : bursar_error_set(error, BURSAR_FAILED,
                                   "sealed files and hashes need OpenSSL 3, whose libcrypto was not found: install "
                                   "libssl3");
}

int bursar_crypto_random(void *out, size_t bytes, struct bursar_error *error) {
  unsigned char *at = out;
  while (bytes) {
    ssize_t got = getrandom(at, bytes, 0);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return bursar_error_set(error, BURSAR_FAILED, "the system gives no random bytes: %s", strerror(errno));
    at += got;
    bytes -= (size_t)got;
  }
  return 0;
}

/* --- keys ------------------------------------------------------------------------------------------------------------ */

bool bursar_crypto_hmac(const void *key, size_t key_bytes, const void *data, size_t bytes,
                        unsigned char out[BURSAR_CRYPTO_HASH]) {
  unsigned length = 0;
  return HMAC(EVP_sha256(), key, (int)key_bytes, data, bytes, out, &length) && length == BURSAR_CRYPTO_HASH;
}

/* RFC 5869: one block is all that is needed. */
bool bursar_crypto_hkdf(const void *key, size_t key_bytes, const void *salt, size_t salt_bytes, const char *info,
                        unsigned char out[BURSAR_CRYPTO_KEY]) {
  static const unsigned char none[BURSAR_CRYPTO_HASH];
  unsigned char first[BURSAR_CRYPTO_HASH], text[128];
  size_t length = strlen(info);
  bool done = length < sizeof text && bursar_crypto_hmac(salt_bytes ? salt : none,
                                                         salt_bytes ? salt_bytes : sizeof none, key, key_bytes, first);
  if (done) {
    memcpy(text, info, length);
    text[length] = 1;
    done = bursar_crypto_hmac(first, sizeof first, text, length + 1, out);
  }
  bursar_wipe(first, sizeof first);
  return done;
}

bool bursar_crypto_scrypt(const void *passphrase, size_t bytes, const void *salt, size_t salt_bytes, unsigned log_n,
                          unsigned char out[BURSAR_CRYPTO_KEY]) {
  uint64_t rounds = (uint64_t)1 << log_n, most = rounds * 128 * SCRYPT_R + (1u << 20);
  bool done = EVP_PBE_scrypt(passphrase, bytes, salt, salt_bytes, rounds, SCRYPT_R, 1, most, out, BURSAR_CRYPTO_KEY) ==
              1;
  ERR_clear_error();
  return done;
}

static bool derive(void *key, const unsigned char *point, unsigned char *out) {
  size_t length = BURSAR_CRYPTO_KEY;
  void *peer = EVP_PKEY_new_raw_public_key(X25519, NULL, point, BURSAR_CRYPTO_KEY);
  void *context = peer ? EVP_PKEY_CTX_new(key, NULL) : NULL;
  bool done = context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, peer) == 1 &&
              EVP_PKEY_derive(context, out, &length) == 1 && length == BURSAR_CRYPTO_KEY;
  if (context)
    EVP_PKEY_CTX_free(context);
  if (peer)
    EVP_PKEY_free(peer);
  return done;
}

bool bursar_crypto_x25519(const unsigned char secret[BURSAR_CRYPTO_KEY], const unsigned char *point,
                          unsigned char out[BURSAR_CRYPTO_KEY]) {
  size_t length = BURSAR_CRYPTO_KEY;
  void *key = EVP_PKEY_new_raw_private_key(X25519, NULL, secret, BURSAR_CRYPTO_KEY);
  bool done = key && (point ? derive(key, point, out) : EVP_PKEY_get_raw_public_key(key, out, &length) == 1);
  if (key)
    EVP_PKEY_free(key);
  ERR_clear_error();
  unsigned char any = 0;
  for (unsigned i = 0; done && i < BURSAR_CRYPTO_KEY; i++)
    any |= out[i];
  return done && any;
}

/* --- SHA-256 ---------------------------------------------------------------------------------------------------------- */

bool bursar_crypto_sha256_begin(struct bursar_crypto_sha256 *hash) {
  hash->context = EVP_MD_CTX_new();
  return hash->context && EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1;
}

bool bursar_crypto_sha256_add(struct bursar_crypto_sha256 *hash, const void *bytes, size_t count) {
  return hash->context && EVP_DigestUpdate(hash->context, bytes, count) == 1;
}

bool bursar_crypto_sha256_end(struct bursar_crypto_sha256 *hash, unsigned char out[BURSAR_CRYPTO_HASH]) {
  unsigned length = 0;
  bool done = hash->context && out && EVP_DigestFinal_ex(hash->context, out, &length) == 1;
  if (hash->context)
    EVP_MD_CTX_free(hash->context);
  hash->context = NULL;
  return done && length == BURSAR_CRYPTO_HASH;
}

/* --- ChaCha20-Poly1305 ----------------------------------------------------------------------------------------------- */

bool bursar_crypto_aead_begin(struct bursar_crypto_aead *aead, const unsigned char key[BURSAR_CRYPTO_KEY], bool seal) {
  aead->context = EVP_CIPHER_CTX_new();
  if (aead->context && EVP_CipherInit_ex(aead->context, EVP_chacha20_poly1305(), NULL, key, NULL, seal) == 1)
    return true;
  bursar_crypto_aead_end(aead);
  return false;
}

void bursar_crypto_aead_end(struct bursar_crypto_aead *aead) {
  if (aead->context)
    EVP_CIPHER_CTX_free(aead->context);
  aead->context = NULL;
}

bool bursar_crypto_aead_seal(struct bursar_crypto_aead *aead, const unsigned char nonce[BURSAR_CRYPTO_NONCE],
                             const void *in, size_t bytes, unsigned char *out) {
  int done = 0, rest = 0;
  return EVP_CipherInit_ex(aead->context, NULL, NULL, NULL, nonce, 1) == 1 &&
         (!bytes || EVP_CipherUpdate(aead->context, out, &done, in, (int)bytes) == 1) &&
         EVP_CipherFinal_ex(aead->context, out + done, &rest) == 1 &&
         EVP_CIPHER_CTX_ctrl(aead->context, GET_TAG, BURSAR_CRYPTO_TAG, out + bytes) == 1;
}

bool bursar_crypto_aead_open(struct bursar_crypto_aead *aead, const unsigned char nonce[BURSAR_CRYPTO_NONCE],
                             const unsigned char *in, size_t bytes, void *out) {
  unsigned char tag[BURSAR_CRYPTO_TAG];
  int done = 0, rest = 0;
  memcpy(tag, in + bytes, sizeof tag);
  if (EVP_CipherInit_ex(aead->context, NULL, NULL, NULL, nonce, 0) == 1 &&
      EVP_CIPHER_CTX_ctrl(aead->context, SET_TAG, BURSAR_CRYPTO_TAG, tag) == 1 &&
      (!bytes || EVP_CipherUpdate(aead->context, out, &done, in, (int)bytes) == 1) &&
      EVP_CipherFinal_ex(aead->context, (unsigned char *)out + done, &rest) == 1)
    return true;
  ERR_clear_error();
  bursar_wipe(out, bytes);
  return false;
}
