/* run.c: `bursar run`: checks what can be checked, makes the ledger, and becomes the program.
 *
 * It execs exactly what the user would have typed without it, so that argv, sys.path, signals, pid, terminal and exit
 * status are Python's own.  The settings travel in BURSAR_RUN, which the program's start-up file reads and removes. */
#include "account/account.h"
#include "cli/binary.h"
#include "cli/cli.h"
#include "cli/program.h"
#include "ledger/domains.h"
#include "ledger/layout.h"
#include "ledger/place.h"
#include "policy/limits.h"
#include "policy/rules.h"
#include "policy/tune.h"
#include "prim/prim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* What was asked for. */
struct wish {
  const char *mode;
  const char *out;
  const char *within_text;
  const char *python;
  const char *module;
  const char *code;
  const char *domains_text;
  const char *tune;
  const char *budget_text;
  int64_t budget; /* 0: none */
  const char *policy;
  char policy_path[PATH_MAX];   /* the same, absolute: the program may be elsewhere when it reads it */
  char tuned[BURSAR_TUNE_ROOM]; /* what that put into the environment */
  uint32_t domains;
  bool force;
  bool follow;
  bool native;
  bool wipe;
  bool no_core;
  uint32_t within;
  const struct bursar_cli_imports *imports; /* NULL: not asked for */
};

/* What to exec. */
struct target {
  char file[BURSAR_PROGRAM_PATH_MAX];
  char name[BURSAR_PROGRAM_PATH_MAX]; /* what the ledger is named after */
  char script[BURSAR_PROGRAM_PATH_MAX];
  struct bursar_program_file package; /* of the Python that will run, where that is known */
  bool elf;                           /* it is no Python's, nor a script: what it is handed may yet become one */
  bool hands_over;                    /* a Python, or a script of one, is among its arguments */
  bool bookless;                      /* a Python that will not open any */
  char **argv;                        /* allocated; its strings are the two above and the command's own */
};

/* ---- settings ---- */

static int check_settings(struct wish *wish) {
  wish->within = 1;
  if (wish->mode && bursar_cli_choice(wish->mode, bursar_domains_modes) < 0)
    return bursar_cli_unknown("run", "mode", wish->mode, bursar_domains_modes);
  if (wish->budget_text && bursar_limits_parse(wish->budget_text, &wish->budget) != 0)
    return bursar_cli_complain(2,
                               "run: --budget takes a size such as 2GiB, or a share such as 80%% of what its control "
                               "group "
                               "may have, not %s",
                               wish->budget_text);
  if (wish->budget && !wish->domains_text)
    wish->domains_text = "all"; /* what is not booked cannot be refused */
  char wrong[BURSAR_DOMAINS_WORD];
  wish->domains = wish->domains_text ? bursar_domains_parse(wish->domains_text, wrong) : BURSAR_DOMAINS_OF_PYTHON;
  if (!wish->domains)
    return bursar_cli_unknown("run", "domain", wrong, bursar_domains_words);
  if (wish->within_text) {
    char *end;
    errno = 0;
    unsigned long n = strtoul(wish->within_text, &end, 10);
    bool digits = wish->within_text[0] >= '0' && wish->within_text[0] <= '9';
    if (!digits || *end || errno || n < 1 || n > BURSAR_RECENT_MAX)
      return bursar_cli_complain(2, "run: --temporary-within takes a number of allocations, 1 to %u, not %s",
                                 BURSAR_RECENT_MAX, wish->within_text);
    wish->within = (uint32_t)n;
  }
  if (wish->tune && bursar_cli_choice(wish->tune, bursar_tune_names) < 0)
    return bursar_cli_unknown("run", "profile", wish->tune, bursar_tune_names);
  if (wish->force && !wish->out)
    return bursar_cli_complain(2, "run: -f replaces the ledger that -o names: give -o FILE too");
  if (wish->python && !wish->python[0])
    return bursar_cli_complain(2, "run: --python needs the name of a Python");
  return -1;
}

/* What the policy's table [run] says, where no option does. */
static void take_rules(struct wish *wish, const struct bursar_rules *rules) {
  const struct bursar_rule *of = rules->of;
  static char domains[128], within[16];
  if (of[BURSAR_RULES_MODE].line && !wish->mode)
    wish->mode = bursar_domains_mode_name((uint32_t)of[BURSAR_RULES_MODE].number);
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT && !wish->domains_text; domain++)
    if (bursar_rules_domains(rules) >> domain & 1) {
      size_t used = strlen(domains);
      snprintf(domains + used, sizeof domains - used, "%s%s", used ? "," : "", bursar_domains_name(domain));
    }
  if (domains[0])
    wish->domains_text = domains;
  if (of[BURSAR_RULES_TEMPORARY_WITHIN].line && !wish->within_text) {
    snprintf(within, sizeof within, "%d", (int)of[BURSAR_RULES_TEMPORARY_WITHIN].number);
    wish->within_text = within;
  }
  if (of[BURSAR_RULES_TUNE].line && !wish->tune)
    wish->tune = bursar_tune_names[of[BURSAR_RULES_TUNE].number - 1];
  wish->native = wish->native || of[BURSAR_RULES_NATIVE].number;
  wish->wipe = wish->wipe || of[BURSAR_RULES_WIPE].number;
  wish->no_core = wish->no_core || of[BURSAR_RULES_NO_CORE].number;
  wish->follow = wish->follow || of[BURSAR_RULES_FOLLOW_FORK].number;
}

static int read_policy(struct wish *wish) {
  static struct bursar_mistakes mistakes;
  struct bursar_rules rules;
  struct bursar_error error;
  if (!wish->policy)
    return -1;
  int status = bursar_rules_read(wish->policy, &rules, &mistakes, &error);
  if (status == BURSAR_MISUSE)
    status = bursar_rules_fail(wish->policy, &mistakes, &error);
  if (status == 0 && !realpath(wish->policy, wish->policy_path))
    status =
        bursar_error_set(&error, BURSAR_FAILED, "cannot read the policy %.800s: %s", wish->policy, strerror(errno));
  if (status == 0)
    take_rules(wish, &rules);
  bursar_rules_free(&rules);
  return status == 0 ? -1 : bursar_cli_fail(&error);
}

/* The ledger's path may hold anything; what could be taken for a separator, or not be seen, is written %XX. */
static void add_encoded(struct bursar_buffer *out, const char *text) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
  for (; *text; text++) {
    if (strchr(plain, *text))
      bursar_buffer_char(out, *text);
    else
      bursar_buffer_format(out, "%%%02X", (unsigned char)*text);
  }
}

/* In front of what is there: the program's own preloads stay.  The extension takes it out again. */
static int preload(const char *path) {
  struct bursar_buffer text;
  const char *others = getenv("LD_PRELOAD");
  bursar_buffer_init(&text, 1u << 20);
  bursar_buffer_format(&text, "%s%s%s", path, others && *others ? ":" : "", others ? others : "");
  int result = bursar_buffer_finish(&text);
  if (result == 0 && setenv("LD_PRELOAD", text.data, 1) != 0)
    result = -errno;
  bursar_buffer_free(&text);
  return result;
}

/* The library in the package's folder; NULL, or why it cannot be used. */
static const char *find_library(const struct target *target, const char *name, char path[BURSAR_PROGRAM_PATH_MAX]) {
  int n = snprintf(path, BURSAR_PROGRAM_PATH_MAX, "%s/preload/%s", target->package.path, name);
  return n <= 0 || n >= BURSAR_PROGRAM_PATH_MAX || access(path, R_OK) != 0
             ? "this installation has no library to preload"
         : strpbrk(path, ": ") ? "the path of bursar's package has a space or a colon in it"
                               : NULL;
}

/* Where the hooks are, if they are wanted and can be had; "" where not, which is said. */
static void find_preload(const struct wish *wish, const struct target *target, char path[BURSAR_PROGRAM_PATH_MAX]) {
  const char *why = target->package.path[0] ? find_library(target, "libbursar_preload.so", path)
                                            : "the program is none of Python's, or starts it itself";
  bool wanted = wish->native || wish->wipe || wish->domains & BURSAR_DOMAINS_NATIVE;
  if (why && wish->wipe)
    bursar_cli_complain(0, "what is freed is only wiped once Python has started: %s", why);
  if (why && wish->domains & BURSAR_DOMAINS_NATIVE)
    bursar_cli_complain(0, "malloc and mmap are only seen once Python has started: %s", why);
  if (why || !wanted)
    path[0] = 0;
}

/* A program that is none of Python's may be one that becomes Python: the settings then wait for that.  They do where it is a
 * script, or a Python is among what it is handed; unless native memory alone is asked for, or that too of all that follows. */
static bool is_plain(const struct wish *wish, const struct target *target) {
  if (target->package.path[0])
    return false;
  bool named = wish->domains_text && wish->domains & BURSAR_DOMAINS_NATIVE;
  if (named && !(wish->domains & ~BURSAR_DOMAINS_NATIVE))
    return true;
  return target->elf && (!target->hands_over || (named && wish->follow));
}

/* Books of a program that has no Python, by a library of its own.  Where none can be kept that is said; "" then. */
static void find_plain(struct wish *wish, struct target *target, char path[BURSAR_PROGRAM_PATH_MAX]) {
  struct bursar_program_file file, python;
  struct bursar_error error;
  const char *why = NULL;
  memcpy(file.path, target->file, sizeof file.path);
  path[0] = 0;
  enum bursar_binary_kind kind = bursar_binary_look(&file, &why);
  if (kind == BURSAR_BINARY_NONE)
    return;
  if (wish->domains_text && !(wish->domains & BURSAR_DOMAINS_NATIVE))
    why = "it is no Python: --domains malloc,mmap sees what it has";
  if (!wish->domains_text) /* where a Python turns up in it, or in children that are followed, that has its own too */
    wish->domains = BURSAR_DOMAINS_NATIVE | BURSAR_DOMAINS_OF_PYTHON;
  if (!why && (bursar_program_python(wish->python, bursar_cli_invoked, &python, &error) < 0 ||
               bursar_program_check_python(&python, &target->package, &error) < 0))
    why = error.text;
  if (!why)
    why = find_library(target, "libbursar_plain.so", path);
  if (why) {
    bursar_cli_complain(0, "no books are kept of %.800s: %s", target->name, why);
    path[0] = 0;
  } else if (wish->mode && strcmp(wish->mode, "exact") != 0) {
    bursar_cli_complain(0, "mode %s needs Python: as long as %.800s runs none, its books are exact", wish->mode,
                        target->name);
  }
}

static int tell_settings(struct wish *wish, struct target *target, const char *ledger) {
  char hooks[BURSAR_PROGRAM_PATH_MAX];
  struct bursar_buffer text;
  bool plain = is_plain(wish, target);
  if (plain && wish->policy)
    bursar_cli_complain(0, "the policy's limits bind Python alone: none binds %.800s", target->name);
  if (plain)
    find_plain(wish, target, hooks);
  else
    find_preload(wish, target, hooks);
  if (wish->no_core && !hooks[0] && !target->package.path[0])
    return bursar_cli_complain(1,
                               "run: --no-core cannot be kept for %.800s: start a Python itself, or a program that "
                               "loads bursar's library",
                               target->name);
  bursar_buffer_init(&text, 8 * BURSAR_PLACE_PATH_MAX);
  bursar_buffer_format(&text, "pid=%d;mode=%s;out=", (int)getpid(), wish->mode ? wish->mode : "exact");
  add_encoded(&text, ledger);
  bursar_buffer_format(&text, ";budget=%lld", (long long)wish->budget);
  bursar_buffer_format(&text, ";cap=%u;within=%u;domains=%u;follow=%d;native=%d;wipe=%d;no_core=%d;quiet=%d;preload=",
                       BURSAR_CAP_DEFAULT, wish->within, wish->domains, wish->follow, wish->native, wish->wipe,
                       wish->no_core, wish->imports != NULL);
  add_encoded(&text, hooks);
  bursar_buffer_text(&text, ";policy=");
  add_encoded(&text, wish->policy_path);
  bursar_buffer_text(&text, ";tune=");
  add_encoded(&text, wish->tuned);
  if (wish->imports) {
    bursar_buffer_format(&text, ";imports=%s;imports_out=", wish->imports->format);
    add_encoded(&text, wish->imports->out ? wish->imports->out : "");
  }
  int result = bursar_buffer_finish(&text);
  if (result == 0 && hooks[0])
    result = preload(hooks);
  if (result == 0 && setenv("BURSAR_RUN", text.data, 1) != 0)
    result = -errno;
  /* Arrow's own allocators do not go through the C library; what the user has chosen stays. */
  if (result == 0 && wish->wipe && setenv("ARROW_DEFAULT_MEMORY_POOL", "system", 0) != 0)
    result = -errno;
  bursar_buffer_free(&text);
  return result < 0 ? bursar_cli_complain(1, "cannot tell the program its settings: %s", strerror(-result)) : -1;
}

/* ---- what to run ---- */

/* Python's own complaints and statuses, before there is a ledger that nobody would write.  What is in a ZIP, or in a
 * pipe, is left to Python. */
static int check_script(const char *script) {
  struct stat is;
  if (stat(script, &is) != 0 || faccessat(AT_FDCWD, script, R_OK, AT_EACCESS) != 0)
    return bursar_cli_complain(2, "can't open file '%.800s': [Errno %d] %s", script, errno, strerror(errno));
  if (!S_ISDIR(is.st_mode))
    return -1;
  static const char *const mains[] = {"__main__.py", "__main__.pyc"};
  for (size_t i = 0; i < sizeof mains / sizeof *mains; i++) {
    char path[BURSAR_PROGRAM_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", script, mains[i]);
    if (n > 0 && n < (int)sizeof path && access(path, F_OK) == 0)
      return -1;
  }
  return bursar_cli_complain(1, "can't find '__main__' module in '%.800s'", script);
}

/* The argument vector: `head` (ended by NULL), then the operands. */
static int set_argv(struct target *target, const char *const *head, char **operands, int count) {
  size_t n = 0;
  while (head[n])
    n++;
  target->argv = calloc(n + (size_t)count + 1, sizeof *target->argv);
  if (!target->argv)
    return bursar_cli_complain(1, "no memory for the arguments");
  for (size_t i = 0; i < n; i++)
    target->argv[i] = (char *)head[i];
  for (int i = 0; i < count; i++)
    target->argv[n + (size_t)i] = operands[i];
  return -1;
}

/* The Python in target->file, checked. */
static int choose_python(const struct wish *wish, struct target *target) {
  struct bursar_program_file python;
  struct bursar_error error;
  if (bursar_program_python(wish->python, bursar_cli_invoked, &python, &error) < 0 ||
      bursar_program_check_python(&python, &target->package, &error) < 0)
    return bursar_cli_fail(&error);
  memcpy(target->file, python.path, sizeof target->file);
  return -1;
}

static void name_after(struct target *target, const char *path) {
  char real[PATH_MAX];
  /* "." and "demo/" have a name too. */
  const char *name = realpath(path, real) ? real : path;
  snprintf(target->name, sizeof target->name, "%s", name);
}

static int prepare_python(const struct wish *wish, char **operands, int count, struct target *target) {
  bool script = !wish->module && !wish->code;
  bool from_stdin = script && strcmp(operands[0], "-") == 0;
  int status = script && !from_stdin ? check_script(operands[0]) : -1;
  if (status < 0)
    status = choose_python(wish, target);
  if (status >= 0)
    return status;
  if (script && !from_stdin)
    name_after(target, operands[0]);
  else
    snprintf(target->name, sizeof target->name, "%s", wish->module ? wish->module : from_stdin ? "stdin" : "code");
  const char *const head[] = {target->file,
                              script         ? NULL
                              : wish->module ? "-m"
                                             : "-c",
                              wish->module ? wish->module : wish->code, NULL};
  return set_argv(target, head, operands, count);
}

/* `python -S` reads no start-up file, and so opens no books. */
static bool skips_start_file(char **operands, int count) {
  for (int i = 1; i < count && operands[i][0] == '-' && operands[i][1] && operands[i][1] != '-'; i++)
    for (const char *option = operands[i] + 1; *option; option++) {
      if (*option == 'S')
        return true;
      if (*option == 'c' || *option == 'm')
        return false;
      if (*option == 'W' || *option == 'X') { /* takes the rest, or the next word */
        i += !option[1];
        break;
      }
    }
  return false;
}

static int prepare_command(const struct wish *wish, char **operands, int count, struct target *target) {
  struct bursar_program_file file;
  struct bursar_program_file python;
  struct bursar_error error;
  if (count < 1)
    return bursar_cli_complain(2, "run: nothing to run after --");
  int kind = bursar_program_command(operands[0], &file, &python, &error);
  if (kind < 0 || (kind == BURSAR_PROGRAM_PYTHON && bursar_program_check_python(&python, &target->package, &error) < 0))
    return bursar_cli_fail(&error);
  snprintf(target->name, sizeof target->name, "%s", file.path);
  memcpy(target->script, file.path, sizeof target->script);
  target->bookless = kind == BURSAR_PROGRAM_PYTHON && strcmp(file.path, python.path) == 0 &&
                     skips_start_file(operands, count);
  if (kind == BURSAR_PROGRAM_SCRIPT) {
    int status = choose_python(wish, target);
    const char *const head[] = {target->file, target->script, NULL};
    return status >= 0 ? status : set_argv(target, head, operands + 1, count - 1);
  }
  if (kind == BURSAR_PROGRAM_SHELL) {
    const char *const head[] = {"/bin/sh", target->script, NULL};
    snprintf(target->file, sizeof target->file, "/bin/sh");
    return set_argv(target, head, operands + 1, count - 1);
  }
  const char *const head[] = {NULL};
  memcpy(target->file, file.path, sizeof target->file);
  target->elf = kind == BURSAR_PROGRAM_EXECUTABLE && !bursar_program_is_script(&file);
  for (int i = 1; i < count && target->elf && !target->hands_over; i++)
    target->hands_over = bursar_program_names_python(operands[i]);
  return set_argv(target, head, operands, count);
}

/* Becomes the program.  Returns only where that fails, and leaves no ledger behind then. */
static int become(struct wish *wish, struct target *target) {
  struct bursar_place ledger;
  struct bursar_error error;
  if (wish->no_core && target->bookless)
    return bursar_cli_complain(2, "run: --no-core needs the start-up file, which Python's option -S leaves out");
  int tuned = wish->tune ? bursar_tune_set(wish->tune, wish->tuned) : 0;
  if (tuned < 0)
    return bursar_cli_complain(1, "run: malloc cannot be told its settings: %s", strerror(-tuned));
  if (target->bookless) {
    bursar_cli_complain(0, "no books are kept: Python's option -S leaves out the start-up file that opens them");
    execve(target->file, target->argv, environ);
    return bursar_cli_complain(1, "cannot run %.800s: %s", target->file, strerror(errno));
  }
  int status = bursar_place_create(wish->out, wish->force, target->name, &ledger, &error);
  if (status < 0 && (!ledger.no_room || wish->no_core || wish->imports)) /* the settings lead to a ledger */
    return bursar_cli_fail(&error);
  if (status < 0) /* a full disk ends the books, and never the program: here they end before they begin */
    bursar_cli_complain(0, "no books are kept: %s", error.text);
  else
    status = tell_settings(wish, target, ledger.path);
  /* Here too: where it is refused the program does not start, and the limit on core files stays. */
  int refused = status < 0 && wish->no_core ? bursar_prim_no_core() : 0;
  if (refused)
    status = bursar_cli_complain(1, "run: core files cannot be refused here: %s", strerror(-refused));
  if (status < 0) {
    execve(target->file, target->argv, environ);
    status = bursar_cli_complain(1, "cannot run %.800s: %s", target->file, strerror(errno));
  }
  bursar_place_discard(&ledger);
  return status;
}

int bursar_cli_run(int argc, char **argv) {
  struct wish wish = {.mode = NULL};
  struct target target = {.argv = NULL};
  const struct bursar_cli_option options[] = {
      {.name = "mode",
       .value = "MODE",
       .text = &wish.mode,
       .help = "exact: every block, with its whole stack; sample: one in\n512 KiB, at almost no cost; count: totals by "
               "domain. exact\nunless given"},
      {.name = "output",
       .letter = 'o',
       .value = "FILE",
       .text = &wish.out,
       .help = "where the ledger goes (bursar ls shows where it goes otherwise)"},
      {.name = "force", .letter = 'f', .flag = &wish.force, .help = "replace the ledger that is there (ledgers only)"},
      {.name = "domains",
       .value = "LIST",
       .text = &wish.domains_text,
       .help = "whose memory: python, numpy, malloc, mmap, separated by commas,\nor all; python unless given, of a "
               "program "
               "without Python malloc\nand mmap"},
      {.name = "native", .flag = &wish.native, .help = "stacks with the C and C++ frames between Python's"},
      {.name = "wipe", .flag = &wish.wipe, .help = "zero every block of memory before it is freed, and where it moves"},
      {.name = "no-core",
       .flag = &wish.no_core,
       .help = "no core file and no debugger: nobody but root reads the\nprogram's memory (docs/security-model.md)"},
      {.name = "budget",
       .value = "SIZE",
       .text = &wish.budget_text,
       .help = "what the process may hold, as 2GiB, or 80% of its control group's\nlimit: the scope that holds most is "
               "refused more\n(docs/budgets.md); all domains are kept then"},
      {.name = "tune",
       .value = "PROFILE",
       .text = &wish.tune,
       .help = "serving: malloc's settings for a service that gives memory back\nin rests (docs/giving_back.md); what "
               "you "
               "have set yourself stays"},
      {.name = "follow-fork",
       .flag = &wish.follow,
       .help = "keep books of forked children and Pythons that are executed,\neach in a ledger of its own, FILE.PID; "
               "from a program without\nPython, of all that are executed"},
      {.name = "temporary-within",
       .value = "N",
       .text = &wish.within_text,
       .help = "temporary blocks are those freed before their thread's next\nN allocations; 1 unless given"},
      {.name = "policy",
       .value = "FILE",
       .text = &wish.policy,
       .help = "budgets, governor, modes and the rest as a file says them\n(docs/policy.md); options given here win"},
      {.name = "python", .value = "EXE", .text = &wish.python, .help = "the Python to use; else the one beside bursar"},
      {.letter = 'm', .ends = true, .value = "MODULE", .text = &wish.module, .help = "run a module, as python -m does"},
      {.letter = 'c', .ends = true, .value = "CODE", .text = &wish.code, .help = "run this code, as python -c does"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "run",
      .usage = "[OPTION…] (SCRIPT.py | DIRECTORY | ZIP | -m MODULE | -c CODE | -- COMMAND) [ARG…]",
      .about =
          "Runs a Python program as python does, and keeps the books of its memory in a ledger.\n"
          "The summary goes to stderr when it ends; bursar report shows all of it.\n"
          "After -- comes any command; Python's own options go there: bursar run -- python -X dev script.py\n"
          "A command that starts Python as a child of its own needs --follow-fork.  Of a program without\n"
          "Python malloc and mmap are kept; of a shell, or one that is handed a Python to become, where\n"
          "--domains malloc,mmap says so.",
      .options = options,
      .leading = true};
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status < 0)
    status = read_policy(&wish);
  if (status < 0)
    status = check_settings(&wish);
  if (status >= 0)
    return status;
  bool own = !wish.module && !wish.code;
  if (own && count < 1)
    return bursar_cli_complain(2, "run: nothing to run: bursar run SCRIPT.py (see bursar run --help)");
  if (own && strcmp(argv[1], "--") == 0)
    status = prepare_command(&wish, argv + 2, count - 1, &target);
  else
    status = prepare_python(&wish, argv + 1, count, &target);
  if (status < 0 && target.argv)
    status = become(&wish, &target);
  free(target.argv);
  return status;
}

int bursar_cli_run_imports(const struct bursar_cli_imports *imports, char **operands, int count) {
  struct wish wish = {.python = imports->python,
                      .module = imports->module,
                      .code = imports->code,
                      .domains_text = "all",
                      .imports = imports};
  struct target target = {.argv = NULL};
  int status = check_settings(&wish);
  if (status < 0)
    status = prepare_python(&wish, operands, count, &target);
  if (status < 0 && target.argv)
    status = become(&wish, &target);
  free(target.argv);
  return status;
}
