#include "policy/tune.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

#define TUNABLES "GLIBC_TUNABLES"

const char *const bursar_tune_names[] = {"serving", NULL};

/* docs/giving_back.md has what each does, measured. */
static const struct {
  const char *name, *variable, *value;
} serving[] = {
    {"glibc.malloc.arena_max", "MALLOC_ARENA_MAX", "2"},
    {"glibc.malloc.mmap_threshold", "MALLOC_MMAP_THRESHOLD_", "33554432"},
    {"glibc.malloc.trim_threshold", "MALLOC_TRIM_THRESHOLD_", "536870912"},
};

/* Is it among `name=value` pairs with colons between them? */
static bool names(const char *tunables, const char *name) {
  size_t bytes = strlen(name);
  for (const char *at = tunables; *at; at += *at == ':') {
    if (strncmp(at, name, bytes) == 0 && at[bytes] == '=')
      return true;
    at += strcspn(at, ":");
  }
  return false;
}

int bursar_tune_set(const char *name, char added[BURSAR_TUNE_ROOM]) {
  const char *before = getenv(TUNABLES);
  size_t used = 0;
  added[0] = 0;
  if (strcmp(name, "serving") != 0)
    return -EINVAL;
  before = before ? before : "";
  for (size_t i = 0; i < sizeof serving / sizeof *serving; i++)
    if (!names(before, serving[i].name) && !getenv(serving[i].variable))
      used += (size_t)snprintf(added + used, BURSAR_TUNE_ROOM - used, "%s%s=%s", used || *before ? ":" : "",
                               serving[i].name, serving[i].value);
  if (!used)
    return 0;
  struct bursar_buffer text;
  bursar_buffer_init(&text, 1u << 20);
  bursar_buffer_format(&text, "%s%s", before, added);
  int result = bursar_buffer_finish(&text);
  if (result == 0 && setenv(TUNABLES, text.data, 1) != 0)
    result = -errno;
  bursar_buffer_free(&text);
  return result;
}
