#include "report/model_scopes.h"

#include <stdlib.h>
#include <string.h>

#include "ledger/events.h"
#include "ledger/sketch.h"

/* --- scopes -------------------------------------------------------------------------------------------------------- */

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* What those that gave up their slots have left to their name. */
static void load_names(struct bursar_model *model) {
  const struct bursar_reader *reader = model->reader;
  for (uint32_t i = 0; i < reader->scope_names; i++) {
    const struct bursar_scope_name *name = &reader->scope_name[i];
    model->scopes[i] = (struct bursar_model_scope){.name = bursar_reader_string(reader, name->name),
                                                   .calls = name->calls,
                                                   .allocated_bytes = name->allocated_bytes,
                                                   .allocations = name->allocations,
                                                   .peak_max = name->peak_max,
                                                   .peak_last = name->calls ? name->peak_last : BURSAR_MODEL_UNKNOWN,
                                                   .peak_p50 = bursar_sketch_quantile(name, 50),
                                                   .peak_p95 = bursar_sketch_quantile(name, 95),
                                                   .peak_p99 = bursar_sketch_quantile(name, 99),
                                                   .time_ns = name->time_ns,
                                                   .time_max_ns = name->time_max_ns};
  }
}

/* And those that have one.  A damaged file's sums may wrap round; they are no more than wrong. */
static void add_entries(struct bursar_model *model) {
  const struct bursar_reader *reader = model->reader;
  for (uint32_t i = 1; i < reader->scopes; i++) {
    const struct bursar_scope *entry = &reader->scope[i];
    if (entry->state == BURSAR_SCOPE_VACANT)
      continue;
    struct bursar_model_scope *scope = &model->scopes[entry->name];
    int64_t live = entry->live_bytes + entry->free_live_bytes;
    if (entry->state == BURSAR_SCOPE_OPEN) {
      uint64_t lasted = model->run_ns > entry->started_ns ? model->run_ns - entry->started_ns : 0;
      scope->open++;
      scope->time_ns += lasted;
      scope->time_max_ns = most(scope->time_max_ns, lasted);
      scope->peak_max = most(scope->peak_max, most(entry->peak_bytes, live > 0 ? (uint64_t)live : 0));
    }
    if (entry->inner)
      continue;
    scope->allocated_bytes += entry->allocated_bytes + entry->free_allocated_bytes;
    scope->allocations += entry->allocations + entry->free_allocations;
    scope->live_bytes += (uint64_t)live;
    scope->retained_bytes += entry->state == BURSAR_SCOPE_OPEN ? 0 : (uint64_t)live;
  }
}

static bool is_empty(const struct bursar_model_scope *scope) {
  return !scope->calls && !scope->open && !scope->allocations && !scope->live_bytes;
}

static int holds_most_first(const void *left, const void *right) {
  const struct bursar_model_scope *a = left, *b = right;
  const uint64_t keys[][2] = {{a->retained_bytes + a->live_bytes, b->retained_bytes + b->live_bytes},
                              {a->peak_max, b->peak_max},
                              {a->allocated_bytes, b->allocated_bytes}};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (keys[i][0] != keys[i][1])
      return keys[i][0] > keys[i][1] ? -1 : 1;
  return a->name.bytes < b->name.bytes ? -1 : a->name.bytes > b->name.bytes; /* the older name comes first */
}

static void load_scopes(struct bursar_model *model) {
  load_names(model);
  add_entries(model);
  for (uint32_t i = 0; i < model->reader->scope_names; i++) {
    struct bursar_model_scope *scope = &model->scopes[i];
    /* Of blocks that others free meanwhile, the freeing may have been read alone. */
    if ((int64_t)scope->live_bytes < 0)
      scope->live_bytes = 0;
    if ((int64_t)scope->retained_bytes < 0)
      scope->retained_bytes = 0;
    if (i > 0 || !is_empty(scope)) /* the first stands for names that found no room */
      model->scopes[model->scope_count++] = *scope;
  }
  qsort(model->scopes, model->scope_count, sizeof *model->scopes, holds_most_first);
}

/* --- events -------------------------------------------------------------------------------------------------------- */

static void load_events(struct bursar_model *model) {
  const struct bursar_reader *reader = model->reader;
  for (uint32_t i = 0; i < reader->events; i++) {
    const struct bursar_event *event = &reader->event[i];
    model->events[i] =
        (struct bursar_model_event){.time_ns = event->time_ns,
                                    .kind = bursar_events_name(event->kind),
                                    .scope = event->slot == BURSAR_EVENT_OF_PROCESS
                                                 ? (struct bursar_text){"(process)", 9}
                                                 : bursar_reader_string(reader, reader->scope_name[event->scope].name),
                                    .bytes = (int64_t)event->bytes,
                                    .text = bursar_reader_string(reader, event->text)};
  }
  model->event_count = reader->events;
  model->lost_events = reader->counts.events > reader->events ? reader->counts.events - reader->events : 0;
}

int bursar_model_scopes_load(struct bursar_model *model, struct bursar_error *error) {
  model->scopes = calloc(model->reader->scope_names + 1, sizeof *model->scopes);
  model->events = calloc(model->reader->events + 1, sizeof *model->events);
  if (!model->scopes || !model->events)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory to read %s", model->reader->path);
  load_scopes(model);
  load_events(model);
  model->folded_scopes = model->reader->counts.folded_scopes;
  return 0;
}
