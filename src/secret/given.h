/* given.h: a secret as it is given: by a descriptor, or at the terminal, read straight into the vault.
 *
 * Ownership: the slot is the caller's after a success.  Errors: a line; `what` names it there.  Threads: any.  Class N. */
#ifndef BURSAR_SECRET_GIVEN_H
#define BURSAR_SECRET_GIVEN_H

#include <stdbool.h>

#include "secret/vault.h"

#define BURSAR_GIVEN_MOST (16u << 20) /* bytes */

/* All that comes up to the end; `line`: the first line alone, without its end.  Nothing at all is an error. */
int bursar_given_read(int fd, bool line, const char *what, struct bursar_vault_slot *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* The same of a file. */
int bursar_given_file(const char *path, bool line, struct bursar_vault_slot *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Asks at the terminal, and shows nothing of the answer. */
int bursar_given_ask(const char *prompt, struct bursar_vault_slot *out, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
