/* convert.c: `bursar model convert`. */
#include "model/convert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/program.h"

#define SCHEMA 1

static struct bursar_text text(const char *word) {
  return (struct bursar_text){word, word ? (uint32_t)strlen(word) : 0};
}

static void print_json(struct bursar_buffer *out, const char *in, const char *to, const struct bursar_converted *result,
                       bool done) {
  const struct bursar_refusals *refused = &result->refused;
  bursar_buffer_format(out, "{\"schema\": %d, \"converted\": %s, \"input\": ", SCHEMA, done ? "true" : "false");
  bursar_escape_json(out, text(in));
  bursar_buffer_text(out, ", \"output\": ");
  bursar_escape_json(out, text(to));
  bursar_buffer_text(out, ", \"format\": ");
  bursar_escape_json(out, text(result->format));
  if (done)
    bursar_buffer_format(out, ",\n \"tensors\": %u, \"bytes\": %llu, \"described\": %s", result->tensors,
                         (unsigned long long)result->bytes, result->described ? "true" : "false");
  bursar_buffer_format(out, ",\n \"refused_count\": %zu, \"refused\": [", refused->count);
  for (size_t i = 0; i < refused->kept; i++) {
    bursar_buffer_format(out, "%s{\"position\": %llu, \"name\": ", i ? ",\n  " : "",
                         (unsigned long long)refused->list[i].at);
    bursar_escape_json(out, text(refused->list[i].name));
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_text(out, "]}\n");
}

static void print_text(struct bursar_buffer *out, const char *to, const struct bursar_converted *result, bool done) {
  const struct bursar_refusals *refused = &result->refused;
  char size[BURSAR_SIZE_TEXT];
  if (done) {
    bursar_escape_terminal(out, text(to));
    bursar_buffer_format(out, ": %u tensors, %s%s, from %s\n", result->tensors, bursar_size_print(result->bytes, size),
                         result->described ? " and a description of the rest" : "", result->format);
  }
  for (size_t i = 0; i < refused->kept; i++)
    bursar_buffer_format(out, "byte %-10llu %s\n", (unsigned long long)refused->list[i].at, refused->list[i].name);
  if (refused->count > refused->kept)
    bursar_buffer_format(out, "and %zu more\n", refused->count - refused->kept);
}

/* The file's name with another ending; malloc. */
static char *beside(const char *in) {
  static const char *const endings[] = {".pickle", ".pkl",  ".joblib", ".npy", ".npz",  ".pt",
                                        ".pth",    ".ckpt", ".bin",    ".h5",  ".hdf5", ".keras"};
  size_t length = strlen(in);
  char *out = NULL;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    size_t ending = strlen(endings[i]);
    if (length > ending && in[length - ending - 1] != '/' && strcmp(in + length - ending, endings[i]) == 0) {
      length -= ending;
      break;
    }
  }
  return asprintf(&out, "%.*s.safetensors", (int)length, in) < 0 ? NULL : out;
}

/* h5py is Python's: the same is done by the Python beside this command. */
static int become_python(const char *in, const char *out, const char *format, bool record) {
  struct bursar_program_file python;
  struct bursar_error error;
  if (bursar_program_python(NULL, bursar_cli_invoked, &python, &error) < 0)
    return bursar_cli_complain(1, "%.500s is HDF5, which needs Python with h5py: %.300s", in, error.text);
  char *const argv[] = {python.path, "-m",           "bursar._convert",           (char *)in,
                        (char *)out, (char *)format, (char *)(record ? "1" : ""), NULL};
  execv(python.path, argv);
  return bursar_cli_complain(1, "cannot run %.800s: %s", python.path, strerror(errno));
}

static int run(const char *in, const char *out, const struct bursar_cli_list *allow, const char *format, bool record) {
  struct bursar_converted result;
  struct bursar_error error;
  struct bursar_buffer facts;
  int status = bursar_convert(in, out, (struct bursar_allowed_more){allow->at, allow->count}, record, &result, &error);
  if (status < 0 && result.hdf5) {
    bursar_convert_end(&result);
    return become_python(in, out, format, record);
  }
  bursar_buffer_to(&facts, STDOUT_FILENO, UINT64_MAX);
  if (strcmp(format, "json") == 0)
    print_json(&facts, in, out, &result, status == 0);
  else
    print_text(&facts, out, &result, status == 0);
  bursar_convert_end(&result);
  int printed = bursar_cli_finish(&facts);
  return status < 0 ? bursar_cli_fail(&error) : printed;
}

int bursar_cli_model_convert(int argc, char **argv) {
  static const char *const formats[] = {"text", "json", NULL};
  const char *format = formats[0], *out = NULL;
  bool plain = false;
  struct bursar_cli_list allow = {.count = 0};
  const struct bursar_cli_option options[] = {
      {.name = "output",
       .letter = 'o',
       .value = "OUT",
       .text = &out,
       .help = "the file to write; FILE with the ending .safetensors unless given"},
      {.name = "allow",
       .value = "NAME",
       .list = &allow,
       .help = "a class or function (module.name) that may be in the model\nbesides those that are known to be "
               "harmless; several times"},
      {.name = "no-environment", .flag = &plain, .help = "leave out when and by what the file was made"},
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "model convert",
                                           .usage = "FILE [-o OUT] [--allow NAME]…",
                                           .about =
                                               "Makes a safetensors file of a pickle, a file of joblib's, npy, npz, a "
                                               "checkpoint of torch's or h5, and runs\n"
                                               "no code of its: a pickle is read as what it says.  Names in it that "
                                               "are on no list are shown with their\n"
                                               "places, and refused.",
                                           .options = options};
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (count != 1)
    return bursar_cli_complain(2, "model convert: give one file");
  if (bursar_cli_choice(format, formats) < 0)
    return bursar_cli_unknown("model convert", "format", format, formats);
  char *named = out ? NULL : beside(argv[1]);
  if (!out && !named)
    return bursar_cli_complain(1, "not enough memory");
  status = run(argv[1], out ? out : named, &allow, format, !plain);
  free(named);
  return status;
}
