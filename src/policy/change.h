/* change.h: one rule of a running program's is changed, by who may write to its ledger.
 *
 * The text comes from outside and is trusted in nothing.  What was set at the start is never weakened (limits.h); of what
 * `bursar run` does before there is a program nothing can be changed.
 * Threads: the main GIL's holder.  errno kept.  Class H, but that it costs system calls. */
#ifndef BURSAR_POLICY_CHANGE_H
#define BURSAR_POLICY_CHANGE_H

#include "ledger/layout.h"
#include "policy/rules.h"

struct bursar_change {
  enum bursar_changed_result
      result; /* 0: it is the caller's to make: the governor's, what is left open, a share of memory */
  bool of_scope;
  unsigned key; /* as in rules.h */
  struct bursar_rule rule;
  struct bursar_rules_scope scope; /* its name */
  char text[BURSAR_CHANGED_TEXT];  /* what is said of it */
};

/* `text`: KEY = VALUE as in a policy file. */
void bursar_change_make(const char *text, size_t bytes, struct bursar_change *out);
/* What is said of one that was made: "KEY OLD -> NEW". */
void bursar_change_say(struct bursar_change *change, struct bursar_rule before);
/* Sets the process's budget, in bytes by now. */
void bursar_change_process(struct bursar_change *change, int64_t bytes);

#endif
