#include "report/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/index.h"
#include "report/estimate.h"
#include "report/model_scopes.h"

#define NONE BURSAR_READER_NONE

/* What is needed while a model is worked out, and not after. */
struct loading {
  struct bursar_model *model;
  const struct bursar_reader *reader;
  uint32_t *index_of;        /* by ledger index: the site's index in the model, or NONE */
  uint32_t *next_born;       /* by ledger index: the next site made in the same interval, or NONE */
  uint32_t *changed;         /* by undo record of the model: the ledger's index of the site that it is of */
  struct bursar_held *parts; /* by ledger index */
  uint8_t *root_of;          /* by node */
  struct bursar_index names, places;
};

static struct bursar_text word(const char *text) { return (struct bursar_text){text, (uint32_t)strlen(text)}; }

bool bursar_model_is_root(uint32_t node) { return node < BURSAR_NODE_FIRST; }

struct bursar_text bursar_model_function(const struct bursar_model *model, uint32_t node) {
  static const char *const roots[] = {"(no Python stack)", "(start-up)", "(main)", "(exit)"};
  if (node == BURSAR_NODE_UNKNOWN && model->plain)
    return word("(no stack)");
  if (node < BURSAR_NODE_FIRST)
    return word(roots[node]);
  uint32_t code = model->nodes[node].code;
  if (code == NONE || !model->codes[code].function.bytes)
    return word("(unknown function)");
  return model->codes[code].function;
}

struct bursar_text bursar_model_file(const struct bursar_model *model, uint32_t node) {
  uint32_t code = model->nodes[node].code;
  return code == NONE ? (struct bursar_text){NULL, 0} : model->codes[code].file;
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

static void *array(size_t count, size_t size) { return calloc(count ? count : 1, size); }

static int take_memory(struct loading *l, struct bursar_error *error) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  model->sites = array(reader->sites, sizeof *model->sites);
  model->last = array(reader->sites, sizeof *model->last);
  model->nodes = array(reader->nodes, sizeof *model->nodes);
  model->codes = array(reader->codes, sizeof *model->codes);
  model->ticks = array(reader->ticks, sizeof *model->ticks);
  model->undos = array((size_t)reader->undos + reader->sites, sizeof *model->undos);
  l->index_of = array(reader->sites, sizeof *l->index_of);
  l->root_of = array(reader->nodes, sizeof *l->root_of);
  l->next_born = array(reader->sites, sizeof *l->next_born);
  l->changed = array((size_t)reader->undos + reader->sites, sizeof *l->changed);
  l->parts = array(reader->sites, sizeof *l->parts);
  int indices = bursar_index_init_texts(&l->names, reader->codes * 2);
  if (indices == 0)
    indices = bursar_index_init(&l->places, reader->sites);
  if (indices == 0 && l->changed && l->parts && model->sites && model->last && model->nodes && model->codes &&
      model->ticks && model->undos && l->index_of && l->root_of && l->next_born)
    return 0;
  return bursar_error_set(error, BURSAR_FAILED, "not enough memory to read %s", reader->path);
}

static void load_stacks(struct loading *l) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  for (uint32_t i = 0; i < reader->codes; i++) {
    const struct bursar_code *code = &reader->code[i];
    model->codes[i] = (struct bursar_model_code){.function = bursar_reader_string(reader, code->name),
                                                 .file = bursar_reader_string(reader, code->file),
                                                 .first_line = code->first_line};
    if (code->flags & BURSAR_CODE_MODULE)
      model->codes[i].function = (struct bursar_text){NULL, 0};
    model->codes[i].function_id = bursar_index_of_text(&l->names, model->codes[i].function);
    model->codes[i].file_id = bursar_index_of_text(&l->names, model->codes[i].file);
  }
  model->name_count = l->names.count;
  for (uint32_t i = 0; i < reader->nodes; i++) {
    const struct bursar_node *node = &reader->node[i];
    model->nodes[i] = (struct bursar_model_node){.parent = node->parent,
                                                 .line = node->line,
                                                 .code = node->code,
                                                 .native = (node->flags & BURSAR_NODE_NATIVE) != 0};
    if (model->nodes[i].native) { /* its number is an address; names come with natives.h */
      model->nodes[i].address = node->line;
      model->nodes[i].line = 0;
      model->native_frames++;
    }
    /* The instructions before a function's first line belong to no line: its `def` says where it was. */
    if (!node->line && node->code != NONE && !model->nodes[i].native)
      model->nodes[i].line = model->codes[node->code].first_line;
    l->root_of[i] = i < BURSAR_NODE_FIRST ? (uint8_t)i : l->root_of[node->parent];
    if (i >= BURSAR_NODE_FIRST &&
        (!model->nodes[i].line || node->code == NONE || !model->codes[node->code].function.bytes))
      model->unresolved_frames++;
  }
  model->code_count = reader->codes;
  model->node_count = reader->nodes;
}

static struct bursar_held held_last(const struct bursar_reader *reader, uint32_t i) {
  const struct bursar_site *site = &reader->site[i];
  return (struct bursar_held){site->alloc_bytes - site->free_bytes - reader->facts[i].remote_free_bytes,
                              site->allocs - site->frees - reader->facts[i].remote_frees};
}

static struct bursar_held held_at_peak(const struct bursar_reader *reader, uint32_t i, bool peak_is_now) {
  const struct bursar_site *site = &reader->site[i];
  if (peak_is_now)
    return held_last(reader, i);
  if (i < BURSAR_SITE_FIRST)
    return (struct bursar_held){reader->books.peak_free_bytes[i], reader->books.peak_free_blocks[i]};
  const struct bursar_site_facts *facts = &reader->facts[i];
  uint64_t epoch = site->epoch & ~BURSAR_EPOCH_FREE;
  if (facts->lane == BURSAR_LANE_GIL && epoch < reader->books.peak_epoch &&
      facts->remote_epoch == (uint32_t)reader->books.peak_epoch)
    return (struct bursar_held){site->alloc_bytes - site->free_bytes - facts->remote_peak_bytes,
                                site->allocs - site->frees - facts->remote_peak_frees};
  if (epoch < reader->books.peak_epoch)
    return held_last(reader, i);
  return (struct bursar_held){site->peak_bytes, site->peak_blocks};
}

static struct bursar_held sum_held(struct bursar_held a, struct bursar_held b) {
  return (struct bursar_held){a.bytes + b.bytes, a.blocks + b.blocks};
}

/* The site in the model of a stack, a domain and a type: what threads without the GIL allocated there has a place of its own
 * in the ledger. */
static struct bursar_model_site *site_of(struct loading *l, uint32_t i) {
  struct bursar_model *model = l->model;
  const struct bursar_site_facts *facts = &l->reader->facts[i];
  bool outside = i < BURSAR_SITE_FIRST;
  uint64_t kind = (uint64_t)facts->type << 8 | (uint64_t)facts->domain << 1 | outside;
  uint32_t at = bursar_index_of(&l->places, facts->node, kind);
  l->index_of[i] = at;
  if (at == model->site_count)
    model->sites[model->site_count++] =
        (struct bursar_model_site){.node = facts->node,
                                   .ledger = i,
                                   .domain = facts->domain,
                                   .root = l->root_of[facts->node],
                                   .outside = outside,
                                   .type = bursar_reader_string(l->reader, facts->type)};
  return &model->sites[at];
}

static void load_sites(struct loading *l, bool peak_is_now) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  for (uint32_t i = 0; i < reader->sites; i++) {
    const struct bursar_site *site = &reader->site[i];
    const struct bursar_site_facts *facts = &reader->facts[i];
    l->index_of[i] = NONE;
    if (!site->allocs && !site->alloc_bytes)
      continue;
    struct bursar_model_site *into = site_of(l, i);
    struct bursar_held peak = held_at_peak(reader, i, peak_is_now);
    struct bursar_held *last = &model->last[l->index_of[i]];
    *last = sum_held(*last, held_last(reader, i));
    into->peak = sum_held(into->peak, peak);
    into->allocations += site->allocs;
    into->allocated_bytes += site->alloc_bytes;
    into->frees += site->frees + facts->remote_frees;
    into->temporaries += site->temporaries;
    model->temporaries += site->temporaries;
    model->peak_by_domain[facts->domain] += peak.bytes;
  }
}

/* The interval in which a site was made: the last tick that was there then, or NONE. */
static uint32_t birth(const struct bursar_reader *reader, uint32_t site) {
  uint32_t low = 0, high = reader->ticks;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if ((uint32_t)reader->tick[middle].serial <= reader->facts[site].created)
      low = middle + 1;
    else
      high = middle;
  }
  return low ? low - 1 : NONE;
}

/* Records of what a site of the ledger held become those of what its site in the model did, which may be several. */
static void sum_undos(struct loading *l) {
  struct bursar_model *model = l->model;
  struct bursar_held *held = array(model->site_count, sizeof *held);
  bool together = model->site_count && held;
  if (together)
    memcpy(held, model->last, model->site_count * sizeof *held);
  for (uint32_t i = 0; i < l->reader->sites; i++)
    l->parts[i] = held_last(l->reader, i);
  for (uint32_t i = model->undo_count; together && i-- > 0;) {
    struct bursar_model_undo *undo = &model->undos[i];
    if (undo->site == NONE)
      continue;
    struct bursar_held *part = &l->parts[l->changed[i]], *sum = &held[undo->site];
    *sum = (struct bursar_held){sum->bytes + undo->held.bytes - part->bytes,
                                sum->blocks + undo->held.blocks - part->blocks};
    *part = undo->held;
    undo->held = *sum;
  }
  free(held);
}

/* The journal's records by interval, and with them one for each site made in it: it held nothing before. */
static void load_undos(struct loading *l) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  uint32_t first_born[BURSAR_TICKS_MAX], out = 0;
  for (uint32_t tick = 0; tick < BURSAR_TICKS_MAX; tick++)
    first_born[tick] = NONE;
  for (uint32_t site = BURSAR_SITE_FIRST; site < reader->sites; site++) {
    uint32_t tick = l->index_of[site] == NONE ? NONE : birth(reader, site);
    if (tick == NONE)
      continue;
    l->next_born[site] = first_born[tick];
    first_born[tick] = site;
  }
  for (uint32_t tick = 0; tick < reader->ticks; tick++) {
    uint32_t end = tick + 1 < reader->ticks ? reader->tick[tick + 1].first_undo : reader->undos;
    model->ticks[tick].first_undo = out;
    /* Births first: where intervals were merged, the site may have left a record in a later one of them. */
    for (uint32_t site = first_born[tick]; site != NONE; site = l->next_born[site]) {
      l->changed[out] = site;
      model->undos[out++] = (struct bursar_model_undo){.site = l->index_of[site]};
    }
    for (uint32_t i = reader->tick[tick].first_undo; i < end; i++) {
      const struct bursar_undo *from = &reader->undo[i];
      l->changed[out] = from->site;
      model->undos[out].site = from->site == NONE || from->site < BURSAR_SITE_FIRST ? NONE : l->index_of[from->site];
      model->undos[out++].held = (struct bursar_held){from->bytes, from->blocks};
    }
  }
  model->undo_count = out;
  sum_undos(l);
}

/* Threads without the GIL: they may have seen more than the peak that was noted, and what they freed after the peak, before
 * the block's site was touched again, is missing from what that site held at it. */
static void load_peak_error(struct loading *l) {
  struct bursar_model *model = l->model;
  uint64_t by_site = 0, high = l->reader->books.free_high;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    by_site += model->peak_by_domain[domain];
  uint64_t apart = by_site > model->peak_bytes ? by_site - model->peak_bytes : model->peak_bytes - by_site;
  uint64_t missed = high > model->peak_bytes ? high - model->peak_bytes : 0;
  model->peak_error_bytes = missed > apart ? missed : apart;
}

static void load_journal(struct loading *l) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  for (uint32_t i = 0; i < reader->ticks; i++) {
    const struct bursar_tick *from = &reader->tick[i];
    struct bursar_model_tick *tick = &model->ticks[i];
    *tick = (struct bursar_model_tick){.time_ns = from->time_ns,
                                       .allocations = from->allocs,
                                       .allocated_bytes = from->alloc_bytes,
                                       .first_undo = from->first_undo,
                                       .end = (from->flags & BURSAR_TICK_END) != 0,
                                       .whole = !(from->flags & BURSAR_TICK_TOTALS)};
    for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
      tick->live_by_domain[domain] = from->live[domain];
      tick->outside_bytes[domain] = from->free_bytes[domain];
      tick->live_bytes += from->live[domain];
    }
    tick->high_bytes = from->high > tick->live_bytes ? from->high : tick->live_bytes;
  }
  model->tick_count = reader->ticks;
  load_undos(l);
}

static void hold_at_tick(const struct bursar_model *model, uint32_t tick, struct bursar_held *held) {
  memcpy(held, model->last, model->site_count * sizeof *held);
  for (uint32_t i = model->undo_count; i > model->ticks[tick].first_undo; i--)
    if (model->undos[i - 1].site != NONE)
      held[model->undos[i - 1].site] = model->undos[i - 1].held;
  for (uint32_t i = 0; i < model->site_count; i++)
    if (model->sites[i].outside)
      held[i] = (struct bursar_held){model->ticks[tick].outside_bytes[model->sites[i].domain], BURSAR_MODEL_UNKNOWN};
}

uint64_t bursar_model_at(const struct bursar_model *model, uint64_t time_ns, struct bursar_held *held) {
  if (time_ns >= model->run_ns) {
    memcpy(held, model->last, model->site_count * sizeof *held);
    return model->run_ns;
  }
  uint32_t low = 0, high = model->tick_count; /* ticks before `low` are not after time_ns */
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (model->ticks[middle].time_ns <= time_ns)
      low = middle + 1;
    else
      high = middle;
  }
  if (!low) {
    memset(held, 0, model->site_count * sizeof *held);
    return 0;
  }
  uint32_t tick = low - 1;
  while (tick > 0 && !model->ticks[tick].whole)
    tick--;
  while (tick < model->tick_count && !model->ticks[tick].whole) /* what sites held before it was given up */
    tick++;
  if (tick == model->tick_count) {
    memcpy(held, model->last, model->site_count * sizeof *held);
    return model->run_ns;
  }
  hold_at_tick(model, tick, held);
  return model->ticks[tick].time_ns;
}

/* The end is the tick made when __main__ finished; the last state where there was none, or where the program's threads
 * went on after it and still do, or did until they were killed. */
static uint32_t find_end_tick(const struct loading *l) {
  enum bursar_life life = l->reader->life;
  uint64_t serial = life == BURSAR_LIFE_RUNNING || life == BURSAR_LIFE_CUT ? 0 : l->reader->counts.end_tick;
  for (uint32_t i = 0; serial && i < l->reader->ticks; i++)
    if (l->reader->tick[i].serial == serial)
      return i;
  return NONE;
}

static int load_end(struct loading *l, struct bursar_error *error) {
  struct bursar_model *model = l->model;
  uint32_t tick = find_end_tick(l);
  struct bursar_held *held = array(model->site_count, sizeof *held);
  if (!held)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory to read %s", l->reader->path);
  if (tick != NONE)
    hold_at_tick(model, tick, held);
  else
    memcpy(held, model->last, model->site_count * sizeof *held);
  model->end_is_tick = tick != NONE;
  model->live_time_ns = tick != NONE ? model->ticks[tick].time_ns : model->run_ns;
  for (uint32_t i = 0; i < model->site_count; i++) {
    struct bursar_model_site *site = &model->sites[i];
    site->live = held[i];
    site->leak = (site->root == BURSAR_NODE_MAIN || model->plain) && (held[i].bytes || held[i].blocks);
    model->live.blocks += held[i].blocks == BURSAR_MODEL_UNKNOWN ? 0 : held[i].blocks;
    if (tick == NONE)
      model->live_by_domain[site->domain] += held[i].bytes;
  }
  if (tick != NONE)
    memcpy(model->live_by_domain, model->ticks[tick].live_by_domain, sizeof model->live_by_domain);
  uint64_t by_site = 0;
  for (uint32_t i = 0; i < model->site_count; i++)
    by_site += held[i].bytes;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    model->live.bytes += model->live_by_domain[domain];
  /* Frees outside the GIL after the end leave no record of what their sites held then: the total is exact, the sites are
   * off by so much. */
  uint64_t off = model->live.bytes > by_site ? model->live.bytes - by_site : by_site - model->live.bytes;
  if (off > model->live_error_bytes)
    model->live_error_bytes = off;
  free(held);
  return 0;
}

static void load_totals(struct loading *l, bool *peak_is_now) {
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  uint64_t now = 0;
  for (int domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    const struct bursar_tally *total = &reader->total[domain], *outside = &reader->books.free_lane[domain];
    model->allocations += total->allocs;
    model->frees += total->frees;
    model->allocated_bytes += total->alloc_bytes;
    model->outside_allocations += outside->allocs;
    model->outside_bytes += outside->alloc_bytes > outside->free_bytes ? outside->alloc_bytes - outside->free_bytes : 0;
    now += total->alloc_bytes > total->free_bytes ? total->alloc_bytes - total->free_bytes : 0;
  }
  model->peak_is_now = *peak_is_now = now > reader->books.peak;
  model->peak_bytes = *peak_is_now ? now : reader->books.peak;
  model->peak_time_ns = *peak_is_now ? reader->time_ns : reader->books.peak_ns;
}

static void load_facts(struct loading *l) {
  static const char *const modes[] = {"none", "exact", "sample", "count"};
  struct bursar_model *model = l->model;
  const struct bursar_reader *reader = l->reader;
  model->mode = modes[reader->header.mode];
  model->unit = reader->header.mode == BURSAR_MODE_COUNT ? "usable" : "requested";
  model->scopes_unit = reader->header.mode == BURSAR_MODE_EXACT ? "requested" : "usable";
  model->complete = reader->life == BURSAR_LIFE_ENDED || reader->life == BURSAR_LIFE_STOPPED;
  model->running = reader->life == BURSAR_LIFE_RUNNING;
  model->plain = !reader->header.python_version[0];
  model->run_ns = reader->time_ns;
  model->live_error_bytes = model->running && reader->moved_bytes > reader->unmatched_bytes ? reader->moved_bytes
                                                                                            : reader->unmatched_bytes;
  model->temporary_within = reader->header.temporary_within;
  model->folded_sites = reader->counts.folded_sites;
  model->deep_stacks = reader->counts.deep_stacks;
  model->history_lossy = reader->counts.lost_undos != 0;
  model->main_file = bursar_reader_string(reader, reader->counts.main_file);
}

int bursar_model_load(struct bursar_reader *reader, struct bursar_model **out, struct bursar_error *error) {
  struct loading l = {.reader = reader};
  bool peak_is_now;
  int status;
  l.model = calloc(1, sizeof *l.model);
  if (!l.model) {
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory to read %s", reader->path);
    bursar_reader_free(reader);
    return status;
  }
  l.model->reader = reader;
  status = take_memory(&l, error);
  if (status != 0)
    goto out;
  load_facts(&l);
  load_totals(&l, &peak_is_now);
  load_stacks(&l);
  load_sites(&l, peak_is_now);
  load_peak_error(&l);
  load_journal(&l);
  status = load_end(&l, error);
  if (status == 0)
    status = bursar_model_scopes_load(l.model, error);
  if (status == 0) {
    bursar_estimate_load(l.model, l.index_of);
    status = bursar_model_choose(l.model, BURSAR_MODEL_END, 0, error);
  }
  if (status == 0)
    status = bursar_model_sort(l.model, BURSAR_MODEL_BY_PEAK, error);
out:
  free(l.index_of);
  free(l.root_of);
  free(l.next_born);
  free(l.changed);
  free(l.parts);
  bursar_index_free(&l.names);
  bursar_index_free(&l.places);
  if (status == 0)
    *out = l.model;
  else
    bursar_model_free(l.model);
  return status;
}

int bursar_model_open(const char *path_or_pid, struct bursar_model **out, struct bursar_error *error) {
  struct bursar_reader *reader;
  int status = bursar_reader_open(path_or_pid, &reader, error);
  return status == 0 ? bursar_model_load(reader, out, error) : status;
}

void bursar_model_free(struct bursar_model *model) {
  if (!model)
    return;
  free(model->sites);
  free(model->nodes);
  free(model->codes);
  free(model->ticks);
  free(model->undos);
  free(model->last);
  if (model->natives_free)
    model->natives_free(model->natives);
  free(model->scopes);
  free(model->events);
  bursar_reader_free(model->reader);
  free(model);
}

/* --- an instant, an order ---------------------------------------------------------------------------------------- */

int bursar_model_choose(struct bursar_model *model, enum bursar_model_when when, uint64_t time_ns,
                        struct bursar_error *error) {
  struct bursar_held *held = NULL;
  uint64_t time = when == BURSAR_MODEL_PEAK ? model->peak_time_ns : model->live_time_ns;
  if (when == BURSAR_MODEL_TIME) {
    /* A length that was printed rounded up must be good to type. */
    if (time_ns > model->run_ns + 1000000)
      return bursar_error_set(error, BURSAR_MISUSE, "--at %.3f is outside the run, which lasted %.3f s: give 0 to %.3f",
                              (double)time_ns / 1e9, (double)model->run_ns / 1e9, (double)model->run_ns / 1e9);
    held = array(model->site_count, sizeof *held);
    if (!held)
      return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
    time = bursar_model_at(model, time_ns, held);
  }
  model->at = (struct bursar_held){0, 0};
  for (uint32_t i = 0; i < model->site_count; i++) {
    struct bursar_model_site *site = &model->sites[i];
    site->at = held ? held[i] : when == BURSAR_MODEL_PEAK ? site->peak : site->live;
    model->at.bytes += site->at.bytes;
    model->at.blocks += site->at.blocks == BURSAR_MODEL_UNKNOWN ? 0 : site->at.blocks;
  }
  model->at_time_ns = time;
  bursar_estimate_choose(model, when);
  free(held);
  return 0;
}

struct key {
  uint64_t first, second, third;
  uint32_t node, ledger, index;
};

static int compare_keys(const void *left, const void *right) {
  const struct key *a = left, *b = right;
  if (a->first != b->first)
    return a->first > b->first ? -1 : 1;
  if (a->second != b->second)
    return a->second > b->second ? -1 : 1;
  if (a->third != b->third)
    return a->third > b->third ? -1 : 1;
  if (a->node != b->node)
    return a->node < b->node ? -1 : 1;
  return a->ledger < b->ledger ? -1 : a->ledger > b->ledger;
}

static uint64_t first_key(const struct bursar_model_site *site, enum bursar_model_order order) {
  switch (order) {
    case BURSAR_MODEL_BY_AT: return site->at.bytes;
    case BURSAR_MODEL_BY_LIVE: return site->live.bytes;
    case BURSAR_MODEL_BY_TEMPORARIES: return site->temporaries;
    default: return site->peak.bytes;
  }
}

int bursar_model_sort(struct bursar_model *model, enum bursar_model_order order, struct bursar_error *error) {
  const uint32_t count = model->site_count;
  struct key *keys = array(count, sizeof *keys);
  struct bursar_model_site *sites = array(count, sizeof *sites);
  struct bursar_held *last = array(count, sizeof *last);
  uint32_t *moved_to = array(count, sizeof *moved_to);
  int status = 0;
  if (!keys || !sites || !last || !moved_to) {
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory to sort %u sites", count);
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    uint64_t third = order == BURSAR_MODEL_BY_PEAK ? site->live.bytes : site->peak.bytes;
    keys[i] = (struct key){first_key(site, order), third, site->allocated_bytes, site->node, site->ledger, i};
  }
  qsort(keys, count, sizeof *keys, compare_keys);
  for (uint32_t i = 0; i < count; i++) {
    sites[i] = model->sites[keys[i].index];
    last[i] = model->last[keys[i].index];
    moved_to[keys[i].index] = i;
  }
  for (uint32_t i = 0; i < model->undo_count; i++)
    if (model->undos[i].site != NONE)
      model->undos[i].site = moved_to[model->undos[i].site];
  struct bursar_model_site *old_sites = model->sites;
  struct bursar_held *old_last = model->last;
  model->sites = sites;
  model->last = last;
  sites = old_sites;
  last = old_last;
out:
  free(keys);
  free(sites);
  free(last);
  free(moved_to);
  return status;
}
