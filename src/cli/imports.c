/* imports.c: `bursar imports`: checks what can be checked; the program's start-up file does the rest
 * (python/bursar/_imports.py). */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/program.h"
#include "report/output.h"

/* What report -o would refuse is refused before the program runs; the file is written at its end, wherever it is then. */
static int check_out(const char *out, char path[BURSAR_PROGRAM_PATH_MAX]) {
  struct bursar_output output;
  struct bursar_error error;
  char cwd[BURSAR_PROGRAM_PATH_MAX] = "";
  if (bursar_output_open(out, &output, &error) < 0)
    return bursar_cli_fail(&error);
  bursar_output_discard(&output);
  if (out[0] != '/' && !getcwd(cwd, sizeof cwd))
    return bursar_cli_complain(1, "imports: this folder has no path: give -o one");
  int n = snprintf(path, BURSAR_PROGRAM_PATH_MAX, "%s%s%s", cwd, cwd[0] ? "/" : "", out);
  return n > 0 && n < BURSAR_PROGRAM_PATH_MAX ? -1 : bursar_cli_complain(1, "imports: %.800s: too long a path", out);
}

int bursar_cli_imports(int argc, char **argv) {
  static const char *const formats[] = {"text", "json", NULL};
  struct bursar_cli_imports imports = {.format = formats[0]};
  char out[BURSAR_PROGRAM_PATH_MAX];
  const struct bursar_cli_option options[] = {
      {.name = "output",
       .letter = 'o',
       .value = "FILE",
       .text = &imports.out,
       .help = "write there instead of to standard output, after the program's\nown: replaces a file, but never a "
               "ledger"},
      {.name = "format", .value = "FORMAT", .text = &imports.format, .help = "text (the default) or json, on one line"},
      {.name = "python",
       .value = "EXE",
       .text = &imports.python,
       .help = "the Python to use; else the one beside bursar"},
      {.letter = 'm',
       .ends = true,
       .value = "MODULE",
       .text = &imports.module,
       .help = "run a module, as python -m does"},
      {.letter = 'c', .ends = true, .value = "CODE", .text = &imports.code, .help = "run this code, as python -c does"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "imports",
      .usage = "[OPTION…] (SCRIPT.py | DIRECTORY | ZIP | -m MODULE | -c CODE) [ARG…]",
      .about =
          "Runs a program to its end, and says for each module that it imported: the bytes that the import\n"
          "left, its own and with what it imported in turn, its seconds, and whether anything of it was\n"
          "used afterwards (docs/imports.md).",
      .options = options,
      .leading = true};
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (bursar_cli_choice(imports.format, formats) < 0)
    return bursar_cli_unknown("imports", "format", imports.format, formats);
  if (!imports.module && !imports.code && (count < 1 || strcmp(argv[1], "--") == 0))
    return bursar_cli_complain(2, "imports: nothing to run: bursar imports SCRIPT.py (see bursar imports --help)");
  if (imports.out) {
    status = check_out(imports.out, out);
    if (status >= 0)
      return status;
    imports.out = out;
  }
  return bursar_cli_run_imports(&imports, argv + 1, count);
}
