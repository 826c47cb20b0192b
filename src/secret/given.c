#include "secret/given.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "prim/prim.h"
#include "secret/terminal.h"

#define FIRST 4096u

static int take(size_t bytes, struct bursar_vault_slot *slot, struct bursar_error *error) {
  int status = bursar_vault_take(bytes, slot, error);
  if (status == 0 && (status = bursar_vault_open(slot, true, error)) < 0)
    (void)!bursar_vault_return(slot, NULL);
  return status;
}

/* What is in it moves into one of another size; the old one is wiped. */
static int move(struct bursar_vault_slot *slot, size_t used, size_t bytes, struct bursar_error *error) {
  struct bursar_vault_slot to;
  int status = take(bytes, &to, error);
  if (status < 0)
    return status;
  memcpy(to.data, slot->data, used);
  (void)!bursar_vault_return(slot, NULL);
  *slot = to;
  return 0;
}

/* Until there is no more, or the end of the line.  The bytes, or a status. */
static ssize_t pour(int fd, bool line, const char *what, struct bursar_vault_slot *slot, struct bursar_error *error) {
  size_t used = 0;
  for (;;) {
    if (used == slot->bytes) {
      int status = used >= BURSAR_GIVEN_MOST ? bursar_error_set(error, BURSAR_FAILED, "%s is longer than 16 MiB", what)
                                             : move(slot, used, used * 4, error);
      if (status < 0)
        return status;
    }
    /* A line by the byte: what stands behind it is somebody else's. */
    ssize_t got = read(fd, slot->data + used, line ? 1 : slot->bytes - used);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot read %s: %s", what, strerror(errno));
    if (got == 0 || (line && slot->data[used] == '\n'))
      break;
    used += (size_t)got;
  }
  if (line && used && slot->data[used - 1] == '\r')
    used--;
  return (ssize_t)used;
}

int bursar_given_read(int fd, bool line, const char *what, struct bursar_vault_slot *out, struct bursar_error *error) {
  int status = take(FIRST, out, error);
  if (status < 0)
    return status;
  ssize_t used = pour(fd, line, what, out, error);
  status = used < 0 ? (int)used : used == 0 ? bursar_error_set(error, BURSAR_FAILED, "%s is empty", what) : 0;
  if (status == 0)
    status = move(out, (size_t)used, (size_t)used, error);
  if (status == 0)
    return bursar_vault_close(out, true, error);
  (void)!bursar_vault_return(out, NULL);
  return status;
}

int bursar_given_file(const char *path, bool line, struct bursar_vault_slot *out, struct bursar_error *error) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", path, strerror(errno));
  int status = bursar_given_read(fd, line, path, out, error);
  close(fd);
  return status;
}

int bursar_given_ask(const char *prompt, struct bursar_vault_slot *out, struct bursar_error *error) {
  struct bursar_terminal terminal;
  int status = bursar_terminal_open(&terminal, error);
  if (status < 0)
    return status;
  bursar_prim_say(terminal.fd, prompt, strlen(prompt));
  status = bursar_given_read(terminal.fd, true, "what was typed", out, error);
  bursar_terminal_close(&terminal);
  return status;
}
