#include "cli/sink.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int bursar_cli_sink_begin(const char *path, struct bursar_cli_sink *out, struct bursar_error *error) {
  *out = (struct bursar_cli_sink){.save = {.fd = -1}, .to_file = path && strcmp(path, "-") != 0};
  return out->to_file ? bursar_save_begin(path, &out->save, error) : 0;
}

int bursar_cli_sink_write(struct bursar_cli_sink *sink, const void *bytes, size_t length, struct bursar_error *error) {
  if (sink->to_file)
    return bursar_save_write(&sink->save, bytes, length, error);
  for (const char *at = bytes; length;) {
    ssize_t done = write(STDOUT_FILENO, at, length);
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot write the output: %s", strerror(done < 0 ? errno : EIO));
    at += done;
    length -= (size_t)done;
  }
  return 0;
}

int bursar_cli_sink_commit(struct bursar_cli_sink *sink, struct bursar_error *error) {
  return sink->to_file ? bursar_save_commit(&sink->save, error) : 0;
}

void bursar_cli_sink_abandon(struct bursar_cli_sink *sink) {
  if (sink->to_file)
    bursar_save_abandon(&sink->save);
}
