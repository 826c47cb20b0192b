/* boot.h: what BURSAR_RUN says, and the ledger that it leads to.
 *
 * `key=value` pairs, separated by `;`, values percent-encoded; unknown keys are left alone, so that an older extension
 * starts under a newer command.  Class N, but that bursar_boot_child runs in a forked child (class F); no heap. */
#ifndef BURSAR_LEDGER_BOOT_H
#define BURSAR_LEDGER_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct bursar_boot {
  pid_t pid; /* who may start */
  uint64_t cap;
  uint32_t within;
  uint32_t domains;  /* a bit for each enum bursar_domain */
  uint32_t mode;     /* enum bursar_mode */
  uint32_t interval; /* of mode sample, for tests; 0: the usual one */
  uint64_t seed;
  int64_t budget; /* bytes that the process may hold; 0: no limit */
  bool follow;
  bool quiet;
  bool native;  /* stacks have native frames too */
  bool wipe;    /* what is freed is zeroed first */
  bool no_core; /* bursar_prim_no_core() */
  char path[4096];
  char policy[4096];  /* a file that was checked; "": none */
  char preload[4096]; /* the library of ours that stands first in LD_PRELOAD; "": none */
  char tune[256];     /* what stands last in GLIBC_TUNABLES because --tune put it there; "": nothing */
};

int bursar_boot_parse(const char *settings, struct bursar_boot *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Makes a ledger PATH.PID for a process that is followed, and writes its path. */
int bursar_boot_child(const char *path, char *out, size_t room, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
