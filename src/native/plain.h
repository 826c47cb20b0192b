/* plain.h: the books of a process that has no Python: malloc and mappings, each event in lane FREE (account.h).
 *
 * Without stacks each domain is one site.  What is allocated by whoever is in the books already, by a signal handler or by the
 * books themselves, is not booked.
 * Threads: any for what it hands to the hooks, class H; one for the rest, class N where nothing else is said. */
#ifndef BURSAR_NATIVE_PLAIN_H
#define BURSAR_NATIVE_PLAIN_H

#include "account/account.h"

/* Opens the books that the settings tell of, exact ones, and listens to its domains.  Without `native` frames where stacks cannot
 * be followed: *native says what became of it. */
int bursar_plain_open(const struct bursar_settings *settings, void (*warn)(const char *line), bool *native,
                      struct bursar_error *error) __attribute__((warn_unused_result));
/* Closes them.  False: this thread was interrupted in the middle of an event, or another does not get out of one; then they
 * stay as they are.  Class F. */
bool bursar_plain_close(enum bursar_state state);
/* Around fork(); the last in the child, which then has no books.  Class F. */
void bursar_plain_before_fork(void);
void bursar_plain_after_fork(void);
void bursar_plain_in_child(void);

#endif
