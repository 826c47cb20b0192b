/* rules.h: what a policy file says, checked.
 *
 * Each rule has the line that says it; 0: nothing is said.  Of what is wrong all is found, each mistake with its place, and what
 * is right is read all the same, so that a mistake hides no other.
 * Ownership: the memory of the scopes is the rules' own, from the system, until _free (NULL and zeroed ones are fine).
 * Threads: one at a time.  errno kept.  Class H, but that it costs system calls. */
#ifndef BURSAR_POLICY_RULES_H
#define BURSAR_POLICY_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "policy/limits.h"
#include "policy/mistakes.h"

/* Of the whole process, table by table. */
enum bursar_rules_key {
  BURSAR_RULES_MODE,    /* enum bursar_mode */
  BURSAR_RULES_DOMAINS, /* a bit for each */
  BURSAR_RULES_NATIVE,  /* 0 or 1, as the three below */
  BURSAR_RULES_WIPE,
  BURSAR_RULES_NO_CORE,
  BURSAR_RULES_FOLLOW_FORK,
  BURSAR_RULES_TEMPORARY_WITHIN,
  BURSAR_RULES_TUNE, /* of bursar_tune_names, from 1 on */
  BURSAR_RULES_BUDGET,
  BURSAR_RULES_LIMIT, /* of the governor, as those below */
  BURSAR_RULES_PAUSE, /* nanoseconds */
  BURSAR_RULES_IDLE,
  BURSAR_RULES_FREEZE,
  BURSAR_RULES_TRIM,
  BURSAR_RULES_THRESHOLD,
  BURSAR_RULES_WARMUP,
  BURSAR_RULES_KEYS
};

/* What may be said of a scope. */
enum { BURSAR_RULES_LEFT_OPEN = BURSAR_LIMIT_KINDS, BURSAR_RULES_OF_SCOPE };
extern const char *const bursar_rules_actions[]; /* about what is left open; ended by NULL */
#define BURSAR_RULES_IGNORE 4

struct bursar_rule {
  uint32_t line;
  bool percent;   /* the number is one, of the memory that there is */
  int64_t number; /* bytes, where it is a size */
};

struct bursar_rules_scope {
  struct bursar_rule of[BURSAR_RULES_OF_SCOPE]; /* by enum bursar_limit; left_open: of the actions, from 1 on */
  uint32_t bytes;
  char name[BURSAR_LIMITS_NAME_MAX + 1];
};

struct bursar_rules {
  struct bursar_rule of[BURSAR_RULES_KEYS];
  uint32_t governor;                 /* the line of its table */
  uint32_t count;                    /* of scopes */
  struct bursar_rules_scope *scopes; /* room for BURSAR_LIMITS_NAMES */
};

/* 0; BURSAR_MISUSE: there are mistakes.  `live`: it is one rule of a running program's, which may be "none" where it is a
 * limit, and is not compared with others here. */
int bursar_rules_parse(const char *text, size_t bytes, bool live, struct bursar_rules *out,
                       struct bursar_mistakes *mistakes) __attribute__((warn_unused_result));
/* The same of a file, whose size is bounded.  BURSAR_FAILED, with an error: it cannot be read. */
int bursar_rules_read(const char *path, struct bursar_rules *out, struct bursar_mistakes *mistakes,
                      struct bursar_error *error) __attribute__((warn_unused_result));
/* The domains that are said; all where none are and there are limits, because what is not booked cannot be refused; else 0. */
uint32_t bursar_rules_domains(const struct bursar_rules *rules);
void bursar_rules_free(struct bursar_rules *rules);
/* The first mistake as a line, and how many more there are.  Returns BURSAR_MISUSE. */
int bursar_rules_fail(const char *path, const struct bursar_mistakes *mistakes, struct bursar_error *error)
    __attribute__((warn_unused_result));

#define BURSAR_RULES_TEXT 1600u /* of a key: a name may be all escapes */
/* A key as the file has it: of the process (scope NULL), or of a scope, whose key is an enum bursar_limit or LEFT_OPEN.  Returns
 * `out`. */
char *bursar_rules_key(unsigned key, const struct bursar_rules_scope *scope, char out[BURSAR_RULES_TEXT]);
/* A value as the file has it: "300 MiB" with its quotes, true, 0.01, "none". */
char *bursar_rules_value(unsigned key, bool of_scope, struct bursar_rule rule, char out[BURSAR_RULES_TEXT]);

#endif
