/* pack.c: `bursar model pack` and `unpack`. */
#include "cli/cli.h"
#include "model/repack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct asked {
  const char *out, *threads;
};

static int repack(const char *path, const struct asked *asked, unsigned threads, bool pack,
                  struct bursar_error *error) {
  struct bursar_archive archive;
  struct bursar_source source;
  struct bursar_save save;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", path, strerror(errno));
  int status = bursar_source_of_file(fd, path, &source, error);
  if (status == 0)
    status = bursar_archive_open(source, &archive, error);
  if (status == 0) {
    status = bursar_save_begin(asked->out, &save, error);
    if (status == 0) {
      status = pack ? bursar_repack_pack(&archive, &save, error)
                    : bursar_repack_unpack(&archive, &save, threads, error);
      if (status == 0)
        status = bursar_source_unchanged(fd, path, &source.state, error);
      if (status == 0)
        status = bursar_save_commit(&save, error);
      if (status < 0)
        bursar_save_abandon(&save);
    }
    bursar_archive_close(&archive);
  }
  close(fd);
  return status;
}

static int run(int argc, char **argv, bool pack, const char *verb, const char *about) {
  struct asked asked = {NULL};
  const struct bursar_cli_option options[] = {
      {.name = "output",
       .letter = 'o',
       .value = "OUT",
       .text = &asked.out,
       .help = "the file to write; FILE itself may be it"},
      {.name = "threads", .value = "N", .text = &asked.threads, .help = "that unpack, at most (1)"},
      {.name = NULL}};
  const struct bursar_cli_option no_threads[] = {options[0], options[2]};
  const struct bursar_cli_syntax syntax = {
      .verb = verb, .usage = "FILE -o OUT", .about = about, .options = pack ? no_threads : options};
  struct bursar_error error;
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  char *end = NULL;
  if (status >= 0)
    return status;
  unsigned long threads = asked.threads ? strtoul(asked.threads, &end, 10) : 1;
  if (count != 1 || !asked.out)
    return bursar_cli_complain(2, "%s: give a file, and -o OUT", verb);
  if (asked.threads && (*end || !threads || threads > 1024))
    return bursar_cli_complain(2, "%s: --threads takes a number, such as 4", verb);
  return repack(argv[1], &asked, (unsigned)threads, pack, &error) < 0 ? bursar_cli_fail(&error) : 0;
}

int bursar_cli_model_pack(int argc, char **argv) {
  return run(argc, argv, true, "model pack",
             "Makes a safetensors file smaller without losing a bit: exponents of floats apart, blocks that can be "
             "read\n"
             "alone. The result is a safetensors file too, which bursar reads as it is.");
}

int bursar_cli_model_unpack(int argc, char **argv) {
  return run(argc, argv, false, "model unpack", "Writes the plain file that was packed, byte for byte.");
}
