/* A policy from any bytes at all, as a file and as a change that is asked for: whatever is said of it, each mistake has a place and
 * is one line, and a key and a value that are right read as themselves again. */
#include "policy/change.h"
#include "policy/explain.h"
#include "policy/toml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bursar_mistakes mistakes, others;

static void must(bool holds) {
  if (!holds)
    abort();
}

static void check_mistakes(const char *text, size_t size) {
  uint32_t lines = 1;
  for (size_t i = 0; i < size; i++)
    lines += text[i] == '\n';
  for (uint32_t i = 0; i < mistakes.count; i++) {
    const struct bursar_mistake *mistake = &mistakes.at[i];
    must(mistake->line <= lines && (mistake->column || !mistake->line));
    must(mistake->text[0] && !strchr(mistake->text, '\n') && strlen(mistake->text) < BURSAR_MISTAKES_TEXT);
    must(!i || mistake[-1].line <= mistake->line);
  }
}

/* What is explained can be written again. */
static void check_rule(const struct bursar_explained *rule) {
  struct bursar_rules again;
  char text[2 * BURSAR_RULES_TEXT + 4];
  if (strcmp(rule->key, "governor") == 0)
    return;
  int bytes = snprintf(text, sizeof text, "%s = %s", rule->key, rule->value);
  must(rule->says[0] && bursar_rules_parse(text, (size_t)bytes, false, &again, &others) == 0);
  size_t count;
  struct bursar_explained *all = bursar_explain(&again, &count);
  must(all && count == 1u + (again.governor != 0)); /* whose table is a rule too */
  const struct bursar_explained *same = &all[count - 1];
  for (size_t i = 0; i < count; i++)
    if (strcmp(all[i].key, "governor") != 0)
      same = &all[i];
  must(strcmp(same->key, rule->key) == 0 && strcmp(same->value, rule->value) == 0);
  free(all);
  bursar_rules_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct bursar_change change;
  struct bursar_rules rules;
  size_t count;
  int status = bursar_rules_parse((const char *)data, size, false, &rules, &mistakes);
  must((status == 0) == !mistakes.count);
  check_mistakes((const char *)data, size);
  struct bursar_explained *all = rules.scopes ? bursar_explain(&rules, &count) : NULL;
  for (size_t i = 0; all && i < count; i++)
    check_rule(&all[i]);
  free(all);
  bursar_rules_free(&rules);
  bursar_change_make((const char *)data, size, &change);
  must(!change.result || (change.text[0] && strlen(change.text) < sizeof change.text));
  must(bursar_limits_process() >= 0);
  return 0;
}
