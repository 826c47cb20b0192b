#include "policy/change.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "account/verdict.h"

static void finish(struct bursar_change *change, enum bursar_changed_result result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void finish(struct bursar_change *change, enum bursar_changed_result result, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(change->text, sizeof change->text, format, args);
  va_end(args);
  change->result = result;
}

static char *key_of(const struct bursar_change *change, char out[BURSAR_RULES_TEXT]) {
  return bursar_rules_key(change->key, change->of_scope ? &change->scope : NULL, out);
}

/* Without its quotes. */
static const char *value_of(const struct bursar_change *change, struct bursar_rule rule, char out[BURSAR_RULES_TEXT]) {
  size_t length = strlen(bursar_rules_value(change->key, change->of_scope, rule, out));
  if (length < 2 || out[0] != '"')
    return out;
  out[length - 1] = 0;
  return out + 1;
}

void bursar_change_say(struct bursar_change *change, struct bursar_rule before) {
  char key[BURSAR_RULES_TEXT], old[BURSAR_RULES_TEXT], new[BURSAR_RULES_TEXT];
  finish(change, BURSAR_CHANGED_MADE, "%s %.200s -> %.200s", key_of(change, key), value_of(change, before, old),
         value_of(change, change->rule, new));
}

/* A limit was refused, which is `first` since the start and `now` by now; or could not be noted. */
static void refuse(struct bursar_change *change, int why, int64_t first, int64_t now) {
  char key[BURSAR_RULES_TEXT], set[BURSAR_RULES_TEXT], stays[BURSAR_RULES_TEXT], asked[BURSAR_RULES_TEXT];
  key_of(change, key);
  if (why == -EPERM && !change->rule.number)
    finish(change, BURSAR_CHANGED_REFUSED,
           "%s stays %.60s: a limit of %.60s was set at the start, and it can only be tighter", key,
           value_of(change, (struct bursar_rule){.number = now}, stays),
           value_of(change, (struct bursar_rule){.number = first}, set));
  else if (why == -EPERM)
    finish(change, BURSAR_CHANGED_REFUSED,
           "%s stays %.60s: %.60s is above the %.60s set at the start, and it can only be tighter", key,
           value_of(change, (struct bursar_rule){.number = now}, stays), value_of(change, change->rule, asked),
           value_of(change, (struct bursar_rule){.number = first}, set));
  else
    finish(change, BURSAR_CHANGED_WRONG, "%s cannot be set: at most %u names may have limits", key,
           BURSAR_LIMITS_NAMES);
}

/* True, and an answer: it would contradict a limit that binds. */
static bool contradicts(struct bursar_change *change, int64_t low, const char *what, int64_t high, const char *than) {
  char key[BURSAR_RULES_TEXT], of[BURSAR_RULES_TEXT], bound[BURSAR_RULES_TEXT];
  if (!low || !high || low <= high)
    return false;
  finish(change, BURSAR_CHANGED_WRONG, "%s would have %s of %.60s above %s of %.60s: change the other first",
         key_of(change, key), what, value_of(change, (struct bursar_rule){.number = low}, of), than,
         value_of(change, (struct bursar_rule){.number = high}, bound));
  return true;
}

static void change_limit(struct bursar_change *change) {
  const struct bursar_rules_scope *scope = &change->scope;
  const struct bursar_limits *found = bursar_limits_find(scope->name, scope->bytes);
  int64_t to[BURSAR_LIMIT_KINDS] = {0};
  int64_t now = found ? found->now[change->key] : 0, first = found ? found->first[change->key] : 0;
  if (found)
    memcpy(to, found->now, sizeof to);
  to[change->key] = change->rule.number;
  if ((change->key != BURSAR_LIMIT_SUM &&
       contradicts(change, to[BURSAR_LIMIT_SOFT], "soft", to[BURSAR_LIMIT_HARD], "hard")) ||
      contradicts(change, to[BURSAR_LIMIT_HARD], "hard", to[BURSAR_LIMIT_SUM], "the budget of all"))
    return;
  int result = bursar_limits_change(scope->name, scope->bytes, (enum bursar_limit)change->key, change->rule.number);
  if (result < 0)
    refuse(change, result, first, now);
  else
    bursar_change_say(change, (struct bursar_rule){.number = now});
}

void bursar_change_process(struct bursar_change *change, int64_t bytes) {
  int64_t now = bursar_limits_process();
  change->rule.percent = false;
  change->rule.number = bytes;
  int result = bursar_limits_change_process(bytes);
  if (result < 0)
    refuse(change, result, bursar_limits_process_first(), now);
  else
    bursar_change_say(change, (struct bursar_rule){.number = now});
}

static void change_verdict(struct bursar_change *change) {
  uint32_t threshold = 64, warmup = 500, before[2];
  bursar_verdict_set(&threshold, &warmup, false); /* they become what was set */
  before[0] = threshold, before[1] = warmup;
  if (change->key == BURSAR_RULES_THRESHOLD)
    threshold = (uint32_t)change->rule.number;
  else
    warmup = (uint32_t)change->rule.number;
  bursar_verdict_set(&threshold, &warmup, true);
  bursar_change_say(change, (struct bursar_rule){.number = before[change->key != BURSAR_RULES_THRESHOLD]});
}

/* The one rule that the text has; false: there is none, or several. */
static bool take_rule(const struct bursar_rules *rules, struct bursar_change *out) {
  unsigned found = 0;
  for (unsigned key = 0; key < BURSAR_RULES_KEYS; key++)
    if (rules->of[key].line) {
      found++;
      out->key = key;
      out->rule = rules->of[key];
    }
  for (uint32_t i = 0; i < rules->count; i++)
    for (unsigned key = 0; key < BURSAR_RULES_OF_SCOPE; key++)
      if (rules->scopes[i].of[key].line) {
        found++;
        out->key = key;
        out->of_scope = true;
        out->rule = rules->scopes[i].of[key];
        out->scope = rules->scopes[i];
      }
  return found == 1;
}

void bursar_change_make(const char *text, size_t bytes, struct bursar_change *out) {
  static struct bursar_mistakes mistakes;
  struct bursar_rules rules;
  char key[BURSAR_RULES_TEXT];
  int kept = errno, status = bursar_rules_parse(text, bytes, true, &rules, &mistakes);
  memset(out, 0, sizeof *out);
  if (status != 0)
    finish(out, BURSAR_CHANGED_WRONG, "%s", mistakes.at[0].text);
  else if (!take_rule(&rules, out))
    finish(out, BURSAR_CHANGED_WRONG, "one key and one value can be changed at a time; give them as in a policy file");
  else if (out->of_scope && out->key < BURSAR_LIMIT_KINDS)
    change_limit(out);
  else if (out->of_scope || (out->key >= BURSAR_RULES_LIMIT && out->key < BURSAR_RULES_THRESHOLD) || out->rule.percent)
    ; /* the caller's */
  else if (out->key == BURSAR_RULES_BUDGET)
    bursar_change_process(out, out->rule.number);
  else if (out->key >= BURSAR_RULES_THRESHOLD)
    change_verdict(out);
  else
    finish(out, BURSAR_CHANGED_REFUSED,
           "%s is set when a program starts, and holds to its end: start it anew for another", key_of(out, key));
  bursar_rules_free(&rules);
  errno = kept;
}
