#include "ledger/boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger/domains.h"
#include "ledger/layout.h"
#include "ledger/place.h"

static int hex(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/* Undoes percent-encoding.  False where it does not fit. */
static bool decode(const char *from, size_t bytes, char *out, size_t room) {
  size_t at = 0;
  for (size_t i = 0; i < bytes && at + 1 < room; i++) {
    if (from[i] == '%' && i + 2 < bytes && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
      out[at++] = (char)(hex(from[i + 1]) * 16 + hex(from[i + 2]));
      i += 2;
    } else {
      out[at++] = from[i];
    }
  }
  out[at] = 0;
  return at + 1 < room;
}

static bool is(const char *pair, size_t key_bytes, const char *key) {
  return strlen(key) == key_bytes && memcmp(pair, key, key_bytes) == 0;
}

int bursar_boot_parse(const char *settings, struct bursar_boot *out, struct bursar_error *error) {
  memset(out, 0, sizeof *out);
  out->domains = BURSAR_DOMAINS_OF_PYTHON;
  out->mode = BURSAR_MODE_EXACT;
  for (const char *pair = settings; *pair;) {
    size_t bytes = strcspn(pair, ";"), key = strcspn(pair, "=;");
    char value[sizeof out->path];
    if (key < bytes) {
      if (!decode(pair + key + 1, bytes - key - 1, value, sizeof value))
        return bursar_error_set(error, BURSAR_MISUSE, "BURSAR_RUN holds too long a value");
      if (is(pair, key, "pid"))
        out->pid = (pid_t)atol(value);
      else if (is(pair, key, "cap"))
        out->cap = strtoull(value, NULL, 10);
      else if (is(pair, key, "within"))
        out->within = (uint32_t)strtoul(value, NULL, 10);
      else if (is(pair, key, "domains"))
        out->domains = (uint32_t)strtoul(value, NULL, 10) & BURSAR_DOMAINS_ALL;
      else if (is(pair, key, "budget"))
        out->budget = strtoll(value, NULL, 10);
      else if (is(pair, key, "follow"))
        out->follow = value[0] == '1';
      else if (is(pair, key, "no_core"))
        out->no_core = value[0] == '1';
      else if (is(pair, key, "native"))
        out->native = value[0] == '1';
      else if (is(pair, key, "wipe"))
        out->wipe = value[0] == '1';
      else if (is(pair, key, "quiet"))
        out->quiet = value[0] == '1';
      else if (is(pair, key, "out"))
        memcpy(out->path, value, sizeof value);
      else if (is(pair, key, "policy"))
        memcpy(out->policy, value, sizeof value);
      else if (is(pair, key, "preload"))
        memcpy(out->preload, value, sizeof value);
      else if (is(pair, key, "tune"))
        snprintf(out->tune, sizeof out->tune, "%s", value);
      else if (is(pair, key, "mode") && !(out->mode = bursar_domains_mode(value)))
        return bursar_error_set(error, BURSAR_MISUSE, "this version has no mode '%s': update bursar", value);
    }
    pair += bytes + (pair[bytes] == ';');
  }
  if (!out->path[0])
    return bursar_error_set(error, BURSAR_MISUSE, "BURSAR_RUN names no ledger (out=PATH)");
  return 0;
}

int bursar_boot_child(const char *path, char *out, size_t room, struct bursar_error *error) {
  struct bursar_place place;
  int status = BURSAR_FAILED;
  /* A pid may have had a ledger before: the second program of an exec, or a reused one. */
  for (unsigned attempt = 1; attempt <= 99; attempt++) {
    int length = attempt == 1 ? snprintf(out, room, "%s.%ld", path, (long)getpid())
                              : snprintf(out, room, "%s.%ld.%u", path, (long)getpid(), attempt);
    if (length < 0 || (size_t)length >= room)
      return bursar_error_set(error, BURSAR_MISUSE, "the ledger's path is too long");
    if (access(out, F_OK) == 0)
      continue;
    status = bursar_place_create(out, false, NULL, &place, error);
    if (status == 0)
      bursar_place_close(&place);
    return status;
  }
  return bursar_error_set(error, status, "%s has been used too often", path);
}
