#include "base/tell.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "prim/prim.h"

static dev_t device;
static ino_t inode; /* 0: there was none */

void bursar_tell_remember(void) {
  struct stat st;
  bool there = fstat(2, &st) == 0;
  device = there ? st.st_dev : 0;
  inode = there ? st.st_ino : 0;
}

bool bursar_tell_may(void) {
  struct stat st;
  return inode && fstat(2, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void bursar_tell(const char *text) {
  char line[1100];
  int kept = errno, length = snprintf(line, sizeof line, "bursar: %s\n", text);
  if (length > 0 && bursar_tell_may())
    bursar_prim_say(2, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
  errno = kept;
}
