#include "secret/scan_text.h"

#include <errno.h>
#include <stdio.h>

#include "base/size.h"

static const char *const always[] = {
    "pipes, sockets, and files that are not mapped",
    "registers of running threads",
    "other processes, the kernel and devices",
    "parts of the secret that are shorter than half of it or than 8 bytes, and other encodings",
};

bool bursar_scan_text_blind(const struct bursar_scan *scan, unsigned number, char out[BURSAR_SCAN_TEXT]) {
  const struct {
    const char *what;
    uint64_t bytes;
  } counted[] = {
      {"swapped out", scan->swapped},
      {"memory that may not be read", scan->unreadable},
      {"memory hidden by memfd_secret", scan->hidden},
      {"memory kept from forked children", scan->kept},
      {"memory that could not be read, or went meanwhile", scan->lost},
  };
  const unsigned fixed = sizeof always / sizeof *always;
  char size[BURSAR_SIZE_TEXT];
  if (number < fixed) {
    snprintf(out, BURSAR_SCAN_TEXT, "%s", always[number]);
    return true;
  }
  number -= fixed;
  for (unsigned i = 0; i < sizeof counted / sizeof *counted; i++)
    if (counted[i].bytes && number-- == 0) {
      snprintf(out, BURSAR_SCAN_TEXT, "%s: %s", counted[i].what, bursar_size_print(counted[i].bytes, size));
      return true;
    }
  return false;
}

const char *bursar_scan_text_refused(int status) {
  return status == -EINVAL
             ? "the secret has fewer than 4 different bytes, which occur everywhere: scan for more of it"
             : "the secret must have 8 bytes to 64 MiB (64 KiB as text or a number): a scan for less proves "
               "nothing";
}
