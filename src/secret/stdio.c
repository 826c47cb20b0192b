#include "secret/stdio.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "secret/wipe.h"

static void wipe(FILE *file) {
  char *begin = file->_IO_buf_base, *end = file->_IO_buf_end;
  char *from = end, *until = begin; /* what waits, to be read or to be written */
  if (!begin)
    return;
  if (file->_IO_read_ptr < file->_IO_read_end) {
    from = file->_IO_read_ptr;
    until = file->_IO_read_end;
  }
  /* In a file it may be gone back to what was read. */
  if (file->_IO_read_base < file->_IO_read_end && lseek(fileno(file), 0, SEEK_CUR) >= 0) {
    from = begin;
    until = file->_IO_read_end;
  }
  if (file->_IO_write_base < file->_IO_write_ptr) {
    from = file->_IO_write_base < from ? file->_IO_write_base : from;
    until = file->_IO_write_ptr > until ? file->_IO_write_ptr : until;
  }
  if (from >= until) {
    bursar_wipe(begin, (size_t)(end - begin));
  } else if (begin <= from && until <= end) {
    bursar_wipe(begin, (size_t)(from - begin));
    bursar_wipe(until, (size_t)(end - until));
  }
}

void bursar_stdio_wipe(void) {
  int kept = errno;
  FILE *files[] = {stdin, stdout, stderr};
  for (int i = 0; i < 3; i++) {
    if (!files[i] || ftrylockfile(files[i]) != 0)
      continue;
    wipe(files[i]);
    funlockfile(files[i]);
  }
  errno = kept;
}
