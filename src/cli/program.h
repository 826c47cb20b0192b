/* program.h: what `bursar run` executes: which file, by which Python, and whether that Python has bursar.
 *
 * Ownership: the caller's structs; argv's strings are borrowed.  Errors: a negative enum bursar_status and one line.
 * Threads: one.  Safety class N. */
#ifndef BURSAR_CLI_PROGRAM_H
#define BURSAR_CLI_PROGRAM_H

#include "base/error.h"

#include <stdbool.h>

#define BURSAR_PROGRAM_PATH_MAX 4096

struct bursar_program_file {
  char path[BURSAR_PROGRAM_PATH_MAX];
};

/* The Python to use: `asked` (--python, may be NULL), else the one beside this command, else python3 on PATH.
 * `invoked` is the command's own argv[0]. */
int bursar_program_python(const char *asked, const char *invoked, struct bursar_program_file *out,
                          struct bursar_error *error) __attribute__((warn_unused_result));

/* Looks whether that Python has bursar, and where that does not show, starts it once and asks.  An error where it has
 * none, or does not work.  Writes the folder of its package. */
int bursar_program_check_python(const struct bursar_program_file *python, struct bursar_program_file *package,
                                struct bursar_error *error) __attribute__((warn_unused_result));

/* What to make of a command after `--`. */
enum bursar_program_kind {
  BURSAR_PROGRAM_EXECUTABLE, /* run it as it is */
  BURSAR_PROGRAM_PYTHON,     /* run it as it is: it is a Python, or a script of one, named in *python */
  BURSAR_PROGRAM_SCRIPT,     /* a .py file without a shebang: for the Python of bursar_program_python() */
  BURSAR_PROGRAM_SHELL       /* another text without a shebang: for the shell, as execvp() does it */
};

/* Looks `command` up on PATH as a shell would, and sees what it is.  The kind, or a negative status. */
int bursar_program_command(const char *command, struct bursar_program_file *file, struct bursar_program_file *python,
                           struct bursar_error *error) __attribute__((warn_unused_result));

/* Of an executable: is it a script, or a shell, which mostly start other programs? */
bool bursar_program_is_script(const struct bursar_program_file *file);
/* Of a word among a command's arguments: does it name a Python, or a script of one? */
bool bursar_program_names_python(const char *word);

#endif
