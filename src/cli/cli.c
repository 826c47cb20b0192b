#include "cli/cli.h"

#include "base/near.h"
#include "prim/prim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX 64 /* of one verb; a row more is a mistake that the parser would only hide */
#define WORD_MAX 32    /* of an option's name, as it is shown */

/* ---- messages ---- */

int bursar_cli_complain(int status, const char *format, ...) {
  char text[1024];
  char line[sizeof(struct bursar_error) + 16];
  struct bursar_error error;
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  (void)!bursar_error_set(&error, BURSAR_FAILED, "%s", text);
  int length = snprintf(line, sizeof line, "bursar: %s\n", error.text);
  bursar_prim_say(STDERR_FILENO, line, (size_t)length);
  return status;
}

int bursar_cli_fail(const struct bursar_error *error) {
  return bursar_cli_complain(error->status == BURSAR_MISUSE ? 2 : 1, "%s", error->text);
}

int bursar_cli_finish(struct bursar_buffer *out) {
  int result = bursar_buffer_finish(out);
  bursar_buffer_free(out);
  return result < 0 ? bursar_cli_complain(1, "cannot write the output: %s", strerror(-result)) : 0;
}

/* ---- words ---- */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

int bursar_cli_choice(const char *word, const char *const *words) {
  for (int i = 0; words[i]; i++)
    if (strcmp(word, words[i]) == 0)
      return i;
  return -1;
}

int bursar_cli_unknown(const char *verb, const char *kind, const char *word, const char *const *words) {
  char all[512] = "";
  const char *near = bursar_near(word, words);
  if (near)
    return bursar_cli_complain(2, "%s: no %s '%s': did you mean %s?", verb, kind, word, near);
  for (size_t i = 0, used = 0; words[i] && used < sizeof all; i++)
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", words[i]);
  return bursar_cli_complain(2, "%s: no %s '%s': there is %s", verb, kind, word, all);
}

/* ---- options ---- */

static bool is_end(const struct bursar_cli_option *option) { return !option->name && !option->letter; }

static void print_option(struct bursar_buffer *out, const struct bursar_cli_option *option) {
  char left[64];
  char letter[8] = "";
  if (option->letter)
    snprintf(letter, sizeof letter, "-%c%s", option->letter, option->name ? ", " : "");
  snprintf(left, sizeof left, "%s%s%s%s%s", letter, option->name ? "--" : "", option->name ? option->name : "",
           option->value ? " " : "", option->value ? option->value : "");
  bursar_buffer_format(out, "  %-24s", left);
  for (const char *line = option->help; line;) {
    const char *next = strchr(line, '\n');
    bursar_buffer_add(out, line, next ? (size_t)(next - line) : strlen(line));
    bursar_buffer_char(out, '\n');
    if (next)
      bursar_buffer_format(out, "  %-24s", "");
    line = next ? next + 1 : NULL;
  }
}

static int print_help(const struct bursar_cli_syntax *syntax) {
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
  bursar_buffer_format(&out, "usage: bursar %s%s%s\n\n%s\n\n", syntax->verb, syntax->usage[0] ? " " : "", syntax->usage,
                       syntax->about);
  for (const struct bursar_cli_option *option = syntax->options; !is_end(option); option++)
    print_option(&out, option);
  print_option(&out, &(struct bursar_cli_option){.name = "help", .letter = 'h', .help = "show this"});
  return bursar_cli_finish(&out);
}

static int unknown_option(const struct bursar_cli_syntax *syntax, const char *word) {
  const char *names[OPTIONS_MAX + 2];
  char typed[WORD_MAX + 1] = "";
  size_t n = 0;
  for (const struct bursar_cli_option *option = syntax->options; !is_end(option) && n < OPTIONS_MAX; option++)
    if (option->name)
      names[n++] = option->name;
  names[n++] = "help";
  names[n] = NULL;
  size_t length = strcspn(word, "=");
  memcpy(typed, word, least(length, WORD_MAX));
  const char *name = typed + strspn(typed, "-");
  const char *near = strncmp(word, "--", 2) == 0 || strlen(name) > 1 ? bursar_near(name, names) : NULL;
  if (near)
    return bursar_cli_complain(2, "%s: no option %.*s: did you mean --%s?", syntax->verb, (int)length, word, near);
  return bursar_cli_complain(2, "%s: no option %.*s: see bursar %s --help", syntax->verb, (int)length, word,
                             syntax->verb);
}

/* Takes a value for the option from after `=`, from the rest of the word, or from the next argument. */
static int take(const struct bursar_cli_syntax *syntax, const struct bursar_cli_option *option, const char *shown,
                const char *attached, int argc, char **argv, int *at) {
  if (option->flag) {
    if (attached)
      return bursar_cli_complain(2, "%s: %s takes no value", syntax->verb, shown);
    *option->flag = true;
    return -1;
  }
  if (!attached && *at + 1 >= argc)
    return bursar_cli_complain(2, "%s: %s needs a value: %s %s", syntax->verb, shown, shown, option->value);
  const char *value = attached ? attached : argv[++*at];
  if (option->text)
    *option->text = value;
  else if (option->list->count == sizeof option->list->at / sizeof *option->list->at)
    return bursar_cli_complain(2, "%s: %s is given too often", syntax->verb, shown);
  else
    option->list->at[option->list->count++] = value;
  return -1;
}

static int take_long(const struct bursar_cli_syntax *syntax, int argc, char **argv, int *at, bool *ends) {
  const char *word = argv[*at];
  const char *name = word + 2;
  size_t length = strcspn(name, "=");
  char shown[WORD_MAX + 3];
  if (strcmp(name, "help") == 0) {
    *ends = true;
    return print_help(syntax);
  }
  for (const struct bursar_cli_option *option = syntax->options; !is_end(option); option++) {
    if (!option->name || strlen(option->name) != length || memcmp(option->name, name, length) != 0)
      continue;
    snprintf(shown, sizeof shown, "--%s", option->name);
    *ends = option->ends;
    return take(syntax, option, shown, name[length] ? name + length + 1 : NULL, argc, argv, at);
  }
  return unknown_option(syntax, word);
}

static int take_letters(const struct bursar_cli_syntax *syntax, int argc, char **argv, int *at, bool *ends) {
  const char *word = argv[*at];
  int status = -1;
  for (const char *letter = word + 1; *letter && status < 0; letter++) {
    const struct bursar_cli_option *option = syntax->options;
    char shown[] = {'-', *letter, 0};
    while (!is_end(option) && option->letter != *letter)
      option++;
    if (is_end(option)) {
      *ends = *letter == 'h';
      return *letter == 'h' ? print_help(syntax) : unknown_option(syntax, letter == word + 1 ? word : shown);
    }
    *ends = option->ends;
    if (!option->flag)
      return take(syntax, option, shown, letter[1] ? letter + 1 : NULL, argc, argv, at);
    status = take(syntax, option, shown, NULL, argc, argv, at);
  }
  return status;
}

int bursar_cli_options(const struct bursar_cli_syntax *syntax, int argc, char **argv, int *operands) {
  bool ended = false;
  int kept = 0;
  for (int at = 1; at < argc; at++) {
    char *word = argv[at];
    bool is_option = !ended && word[0] == '-' && word[1];
    if (is_option && strcmp(word, "--") == 0) {
      ended = true;
      if (syntax->leading)
        argv[1 + kept++] = word;
      continue;
    }
    if (!is_option) {
      ended = ended || syntax->leading;
      argv[1 + kept++] = word;
      continue;
    }
    bool ends = false;
    int status = word[1] == '-' ? take_long(syntax, argc, argv, &at, &ends)
                                : take_letters(syntax, argc, argv, &at, &ends);
    if (status >= 0)
      return status;
    ended = ends;
  }
  argv[1 + kept] = NULL; /* kept < argc, and argv[argc] is NULL already */
  *operands = kept;
  return -1;
}
