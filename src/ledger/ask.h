/* ask.h: the ledger of a running process, as far as its balance needs it: who it is, what is live by domain, and the
 * answer to a question that is put through the control page.
 *
 * Only the head pages are read; each value is copied once and checked.  Nothing in the process is stopped or woken: one that
 * allocates nothing meanwhile does not answer.
 * Ownership: the caller's struct; its file from _open to _close.  Errors: as in reader.h.  Threads: one.  Class N. */
#ifndef BURSAR_LEDGER_ASK_H
#define BURSAR_LEDGER_ASK_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "ledger/layout.h"
#include "ledger/place.h"

struct bursar_ask {
  pid_t pid;
  struct bursar_place place; /* fd -1: there is none */
  struct bursar_header header;
  bool open; /* its books are */
  ino_t inode;
  uint64_t live[BURSAR_DOMAIN_COUNT];
};

/* The ledger that `pid` maps now.  0 with place.fd -1: it keeps no books.  An error where the ledger that is called after
 * this pid was written by an earlier process. */
int bursar_ask_open(pid_t pid, struct bursar_ask *out, struct bursar_error *error) __attribute__((warn_unused_result));
void bursar_ask_close(struct bursar_ask *ask);
/* Asks, and waits for an answer up to so many nanoseconds, or 25 ms for a process that does nothing at all meanwhile.  False:
 * none came; `out` is untouched. */
bool bursar_ask_inside(struct bursar_ask *ask, uint64_t wait_ns, struct bursar_inside *out);

/* The process of a ledger, as bursar_ask_open has it.  An error too where it has ended, or keeps other books now. */
int bursar_ask_open_file(const char *path, struct bursar_ask *out, struct bursar_error *error)
    __attribute__((warn_unused_result));

enum bursar_ask_outcome {
  BURSAR_ASK_ANSWERED,
  BURSAR_ASK_WAITS, /* the process rests, or is slow: what was asked for stands on the page until it looks */
  BURSAR_ASK_DEAF,  /* it takes no changes */
  BURSAR_ASK_DENIED /* the page could not be written; errno says why */
};
/* Asks for a change, and waits as _inside does, but a second for one that does nothing meanwhile.  `replaced`: one that was asked for before had no answer yet, and gets none. */
enum bursar_ask_outcome bursar_ask_change(struct bursar_ask *ask, const char *text, uint64_t wait_ns,
                                          struct bursar_changed *out, bool *replaced);

/* One process's counters, for who looks often: maps the ledger's books once and reads them without a system call. */
struct bursar_ask_counters {
  const struct bursar_books *books;
  void *page;
};
int bursar_ask_map(const struct bursar_ask *ask, struct bursar_ask_counters *out) __attribute__((warn_unused_result));
/* Live bytes over all domains, both lanes. */
uint64_t bursar_ask_live(const struct bursar_ask_counters *counters);
void bursar_ask_unmap(struct bursar_ask_counters *counters);

#endif
