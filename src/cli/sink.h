/* sink.h: where a verb's bytes go: a file that is there whole or not at all, or standard output.
 *
 * Ownership: the caller's struct, ended by _commit or _abandon.  Errors: a line.  Threads: one.  Class N. */
#ifndef BURSAR_CLI_SINK_H
#define BURSAR_CLI_SINK_H

#include "model/save.h"

struct bursar_cli_sink {
  struct bursar_save save;
  bool to_file;
};

/* `path` NULL or "-": standard output. */
int bursar_cli_sink_begin(const char *path, struct bursar_cli_sink *out, struct bursar_error *error)
    __attribute__((warn_unused_result));
int bursar_cli_sink_write(struct bursar_cli_sink *sink, const void *bytes, size_t length, struct bursar_error *error)
    __attribute__((warn_unused_result));
int bursar_cli_sink_commit(struct bursar_cli_sink *sink, struct bursar_error *error)
    __attribute__((warn_unused_result));
void bursar_cli_sink_abandon(struct bursar_cli_sink *sink);

#endif
