/* age.h: the header of a sealed file, in version 1 of the age format: for whom it is, and the key of what follows.
 *
 *   age-encryption.org/v1      a stanza for each recipient (X25519, or scrypt alone)      --- MAC      16 bytes      chunks
 *
 * Secrets are in the vault: identities, passphrases, keys.  What lies on the stack meanwhile is wiped.
 * Ownership: the caller's structs and slots.  Threads: one at a time.  Errors: a line; `path` names the file in it.  Class N. */
#ifndef BURSAR_MODEL_AGE_H
#define BURSAR_MODEL_AGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "model/bech32.h"
#include "model/crypto.h"
#include "secret/vault.h"

#define BURSAR_AGE_HEADER_MOST (1u << 20) /* bytes that we read of one */
#define BURSAR_AGE_NONCE 16u              /* bytes between header and chunks */
#define BURSAR_AGE_WORK 18u               /* of a passphrase: 2^18 rounds, a second and 256 MiB */
#define BURSAR_AGE_WORK_MOST 22u          /* beyond it a header asks for gigabytes */

struct bursar_age_recipient {
  unsigned char point[BURSAR_CRYPTO_KEY];
};

struct bursar_age_identity {
  struct bursar_vault_slot secret; /* BURSAR_CRYPTO_KEY bytes */
  struct bursar_age_recipient recipient;
};

/* --- keys */
int bursar_age_generate(struct bursar_age_identity *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* AGE-SECRET-KEY-1…, into memory that the caller wipes. */
int bursar_age_identity_word(const struct bursar_age_identity *identity, char out[BURSAR_BECH32_WORD],
                             struct bursar_error *error) __attribute__((warn_unused_result));
/* age1… */
void bursar_age_recipient_word(const struct bursar_age_recipient *recipient, char out[BURSAR_BECH32_WORD]);
int bursar_age_recipient_parse(const char *word, size_t length, struct bursar_age_recipient *out,
                               struct bursar_error *error) __attribute__((warn_unused_result));
/* A file of them: one a line, besides blank ones and comments (#).  *out is malloc's, ended by bursar_age_forget. */
int bursar_age_identities_parse(const char *text, size_t length, const char *path, struct bursar_age_identity **out,
                                size_t *count, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_age_forget(struct bursar_age_identity *identities, size_t count);

/* --- sealing: a header for them, or for who knows the passphrase (a slot; NULL: nobody), and the nonce behind it, appended;
 * `key` is taken for the key of the chunks. */
int bursar_age_seal(const struct bursar_age_recipient *recipients, size_t count, struct bursar_vault_slot *passphrase,
                    unsigned work, struct bursar_buffer *out, struct bursar_vault_slot *key, struct bursar_error *error)
    __attribute__((warn_unused_result));

/* --- opening */
struct bursar_age_keys {
  struct bursar_age_identity *identities;
  size_t count;
  struct bursar_vault_slot *passphrase; /* NULL: none */
};
/* The bytes up to the first chunk, of which `count` are there; 0: there are more to come. */
size_t bursar_age_header_bytes(const char *bytes, size_t count);
/* Is it sealed with a passphrase?  Of what begins as a header does. */
bool bursar_age_wants_passphrase(const char *bytes, size_t count);
/* `bytes`: as bursar_age_header_bytes says.  `key` is taken for the key of the chunks. */
int bursar_age_open(const char *header, size_t bytes, const struct bursar_age_keys *keys, const char *path,
                    struct bursar_vault_slot *key, struct bursar_error *error) __attribute__((warn_unused_result));

#endif
