/* opened.h: a model's file that a verb reads, plain or packed, sealed or not.
 *
 * Ownership: the caller's struct, ended by _close, also after an error.  Errors: a line.  Threads: one.  Class N. */
#ifndef BURSAR_CLI_OPENED_H
#define BURSAR_CLI_OPENED_H

#include "cli/cli.h"
#include "model/archive.h"

/* What opens a sealed one. */
struct bursar_cli_keys {
  struct bursar_cli_list identities;
  const char *passphrase_file;
};

struct bursar_cli_opened {
  int fd;
  bool sealed;
  struct bursar_unsealed unsealed;
  struct bursar_source source; /* of what is in it */
  struct bursar_archive archive;
};

int bursar_cli_open_model(const char *path, const struct bursar_cli_keys *keys, struct bursar_cli_opened *out,
                          struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_cli_close_model(struct bursar_cli_opened *opened);

/* Those in files, added to keys->identities; also after an error the caller forgets them (bursar_age_forget). */
int bursar_cli_identities(const struct bursar_cli_list *files, struct bursar_age_keys *keys, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
