#include "report/json.h"
#include "ledger/domains.h"

#include <stdlib.h>
#include <string.h>

#define FRAGMENTS_MAX (1u << 30)

static void key(struct bursar_buffer *out, const char *name) {
  bursar_buffer_char(out, '"');
  bursar_buffer_text(out, name);
  bursar_buffer_add(out, "\":", 2);
}

static void text_of(struct bursar_buffer *out, const char *name, const char *value) {
  key(out, name);
  bursar_escape_json(out, (struct bursar_text){value, (uint32_t)strlen(value)});
}

void bursar_json_number(struct bursar_buffer *out, const char *name, uint64_t value) {
  key(out, name);
  if (value == BURSAR_MODEL_UNKNOWN)
    bursar_buffer_text(out, "null");
  else
    bursar_buffer_number(out, value);
}

void bursar_json_seconds(struct bursar_buffer *out, const char *name, uint64_t ns) {
  key(out, name);
  bursar_buffer_format(out, "%llu.%09llu", (unsigned long long)(ns / 1000000000u),
                       (unsigned long long)(ns % 1000000000u));
}

/* The standard error of the figure before it, in mode sample alone.  Not known: null. */
static void error_of(struct bursar_buffer *out, const struct bursar_model *model, const char *name, double value) {
  if (!model->estimated)
    return;
  bursar_buffer_format(out, "\"%s_stderr\":", name);
  if (value >= 0)
    bursar_buffer_format(out, "%.1f", value);
  else
    bursar_buffer_text(out, "null");
  bursar_buffer_char(out, ',');
}

static void boolean(struct bursar_buffer *out, const char *name, bool value) {
  key(out, name);
  bursar_buffer_text(out, value ? "true" : "false");
}

static void comma(struct bursar_buffer *out) { bursar_buffer_add(out, ",\n", 2); }

/* --- frames ------------------------------------------------------------------------------------------------------ */

static void code_fragment(struct bursar_buffer *out, const struct bursar_model *model, uint32_t code) {
  bursar_buffer_text(out, "{\"function\":");
  bursar_escape_json(out, model->codes[code].function);
  bursar_buffer_text(out, ",\"file\":");
  bursar_escape_json(out, model->codes[code].file);
  bursar_buffer_text(out, ",\"line\":");
}

static void frame_end(struct bursar_buffer *out, const struct bursar_model_node *node) {
  if (node->line)
    bursar_buffer_number(out, node->line);
  else
    bursar_buffer_text(out, "null");
  bursar_buffer_text(out, node->native ? ",\"native\":true}" : ",\"native\":false}");
}

/* Names are escaped once a function, not once a frame: a report has a hundred times more frames than functions.  Only those
 * that are printed: a crafted ledger has many more. */
struct fragments {
  struct bursar_buffer text;
  struct span {
    uint32_t start, length; /* 0, 0 until it is made */
  } *spans;                 /* by code */
  uint64_t frames;          /* written so far */
};

/* A recursion thousands deep whose every level allocates would make gigabytes of frames.  The largest sites come first and
 * have whole stacks; after so many frames in all, a stack keeps its innermost ones and says how many it left out. */
#define FRAMES_WHOLE 2000000u
#define FRAMES_KEPT 64u

static void add_fragment(struct bursar_buffer *out, const struct bursar_model *model, struct fragments *fragments,
                         uint32_t code) {
  struct span *span = &fragments->spans[code];
  if (!span->length) {
    uint32_t start = (uint32_t)fragments->text.used;
    code_fragment(&fragments->text, model, code);
    if (fragments->text.failed) {
      code_fragment(out, model, code);
      return;
    }
    *span = (struct span){start, (uint32_t)fragments->text.used - start};
  }
  bursar_buffer_add(out, fragments->text.data + span->start, span->length);
}

static void stack(struct bursar_buffer *out, const struct bursar_model *model, struct fragments *fragments,
                  uint32_t at) {
  key(out, "stack");
  bursar_buffer_char(out, '[');
  uint64_t omitted = 0;
  for (uint32_t depth = 0; !bursar_model_is_root(at) && !out->failed; at = model->nodes[at].parent, depth++) {
    const struct bursar_model_node *node = &model->nodes[at];
    if (fragments && fragments->frames >= FRAMES_WHOLE && depth >= FRAMES_KEPT) {
      omitted++;
      continue;
    }
    if (fragments)
      fragments->frames++;
    if (depth)
      bursar_buffer_char(out, ',');
    if (node->code == BURSAR_READER_NONE)
      bursar_buffer_text(out, "{\"function\":null,\"file\":null,\"line\":");
    else if (fragments)
      add_fragment(out, model, fragments, node->code);
    else
      code_fragment(out, model, node->code);
    frame_end(out, node);
  }
  bursar_buffer_char(out, ']');
  if (omitted) {
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "stack_omitted", omitted);
  }
}

void bursar_json_stack(struct bursar_buffer *out, const struct bursar_model *model, uint32_t node) {
  stack(out, model, NULL, node);
}

/* --- the object -------------------------------------------------------------------------------------------------- */

static void write_site(struct bursar_buffer *out, const struct bursar_model *model, struct fragments *fragments,
                       const struct bursar_model_site *site) {
  static const char *const phases[] = {"unknown", "startup", "main", "exit"};
  bursar_buffer_char(out, '{');
  text_of(out, "domain", bursar_domains_name(site->domain));
  bursar_buffer_text(out, ",\"type\":");
  bursar_escape_json(out, site->type);
  bursar_buffer_char(out, ',');
  const struct bursar_model_errors *errors = &site->errors;
  const struct {
    const char *name;
    uint64_t value;
    double error;
  } figures[] = {
      {"live_bytes", site->at.bytes, errors->at_bytes},
      {"peak_bytes", site->peak.bytes, errors->peak_bytes},
      {"live_blocks", site->at.blocks, errors->at_blocks},
      {"peak_blocks", site->peak.blocks, errors->peak_blocks},
      {"allocations", site->allocations, errors->allocations},
      {"allocated_bytes", site->allocated_bytes, errors->allocated_bytes},
  };
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
    bursar_json_number(out, figures[i].name, figures[i].value);
    bursar_buffer_char(out, ',');
    error_of(out, model, figures[i].name, figures[i].error);
  }
  bursar_json_number(out, "temporary_allocations",
                     model->temporaries == BURSAR_MODEL_UNKNOWN ? BURSAR_MODEL_UNKNOWN : site->temporaries);
  bursar_buffer_char(out, ',');
  if (model->estimated) {
    bursar_json_number(out, "samples", site->samples);
    bursar_buffer_char(out, ',');
  }
  text_of(out, "phase", phases[site->root]);
  bursar_buffer_char(out, ',');
  boolean(out, "leak", site->leak);
  bursar_buffer_char(out, ',');
  stack(out, model, fragments, site->node);
  bursar_buffer_char(out, '}');
}

static void write_totals(struct bursar_buffer *out, const struct bursar_model *model, bool at_end) {
  const struct {
    const char *name;
    uint64_t value;
  } numbers[] = {
      {"live_bytes", at_end ? model->live.bytes : model->at.bytes},
      {"live_blocks", at_end ? model->live.blocks : model->at.blocks},
      {"peak_bytes", model->peak_bytes},
      {"allocations", model->allocations},
      {"frees", model->frees},
      {"allocated_bytes", model->allocated_bytes},
      {"temporary_allocations", model->temporaries},
      {"temporary_within", model->temporary_within},
      {"outside_allocations", model->outside_allocations},
      {"folded_sites", model->folded_sites},
      {"unresolved_frames", model->unresolved_frames},
      {"deep_stacks", model->deep_stacks},
      {"live_error_bytes", model->live_error_bytes},
      {"peak_error_bytes", model->peak_error_bytes},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    bursar_json_number(out, numbers[i].name, numbers[i].value);
    comma(out);
  }
  if (model->estimated) {
    const struct bursar_model_errors *errors = &model->errors;
    error_of(out, model, "live_bytes", at_end ? errors->live_bytes : errors->at_bytes);
    error_of(out, model, "live_blocks", at_end ? errors->live_blocks : errors->at_blocks);
    error_of(out, model, "peak_bytes", errors->peak_bytes);
    error_of(out, model, "allocations", 0); /* counted */
    error_of(out, model, "frees", 0);
    error_of(out, model, "allocated_bytes", 0);
    boolean(out, "peaks_biased", true);
    comma(out);
    bursar_json_number(out, "sample_interval_bytes", model->reader->header.interval);
    comma(out);
  }
  bursar_json_seconds(out, "peak_time_s", model->peak_time_ns);
  comma(out);
  bursar_json_seconds(out, "live_time_s", model->at_time_ns);
  comma(out);
  bursar_json_seconds(out, "run_s", model->run_ns);
  comma(out);
}

static void write_facts(struct bursar_buffer *out, const struct bursar_model *model, enum bursar_model_when when) {
  static const char *const instants[] = {"end", "peak", "time"};
  const struct bursar_reader *reader = model->reader;
  bursar_json_number(out, "schema", BURSAR_JSON_SCHEMA);
  comma(out);
  text_of(out, "ledger", reader->path);
  comma(out);
  bursar_json_number(out, "pid", reader->header.pid);
  comma(out);
  text_of(out, "state", bursar_reader_life_name(reader->life));
  comma(out);
  boolean(out, "complete", model->complete);
  comma(out);
  text_of(out, "mode", model->mode);
  comma(out);
  text_of(out, "unit", model->unit);
  comma(out);
  text_of(out, "python_version", reader->header.python_version);
  comma(out);
  text_of(out, "bursar_version", reader->header.bursar_version);
  comma(out);
  key(out, "main_file");
  bursar_escape_json(out, model->main_file);
  comma(out);
  text_of(out, "at", instants[when]);
  comma(out);
  boolean(out, "history_lossy", model->history_lossy);
  comma(out);
}

/* What a domain allocated is counted, where sites are estimates. */
static void write_counted(struct bursar_buffer *out, const struct bursar_model *model, uint32_t domain) {
  const struct bursar_reader *reader = model->reader;
  const struct bursar_tally *tally = domain == BURSAR_DOMAIN_MMAP ? &reader->total[domain] : &reader->counted[domain];
  bool known = reader->counted_known;
  bursar_json_number(out, "allocations", known ? tally->allocs : BURSAR_MODEL_UNKNOWN);
  bursar_buffer_char(out, ',');
  bursar_json_number(out, "allocated_bytes", known ? tally->alloc_bytes : BURSAR_MODEL_UNKNOWN);
}

static void write_lists(struct bursar_buffer *out, const struct bursar_model *model) {
  key(out, "notes");
  for (uint32_t i = 0; i < model->reader->note_count; i++) {
    bursar_buffer_char(out, i ? ',' : '[');
    bursar_escape_json(out, (struct bursar_text){model->reader->note[i], (uint32_t)strlen(model->reader->note[i])});
  }
  bursar_buffer_text(out, model->reader->note_count ? "]" : "[]");
  comma(out);
  key(out, "domains");
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    bursar_buffer_text(out, domain ? ",{" : "[{");
    text_of(out, "domain", bursar_domains_name(domain));
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "peak_bytes", model->peak_by_domain[domain]);
    bursar_buffer_char(out, ',');
    error_of(out, model, "peak_bytes", model->peak_errors_by_domain[domain]);
    bursar_json_number(out, "end_bytes", model->live_by_domain[domain]);
    if (model->estimated) {
      bursar_buffer_char(out, ',');
      error_of(out, model, "end_bytes", model->live_errors_by_domain[domain]);
    }
    if (model->estimated)
      write_counted(out, model, domain);
    if (model->reader->header.mode == BURSAR_MODE_COUNT) {
      bursar_buffer_char(out, ',');
      bursar_json_number(out, "own_peak_bytes", model->reader->books.domain_peak[domain]);
    }
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_char(out, ']');
  comma(out);
  key(out, "timeline");
  bursar_buffer_char(out, '[');
  for (uint32_t i = 0; i < model->tick_count && !out->failed; i++) {
    bursar_buffer_text(out, i ? ",\n{" : "\n{");
    bursar_json_seconds(out, "time_s", model->ticks[i].time_ns);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "live_bytes", model->ticks[i].live_bytes);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "high_bytes", model->ticks[i].high_bytes);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "allocations", model->ticks[i].allocations);
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_char(out, ']');
  comma(out);
}

/* --- scopes -------------------------------------------------------------------------------------------------------- */

static void write_scope(struct bursar_buffer *out, const struct bursar_model_scope *scope) {
  const struct {
    const char *name;
    uint64_t value;
  } numbers[] = {
      {"calls", scope->calls},
      {"open", scope->open},
      {"allocated_bytes", scope->allocated_bytes},
      {"allocations", scope->allocations},
      {"live_bytes", scope->live_bytes},
      {"retained_bytes", scope->retained_bytes},
      {"peak_last_bytes", scope->peak_last},
      {"peak_max_bytes", scope->peak_max},
      {"peak_p50_bytes", scope->peak_p50},
      {"peak_p95_bytes", scope->peak_p95},
      {"peak_p99_bytes", scope->peak_p99},
  };
  bursar_buffer_char(out, '{');
  key(out, "name");
  bursar_escape_json(out, scope->name);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    bursar_buffer_char(out, ',');
    bursar_json_number(out, numbers[i].name, numbers[i].value);
  }
  bursar_buffer_char(out, ',');
  bursar_json_seconds(out, "seconds", scope->time_ns);
  bursar_buffer_char(out, ',');
  bursar_json_seconds(out, "max_seconds", scope->time_max_ns);
  bursar_buffer_char(out, '}');
}

static void write_event(struct bursar_buffer *out, const struct bursar_model_event *event) {
  bursar_buffer_char(out, '{');
  bursar_json_seconds(out, "time_s", event->time_ns);
  bursar_buffer_char(out, ',');
  text_of(out, "kind", event->kind);
  bursar_buffer_text(out, ",\"scope\":");
  bursar_escape_json(out, event->scope);
  bursar_buffer_format(out, ",\"bytes\":%lld,\"text\":", (long long)event->bytes);
  bursar_escape_json(out, event->text);
  bursar_buffer_char(out, '}');
}

static void write_scopes(struct bursar_buffer *out, const struct bursar_model *model) {
  text_of(out, "scopes_unit", model->scopes_unit);
  comma(out);
  bursar_json_number(out, "folded_scopes", model->folded_scopes);
  comma(out);
  bursar_json_number(out, "lost_events", model->lost_events);
  comma(out);
  key(out, "scopes");
  bursar_buffer_char(out, '[');
  for (uint32_t i = 0; i < model->scope_count && !out->failed; i++) {
    bursar_buffer_text(out, i ? ",\n" : "\n");
    write_scope(out, &model->scopes[i]);
  }
  bursar_buffer_char(out, ']');
  comma(out);
  key(out, "events");
  bursar_buffer_char(out, '[');
  for (uint32_t i = 0; i < model->event_count && !out->failed; i++) {
    bursar_buffer_text(out, i ? ",\n" : "\n");
    write_event(out, &model->events[i]);
  }
  bursar_buffer_char(out, ']');
  comma(out);
}

int bursar_json_write(const struct bursar_model *model, enum bursar_views_kind kind, enum bursar_model_when when,
                      struct bursar_buffer *out, struct bursar_error *error) {
  struct fragments fragments = {.spans = calloc((size_t)model->code_count + 1, sizeof *fragments.spans)};
  if (!fragments.spans)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory for the names of %u functions", model->code_count);
  bursar_buffer_init(&fragments.text, FRAGMENTS_MAX);
  bursar_buffer_text(out, "{\n");
  write_facts(out, model, when);
  write_totals(out, model, when == BURSAR_MODEL_END);
  write_lists(out, model);
  write_scopes(out, model);
  key(out, "sites");
  bursar_buffer_char(out, '[');
  bool first = true;
  for (uint32_t i = 0; i < model->site_count && !out->failed; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    if ((kind == BURSAR_VIEWS_LEAKS && !site->leak) || (kind == BURSAR_VIEWS_TEMPORARY && !site->temporaries))
      continue;
    bursar_buffer_text(out, first ? "\n" : ",\n");
    write_site(out, model, &fragments, site);
    first = false;
  }
  bursar_buffer_text(out, "]\n}\n");
  bursar_buffer_free(&fragments.text);
  free(fragments.spans);
  return 0;
}
