#include "policy/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is on, and what is off, for switches; %s: the value, without quotes. */
static const struct {
  const char *on, *off;
} words[BURSAR_RULES_KEYS] = {
    [BURSAR_RULES_MODE] = {"the books are kept in mode %s, from the program's start", NULL},
    [BURSAR_RULES_DOMAINS] = {"the books are of memory of %s", NULL},
    [BURSAR_RULES_NATIVE] = {"stacks have the frames of C and C++ too", "stacks have the frames of Python alone"},
    [BURSAR_RULES_WIPE] = {"every block is zeroed before it is freed, from the start to the end",
                           "nothing is wiped but where a scope says so"},
    [BURSAR_RULES_NO_CORE] = {"no core file and no debugger, from the start to the end",
                              "core files as the system has it"},
    [BURSAR_RULES_FOLLOW_FORK] = {"children keep books of their own",
                                  "children keep no books (those of BURSAR_POLICY do)"},
    [BURSAR_RULES_TEMPORARY_WITHIN] = {"a block is temporary that is freed before its thread's next %s allocations",
                                       NULL},
    [BURSAR_RULES_TUNE] = {"malloc is set up for %s, by bursar run alone: a program that runs has read its settings",
                           NULL},
    [BURSAR_RULES_BUDGET] = {"the process may hold %s", NULL},
    [BURSAR_RULES_LIMIT] = {"where resident memory comes near %s it is collected at once", NULL},
    [BURSAR_RULES_PAUSE] = {"a younger collection may take %s s", NULL},
    [BURSAR_RULES_IDLE] = {"%s s without a scope are a rest, in which memory goes back", NULL},
    [BURSAR_RULES_FREEZE] = {"what survives a full collection is left out of later ones",
                             "nothing is left out of collections"},
    [BURSAR_RULES_TRIM] = {"malloc's free pages go back in rests", "malloc's free pages stay"},
    [BURSAR_RULES_THRESHOLD] = {"a scope leaks that grows by %s bytes a call or more", NULL},
    [BURSAR_RULES_WARMUP] = {"a leak is looked for after %s calls", NULL}};

static void say_scope(struct bursar_explained *out, unsigned key, const char *value, int64_t number) {
  static const char *const open[] = {"is an event", "is an event and a warning", "is an error of the scope's end",
                                     "is not looked at"};
  switch (key) {
    case BURSAR_LIMIT_HARD:
      snprintf(out->says, sizeof out->says, "each entry may hold %.60s: what would take it above that is refused",
               value);
      break;
    case BURSAR_LIMIT_SOFT:
      snprintf(out->says, sizeof out->says, "from %.60s in an entry on it is told: an event, and on_soft", value);
      break;
    case BURSAR_LIMIT_SUM:
      snprintf(out->says, sizeof out->says, "all its entries together may hold %.60s", value);
      break;
    default:
      snprintf(out->says, sizeof out->says, "what an entry leaves open %s, where the scope says nothing itself",
               open[number - 1]);
      break;
  }
}

/* ["a", "b"] as a, b. */
static void without_quotes(const char *value, char out[200]) {
  size_t used = 0;
  for (; *value && used + 1 < 200; value++)
    if (!strchr("\"[]", *value))
      out[used++] = *value;
  out[used] = 0;
}

static void say_process(struct bursar_explained *out, unsigned key, const char *value, struct bursar_rule rule) {
  char whole[100];
  const char *text = words[key].off && !rule.number ? words[key].off : words[key].on;
  const char *place = strstr(text, "%s");
  if (rule.percent)
    snprintf(whole, sizeof whole, "%.20s of its control group's limit, or of the machine's memory", value);
  else
    snprintf(whole, sizeof whole, "%.90s", value);
  if (place)
    snprintf(out->says, sizeof out->says, "%.*s%s%s", (int)(place - text), text, whole, place + 2);
  else
    snprintf(out->says, sizeof out->says, "%s", text);
}

static void add(struct bursar_explained *all, size_t *count, unsigned key, const struct bursar_rules_scope *scope,
                struct bursar_rule rule) {
  struct bursar_explained one = {.line = rule.line};
  char value[200];
  if (!rule.line)
    return;
  bursar_rules_key(key, scope, one.key);
  bursar_rules_value(key, scope != NULL, rule, one.value);
  without_quotes(one.value, value);
  if (scope)
    say_scope(&one, key, value, rule.number);
  else
    say_process(&one, key, value, rule);
  size_t to = (*count)++;
  for (; to && all[to - 1].line > one.line; to--)
    all[to] = all[to - 1];
  all[to] = one;
}

struct bursar_explained *bursar_explain(const struct bursar_rules *rules, size_t *count) {
  size_t most = BURSAR_RULES_KEYS + 1 + (size_t)rules->count * BURSAR_RULES_OF_SCOPE;
  struct bursar_explained *all = calloc(most, sizeof *all);
  *count = 0;
  if (!all)
    return NULL;
  for (unsigned key = 0; key < BURSAR_RULES_KEYS; key++)
    add(all, count, key, NULL, rules->of[key]);
  for (uint32_t i = 0; i < rules->count; i++)
    for (unsigned key = 0; key < BURSAR_RULES_OF_SCOPE; key++)
      add(all, count, key, &rules->scopes[i], rules->scopes[i].of[key]);
  if (rules->governor) {
    size_t to = (*count)++;
    for (; to && all[to - 1].line > rules->governor; to--)
      all[to] = all[to - 1];
    all[to] = (struct bursar_explained){.line = rules->governor, .key = "governor", .value = "true"};
    snprintf(all[to].says, sizeof all[to].says, "collections wait for rests between scopes, from the start");
  }
  return all;
}
