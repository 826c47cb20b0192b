/* events.h: the names of what can happen.
 *
 * Ownership: texts are static.  Threads: any.  Class H. */
#ifndef BURSAR_LEDGER_EVENTS_H
#define BURSAR_LEDGER_EVENTS_H

#include <stdint.h>

/* "began"; "other" where it is none of enum bursar_event_kind. */
const char *bursar_events_name(uint32_t kind);
/* And back; 0 where it is none. */
uint32_t bursar_events_kind(const char *name);

#endif
