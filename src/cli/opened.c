#include "cli/opened.h"

#include "secret/given.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD 64u

int bursar_cli_identities(const struct bursar_cli_list *files, struct bursar_age_keys *keys,
                          struct bursar_error *error) {
  for (size_t i = 0; i < files->count; i++) {
    struct bursar_vault_slot text;
    struct bursar_age_identity *more = NULL, *all;
    size_t count = 0;
    int status = bursar_given_file(files->at[i], false, &text, error);
    if (status < 0)
      return status;
    status = bursar_vault_open(&text, false, error);
    if (status == 0) {
      status = bursar_age_identities_parse(text.data, text.bytes, files->at[i], &more, &count, error);
      (void)!bursar_vault_close(&text, false, NULL);
    }
    (void)!bursar_vault_return(&text, NULL);
    if (status != 0)
      return status;
    all = realloc(keys->identities, (keys->count + count) * sizeof *all);
    if (!all) {
      bursar_age_forget(more, count);
      return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
    }
    memcpy(all + keys->count, more, count * sizeof *all);
    free(more);
    keys->identities = all;
    keys->count += count;
  }
  return 0;
}

/* How a sealed file begins; an empty text: it is none. */
static void read_head(int fd, char head[HEAD + 1]) {
  static const char magic[] = "age-encryption.org/";
  ssize_t got = pread(fd, head, HEAD, 0);
  head[got > 0 ? got : 0] = 0;
  if (strncmp(head, magic, sizeof magic - 1) != 0)
    head[0] = 0;
}

static int unseal(struct bursar_cli_opened *opened, const char *path, const char *head,
                  const struct bursar_cli_keys *given, struct bursar_error *error) {
  struct bursar_age_keys keys = {NULL};
  struct bursar_vault_slot passphrase;
  int status = bursar_cli_identities(&given->identities, &keys, error);
  if (status == 0 && !keys.count && !bursar_age_wants_passphrase(head, strlen(head)))
    status = bursar_error_set(error, BURSAR_FAILED, "%.800s is sealed: give --identity FILE", path);
  else if (status == 0 && !keys.count) {
    status = given->passphrase_file && strcmp(given->passphrase_file, "-") != 0
                 ? bursar_given_file(given->passphrase_file, true, &passphrase, error)
                 : bursar_given_ask("Passphrase: ", &passphrase, error);
    keys.passphrase = status == 0 ? &passphrase : NULL;
  }
  if (status == 0)
    status = bursar_unsealed_begin(opened->fd, path, &keys, &opened->unsealed, error);
  opened->sealed = status == 0;
  if (keys.passphrase)
    (void)!bursar_vault_return(&passphrase, NULL);
  bursar_age_forget(keys.identities, keys.count);
  return status;
}

int bursar_cli_open_model(const char *path, const struct bursar_cli_keys *keys, struct bursar_cli_opened *out,
                          struct bursar_error *error) {
  char head[HEAD + 1];
  *out = (struct bursar_cli_opened){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
  if (out->fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", path, strerror(errno));
  int status = bursar_source_of_file(out->fd, path, &out->source, error);
  read_head(out->fd, head);
  if (status == 0 && *head) {
    status = unseal(out, path, head, keys, error);
    if (status == 0)
      out->source = bursar_source_of_sealed(&out->unsealed);
  }
  return status == 0 ? bursar_archive_open(out->source, &out->archive, error) : status;
}

void bursar_cli_close_model(struct bursar_cli_opened *opened) {
  bursar_archive_close(&opened->archive);
  if (opened->sealed)
    bursar_unsealed_end(&opened->unsealed);
  if (opened->fd >= 0)
    close(opened->fd);
}
