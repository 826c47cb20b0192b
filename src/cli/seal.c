/* seal.c: `bursar model keygen`, `seal` and `open`: files for somebody's eyes alone, in the age format. */
#include "cli/cli.h"
#include "cli/opened.h"
#include "cli/sink.h"
#include "model/age.h"
#include "model/armor.h"
#include "model/payload.h"
#include "prim/prim.h"
#include "secret/given.h"
#include "secret/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 8u /* chunks that are written */

/* ---- keygen ---- */

static int print_identity(const struct bursar_age_identity *identity, struct bursar_cli_sink *sink,
                          struct bursar_error *error) {
  char secret[BURSAR_BECH32_WORD], recipient[BURSAR_BECH32_WORD], created[40] = "", text[400];
  time_t now = time(NULL);
  struct tm local;
  if (localtime_r(&now, &local))
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%S%z", &local);
  bursar_age_recipient_word(&identity->recipient, recipient);
  int status = bursar_age_identity_word(identity, secret, error);
  if (status == 0) {
    int length = snprintf(text, sizeof text, "# created: %s\n# public key: %s\n%s\n", created, recipient, secret);
    status = bursar_cli_sink_write(sink, text, (size_t)length, error);
  }
  bursar_wipe(secret, sizeof secret);
  bursar_wipe(text, sizeof text);
  if (status == 0 && (sink->to_file || !isatty(STDOUT_FILENO))) {
    char line[BURSAR_BECH32_WORD + 16];
    int length = snprintf(line, sizeof line, "Public key: %s\n", recipient);
    bursar_prim_say(STDERR_FILENO, line, (size_t)length);
  }
  return status;
}

int bursar_cli_model_keygen(int argc, char **argv) {
  const char *out = NULL;
  const struct bursar_cli_option options[] = {{.name = "output",
                                               .letter = 'o',
                                               .value = "FILE",
                                               .text = &out,
                                               .help = "a new file, which its owner alone can read"},
                                              {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "model keygen",
                                           .usage = "[-o FILE]",
                                           .about =
                                               "Makes an identity: a secret key that opens what is sealed for its "
                                               "public one (age1…).\nKeep the file secret, and keep it: nothing else "
                                               "opens those files.",
                                           .options = options};
  struct bursar_age_identity identity;
  struct bursar_cli_sink sink;
  struct bursar_error error;
  struct stat is;
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (count)
    return bursar_cli_complain(2, "model keygen: takes no operand: -o FILE says where to");
  if (out && lstat(out, &is) == 0) /* an identity that is lost is lost */
    return bursar_cli_complain(1, "model keygen: %.800s is there already: choose another name, or remove it", out);
  mode_t was = umask(077);
  status = bursar_cli_sink_begin(out, &sink, &error);
  umask(was);
  if (status < 0)
    return bursar_cli_fail(&error);
  status = bursar_age_generate(&identity, &error);
  if (status == 0) {
    status = print_identity(&identity, &sink, &error);
    (void)!bursar_vault_return(&identity.secret, NULL);
  }
  if (status == 0)
    status = bursar_cli_sink_commit(&sink, &error);
  bursar_cli_sink_abandon(&sink);
  return status < 0 ? bursar_cli_fail(&error) : 0;
}

/* ---- what both have ---- */

struct asked {
  struct bursar_cli_list to, identities;
  const char *passphrase_file, *out;
  bool armor;
  const char *input; /* as it is called in errors */
  int fd;
};

/* -1 to go on, else the exit status. */
static int open_input(struct asked *asked, char **operands, int count, const char *verb) {
  if (count > 1)
    return bursar_cli_complain(2, "%s: give one file, or none for standard input", verb);
  asked->input = "standard input";
  asked->fd = STDIN_FILENO;
  if (count == 0 || strcmp(operands[0], "-") == 0)
    return isatty(STDIN_FILENO) ? bursar_cli_complain(2, "%s: give a file: this is a terminal", verb) : -1;
  asked->input = operands[0];
  asked->fd = open(operands[0], O_RDONLY | O_CLOEXEC | O_NOCTTY);
  return asked->fd < 0 ? bursar_cli_complain(1, "cannot read %.800s: %s", operands[0], strerror(errno)) : -1;
}

static void close_input(const struct asked *asked) {
  if (asked->fd > STDERR_FILENO)
    close(asked->fd);
}

/* The keys of the chunks, for one thread. */
static int begin_chunks(struct bursar_vault_slot *key, bool seal, struct bursar_crypto_aead *out,
                        struct bursar_error *error) {
  int status = bursar_vault_open(key, false, error);
  if (status < 0)
    return status;
  bool done = bursar_crypto_aead_begin(out, (const unsigned char *)key->data, seal);
  status = bursar_vault_close(key, false, error);
  return status < 0 || done
             ? status
             : bursar_error_set(error, BURSAR_FAILED, "OpenSSL's libcrypto has no ChaCha20-Poly1305 here");
}

/* ---- seal ---- */

struct sealing {
  struct bursar_cli_sink *sink;
  struct bursar_armor_output armor;
  bool armored;
};

static int put(struct sealing *s, const void *bytes, size_t count, struct bursar_error *error) {
  if (!s->armored)
    return bursar_cli_sink_write(s->sink, bytes, count, error);
  struct bursar_buffer out;
  bursar_buffer_init(&out, 2 * count + 1024);
  bursar_armor_write(&s->armor, bytes, count, &out);
  int status = bursar_buffer_finish(&out) < 0
                   ? bursar_error_set(error, BURSAR_FAILED, "not enough memory")
                   : bursar_cli_sink_write(s->sink, out.data ? out.data : "", out.used, error);
  bursar_buffer_free(&out);
  return status;
}

static int put_armor(struct sealing *s, bool end, struct bursar_error *error) {
  struct bursar_buffer out;
  if (!s->armored)
    return 0;
  bursar_buffer_init(&out, 1024);
  if (end)
    bursar_armor_close(&s->armor, &out);
  else
    bursar_armor_open(&s->armor, &out);
  int status = bursar_buffer_finish(&out) < 0 ? bursar_error_set(error, BURSAR_FAILED, "not enough memory")
                                              : bursar_cli_sink_write(s->sink, out.data, out.used, error);
  bursar_buffer_free(&out);
  return status;
}

/* Fewer only at the end. */
static ssize_t read_whole(int fd, const char *path, unsigned char *to, size_t room, struct bursar_error *error) {
  size_t done = 0;
  while (done < room) {
    ssize_t got = read(fd, to + done, room - done);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", path, strerror(errno));
    if (got == 0)
      break;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

/* A chunk is the last one where nothing follows it: the next one is read first.  Several are written at once. */
static int seal_chunks(const struct asked *asked, struct sealing *s, struct bursar_crypto_aead *aead,
                       unsigned char *room, struct bursar_error *error) {
  unsigned char *now = room, *next = room + BURSAR_PAYLOAD_CHUNK, *sealed = next + BURSAR_PAYLOAD_CHUNK;
  size_t held = 0;
  ssize_t have = read_whole(asked->fd, asked->input, now, BURSAR_PAYLOAD_CHUNK, error);
  for (uint64_t number = 0; have >= 0; number++) {
    ssize_t more = have == BURSAR_PAYLOAD_CHUNK ? read_whole(asked->fd, asked->input, next, BURSAR_PAYLOAD_CHUNK, error)
                                                : 0;
    if (more < 0)
      return (int)more;
    if (!bursar_payload_seal(aead, number, more == 0, now, (size_t)have, sealed + held))
      return bursar_error_set(error, BURSAR_FAILED, "OpenSSL's libcrypto failed");
    held += (size_t)have + BURSAR_CRYPTO_TAG;
    if (more == 0 || held == AT_ONCE * BURSAR_PAYLOAD_SEALED) {
      int status = put(s, sealed, held, error);
      if (status < 0 || more == 0)
        return status;
      held = 0;
    }
    unsigned char *swap = now;
    now = next;
    next = swap;
    have = more;
  }
  return (int)have;
}

static int seal_all(const struct asked *asked, const struct bursar_age_recipient *recipients,
                    struct bursar_vault_slot *passphrase, struct sealing *s, struct bursar_error *error) {
  struct bursar_vault_slot key;
  struct bursar_crypto_aead aead = {NULL};
  struct bursar_buffer header;
  bursar_buffer_init(&header, BURSAR_AGE_HEADER_MOST);
  int status = bursar_age_seal(recipients, asked->to.count, passphrase, BURSAR_AGE_WORK, &header, &key, error);
  if (status < 0) {
    bursar_buffer_free(&header);
    return status;
  }
  unsigned char *room = malloc(2 * BURSAR_PAYLOAD_CHUNK + AT_ONCE * BURSAR_PAYLOAD_SEALED);
  if (!room || bursar_buffer_finish(&header) < 0)
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  if (status == 0)
    status = put_armor(s, false, error);
  if (status == 0)
    status = put(s, header.data, header.used, error);
  if (status == 0)
    status = begin_chunks(&key, true, &aead, error);
  if (status == 0)
    status = seal_chunks(asked, s, &aead, room, error);
  if (status == 0)
    status = put_armor(s, true, error);
  bursar_crypto_aead_end(&aead);
  if (room)
    bursar_wipe(room, 2 * BURSAR_PAYLOAD_CHUNK);
  free(room);
  (void)!bursar_vault_return(&key, NULL);
  bursar_buffer_free(&header);
  return status;
}

/* Read from a file, or asked for, twice. */
static int new_passphrase(const char *path, struct bursar_vault_slot *out, struct bursar_error *error) {
  struct bursar_vault_slot again;
  if (strcmp(path, "-") != 0)
    return bursar_given_file(path, true, out, error);
  int status = bursar_given_ask("Passphrase: ", out, error);
  if (status < 0)
    return status;
  status = bursar_given_ask("Once more: ", &again, error);
  if (status == 0) {
    bool opened = bursar_vault_open(out, false, error) == 0 && bursar_vault_open(&again, false, error) == 0;
    bool same = opened && out->bytes == again.bytes && bursar_vault_equal(out->data, again.data, again.bytes);
    if (opened)
      (void)!bursar_vault_close(out, false, NULL);
    (void)!bursar_vault_return(&again, NULL);
    status = same ? 0 : bursar_error_set(error, BURSAR_FAILED, "the two passphrases are not the same");
  }
  if (status < 0)
    (void)!bursar_vault_return(out, NULL);
  return status;
}

static int seal_file(const struct asked *asked) {
  struct bursar_age_recipient recipients[sizeof asked->to.at / sizeof *asked->to.at];
  struct bursar_vault_slot passphrase;
  struct bursar_cli_sink sink;
  struct bursar_error error;
  for (size_t i = 0; i < asked->to.count; i++)
    if (bursar_age_recipient_parse(asked->to.at[i], strlen(asked->to.at[i]), &recipients[i], &error) < 0)
      return bursar_cli_fail(&error);
  if (asked->passphrase_file && new_passphrase(asked->passphrase_file, &passphrase, &error) < 0)
    return bursar_cli_fail(&error);
  int status = bursar_cli_sink_begin(asked->out, &sink, &error);
  if (status == 0) {
    struct sealing sealing = {.sink = &sink, .armored = asked->armor};
    struct bursar_source_state state;
    bursar_source_note(asked->fd, &state);
    status = seal_all(asked, recipients, asked->passphrase_file ? &passphrase : NULL, &sealing, &error);
    if (status == 0)
      status = bursar_source_unchanged(asked->fd, asked->input, &state, &error);
    if (status == 0)
      status = bursar_cli_sink_commit(&sink, &error);
    bursar_cli_sink_abandon(&sink);
  }
  if (asked->passphrase_file)
    (void)!bursar_vault_return(&passphrase, NULL);
  return status < 0 ? bursar_cli_fail(&error) : 0;
}

int bursar_cli_model_seal(int argc, char **argv) {
  struct asked asked = {.out = NULL};
  const struct bursar_cli_option options[] = {
      {.name = "to",
       .letter = 't',
       .value = "RECIPIENT",
       .list = &asked.to,
       .help = "a public key (age1…); several times: for each of them"},
      {.name = "passphrase-file",
       .value = "FILE",
       .text = &asked.passphrase_file,
       .help = "seal with a passphrase: the first line of this file,\nor of what is typed (-)"},
      {.name = "output", .letter = 'o', .value = "OUT", .text = &asked.out, .help = "not to standard output"},
      {.name = "armor", .letter = 'a', .flag = &asked.armor, .help = "letters alone, for mail"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "model seal",
                                           .usage = "(--to RECIPIENT… | --passphrase-file FILE) [-o OUT] [FILE]",
                                           .about =
                                               "Encrypts a file, or standard input, so that its recipients alone can "
                                               "read it, in the age format (v1):\nthe age command opens it as well.",
                                           .options = options};
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (!asked.to.count == !asked.passphrase_file)
    return bursar_cli_complain(
        2, "model seal: say for whom: --to RECIPIENT (see bursar model keygen), or --passphrase-file FILE");
  status = open_input(&asked, argv + 1, count, syntax.verb);
  if (status >= 0)
    return status;
  if ((!asked.out || strcmp(asked.out, "-") == 0) && !asked.armor && isatty(STDOUT_FILENO))
    status = bursar_cli_complain(2, "model seal: bytes are nothing for a terminal: use -o OUT, or --armor");
  else
    status = seal_file(&asked);
  close_input(&asked);
  return status;
}

/* ---- open ---- */

struct chunks {
  struct bursar_armor_input in;
  char header[BURSAR_AGE_HEADER_MOST];
  unsigned char sealed[BURSAR_PAYLOAD_SEALED], plain[AT_ONCE * BURSAR_PAYLOAD_CHUNK];
  size_t opened; /* bytes of plain that have not gone out */
};

/* The header, and how many bytes of the chunks came with it. */
static int read_header(struct chunks *c, size_t *header_bytes, size_t *have, struct bursar_error *error) {
  *have = *header_bytes = 0;
  while (!*header_bytes) {
    size_t want = sizeof c->header - *have < 4096 ? sizeof c->header - *have : 4096;
    ssize_t got = want ? bursar_armor_read(&c->in, c->header + *have, want, error) : 0;
    if (got < 0)
      return (int)got;
    *have += (size_t)got;
    *header_bytes = bursar_age_header_bytes(c->header, *have);
    if (got < (ssize_t)want && !*header_bytes)
      break;
    if (!want)
      break;
  }
  if (*header_bytes)
    return 0;
  static const char magic[] = "age-encryption.org/";
  bool age = *have >= sizeof magic - 1 && memcmp(c->header, magic, sizeof magic - 1) == 0;
  return bursar_error_set(error, BURSAR_FAILED, "cannot open %.500s: %s", c->in.path,
                          age ? "its header is cut off" : "it is no file that age sealed");
}

static int damaged(const struct chunks *c, uint64_t number, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED,
                          "cannot open %.500s: it was changed or cut off, %llu bytes from its beginning", c->in.path,
                          (unsigned long long)number * BURSAR_PAYLOAD_CHUNK);
}

/* What is right goes out, whatever follows.  A whole chunk may be the last one. */
static int open_next(struct chunks *c, size_t *held, uint64_t number, struct bursar_crypto_aead *aead, bool *last,
                     struct bursar_error *error) {
  ssize_t more = bursar_armor_read(&c->in, c->sealed + *held, sizeof c->sealed - *held, error);
  if (more < 0)
    return (int)more;
  *held += (size_t)more;
  size_t bytes = *held < BURSAR_CRYPTO_TAG ? 0 : *held - BURSAR_CRYPTO_TAG;
  unsigned char *plain = c->plain + c->opened;
  if (*held < BURSAR_CRYPTO_TAG || (!bytes && number))
    return damaged(c, number, error);
  *last = *held < sizeof c->sealed || !bursar_payload_open(aead, number, false, c->sealed, bytes, plain);
  if (*last && !bursar_payload_open(aead, number, true, c->sealed, bytes, plain))
    return damaged(c, number, error);
  c->opened += bytes;
  if (!*last)
    return 0;
  more = bursar_armor_read(&c->in, c->sealed, 1, error);
  return more < 0 ? (int)more : more ? damaged(c, number + 1, error) : 0;
}

static int open_chunks(struct chunks *c, size_t at, size_t have, struct bursar_crypto_aead *aead,
                       struct bursar_cli_sink *sink, struct bursar_error *error) {
  struct bursar_error unwritten;
  size_t held = have - at; /* less than a chunk: what is read at once of a header is small */
  bool last = false;
  int status = 0;
  memcpy(c->sealed, c->header + at, held);
  for (uint64_t number = 0; status == 0 && !last; number++, held = 0) {
    status = open_next(c, &held, number, aead, &last, error);
    if (status == 0 && !last && c->opened < sizeof c->plain)
      continue;
    int written = bursar_cli_sink_write(sink, c->plain, c->opened, status < 0 ? &unwritten : error);
    status = status < 0 ? status : written;
    c->opened = 0;
  }
  return status;
}

static int open_all(const struct asked *asked, struct chunks *c, struct bursar_age_keys *keys,
                    struct bursar_vault_slot *passphrase, struct bursar_error *error) {
  struct bursar_vault_slot key;
  struct bursar_crypto_aead aead = {NULL};
  struct bursar_cli_sink sink;
  size_t header_bytes = 0, have = 0;
  int status = bursar_armor_begin(&c->in, asked->fd, asked->input, error);
  if (status == 0)
    status = read_header(c, &header_bytes, &have, error);
  if (status < 0)
    return status;
  if (!keys->count && bursar_age_wants_passphrase(c->header, have)) {
    status = asked->passphrase_file && strcmp(asked->passphrase_file, "-") != 0
                 ? bursar_given_file(asked->passphrase_file, true, passphrase, error)
                 : bursar_given_ask("Passphrase: ", passphrase, error);
    if (status < 0)
      return status;
    keys->passphrase = passphrase;
  }
  status = bursar_age_open(c->header, header_bytes, keys, asked->input, &key, error);
  if (status < 0)
    return status;
  status = begin_chunks(&key, false, &aead, error);
  if (status == 0)
    status = bursar_cli_sink_begin(asked->out, &sink, error);
  if (status == 0) {
    status = open_chunks(c, header_bytes, have, &aead, &sink, error);
    if (status == 0)
      status = bursar_cli_sink_commit(&sink, error);
    bursar_cli_sink_abandon(&sink);
  }
  bursar_crypto_aead_end(&aead);
  (void)!bursar_vault_return(&key, NULL);
  return status;
}

static int open_file(const struct asked *asked) {
  struct chunks *c = calloc(1, sizeof *c);
  struct bursar_age_keys keys = {NULL};
  struct bursar_vault_slot passphrase;
  struct bursar_error error;
  int status = c ? 0 : bursar_error_set(&error, BURSAR_FAILED, "not enough memory");
  if (status == 0)
    status = bursar_cli_identities(&asked->identities, &keys, &error);
  if (status == 0)
    status = open_all(asked, c, &keys, &passphrase, &error);
  if (keys.passphrase)
    (void)!bursar_vault_return(&passphrase, NULL);
  bursar_age_forget(keys.identities, keys.count);
  if (c)
    bursar_wipe(c, sizeof *c);
  free(c);
  return status < 0 ? bursar_cli_fail(&error) : 0;
}

int bursar_cli_model_open(int argc, char **argv) {
  struct asked asked = {.out = NULL};
  const struct bursar_cli_option options[] = {
      {.name = "identity",
       .letter = 'i',
       .value = "FILE",
       .list = &asked.identities,
       .help = "a file of secret keys; several times: any of them"},
      {.name = "passphrase-file",
       .value = "FILE",
       .text = &asked.passphrase_file,
       .help = "the first line of this file is the passphrase;\nelse it is asked for"},
      {.name = "output",
       .letter = 'o',
       .value = "OUT",
       .text = &asked.out,
       .help = "not to standard output: there is nothing unless all of it is right"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "model open",
                                           .usage = "[--identity FILE…] [--passphrase-file FILE] [-o OUT] [FILE]",
                                           .about =
                                               "Decrypts a file, or standard input, that was sealed in the age format. "
                                               " To standard output goes what is\nright up to the first place that is "
                                               "not, and then the exit status is 1.",
                                           .options = options};
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  status = open_input(&asked, argv + 1, count, syntax.verb);
  if (status >= 0)
    return status;
  status = open_file(&asked);
  close_input(&asked);
  return status;
}
