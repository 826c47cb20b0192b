/* main.c: the command: finds the verb and hands over. */
#include "base/near.h"
#include "cli/cli.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const struct bursar_cli_verb bursar_cli_verbs[] = {
    {"run", "run a Python program with its books kept", bursar_cli_run},
    {"report", "show a ledger: who held the memory, as text, HTML or JSON", bursar_cli_report},
    {"balance", "explain a process's resident memory, line by line", bursar_cli_balance},
    {"scan", "look for copies of a secret in a process's memory", bursar_cli_scan},
    {"model", "look into a model's file", bursar_cli_model},
    {"imports", "what a program's imports cost, and which it never used", bursar_cli_imports},
    {"diff", "compare two ledgers", bursar_cli_diff},
    {"verdict", "say whether scopes leak, how much a call, and where", bursar_cli_verdict},
    {"policy", "explain a policy file and what is wrong with it, or change a running program's", bursar_cli_policy},
    {"ls", "list ledgers and what became of their programs", bursar_cli_ls},
    {"clean", "remove the ledgers of ended programs", bursar_cli_clean},
    {NULL, NULL, NULL}};

#define VERBS_MAX 32

const char *bursar_cli_invoked = "";

static void print_help(struct bursar_buffer *out) {
  bursar_buffer_text(out, "usage: bursar VERB …\n\nbursar keeps the books of a Python program's memory.\n\n");
  for (const struct bursar_cli_verb *verb = bursar_cli_verbs; verb->name; verb++)
    bursar_buffer_format(out, "  %-8s  %s\n", verb->name, verb->help);
  bursar_buffer_text(out, "\nbursar VERB --help tells more.  bursar --version\n");
}

static int unknown_verb(const char *word) {
  const char *names[VERBS_MAX + 1];
  size_t n = 0;
  for (; bursar_cli_verbs[n].name && n < VERBS_MAX; n++)
    names[n] = bursar_cli_verbs[n].name;
  names[n] = NULL;
  const char *near = bursar_near(word + strspn(word, "-"), names);
  const char *kind = word[0] == '-' ? "option" : "verb";
  if (near)
    return bursar_cli_complain(2, "no %s '%s': did you mean bursar %s?", kind, word, near);
  return bursar_cli_complain(2, "no %s '%s': see bursar --help", kind, word);
}

/* A file that we open must not become our stdin, stdout or stderr where the caller closed one: a message would end up
 * in it.  The fillers close on exec, so that a program that is run finds what the caller left. */
static void fill_standard_streams(void) {
  int fd;
  do
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO)
    close(fd);
}

int main(int argc, char **argv) {
  struct bursar_buffer out;
  fill_standard_streams();
  bursar_cli_invoked = argc > 0 ? argv[0] : "";
  const char *word = argc > 1 ? argv[1] : "";
  if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
    bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
    bursar_buffer_text(&out, "bursar " BURSAR_VERSION "\n");
    return bursar_cli_finish(&out);
  }
  if (argc < 2 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
    bursar_buffer_to(&out, argc < 2 ? STDERR_FILENO : STDOUT_FILENO, UINT64_MAX);
    print_help(&out);
    int status = bursar_cli_finish(&out);
    return argc < 2 ? 2 : status;
  }
  for (const struct bursar_cli_verb *verb = bursar_cli_verbs; verb->name; verb++)
    if (strcmp(word, verb->name) == 0)
      return verb->run(argc - 1, argv + 1);
  return unknown_verb(word);
}
