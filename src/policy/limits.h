/* limits.h: what is set for scopes by their name, and for the process, from outside the program's text: by a policy, by
 * `bursar run --budget`, or live.
 *
 * Glossary
 *   hard, soft   of each entry of the name; where the scope itself says one too, the lower binds
 *   sum          of all entries of the name together
 *   process      of the whole process: its name is ""
 *
 * What was set at the start is the most that a change of a running program may set: it can make it tighter, and take that
 * back.  Names that nothing was said of at the start may be given any.  Bytes; 0: no limit.
 * They outlive the books, which know names by numbers of their own: _named finds by those.
 * Ownership: the table is this file's.  Threads: the main GIL's holder, but _process: any.  Class H, but for _set, _change (F). */
#ifndef BURSAR_POLICY_LIMITS_H
#define BURSAR_POLICY_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BURSAR_LIMITS_NAMES 256u    /* different names that have some */
#define BURSAR_LIMITS_NAME_MAX 255u /* bytes */

enum bursar_limit { BURSAR_LIMIT_HARD, BURSAR_LIMIT_SOFT, BURSAR_LIMIT_SUM, BURSAR_LIMIT_KINDS };

struct bursar_limits {
  int64_t now[BURSAR_LIMIT_KINDS], first[BURSAR_LIMIT_KINDS]; /* `first`: what was set at the start */
  uint32_t bytes;
  char name[BURSAR_LIMITS_NAME_MAX + 1];
};

/* How often anything was set: 0: never, so that whoever asks first asks nothing else. */
extern uint32_t bursar_limits_changes;

/* At the start.  0, -ENAMETOOLONG, -ENOSPC: too many names, -EINVAL: negative. */
int bursar_limits_set(const char *name, size_t bytes, enum bursar_limit kind, int64_t limit)
    __attribute__((warn_unused_result));
/* Of a running program.  -EPERM too: above what was set at the start. */
int bursar_limits_change(const char *name, size_t bytes, enum bursar_limit kind, int64_t limit)
    __attribute__((warn_unused_result));
/* NULL: nothing was ever said of the name. */
const struct bursar_limits *bursar_limits_find(const char *name, size_t bytes);
/* By its place in the table, for who goes through all; NULL: there are no more. */
const struct bursar_limits *bursar_limits_at(uint32_t at);

int bursar_limits_set_process(int64_t limit) __attribute__((warn_unused_result));
int bursar_limits_change_process(int64_t limit) __attribute__((warn_unused_result));
int64_t bursar_limits_process(void);
int64_t bursar_limits_process_first(void); /* what was set at the start */

/* So many percent of what the process may have: of its control group's limit, or of the machine's memory where that is less. */
int64_t bursar_limits_percent(unsigned percent);
/* A limit as people write it: a size, or such a share as "80%".  0, or -EINVAL: neither.  Both class N. */
int bursar_limits_parse(const char *text, int64_t *out) __attribute__((warn_unused_result));

#endif
