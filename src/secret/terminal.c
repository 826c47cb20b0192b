#include "secret/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "prim/prim.h"

static int set(int fd, const struct termios *to) {
  int status;
  do
    status = tcsetattr(fd, TCSAFLUSH, to); /* what was typed before the prompt is not for it */
  while (status != 0 && errno == EINTR);
  return status;
}

int bursar_terminal_open(struct bursar_terminal *out, struct bursar_error *error) {
  int kept = errno;
  int status = 0;
  out->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (out->fd < 0) {
    status = bursar_error_set(
        error, BURSAR_FAILED,
        "there is no terminal to ask on (/dev/tty: %s): read the secret by from_fd() or from_file()", strerror(errno));
  } else {
    struct termios quiet;
    bool known = tcgetattr(out->fd, &out->before) == 0;
    quiet = out->before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    if (!known || set(out->fd, &quiet) != 0) {
      status = bursar_error_set(error, BURSAR_FAILED, "the terminal cannot be told not to show what is typed: %s",
                                strerror(errno));
      close(out->fd);
    }
  }
  errno = kept;
  return status;
}

void bursar_terminal_close(struct bursar_terminal *terminal) {
  int kept = errno;
  (void)set(terminal->fd, &terminal->before);
  bursar_prim_say(terminal->fd, "\n", 1);
  close(terminal->fd);
  errno = kept;
}
