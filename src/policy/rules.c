#include "policy/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/account.h"
#include "base/near.h"
#include "base/size.h"
#include "ledger/domains.h"
#include "ledger/layout.h"
#include "policy/toml.h"
#include "policy/tune.h"
#include "prim/prim.h"

const char *const bursar_rules_actions[] = {"event", "warn", "error", "ignore", NULL};

enum kind { SWITCH, COUNT, SIZE, SHARE /* a size or a part of the memory */, SECONDS, WORD, DOMAINS };

struct field {
  const char *name;
  enum kind kind;
  const char *const *words;
  int64_t least, most;
};

static const struct field of_process[BURSAR_RULES_KEYS] = {
    [BURSAR_RULES_MODE] = {"mode", WORD, bursar_domains_modes, 0, 0},
    [BURSAR_RULES_DOMAINS] = {"domains", DOMAINS, bursar_domains_words, 0, 0},
    [BURSAR_RULES_NATIVE] = {"native", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_WIPE] = {"wipe", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_NO_CORE] = {"no_core", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_FOLLOW_FORK] = {"follow_fork", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_TEMPORARY_WITHIN] = {"temporary_within", COUNT, NULL, 1, BURSAR_RECENT_MAX},
    [BURSAR_RULES_TUNE] = {"tune", WORD, bursar_tune_names, 0, 0},
    [BURSAR_RULES_BUDGET] = {"budget", SHARE, NULL, 0, 0},
    [BURSAR_RULES_LIMIT] = {"limit", SIZE, NULL, 0, 0},
    [BURSAR_RULES_PAUSE] = {"pause", SECONDS, NULL, 0, 0},
    [BURSAR_RULES_IDLE] = {"idle", SECONDS, NULL, 0, 0},
    [BURSAR_RULES_FREEZE] = {"freeze", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_TRIM] = {"trim", SWITCH, NULL, 0, 0},
    [BURSAR_RULES_THRESHOLD] = {"threshold", COUNT, NULL, 1, INT32_MAX},
    [BURSAR_RULES_WARMUP] = {"warmup", COUNT, NULL, 500, INT32_MAX}};

static const struct field of_scope[BURSAR_RULES_OF_SCOPE] = {
    [BURSAR_LIMIT_HARD] = {"hard", SIZE, NULL, 0, 0},
    [BURSAR_LIMIT_SOFT] = {"soft", SIZE, NULL, 0, 0},
    [BURSAR_LIMIT_SUM] = {"", SIZE, NULL, 0, 0}, /* its key is the name, in a table of its own */
    [BURSAR_RULES_LEFT_OPEN] = {"left_open", WORD, bursar_rules_actions, 0, 0}};

static const struct {
  const char *name;
  unsigned from, to; /* of enum bursar_rules_key */
} tables[] = {{"run", BURSAR_RULES_MODE, BURSAR_RULES_LIMIT},
              {"governor", BURSAR_RULES_LIMIT, BURSAR_RULES_THRESHOLD},
              {"verdict", BURSAR_RULES_THRESHOLD, BURSAR_RULES_KEYS}};
#define TABLES (sizeof tables / sizeof *tables)

#define SHOWN 60 /* bytes of a name or a text in a message */
#define TEXT(text) (int)((text).length > SHOWN ? SHOWN : (text).length), (text).bytes

struct reading {
  const struct bursar_toml *toml;
  struct bursar_rules *rules;
  struct bursar_mistakes *mistakes;
  bool live;
};

#define WRONG(r, node, ...) (bursar_mistakes_add((r)->mistakes, (node)->line, (node)->column, __VA_ARGS__), false)
#define WRONG_VALUE(r, node, ...) \
  (bursar_mistakes_add((r)->mistakes, (node)->value_line, (node)->value_column, __VA_ARGS__), false)

static const struct bursar_toml_node *first_of(const struct reading *r, const struct bursar_toml_node *node) {
  return node->first ? &r->toml->nodes[node->first] : NULL;
}

static const struct bursar_toml_node *next_of(const struct reading *r, const struct bursar_toml_node *node) {
  return node->next ? &r->toml->nodes[node->next] : NULL;
}

static bool is_text(struct bursar_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

/* Into an array, cut; a text may hold anything. */
static char *word_of(struct bursar_text text, char out[64]) {
  size_t length = text.length < 63 ? text.length : 63;
  memcpy(out, text.bytes, length);
  out[length] = 0;
  return out;
}

/* "did you mean hard?" or "there is hard, soft". */
static const char *advice(struct bursar_text text, const char *const *words, char out[256]) {
  char word[64];
  const char *near = bursar_near(word_of(text, word), words);
  if (near) {
    snprintf(out, 256, "did you mean %s?", near);
    return out;
  }
  size_t used = (size_t)snprintf(out, 256, "there is ");
  for (size_t i = 0; words[i] && used < 256; i++)
    used += (size_t)snprintf(out + used, 256 - used, "%s%s", i ? ", " : "", words[i]);
  return out;
}

/* --- values ---------------------------------------------------------------------------------------------------------------- */

static bool wrong_kind(struct reading *r, const struct bursar_toml_node *node, const char *takes) {
  return WRONG_VALUE(r, node, "'%.*s' takes %s, not %s; write it so", TEXT(node->key), takes,
                     bursar_toml_kind_name(node->kind));
}

static bool read_share(struct reading *r, const struct bursar_toml_node *node, struct bursar_rule *out) {
  unsigned percent = 0;
  for (uint32_t i = 0; i + 1 < node->text.length; i++) {
    if (node->text.bytes[i] < '0' || node->text.bytes[i] > '9' || percent > 100)
      return WRONG_VALUE(r, node, "'%.*s' is no part of the memory; write one from \"1%%\" to \"100%%\"",
                         TEXT(node->text));
    percent = 10 * percent + (unsigned)(node->text.bytes[i] - '0');
  }
  if (percent < 1 || percent > 100)
    return WRONG_VALUE(r, node, "'%.*s' is no part of the memory; write one from \"1%%\" to \"100%%\"",
                       TEXT(node->text));
  out->percent = true;
  out->number = percent;
  return true;
}

static bool read_size(struct reading *r, const struct bursar_toml_node *node, bool share, struct bursar_rule *out) {
  const char *as = share ? "write bytes, or as \"2 GiB\" or \"80%\"" : "write bytes, or as \"300 MiB\"";
  char word[64];
  uint64_t bytes = 0;
  if (node->kind == BURSAR_TOML_INTEGER && node->integer <= 0)
    return WRONG_VALUE(r, node, "%lld bytes are no limit; it is above 0, and the key is left out where there is none",
                       (long long)node->integer);
  if (node->kind == BURSAR_TOML_INTEGER) {
    out->number = node->integer;
    return true;
  }
  if (node->kind != BURSAR_TOML_STRING)
    return WRONG_VALUE(r, node, "'%.*s' takes a size, not %s; %s", TEXT(node->key), bursar_toml_kind_name(node->kind),
                       as);
  if (r->live && is_text(node->text, "none")) {
    out->number = 0;
    return true;
  }
  if (share && node->text.length && node->text.bytes[node->text.length - 1] == '%')
    return read_share(r, node, out);
  int status = node->text.length < sizeof word && !memchr(node->text.bytes, 0, node->text.length)
                   ? bursar_size_parse(word_of(node->text, word), &bytes)
                   : -EINVAL;
  if (status == -ERANGE || bytes > INT64_MAX)
    return WRONG_VALUE(r, node, "'%.*s' is too large; less than 8 EiB can be said", TEXT(node->text));
  if (status != 0)
    return WRONG_VALUE(r, node, "'%.*s' is no size; %s", TEXT(node->text), as);
  if (!bytes)
    return WRONG_VALUE(r, node, "'%.*s' is no limit; it is above 0, and the key is left out where there is none",
                       TEXT(node->text));
  out->number = (int64_t)bytes;
  return true;
}

static bool read_seconds(struct reading *r, const struct bursar_toml_node *node, struct bursar_rule *out) {
  double seconds = node->kind == BURSAR_TOML_INTEGER ? (double)node->integer : node->real;
  if (node->kind != BURSAR_TOML_INTEGER && node->kind != BURSAR_TOML_REAL)
    return wrong_kind(r, node, "seconds");
  if (!(seconds * 1e9 >= 1 && seconds < 3600))
    return WRONG_VALUE(r, node, "'%.*s' takes seconds, more than 0 and less than 3600; write it so", TEXT(node->key));
  out->number = (int64_t)(seconds * 1e9 + 0.5);
  return true;
}

static bool read_word(struct reading *r, const struct bursar_toml_node *node, const char *const *words,
                      struct bursar_rule *out) {
  char hint[256];
  if (node->kind != BURSAR_TOML_STRING)
    return wrong_kind(r, node, "a text");
  for (int i = 0; words[i]; i++)
    if (is_text(node->text, words[i])) {
      out->number = i + 1;
      return true;
    }
  return WRONG_VALUE(r, node, "no %.*s '%.*s'; %s", TEXT(node->key), TEXT(node->text), advice(node->text, words, hint));
}

/* A list as the option has it, or an array of its words. */
static bool add_domains(struct reading *r, const struct bursar_toml_node *node, uint32_t *domains) {
  char list[256], wrong[BURSAR_DOMAINS_WORD], hint[256];
  size_t length = node->text.length < sizeof list - 1 ? node->text.length : sizeof list - 1;
  if (node->kind != BURSAR_TOML_STRING)
    return WRONG_VALUE(r, node, "'domains' takes texts, not %s; write [\"python\", \"numpy\"], or \"all\"",
                       bursar_toml_kind_name(node->kind));
  memcpy(list, node->text.bytes, length);
  list[length] = 0;
  uint32_t more = bursar_domains_parse(list, wrong);
  if (!more)
    return WRONG_VALUE(r, node, "no domain '%s'; %s", wrong,
                       advice((struct bursar_text){wrong, (uint32_t)strlen(wrong)}, bursar_domains_words, hint));
  *domains |= more;
  return true;
}

static bool read_domains(struct reading *r, const struct bursar_toml_node *node, struct bursar_rule *out) {
  uint32_t domains = 0;
  bool good = true;
  if (node->kind != BURSAR_TOML_ARRAY) {
    good = add_domains(r, node, &domains);
  } else {
    for (const struct bursar_toml_node *item = first_of(r, node); item; item = next_of(r, item))
      good = add_domains(r, item, &domains) && good;
    if (!node->first)
      good = WRONG_VALUE(r, node, "'domains' is empty; write [\"python\", \"numpy\"], or \"all\"");
  }
  out->number = domains;
  return good;
}

static void read_value(struct reading *r, const struct bursar_toml_node *node, const struct field *field,
                       struct bursar_rule *out) {
  struct bursar_rule rule = {.line = node->line};
  bool good;
  switch (field->kind) {
    case SWITCH:
      good = node->kind == BURSAR_TOML_BOOLEAN || wrong_kind(r, node, "true or false");
      rule.number = good && node->boolean;
      break;
    case COUNT:
      good = node->kind == BURSAR_TOML_INTEGER || wrong_kind(r, node, "a number");
      if (good && (node->integer < field->least || node->integer > field->most))
        good = WRONG_VALUE(r, node, "'%s' takes a number from %lld to %lld; write one", field->name,
                           (long long)field->least, (long long)field->most);
      rule.number = good ? node->integer : 0;
      break;
    case SIZE:
    case SHARE: good = read_size(r, node, field->kind == SHARE, &rule); break;
    case SECONDS: good = read_seconds(r, node, &rule); break;
    case DOMAINS: good = read_domains(r, node, &rule); break;
    default: good = read_word(r, node, field->words, &rule); break;
  }
  if (good)
    *out = rule;
}

/* --- tables ---------------------------------------------------------------------------------------------------------------- */

static bool is_table(struct reading *r, const struct bursar_toml_node *node, const char *write) {
  return node->kind == BURSAR_TOML_TABLE || WRONG(r, node, "'%.*s' is a table, not %s; write %s", TEXT(node->key),
                                                  bursar_toml_kind_name(node->kind), write);
}

static void read_table(struct reading *r, const struct bursar_toml_node *table, size_t which) {
  const char *words[BURSAR_RULES_KEYS + 1];
  char hint[256], header[64];
  size_t count = 0;
  snprintf(header, sizeof header, "[%s]", tables[which].name);
  if (!is_table(r, table, header))
    return;
  for (unsigned key = tables[which].from; key < tables[which].to; key++)
    words[count++] = of_process[key].name;
  words[count] = NULL;
  for (const struct bursar_toml_node *node = first_of(r, table); node; node = next_of(r, node)) {
    unsigned key = tables[which].from;
    while (key < tables[which].to && !is_text(node->key, of_process[key].name))
      key++;
    if (key < tables[which].to)
      read_value(r, node, &of_process[key], &r->rules->of[key]);
    else
      (void)WRONG(r, node, "no key '%.*s' in %s; %s", TEXT(node->key), header, advice(node->key, words, hint));
  }
}

/* NULL, after a complaint, where there can be none. */
static struct bursar_rules_scope *scope_of(struct reading *r, const struct bursar_toml_node *node) {
  struct bursar_rules *rules = r->rules;
  struct bursar_text name = node->key;
  for (uint32_t i = 0; i < rules->count; i++)
    if (rules->scopes[i].bytes == name.length && memcmp(rules->scopes[i].name, name.bytes, name.length) == 0)
      return &rules->scopes[i];
  if (!name.length)
    return (void)WRONG(r, node, "a scope without a name; every scope has one"), NULL;
  if (name.length > BURSAR_LIMITS_NAME_MAX)
    return (void)WRONG(r, node, "a name of %u bytes; it has at most %u", name.length, BURSAR_LIMITS_NAME_MAX), NULL;
  if (rules->count == BURSAR_LIMITS_NAMES)
    return (void)WRONG(r, node, "more than %u names of scopes; leave some out", BURSAR_LIMITS_NAMES), NULL;
  struct bursar_rules_scope *scope = &rules->scopes[rules->count++];
  memcpy(scope->name, name.bytes, name.length);
  scope->bytes = name.length;
  return scope;
}

static void read_scope(struct reading *r, const struct bursar_toml_node *table) {
  static const char *const words[] = {"hard", "soft", "left_open", NULL};
  char hint[256];
  if (table->kind != BURSAR_TOML_TABLE) {
    (void)WRONG(r, table, "'%.*s' is said %s of; write scope.NAME.hard, .soft or .left_open", TEXT(table->key),
                bursar_toml_kind_name(table->kind));
    return;
  }
  struct bursar_rules_scope *scope = scope_of(r, table);
  for (const struct bursar_toml_node *node = first_of(r, table); scope && node; node = next_of(r, node)) {
    unsigned key = 0;
    while (key < BURSAR_RULES_OF_SCOPE && (key == BURSAR_LIMIT_SUM || !is_text(node->key, of_scope[key].name)))
      key++;
    if (key < BURSAR_RULES_OF_SCOPE)
      read_value(r, node, &of_scope[key], &scope->of[key]);
    else if (node->kind == BURSAR_TOML_TABLE)
      (void)WRONG(r, node, "'%.*s' is a table in a scope's; a name with dots goes in quotes, as in [scope.\"a.b\"]",
                  TEXT(node->key));
    else
      (void)WRONG(r, node, "no key '%.*s' in [scope.NAME]; %s", TEXT(node->key), advice(node->key, words, hint));
  }
}

static void read_scopes(struct reading *r, const struct bursar_toml_node *table) {
  if (!is_table(r, table, "[scope.NAME]"))
    return;
  for (const struct bursar_toml_node *node = first_of(r, table); node; node = next_of(r, node))
    read_scope(r, node);
}

static void read_sums(struct reading *r, const struct bursar_toml_node *table) {
  if (!is_table(r, table, "[budget]"))
    return;
  for (const struct bursar_toml_node *node = first_of(r, table); node; node = next_of(r, node)) {
    if (node->kind == BURSAR_TOML_TABLE) {
      (void)WRONG(r, node, "'%.*s' is a table in [budget]; a name with dots goes in quotes, as in \"a.b\" = \"1 GiB\"",
                  TEXT(node->key));
      continue;
    }
    struct bursar_rules_scope *scope = scope_of(r, node);
    if (scope)
      read_value(r, node, &of_scope[BURSAR_LIMIT_SUM], &scope->of[BURSAR_LIMIT_SUM]);
  }
}

static void read_root(struct reading *r) {
  static const char *const words[] = {"run", "budget", "scope", "governor", "verdict", NULL};
  char hint[256];
  for (const struct bursar_toml_node *node = first_of(r, r->toml->nodes); node; node = next_of(r, node)) {
    size_t which = 0;
    while (which < TABLES && !is_text(node->key, tables[which].name))
      which++;
    if (which < TABLES)
      read_table(r, node, which);
    else if (is_text(node->key, "scope"))
      read_scopes(r, node);
    else if (is_text(node->key, "budget"))
      read_sums(r, node);
    else
      (void)WRONG(r, node, "no %s '%.*s'; %s", node->kind == BURSAR_TOML_TABLE ? "table" : "key", TEXT(node->key),
                  advice(node->key, words, hint));
    if (is_text(node->key, "governor"))
      r->rules->governor = node->line;
  }
}

/* --- what contradicts itself ------------------------------------------------------------------------------------------------ */

/* `what` may not be above `than`. */
static void compare(struct reading *r, const struct bursar_rules_scope *scope, const struct bursar_rule *low,
                    const char *what, const struct bursar_rule *high, const char *than) {
  char is[BURSAR_SIZE_TEXT], bound[BURSAR_SIZE_TEXT];
  struct bursar_text name = {scope->name, scope->bytes};
  if (low->line && high->line && !high->percent && low->number > high->number)
    bursar_mistakes_add(r->mistakes, low->line, 1,
                        "%s of '%.*s' is %s, above %s of %s in line %u; lower it, or raise the other", what, TEXT(name),
                        bursar_size_print((uint64_t)low->number, is), than,
                        bursar_size_print((uint64_t)high->number, bound), high->line);
}

static void compare_all(struct reading *r) {
  const struct bursar_rule *process = &r->rules->of[BURSAR_RULES_BUDGET];
  for (uint32_t i = 0; i < r->rules->count; i++) {
    const struct bursar_rules_scope *scope = &r->rules->scopes[i];
    const struct bursar_rule *hard = &scope->of[BURSAR_LIMIT_HARD], *soft = &scope->of[BURSAR_LIMIT_SOFT],
                             *sum = &scope->of[BURSAR_LIMIT_SUM];
    compare(r, scope, soft, "soft", hard, "its hard limit");
    compare(r, scope, hard, "hard", sum, "the budget of all its entries");
    if (!hard->line)
      compare(r, scope, soft, "soft", sum, "the budget of all its entries");
    compare(r, scope, sum, "the budget", process, "the process's");
    if (!sum->line)
      compare(r, scope, hard, "hard", process, "the process's budget");
  }
}

/* --- all of it --------------------------------------------------------------------------------------------------------------- */

#define SCOPES_BYTES (BURSAR_LIMITS_NAMES * sizeof(struct bursar_rules_scope))

int bursar_rules_parse(const char *text, size_t bytes, bool live, struct bursar_rules *out,
                       struct bursar_mistakes *mistakes) {
  struct bursar_toml toml;
  struct reading r = {.toml = &toml, .rules = out, .mistakes = mistakes, .live = live};
  memset(out, 0, sizeof *out);
  memset(mistakes, 0, sizeof *mistakes);
  int status = bursar_toml_parse(text, bytes, &toml, mistakes);
  if (status == 0 || status == -EINVAL) {
    out->scopes = bursar_prim_reserve(SCOPES_BYTES, true);
    if (out->scopes)
      read_root(&r);
    else
      bursar_mistakes_add(mistakes, 0, 0, "no memory to read it; free some");
    if (out->scopes && !live)
      compare_all(&r);
  }
  bursar_toml_free(&toml);
  return mistakes->count ? BURSAR_MISUSE : 0;
}

static int read_all(int fd, char *text, size_t bytes) {
  size_t got = 0;
  while (got < bytes) {
    ssize_t n = read(fd, text + got, bytes - got);
    if (n < 0 && errno != EINTR)
      return -errno;
    if (n == 0)
      break;
    got += n > 0 ? (size_t)n : 0;
  }
  return (int)got;
}

int bursar_rules_read(const char *path, struct bursar_rules *out, struct bursar_mistakes *mistakes,
                      struct bursar_error *error) {
  const size_t room = BURSAR_TOML_BYTES + BURSAR_PRIM_PAGE;
  struct stat is;
  int kept = errno, status;
  memset(out, 0, sizeof *out);
  memset(mistakes, 0, sizeof *mistakes);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  char *text = fd >= 0 ? bursar_prim_reserve(room, true) : NULL;
  if (fd < 0) {
    status = bursar_error_set(error, BURSAR_FAILED, "cannot read the policy %.800s: %s", path, strerror(errno));
  } else if (fstat(fd, &is) != 0 || !S_ISREG(is.st_mode)) { /* it is read again, in the program */
    status = bursar_error_set(error, BURSAR_FAILED, "the policy %.800s is no regular file: give one", path);
  } else if (!text) {
    status = bursar_error_set(error, BURSAR_FAILED, "no memory to read the policy %.800s: free some", path);
  } else {
    int got = read_all(fd, text, BURSAR_TOML_BYTES + 1);
    status = got < 0 ? bursar_error_set(error, BURSAR_FAILED, "cannot read the policy %.800s: %s", path, strerror(-got))
                     : bursar_rules_parse(text, (size_t)got, false, out, mistakes);
  }
  if (text)
    bursar_prim_release(text, room);
  if (fd >= 0)
    close(fd);
  errno = kept;
  return status;
}

void bursar_rules_free(struct bursar_rules *rules) {
  if (rules && rules->scopes)
    bursar_prim_release(rules->scopes, SCOPES_BYTES);
  if (rules)
    memset(rules, 0, sizeof *rules);
}

int bursar_rules_fail(const char *path, const struct bursar_mistakes *mistakes, struct bursar_error *error) {
  uint32_t others = mistakes->count - 1 + mistakes->more;
  char more[32] = "";
  if (others)
    snprintf(more, sizeof more, " (and %u more)", others);
  return bursar_error_set(error, BURSAR_MISUSE, "%.300s:%u: %s%s: see bursar policy check", path, mistakes->at[0].line,
                          mistakes->at[0].text, more);
}

/* --- as texts ------------------------------------------------------------------------------------------------------------------ */

/* A key as it is, or in quotes. */
static size_t quote(const char *name, size_t bytes, char *out) {
  bool bare = bytes > 0;
  size_t used = 0;
  for (size_t i = 0; i < bytes && bare; i++)
    bare = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
           (name[i] >= '0' && name[i] <= '9') || name[i] == '-' || name[i] == '_';
  if (!bare)
    out[used++] = '"';
  for (size_t i = 0; i < bytes; i++) {
    if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
      used += (size_t)snprintf(out + used, 7, "\\u%04x", (unsigned)name[i]);
    else if (name[i] == '"' || name[i] == '\\')
      out[used++] = '\\', out[used++] = name[i];
    else
      out[used++] = name[i];
  }
  if (!bare)
    out[used++] = '"';
  out[used] = 0;
  return used;
}

char *bursar_rules_key(unsigned key, const struct bursar_rules_scope *scope, char out[BURSAR_RULES_TEXT]) {
  if (scope) {
    size_t used = (size_t)snprintf(out, BURSAR_RULES_TEXT, "%s.", key == BURSAR_LIMIT_SUM ? "budget" : "scope");
    used += quote(scope->name, scope->bytes, out + used);
    if (key != BURSAR_LIMIT_SUM)
      snprintf(out + used, BURSAR_RULES_TEXT - used, ".%s", of_scope[key].name);
    return out;
  }
  for (size_t i = 0; i < TABLES; i++)
    if (key >= tables[i].from && key < tables[i].to)
      snprintf(out, BURSAR_RULES_TEXT, "%s.%s", tables[i].name, of_process[key].name);
  return out;
}

/* A size that reads as what it is, to the byte. */
static void write_size(int64_t bytes, char *out) {
  char text[BURSAR_SIZE_TEXT];
  uint64_t again = 0;
  bursar_size_print((uint64_t)bytes, text);
  if (bursar_size_parse(text, &again) == 0 && again == (uint64_t)bytes)
    snprintf(out, BURSAR_RULES_TEXT, "\"%s\"", text);
  else
    snprintf(out, BURSAR_RULES_TEXT, "%lld", (long long)bytes);
}

static void write_domains(uint32_t domains, char *out) {
  size_t used = (size_t)snprintf(out, BURSAR_RULES_TEXT, "[");
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (domains >> domain & 1)
      used += (size_t)snprintf(out + used, BURSAR_RULES_TEXT - used, "%s\"%s\"", used > 1 ? ", " : "",
                               bursar_domains_name(domain));
  snprintf(out + used, BURSAR_RULES_TEXT - used, "]");
}

/* Seconds, without the printing of floats, which may ask malloc for memory. */
static void write_seconds(int64_t ns, char *out) {
  int length =
      snprintf(out, BURSAR_RULES_TEXT, "%lld.%09lld", (long long)(ns / 1000000000), (long long)(ns % 1000000000));
  while (length > 2 && out[length - 1] == '0' && out[length - 2] != '.')
    out[--length] = 0;
}

char *bursar_rules_value(unsigned key, bool scope, struct bursar_rule rule, char out[BURSAR_RULES_TEXT]) {
  const struct field *field = scope ? &of_scope[key] : &of_process[key];
  switch (field->kind) {
    case SWITCH: snprintf(out, BURSAR_RULES_TEXT, "%s", rule.number ? "true" : "false"); break;
    case COUNT: snprintf(out, BURSAR_RULES_TEXT, "%lld", (long long)rule.number); break;
    case SECONDS: write_seconds(rule.number, out); break;
    case DOMAINS: write_domains((uint32_t)rule.number, out); break;
    case WORD: snprintf(out, BURSAR_RULES_TEXT, "\"%s\"", field->words[rule.number - 1]); break;
    default:
      if (rule.percent)
        snprintf(out, BURSAR_RULES_TEXT, "\"%lld%%\"", (long long)rule.number);
      else if (rule.number)
        write_size(rule.number, out);
      else
        snprintf(out, BURSAR_RULES_TEXT, "\"none\"");
  }
  return out;
}

uint32_t bursar_rules_domains(const struct bursar_rules *rules) {
  if (rules->of[BURSAR_RULES_DOMAINS].line)
    return (uint32_t)rules->of[BURSAR_RULES_DOMAINS].number;
  bool limits = rules->of[BURSAR_RULES_BUDGET].line != 0;
  for (uint32_t i = 0; i < rules->count; i++)
    for (int kind = 0; kind < BURSAR_LIMIT_KINDS; kind++)
      limits = limits || rules->scopes[i].of[kind].line;
  return limits ? BURSAR_DOMAINS_ALL : 0;
}
