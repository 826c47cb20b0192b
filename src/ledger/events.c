#include "ledger/events.h"

#include <string.h>

#include "ledger/layout.h"

static const char *const names[] = {
    [BURSAR_EVENT_SCOPE_BEGAN] = "began", [BURSAR_EVENT_SCOPE_ENDED] = "ended", [BURSAR_EVENT_NOTE] = "note",
    [BURSAR_EVENT_PROOF] = "proof",       [BURSAR_EVENT_REFUSED] = "refused",   [BURSAR_EVENT_SOFT] = "soft",
    [BURSAR_EVENT_OVERTIME] = "overtime", [BURSAR_EVENT_SHED] = "shed",         [BURSAR_EVENT_RECLAIMED] = "reclaimed",
    [BURSAR_EVENT_CHANGED] = "changed",   [BURSAR_EVENT_VERDICT] = "verdict",   [BURSAR_EVENT_LEFT_OPEN] = "left open",
};
#define NAMES (sizeof names / sizeof *names)

const char *bursar_events_name(uint32_t kind) { return kind > 0 && kind < NAMES ? names[kind] : "other"; }

uint32_t bursar_events_kind(const char *name) {
  for (uint32_t kind = 1; kind < NAMES; kind++)
    if (strcmp(names[kind], name) == 0)
      return kind;
  return 0;
}
