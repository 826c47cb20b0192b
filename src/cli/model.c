/* model.c: `bursar model VERB FILE`: files of models. */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

static const struct bursar_cli_verb verbs[] = {
    {"inspect", "what a file holds, without loading it", bursar_cli_model_inspect},
    {"verify", "is it as it was saved?  SHA-256 of each tensor and the file", bursar_cli_model_verify},
    {"convert", "make one of a pickle, joblib, npy, npz, torch or h5 file, and run no code of it",
     bursar_cli_model_convert},
    {"pack", "make a file smaller, and nothing of it different", bursar_cli_model_pack},
    {"unpack", "the plain file again", bursar_cli_model_unpack},
    {"keygen", "make an identity: a secret key, and the public one that files are sealed for", bursar_cli_model_keygen},
    {"seal", "encrypt a file for somebody (age)", bursar_cli_model_seal},
    {"open", "decrypt one", bursar_cli_model_open},
    {NULL, NULL, NULL}};

static int print_help(void) {
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
  bursar_buffer_text(&out,
                     "usage: bursar model VERB …\n\nFiles of models (safetensors), and any file, sealed (age).\n\n");
  for (const struct bursar_cli_verb *verb = verbs; verb->name; verb++)
    bursar_buffer_format(&out, "  %-8s  %s\n", verb->name, verb->help);
  bursar_buffer_text(&out, "\nbursar model VERB --help tells more.\n");
  return bursar_cli_finish(&out);
}

int bursar_cli_model(int argc, char **argv) {
  const char *names[sizeof verbs / sizeof *verbs];
  const char *word = argc > 1 ? argv[1] : "";
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
    return print_help();
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
    names[i] = verbs[i].name;
    if (names[i] && strcmp(names[i], word) == 0)
      return verbs[i].run(argc - 1, argv + 1);
  }
  return *word ? bursar_cli_unknown("model", "verb", word, names)
               : bursar_cli_complain(2, "model: say what to do: see bursar model --help");
}
