#include "model/refusals.h"

#include <stdlib.h>
#include <string.h>

void bursar_refusals_add(struct bursar_refusals *refusals, uint64_t at, struct bursar_text name) {
  char text[sizeof refusals->list->name * 4];
  if (!refusals->list)
    refusals->list = malloc(BURSAR_REFUSALS_KEPT * sizeof *refusals->list);
  refusals->count++;
  if (!refusals->list || refusals->kept == BURSAR_REFUSALS_KEPT)
    return;
  size_t length = name.length < sizeof text - 1 ? name.length : sizeof text - 1;
  memcpy(text, name.bytes, length);
  text[length] = 0;
  struct bursar_refusal *refusal = &refusals->list[refusals->kept++];
  refusal->at = at;
  bursar_escape_terminal_into(refusal->name, sizeof refusal->name, text);
}

void bursar_refusals_end(struct bursar_refusals *refusals) {
  free(refusals->list);
  *refusals = (struct bursar_refusals){NULL};
}
