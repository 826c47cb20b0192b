#include "model/age.h"

#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "model/base64.h"
#include "secret/wipe.h"

#define VERSION "age-encryption.org/v1\n"
#define IDENTITY "age-secret-key-"
#define RECIPIENT "age"
#define X25519_INFO "age-encryption.org/v1/X25519"
#define SCRYPT_INFO "age-encryption.org/v1/scrypt"
#define FILE_KEY 16u
#define WRAPPED (FILE_KEY + BURSAR_CRYPTO_TAG)
#define SALT 16u
#define COLUMNS 64u  /* of a body's lines */
#define ARGUMENTS 4u /* that are kept; the kinds that we know have two at most */
#define MAC_LETTERS 43u

static const unsigned char zero_nonce[BURSAR_CRYPTO_NONCE];

static int fail(struct bursar_error *error, const char *path, const char *why) {
  return bursar_error_set(error, BURSAR_FAILED, "cannot open %.500s: %s", path, why);
}

/* --- keys ------------------------------------------------------------------------------------------------------------ */

/* Taken, and open for writing. */
static int take(size_t bytes, struct bursar_vault_slot *slot, struct bursar_error *error) {
  int status = bursar_vault_take(bytes, slot, error);
  if (status < 0)
    return status;
  status = bursar_vault_open(slot, true, error);
  if (status < 0)
    (void)!bursar_vault_return(slot, NULL);
  return status;
}

static int close_or_return(struct bursar_vault_slot *slot, int status, struct bursar_error *error) {
  if (status == 0)
    return bursar_vault_close(slot, true, error);
  (void)!bursar_vault_return(slot, NULL);
  return status;
}

static int no_crypto(struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED,
                          "OpenSSL's libcrypto refuses what age files need (a FIPS provider alone?)");
}

int bursar_age_generate(struct bursar_age_identity *out, struct bursar_error *error) {
  int status = bursar_crypto_load(error);
  if (status == 0)
    status = take(BURSAR_CRYPTO_KEY, &out->secret, error);
  if (status < 0)
    return status;
  status = bursar_crypto_random(out->secret.data, BURSAR_CRYPTO_KEY, error);
  if (status == 0 && !bursar_crypto_x25519((const unsigned char *)out->secret.data, NULL, out->recipient.point))
    status = no_crypto(error);
  return close_or_return(&out->secret, status, error);
}

int bursar_age_identity_word(const struct bursar_age_identity *identity, char out[BURSAR_BECH32_WORD],
                             struct bursar_error *error) {
  struct bursar_vault_slot *slot = (struct bursar_vault_slot *)(uintptr_t)&identity->secret;
  int status = bursar_vault_open(slot, false, error);
  if (status < 0)
    return status;
  bursar_bech32_encode(IDENTITY, true, (const unsigned char *)slot->data, out);
  return bursar_vault_close(slot, false, error);
}

void bursar_age_recipient_word(const struct bursar_age_recipient *recipient, char out[BURSAR_BECH32_WORD]) {
  bursar_bech32_encode(RECIPIENT, false, recipient->point, out);
}

static bool begins(const char *word, size_t length, const char *with) {
  return length >= strlen(with) && memcmp(word, with, strlen(with)) == 0;
}

int bursar_age_recipient_parse(const char *word, size_t length, struct bursar_age_recipient *out,
                               struct bursar_error *error) {
  int shown = length < 100 ? (int)length : 100;
  if (bursar_bech32_decode(RECIPIENT, word, length, out->point) && *word == 'a')
    return 0;
  if (begins(word, length, "age1pq1") || begins(word, length, "age1tag") || begins(word, length, "ssh-") ||
      (begins(word, length, "age1") && memchr(word + 4, '1', length - 4)))
    return bursar_error_set(error, BURSAR_FAILED,
                            "recipients of the kind of '%.*s' are not supported: X25519 ones (age1…) are",
                            shown < 12 ? shown : 12, word);
  return bursar_error_set(error, BURSAR_FAILED,
                          "'%.*s' is no recipient: they begin with age1, and notice when they are mistyped", shown,
                          word);
}

static int read_identity(const char *word, size_t length, struct bursar_age_identity *out, struct bursar_error *error) {
  int status = take(BURSAR_CRYPTO_KEY, &out->secret, error);
  if (status < 0)
    return status;
  unsigned char *secret = (unsigned char *)out->secret.data;
  if (*word != 'A' || !bursar_bech32_decode(IDENTITY, word, length, secret))
    status = -1000; /* said by the caller, who knows the line */
  else if (!bursar_crypto_x25519(secret, NULL, out->recipient.point))
    status = no_crypto(error);
  return close_or_return(&out->secret, status, error);
}

int bursar_age_identities_parse(const char *text, size_t length, const char *path, struct bursar_age_identity **out,
                                size_t *count, struct bursar_error *error) {
  size_t lines = 1, number = 1;
  for (size_t i = 0; i < length; i++)
    lines += text[i] == '\n';
  *count = 0;
  int status = bursar_crypto_load(error);
  *out = status == 0 ? calloc(lines, sizeof **out) : NULL;
  if (status == 0 && !*out)
    status = bursar_error_set(error, BURSAR_FAILED, "no memory for the identities of %.500s", path);
  for (size_t at = 0; status == 0 && at < length; number++) {
    const char *end = memchr(text + at, '\n', length - at);
    size_t line = end ? (size_t)(end - text) - at : length - at, used = line;
    while (used && (text[at + used - 1] == '\r' || text[at + used - 1] == ' '))
      used--;
    if (used && text[at] != '#') {
      status = read_identity(text + at, used, *out + *count, error);
      if (status == -1000)
        status =
            bursar_error_set(error, BURSAR_FAILED, "line %zu of %.500s is %s", number, path,
                             begins(text + at, used, "AGE-SECRET-KEY-PQ-1") || begins(text + at, used, "AGE-PLUGIN-")
                                 ? "an identity of a kind that is not supported: AGE-SECRET-KEY-1… are"
                                 : "no identity: they begin with AGE-SECRET-KEY-1, and notice when they are mistyped");
      *count += status == 0;
    }
    at += line + 1;
  }
  if (status == 0 && !*count)
    status = bursar_error_set(error, BURSAR_FAILED, "there is no identity in %.500s", path);
  if (status < 0) {
    bursar_age_forget(*out, *count);
    *out = NULL;
    *count = 0;
  }
  return status;
}

void bursar_age_forget(struct bursar_age_identity *identities, size_t count) {
  for (size_t i = 0; i < count; i++)
    (void)!bursar_vault_return(&identities[i].secret, NULL);
  free(identities);
}

/* --- the key of a file, wrapped for somebody -------------------------------------------------------------------------- */

/* One key, used once. */
static bool wrap(const unsigned char key[BURSAR_CRYPTO_KEY], const unsigned char *in, size_t bytes, unsigned char *out,
                 bool seal) {
  struct bursar_crypto_aead aead;
  if (!bursar_crypto_aead_begin(&aead, key, seal))
    return false;
  bool done = seal ? bursar_crypto_aead_seal(&aead, zero_nonce, in, bytes, out)
                   : bursar_crypto_aead_open(&aead, zero_nonce, in, bytes, out);
  bursar_crypto_aead_end(&aead);
  return done;
}

/* From what both ends know. */
static bool x25519_key(const unsigned char secret[BURSAR_CRYPTO_KEY], const unsigned char *point,
                       const unsigned char *ephemeral, const unsigned char *recipient,
                       unsigned char out[BURSAR_CRYPTO_KEY]) {
  unsigned char shared[BURSAR_CRYPTO_KEY], salt[2 * BURSAR_CRYPTO_KEY];
  memcpy(salt, ephemeral, BURSAR_CRYPTO_KEY);
  memcpy(salt + BURSAR_CRYPTO_KEY, recipient, BURSAR_CRYPTO_KEY);
  bool done = bursar_crypto_x25519(secret, point, shared) &&
              bursar_crypto_hkdf(shared, sizeof shared, salt, sizeof salt, X25519_INFO, out);
  bursar_wipe(shared, sizeof shared);
  return done;
}

static bool scrypt_key(const struct bursar_vault_slot *passphrase, const unsigned char *salt, unsigned work,
                       unsigned char out[BURSAR_CRYPTO_KEY]) {
  unsigned char labelled[sizeof SCRYPT_INFO - 1 + SALT];
  memcpy(labelled, SCRYPT_INFO, sizeof SCRYPT_INFO - 1);
  memcpy(labelled + sizeof SCRYPT_INFO - 1, salt, SALT);
  return bursar_crypto_scrypt(passphrase->data, passphrase->bytes, labelled, sizeof labelled, work, out);
}

/* --- sealing --------------------------------------------------------------------------------------------------------- */

static void add_base64(struct bursar_buffer *out, const unsigned char *bytes, size_t count) {
  char letters[BURSAR_BASE64_LETTERS(64)];
  bursar_buffer_add(out, letters, bursar_base64_encode(bytes, count, letters));
}

static int add_recipient(const struct bursar_age_recipient *recipient, const unsigned char *file_key,
                         struct bursar_buffer *out, struct bursar_error *error) {
  unsigned char secret[BURSAR_CRYPTO_KEY], ephemeral[BURSAR_CRYPTO_KEY], key[BURSAR_CRYPTO_KEY], wrapped[WRAPPED];
  int status = bursar_crypto_random(secret, sizeof secret, error);
  if (status == 0 && (!bursar_crypto_x25519(secret, NULL, ephemeral) ||
                      !x25519_key(secret, recipient->point, ephemeral, recipient->point, key) ||
                      !wrap(key, file_key, FILE_KEY, wrapped, true)))
    status = bursar_error_set(error, BURSAR_FAILED, "a recipient is no point that anything can be sealed for");
  if (status == 0) {
    bursar_buffer_text(out, "-> X25519 ");
    add_base64(out, ephemeral, sizeof ephemeral);
    bursar_buffer_char(out, '\n');
    add_base64(out, wrapped, sizeof wrapped);
    bursar_buffer_char(out, '\n');
  }
  bursar_wipe(secret, sizeof secret);
  bursar_wipe(key, sizeof key);
  return status;
}

static int add_passphrase(const struct bursar_vault_slot *passphrase, unsigned work, const unsigned char *file_key,
                          struct bursar_buffer *out, struct bursar_error *error) {
  unsigned char salt[SALT], key[BURSAR_CRYPTO_KEY], wrapped[WRAPPED];
  int status = bursar_crypto_random(salt, sizeof salt, error);
  if (status == 0 && (!scrypt_key(passphrase, salt, work, key) || !wrap(key, file_key, FILE_KEY, wrapped, true)))
    status = bursar_error_set(error, BURSAR_FAILED, "no memory for scrypt (%u MiB)", 1u << (work - 10));
  if (status == 0) {
    bursar_buffer_text(out, "-> scrypt ");
    add_base64(out, salt, sizeof salt);
    bursar_buffer_format(out, " %u\n", work);
    add_base64(out, wrapped, sizeof wrapped);
    bursar_buffer_char(out, '\n');
  }
  bursar_wipe(key, sizeof key);
  return status;
}

static bool header_mac(const unsigned char *file_key, const char *header, size_t bytes,
                       unsigned char out[BURSAR_CRYPTO_HASH]) {
  unsigned char key[BURSAR_CRYPTO_KEY];
  bool done = bursar_crypto_hkdf(file_key, FILE_KEY, NULL, 0, "header", key) &&
              bursar_crypto_hmac(key, sizeof key, header, bytes, out);
  bursar_wipe(key, sizeof key);
  return done;
}

/* The vault's key of the chunks. */
static int payload_key(const unsigned char *file_key, const unsigned char *nonce, struct bursar_vault_slot *key,
                       struct bursar_error *error) {
  int status = take(BURSAR_CRYPTO_KEY, key, error);
  if (status < 0)
    return status;
  if (!bursar_crypto_hkdf(file_key, FILE_KEY, nonce, BURSAR_AGE_NONCE, "payload", (unsigned char *)key->data))
    status = no_crypto(error);
  return close_or_return(key, status, error);
}

static int add_stanzas(const struct bursar_age_recipient *recipients, size_t count,
                       struct bursar_vault_slot *passphrase, unsigned work, const unsigned char *file_key,
                       struct bursar_buffer *out, struct bursar_error *error) {
  int status = 0;
  for (size_t i = 0; i < count && status == 0; i++)
    status = add_recipient(&recipients[i], file_key, out, error);
  if (!passphrase)
    return status;
  status = bursar_vault_open(passphrase, false, error);
  if (status < 0)
    return status;
  status = add_passphrase(passphrase, work, file_key, out, error);
  int closed = bursar_vault_close(passphrase, false, status == 0 ? error : NULL);
  return status < 0 ? status : closed;
}

int bursar_age_seal(const struct bursar_age_recipient *recipients, size_t count, struct bursar_vault_slot *passphrase,
                    unsigned work, struct bursar_buffer *out, struct bursar_vault_slot *key,
                    struct bursar_error *error) {
  unsigned char file_key[FILE_KEY], mac[BURSAR_CRYPTO_HASH], nonce[BURSAR_AGE_NONCE];
  int status = bursar_crypto_load(error);
  if (status == 0 && (passphrase ? count != 0 : count == 0))
    status = bursar_error_set(error, BURSAR_MISUSE, "a file is sealed for recipients, or with a passphrase");
  if (status == 0)
    status = bursar_crypto_random(file_key, sizeof file_key, error);
  if (status == 0)
    status = bursar_crypto_random(nonce, sizeof nonce, error);
  size_t from = out->used;
  if (status == 0) {
    bursar_buffer_text(out, VERSION);
    status = add_stanzas(recipients, count, passphrase, work, file_key, out, error);
  }
  if (status == 0) {
    bursar_buffer_text(out, "---");
    if (!out->failed && !header_mac(file_key, out->data + from, out->used - from, mac))
      status = no_crypto(error);
  }
  if (status == 0) {
    bursar_buffer_char(out, ' ');
    add_base64(out, mac, sizeof mac);
    bursar_buffer_char(out, '\n');
    bursar_buffer_add(out, nonce, sizeof nonce);
    status = payload_key(file_key, nonce, key, error);
  }
  bursar_wipe(file_key, sizeof file_key);
  return status;
}

/* --- reading a header ------------------------------------------------------------------------------------------------- */

struct stanza {
  struct bursar_text argument[ARGUMENTS];
  unsigned arguments; /* all of them */
  const char *body;   /* letters, in lines */
  size_t lines;       /* whole ones, before the last */
  size_t rest;        /* letters of the last */
};

static bool is(struct bursar_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

size_t bursar_age_header_bytes(const char *bytes, size_t count) {
  for (const char *at = bytes, *end = bytes + count; at < end;) {
    const char *next = memchr(at, '\n', (size_t)(end - at));
    if (!next)
      return 0;
    if (end - at >= 3 && memcmp(at, "---", 3) == 0) {
      size_t whole = (size_t)(next + 1 - bytes) + BURSAR_AGE_NONCE;
      return whole <= count ? whole : 0;
    }
    at = next + 1;
  }
  return 0;
}

bool bursar_age_wants_passphrase(const char *bytes, size_t count) { return begins(bytes, count, VERSION "-> scrypt "); }

/* "-> kind argument…": printable letters, each word by one blank. */
static bool read_arguments(const char **at, const char *end, struct stanza *out) {
  const char *line = memchr(*at, '\n', (size_t)(end - *at));
  if (!line || line - *at < 4 || memcmp(*at, "-> ", 3) != 0)
    return false;
  const char *word = *at + 3;
  do {
    const char *stop = word;
    while (stop < line && *stop > 32 && *stop < 127)
      stop++;
    if (stop == word || (stop < line && *stop != ' '))
      return false;
    if (out->arguments < ARGUMENTS)
      out->argument[out->arguments] = (struct bursar_text){word, (uint32_t)(stop - word)};
    out->arguments++;
    word = stop + 1;
  } while (word <= line);
  *at = line + 1;
  return true;
}

/* Lines of 64 letters, and a shorter one, empty or not. */
static bool read_body(const char **at, const char *end, struct stanza *out) {
  unsigned char bytes[COLUMNS];
  out->body = *at;
  for (;;) {
    const char *line = memchr(*at, '\n', (size_t)(end - *at));
    size_t letters = line ? (size_t)(line - *at) : COLUMNS + 1;
    if (letters > COLUMNS || bursar_base64_decode(*at, letters, bytes) < 0)
      return false;
    *at = line + 1;
    if (letters < COLUMNS) {
      out->rest = letters;
      return true;
    }
    out->lines++;
  }
}

static bool read_stanza(const char **at, const char *end, struct stanza *out) {
  *out = (struct stanza){.arguments = 0};
  return read_arguments(at, end, out) && read_body(at, end, out);
}

/* The body that X25519 and scrypt have. */
static bool wrapped_key(const struct stanza *stanza, unsigned char out[WRAPPED]) {
  return stanza->lines == 0 && stanza->rest == BURSAR_BASE64_LETTERS(WRAPPED) &&
         bursar_base64_decode(stanza->body, stanza->rest, out) == (ssize_t)WRAPPED;
}

static bool argument_bytes(const struct stanza *stanza, unsigned i, unsigned char *out, size_t bytes) {
  struct bursar_text text = stanza->argument[i];
  return text.length == BURSAR_BASE64_LETTERS(bytes) &&
         bursar_base64_decode(text.bytes, text.length, out) == (ssize_t)bytes;
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

struct opening {
  const struct bursar_age_keys *keys;
  const char *path;
  struct bursar_error *error;
  unsigned char file_key[FILE_KEY];
  bool found;
  char unknown[40]; /* a kind that we do not know */
};

static int try_identity(struct opening *o, struct bursar_age_identity *identity, const unsigned char *ephemeral,
                        const unsigned char *wrapped) {
  unsigned char key[BURSAR_CRYPTO_KEY];
  int status = bursar_vault_open(&identity->secret, false, o->error);
  if (status < 0)
    return status;
  bool usable =
      x25519_key((const unsigned char *)identity->secret.data, ephemeral, ephemeral, identity->recipient.point, key);
  status = bursar_vault_close(&identity->secret, false, o->error);
  if (status == 0 && !usable)
    status = fail(o->error, o->path, "its header has a recipient that is no point");
  if (status == 0)
    o->found = wrap(key, wrapped, FILE_KEY, o->file_key, false);
  bursar_wipe(key, sizeof key);
  return status;
}

static int open_x25519(struct opening *o, const struct stanza *stanza) {
  unsigned char ephemeral[BURSAR_CRYPTO_KEY], wrapped[WRAPPED];
  if (stanza->arguments != 2 || !argument_bytes(stanza, 1, ephemeral, sizeof ephemeral) ||
      !wrapped_key(stanza, wrapped))
    return fail(o->error, o->path, "its header has an X25519 recipient that is none");
  int status = 0;
  for (size_t i = 0; i < o->keys->count && status == 0 && !o->found; i++)
    status = try_identity(o, &o->keys->identities[i], ephemeral, wrapped);
  return status;
}

/* Decimal, without a zero or a sign before it; 0: it is none. */
static unsigned work_of(struct bursar_text text) {
  unsigned work = 0;
  if (!text.length || text.length > 2 || text.bytes[0] == '0')
    return 0;
  for (uint32_t i = 0; i < text.length; i++) {
    if (text.bytes[i] < '0' || text.bytes[i] > '9')
      return 0;
    work = work * 10 + (unsigned)(text.bytes[i] - '0');
  }
  return work;
}

static int open_scrypt(struct opening *o, const struct stanza *stanza) {
  unsigned char salt[SALT], wrapped[WRAPPED], key[BURSAR_CRYPTO_KEY];
  unsigned work = stanza->arguments == 3 ? work_of(stanza->argument[2]) : 0;
  if (!work || !argument_bytes(stanza, 1, salt, sizeof salt) || !wrapped_key(stanza, wrapped))
    return fail(o->error, o->path, "its header has a passphrase's recipient that is none");
  if (!o->keys->passphrase)
    return 0;
  if (work > BURSAR_AGE_WORK_MOST)
    return bursar_error_set(o->error, BURSAR_FAILED,
                            "cannot open %.500s: its passphrase asks for 2^%u rounds of work; 2^%u are done at most",
                            o->path, work, BURSAR_AGE_WORK_MOST);
  int status = bursar_vault_open(o->keys->passphrase, false, o->error);
  if (status < 0)
    return status;
  bool done = scrypt_key(o->keys->passphrase, salt, work, key);
  status = bursar_vault_close(o->keys->passphrase, false, o->error);
  if (status == 0 && !done)
    status = fail(o->error, o->path, "no memory for the work that its passphrase asks for");
  if (status == 0)
    o->found = wrap(key, wrapped, FILE_KEY, o->file_key, false);
  bursar_wipe(key, sizeof key);
  return status;
}

/* Its letters are printable. */
static void keep_unknown(struct opening *o, struct bursar_text kind) {
  size_t length = kind.length < sizeof o->unknown - 1 ? kind.length : sizeof o->unknown - 1;
  memcpy(o->unknown, kind.bytes, length);
  o->unknown[length] = 0;
}

static int open_stanzas(struct opening *o, const char **at, const char *end) {
  size_t count = 0;
  bool alone = false;
  int status = 0;
  while (status == 0 && end - *at >= 3 && memcmp(*at, "---", 3) != 0) {
    struct stanza stanza;
    if (!read_stanza(at, end, &stanza))
      return fail(o->error, o->path, "its header is none that age writes");
    count++;
    bool scrypt = is(stanza.argument[0], "scrypt");
    if ((alone || scrypt) && count > 1)
      return fail(o->error, o->path, "its header has a passphrase beside other recipients");
    alone = scrypt;
    if (scrypt && !o->found)
      status = open_scrypt(o, &stanza);
    else if (is(stanza.argument[0], "X25519"))
      status = open_x25519(o, &stanza);
    else if (!scrypt && !o->unknown[0])
      keep_unknown(o, stanza.argument[0]);
  }
  return status < 0 || count ? status : fail(o->error, o->path, "its header has no recipient");
}

static int nobody(const struct opening *o, bool passphrase) {
  if (passphrase && !o->keys->passphrase)
    return fail(o->error, o->path, "it is sealed with a passphrase: give that");
  if (passphrase)
    return fail(o->error, o->path, "that is not its passphrase");
  if (o->unknown[0])
    return bursar_error_set(o->error, BURSAR_FAILED,
                            "cannot open %.500s: no identity fits, and recipients of the kind %s are not supported",
                            o->path, o->unknown);
  return fail(o->error, o->path, o->keys->count ? "it is sealed for others: no identity fits" : "it wants an identity");
}

/* "--- MAC" over all before the blank. */
static int check_mac(const struct opening *o, const char *header, const char *footer, const char *end) {
  unsigned char told[BURSAR_CRYPTO_HASH], made[BURSAR_CRYPTO_HASH];
  if (end - footer != 4 + MAC_LETTERS + 1 || footer[3] != ' ' || end[-1] != '\n' ||
      bursar_base64_decode(footer + 4, MAC_LETTERS, told) != (ssize_t)sizeof told)
    return fail(o->error, o->path, "its header is none that age writes");
  if (!o->found)
    return 0;
  return header_mac(o->file_key, header, (size_t)(footer + 3 - header), made) &&
                 bursar_vault_equal(told, made, sizeof made)
             ? 0
             : fail(o->error, o->path, "its header was changed after it was sealed");
}

int bursar_age_open(const char *header, size_t bytes, const struct bursar_age_keys *keys, const char *path,
                    struct bursar_vault_slot *key, struct bursar_error *error) {
  struct opening o = {.keys = keys, .path = path, .error = error};
  const char *end = header + bytes - BURSAR_AGE_NONCE, *at = header + sizeof VERSION - 1;
  int status = bursar_crypto_load(error);
  if (status < 0)
    return status;
  if (bytes < sizeof VERSION - 1 + BURSAR_AGE_NONCE || memcmp(header, VERSION, sizeof VERSION - 1) != 0)
    return begins(header, bytes, "age-encryption.org/")
               ? fail(error, path, "it is of a version of age that is not supported: v1 is")
               : fail(error, path, "it is no file that age sealed");
  bool passphrase = bursar_age_wants_passphrase(header, bytes);
  status = open_stanzas(&o, &at, end);
  if (status == 0)
    status = check_mac(&o, header, at, end);
  if (status == 0 && !o.found)
    status = nobody(&o, passphrase);
  if (status == 0)
    status = payload_key(o.file_key, (const unsigned char *)end, key, error);
  bursar_wipe(o.file_key, sizeof o.file_key);
  return status;
}
