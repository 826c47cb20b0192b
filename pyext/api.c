#include "api.h"

#include <errno.h>
#include <string.h>

#include "../include/bursar.h"
#include "anywhere.h"
#include "compat.h"
#include "modes.h"
#include "native_books.h"
#include "scope.h"

/* Mode count asks malloc for sizes: it knows nothing of blocks that others cut. */
static void block_begins(void *p, size_t bytes) {
  int kept = errno;
  if (bursar_account.mode == BURSAR_MODE_SAMPLE && bursar_account.active && p)
    bursar_sampling_begun(p, bytes);
  else if (bursar_account.mode == BURSAR_MODE_EXACT)
    (void)bursar_anywhere_book(p, bytes, BURSAR_DOMAIN_MALLOC);
  errno = kept;
}

static void block_ends(void *p) {
  int kept = errno;
  if (bursar_account.mode == BURSAR_MODE_SAMPLE && bursar_account.active && p)
    bursar_sampling_ending(p);
  else if (p)
    bursar_anywhere_end(p);
  errno = kept;
}

static void chunk_begins(void *p, size_t bytes) {
  int kept = errno;
  if (p && bursar_account.mode != BURSAR_MODE_COUNT) {
    bursar_sampling_forget(p);
    bursar_anywhere_end(p);
    bursar_native_books_forget_map(p, bytes);
  }
  errno = kept;
}

static uint64_t scope_begin(const char *name) {
  int kept = errno;
  uint64_t scope = name && *name ? bursar_scope_begin(name, strlen(name)) : 0;
  errno = kept;
  return scope;
}

static void scope_end(uint64_t scope) {
  int kept = errno;
  bursar_scope_end(scope);
  errno = kept;
}

__attribute__((visibility("default"))) const struct bursar_api bursar_api_table = {
    .bytes = sizeof(struct bursar_api),
    .version = 1,
    .block_begins = block_begins,
    .block_ends = block_ends,
    .chunk_begins = chunk_begins,
    .scope_begin = scope_begin,
    .scope_end = scope_end,
};

void bursar_api_publish(void) {
  Dl_info here;
  if (dladdr(&bursar_api_table, &here) && here.dli_fname)
    (void)dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}
