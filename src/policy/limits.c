#include "policy/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"
#include "prim/prim.h"
#include "prim/smaps.h"

uint32_t bursar_limits_changes;

static struct bursar_limits *table; /* pages of it that nobody has used have no memory */
static uint32_t used;
static int64_t process, process_first;

static struct bursar_limits *find(const char *name, size_t bytes) {
  for (uint32_t i = 0; i < used; i++)
    if (table[i].bytes == bytes && memcmp(table[i].name, name, bytes) == 0)
      return &table[i];
  return NULL;
}

const struct bursar_limits *bursar_limits_find(const char *name, size_t bytes) { return find(name, bytes); }

const struct bursar_limits *bursar_limits_at(uint32_t at) { return at < used ? &table[at] : NULL; }

static int find_or_add(const char *name, size_t bytes, struct bursar_limits **out) {
  if (bytes > BURSAR_LIMITS_NAME_MAX)
    return -ENAMETOOLONG;
  if ((*out = find(name, bytes)))
    return 0;
  if (used == BURSAR_LIMITS_NAMES ||
      (!table && !(table = bursar_prim_reserve(BURSAR_LIMITS_NAMES * sizeof *table, true))))
    return -ENOSPC;
  *out = &table[used];
  memcpy((*out)->name, name, bytes);
  (*out)->bytes = (uint32_t)bytes;
  used++;
  return 0;
}

/* No limit is the weakest. */
static bool weakens(int64_t limit, int64_t first) { return first && (!limit || limit > first); }

int bursar_limits_set(const char *name, size_t bytes, enum bursar_limit kind, int64_t limit) {
  struct bursar_limits *at;
  int result = limit < 0 ? -EINVAL : find_or_add(name, bytes, &at);
  if (result == 0) {
    at->first[kind] = at->now[kind] = limit;
    bursar_limits_changes++;
  }
  return result;
}

int bursar_limits_change(const char *name, size_t bytes, enum bursar_limit kind, int64_t limit) {
  struct bursar_limits *at;
  int result = limit < 0 ? -EINVAL : find_or_add(name, bytes, &at);
  if (result == 0 && weakens(limit, at->first[kind]))
    result = -EPERM;
  if (result == 0) {
    at->now[kind] = limit;
    bursar_limits_changes++;
  }
  return result;
}

int bursar_limits_set_process(int64_t limit) {
  if (limit < 0)
    return -EINVAL;
  process_first = limit;
  __atomic_store_n(&process, limit, __ATOMIC_RELAXED);
  bursar_limits_changes++;
  return 0;
}

int bursar_limits_change_process(int64_t limit) {
  if (limit < 0)
    return -EINVAL;
  if (weakens(limit, process_first))
    return -EPERM;
  __atomic_store_n(&process, limit, __ATOMIC_RELAXED);
  bursar_limits_changes++;
  return 0;
}

int64_t bursar_limits_process(void) { return __atomic_load_n(&process, __ATOMIC_RELAXED); }

int64_t bursar_limits_process_first(void) { return process_first; }

/* ---- as text ---- */

static uint64_t most_there_is(void) {
  struct bursar_smaps_cgroup group;
  uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  bursar_smaps_cgroup(0, &group);
  return group.limit < machine ? group.limit : machine; /* one that is not known is the greatest number */
}

int64_t bursar_limits_percent(unsigned percent) { return (int64_t)(most_there_is() / 100 * percent); }

int bursar_limits_parse(const char *text, int64_t *out) {
  char *end;
  uint64_t bytes;
  size_t length = strlen(text);
  if (length && text[length - 1] == '%') {
    unsigned long percent = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '%' || end[1] || percent < 1 || percent > 100)
      return -EINVAL;
    *out = bursar_limits_percent((unsigned)percent);
    return 0;
  }
  if (bursar_size_parse(text, &bytes) != 0 || !bytes || bytes > INT64_MAX)
    return -EINVAL;
  *out = (int64_t)bytes;
  return 0;
}
