/* cli.h: what the verbs share: their table, options, messages.
 *
 * A verb is a function of its own arguments, argv[0] being its name, that returns the exit status: 0, 1 for failure,
 * 2 for wrong use.  It prints facts to stdout, and at most one line of complaint to stderr.
 *
 * Ownership: texts are argv's and static ones.  Threads: one, at a time.  Safety class N. */
#ifndef BURSAR_CLI_CLI_H
#define BURSAR_CLI_CLI_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bursar_cli_verb {
  const char *name;
  const char *help; /* one line, for `bursar --help` */
  int (*run)(int argc, char **argv);
};

/* The verbs in the order of the help, ended by a NULL name.  One row, one file. */
extern const struct bursar_cli_verb bursar_cli_verbs[];

/* argv[0] of the command. */
extern const char *bursar_cli_invoked;

int bursar_cli_run(int argc, char **argv);
int bursar_cli_report(int argc, char **argv);
int bursar_cli_balance(int argc, char **argv);
int bursar_cli_imports(int argc, char **argv);
int bursar_cli_diff(int argc, char **argv);
int bursar_cli_scan(int argc, char **argv);
int bursar_cli_verdict(int argc, char **argv);
int bursar_cli_model(int argc, char **argv);
int bursar_cli_model_inspect(int argc, char **argv);
int bursar_cli_model_verify(int argc, char **argv);
int bursar_cli_model_convert(int argc, char **argv);
int bursar_cli_model_pack(int argc, char **argv);
int bursar_cli_model_unpack(int argc, char **argv);
int bursar_cli_model_keygen(int argc, char **argv);
int bursar_cli_model_seal(int argc, char **argv);
int bursar_cli_model_open(int argc, char **argv);
int bursar_cli_policy(int argc, char **argv);
int bursar_cli_ls(int argc, char **argv);
int bursar_cli_clean(int argc, char **argv);

/* `bursar run` for `bursar imports`: all domains, no summary, and at the program's end what imports cost, as `format`, to
 * the file `out` (NULL: stdout).  A script of operands, or a module, or code.  Returns where the program cannot be run. */
struct bursar_cli_imports {
  const char *format, *out, *python, *module, *code;
};
int bursar_cli_run_imports(const struct bursar_cli_imports *imports, char **operands, int count);

/* Values of an option that may be given several times. */
struct bursar_cli_list {
  const char *at[64];
  size_t count;
};

/* One option.  With `text` or `list` it takes a value (`--name VALUE`, `--name=VALUE`, `-n VALUE`, `-nVALUE`), with `flag`
 * none.  Exactly one of the three is set. */
struct bursar_cli_option {
  const char *name;  /* without dashes; NULL where there is only a letter */
  char letter;       /* 0 where there is only a name */
  bool ends;         /* nothing after its value is looked at: `python -m MOD …` */
  const char *value; /* the value's name in the help: "FILE" */
  const char **text; /* set to the last value given */
  struct bursar_cli_list *list;
  bool *flag;
  const char *help; /* lines after the first begin with "\n" */
};

/* How a verb is called.  `usage` holds what follows "bursar VERB", `about` a line or a few. */
struct bursar_cli_syntax {
  const char *verb;
  const char *usage;
  const char *about;
  const struct bursar_cli_option *options; /* ended by one with neither name nor letter */
  bool leading; /* options only before the first operand: what follows it is somebody else's */
};

/* Reads options from argv and moves operands to argv[1] and up; *operands is their number.  `--` ends the options and
 * is dropped, but with `leading` it stays, as an operand.  --help is answered here.
 * Returns -1 to go on, else the exit status to return at once (0 after help, 2 after a complaint). */
int bursar_cli_options(const struct bursar_cli_syntax *syntax, int argc, char **argv, int *operands)
    __attribute__((warn_unused_result));

/* "bursar: TEXT" to stderr as one line, control characters shown as escapes.  Returns `status`. */
int bursar_cli_complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same from an error: returns 2 for misuse, else 1. */
int bursar_cli_fail(const struct bursar_error *error);
/* Complains about a word that is none of `words` (ended by NULL), names the nearest or all; returns 2.
 * `kind` is what it should have been: "mode", "view". */
int bursar_cli_unknown(const char *verb, const char *kind, const char *word, const char *const *words);
/* The index of `word` in `words` (ended by NULL), or -1. */
int bursar_cli_choice(const char *word, const char *const *words);
/* Ends a buffer on stdout and frees it.  Returns 0, or 1 after a complaint that it could not be written. */
int bursar_cli_finish(struct bursar_buffer *out) __attribute__((warn_unused_result));

#endif
