#include "ledger/reader_scopes.h"

#include <stdlib.h>
#include <string.h>

/* As in reader.c: above what any program allocates, and no sum of a file's entries wraps round. */
#define SANE_BYTES (1ull << 56)
#define SANE_COUNT (1ull << 48)

static bool sane(uint64_t bytes) { return bytes < SANE_BYTES; }
/* What another thread frees of a scope's may be booked before what it was allocated by: below nothing is possible. */
static bool sane_live(int64_t bytes) { return bytes > -(int64_t)SANE_BYTES && bytes < (int64_t)SANE_BYTES; }

static bool known(const struct bursar_reader *reader, uint32_t string) {
  return string == 0 || bursar_reader_string(reader, string).bytes;
}

/* --- names --------------------------------------------------------------------------------------------------------------- */

static bool sound_name(const struct bursar_scope_name *name) {
  return sane(name->calls) && sane(name->allocated_bytes) && sane(name->allocations) && sane(name->peak_last) &&
         sane(name->peak_max) && sane(name->retained_last) && name->time_ns < INT64_MAX &&
         name->time_max_ns < INT64_MAX;
}

static uint32_t check_names(struct bursar_reader *reader, bool moving) {
  uint32_t damaged = 0;
  for (uint32_t i = 0; i < reader->scope_names; i++) {
    struct bursar_scope_name *name = &reader->scope_name[i];
    bool good = sound_name(name);
    if (!good)
      *name = (struct bursar_scope_name){.name = name->name};
    if (!known(reader, name->name)) {
      name->name = 0;
      good = good && moving;
    }
    damaged += !good;
  }
  return damaged;
}

/* --- entries ------------------------------------------------------------------------------------------------------------- */

static bool sound_scope(const struct bursar_reader *reader, const struct bursar_scope *scope) {
  return scope->state <= BURSAR_SCOPE_POOL && scope->name < reader->scope_names && sane_live(scope->live_bytes) &&
         sane_live(scope->free_live_bytes) && sane(scope->peak_bytes) && sane(scope->allocated_bytes) &&
         sane(scope->free_allocated_bytes) && scope->allocations < SANE_COUNT && scope->free_allocations < SANE_COUNT &&
         scope->started_ns < INT64_MAX && scope->ended_ns < INT64_MAX;
}

/* Slots are used again, so that a parent may have the greater index: only a walk finds that one is its own ancestor.  Where
 * there is no memory for that, nobody has a parent. */
static uint32_t cut_cycles(struct bursar_reader *reader) {
  enum { UNSEEN, ON_THE_WAY, SOUND };
  uint32_t cut = 0;
  unsigned char *seen = calloc(reader->scopes + 1, 1);
  for (uint32_t i = 1; i < reader->scopes; i++) {
    if (!seen) {
      cut += reader->scope[i].parent != 0;
      reader->scope[i].parent = 0;
      continue;
    }
    uint32_t at = i, last = 0;
    while (at && seen[at] == UNSEEN) {
      seen[at] = ON_THE_WAY;
      last = at;
      at = reader->scope[at].parent;
    }
    if (at && seen[at] == ON_THE_WAY) {
      reader->scope[last].parent = 0;
      cut++;
    }
    for (at = i; at && seen[at] == ON_THE_WAY; at = reader->scope[at].parent)
      seen[at] = SOUND;
  }
  free(seen);
  return cut;
}

static uint32_t check_entries(struct bursar_reader *reader, bool moving) {
  uint32_t damaged = 0, lost = 0;
  for (uint32_t i = 0; i < reader->scopes; i++) {
    struct bursar_scope *scope = &reader->scope[i];
    bool used = i && scope->state != BURSAR_SCOPE_VACANT, sound = !used || sound_scope(reader, scope);
    /* A name that came after the names were counted. */
    damaged += !sound && !(moving && scope->name >= reader->scope_names);
    if (!used || !sound)
      *scope = (struct bursar_scope){.state = BURSAR_SCOPE_VACANT};
  }
  for (uint32_t i = 1; i < reader->scopes; i++) {
    struct bursar_scope *scope = &reader->scope[i];
    if (!scope->parent || (scope->parent < reader->scopes && reader->scope[scope->parent].state != BURSAR_SCOPE_VACANT))
      continue;
    scope->parent = 0;
    lost++;
  }
  lost += cut_cycles(reader);
  return moving ? damaged : damaged + lost;
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

static void reverse(struct bursar_event *events, uint32_t count) {
  for (uint32_t i = 0; i < count / 2; i++) {
    struct bursar_event kept = events[i];
    events[i] = events[count - 1 - i];
    events[count - 1 - i] = kept;
  }
}

/* From the ring's order, where the oldest may be in the middle, to that of time. */
static void turn(struct bursar_reader *reader) {
  uint32_t oldest =
      reader->events && reader->counts.events > reader->events ? (uint32_t)(reader->counts.events % reader->events) : 0;
  reverse(reader->event, oldest);
  reverse(reader->event + oldest, reader->events - oldest);
  reverse(reader->event, reader->events);
}

/* A running program overwrites the oldest meanwhile: those are younger than what follows them. */
static uint32_t check_events(struct bursar_reader *reader, bool moving) {
  uint32_t damaged = 0, kept = 0;
  uint64_t next_ns = INT64_MAX;
  turn(reader);
  for (uint32_t i = reader->events; i-- > 0;) {
    struct bursar_event *event = &reader->event[i];
    bool known_scope = event->slot == BURSAR_EVENT_OF_PROCESS || event->scope < reader->scope_names;
    bool good = known_scope && event->time_ns <= next_ns && (int64_t)event->bytes < (int64_t)SANE_BYTES &&
                known(reader, event->text);
    damaged += !good && !moving;
    if (!good)
      continue;
    next_ns = event->time_ns;
    reader->event[reader->events - ++kept] = *event;
  }
  memmove(reader->event, reader->event + reader->events - kept, kept * sizeof *reader->event);
  reader->events = kept;
  return damaged;
}

/* --- verdicts ------------------------------------------------------------------------------------------------------------ */

static bool sound_points(const struct bursar_leaks *leak) {
  for (uint32_t i = 0; i < leak->points; i++) {
    const struct bursar_leaks_point *point = &leak->point[i];
    if (!sane(point->calls) || !sane_live(point->bytes) || !sane_live(point->capped) ||
        (i && point->calls <= leak->point[i - 1].calls))
      return false;
  }
  return true;
}

static bool sound_site(const struct bursar_reader *reader, const struct bursar_leaks_site *site) {
  if (!sane(site->bytes) || !sane(site->blocks) || !sane(site->calls) || site->domain >= BURSAR_DOMAIN_COUNT ||
      site->depth > BURSAR_LEAKS_DEPTH || site->oldest_ns >= INT64_MAX)
    return false;
  for (uint32_t i = 0; i < site->depth; i++)
    if (!known(reader, site->frame[i].function) || !known(reader, site->frame[i].file))
      return false;
  return true;
}

static bool sound_leak(const struct bursar_reader *reader, const struct bursar_leaks *leak) {
  if (leak->name >= reader->scope_names || leak->points > BURSAR_LEAKS_POINTS || leak->state > BURSAR_LEAKS_CYCLES ||
      leak->sites > BURSAR_LEAKS_SITES || !sane(leak->since_calls) || leak->since_ns >= INT64_MAX ||
      !sane_live(leak->since_bytes) || leak->looked_ns >= INT64_MAX || !sane(leak->looked_calls) || !leak->threshold)
    return false;
  for (uint32_t i = 0; i < leak->sites; i++)
    if (!sound_site(reader, &leak->site[i]))
      return false;
  return sound_points(leak);
}

/* One that is being written when it is copied is read the next time. */
static uint32_t check_leaks(struct bursar_reader *reader, bool moving) {
  uint32_t damaged = 0, kept = 0;
  for (uint32_t i = 0; i < reader->leaks; i++) {
    struct bursar_leaks *leak = &reader->leak[i];
    bool good = sound_leak(reader, leak) && !(moving && leak->begun != leak->done);
    damaged += !good && !moving;
    if (good && kept != i)
      reader->leak[kept] = *leak;
    kept += good;
  }
  reader->leaks = kept;
  return damaged;
}

/* --- together ------------------------------------------------------------------------------------------------------------ */

/* Entries before names: what gives up its slot meanwhile is then found in both, and not in neither.  The ring of events is as
 * large as its region once it has gone round. */
int bursar_reader_scopes_copy(struct bursar_reader *reader, const struct bursar_counts *counts, uint64_t ring,
                              bursar_reader_copier *copy, struct opening *o) {
  uint64_t events = ring / sizeof *reader->event < counts->events ? ring / sizeof *reader->event : counts->events;
  int status = copy(o, BURSAR_REGION_SCOPES, counts->scopes, sizeof *reader->scope, "entries of scopes", &reader->scope,
                    &reader->scopes);
  if (status == 0)
    status = copy(o, BURSAR_REGION_SCOPE_NAMES, counts->scope_names, sizeof *reader->scope_name, "scopes",
                  &reader->scope_name, &reader->scope_names);
  if (status == 0)
    status = copy(o, BURSAR_REGION_EVENTS, (uint32_t)events, sizeof *reader->event, "events", &reader->event,
                  &reader->events);
  if (status == 0)
    status =
        copy(o, BURSAR_REGION_LEAKS, counts->leaks, sizeof *reader->leak, "verdicts", &reader->leak, &reader->leaks);
  return status;
}

void bursar_reader_scopes_check(struct bursar_reader *reader, bursar_reader_noter *note) {
  const bool moving = reader->life == BURSAR_LIFE_RUNNING;
  const uint32_t all_events = reader->events, all_leaks = reader->leaks;
  uint32_t names = check_names(reader, moving), scopes = check_entries(reader, moving);
  uint32_t events = check_events(reader, moving), leaks = check_leaks(reader, moving);
  if (names)
    note(reader, "%u of %u scopes are damaged: their names or figures are left out", names, reader->scope_names);
  if (scopes)
    note(reader, "%u of %u entries of scopes are damaged and left out", scopes, reader->scopes);
  if (events)
    note(reader, "%u of %u events are damaged and left out", events, all_events);
  if (leaks)
    note(reader, "%u of %u verdicts are damaged and left out", leaks, all_leaks);
}

void bursar_reader_scopes_free(struct bursar_reader *reader) {
  free(reader->scope_name);
  free(reader->scope);
  free(reader->event);
  free(reader->leak);
}
