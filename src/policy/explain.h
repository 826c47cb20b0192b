/* explain.h: a policy in plain words.
 *
 * Ownership: the caller's array; the texts in it are its own.  Threads: any.  Class N. */
#ifndef BURSAR_POLICY_EXPLAIN_H
#define BURSAR_POLICY_EXPLAIN_H

#include "policy/rules.h"

struct bursar_explained {
  uint32_t line;
  char key[BURSAR_RULES_TEXT];
  char value[BURSAR_RULES_TEXT];
  char says[200];
};

/* All rules, by line.  Returns an array to free(), or NULL where there is no memory; *count: of them. */
struct bursar_explained *bursar_explain(const struct bursar_rules *rules, size_t *count)
    __attribute__((warn_unused_result));

#endif
