#include "report/html.h"

#include "base/buffer.h"
#include "base/escape.h"
#include "ledger/domains.h"
#include "ledger/reader.h"
#include "report/model.h"
#include "report/page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN_CAP (512u << 20) /* of one column in memory: beyond any ledger, the buffer wants a bound */
#define VARINT_MAX 10u
#define SCOPES_MAX 1000u /* in the page: more than a person reads */

struct page {
  const struct bursar_model *model;
  struct bursar_buffer out;
  struct bursar_buffer column; /* the numbers of the column that is being packed */
  struct bursar_text *strings; /* distinct, ordered by address: equal texts of a model share their bytes */
  uint32_t string_count;
  /* What the page holds: sites with something in them, and the nodes of their stacks, in the model's order. */
  uint32_t *site_at; /* the page's site to the model's */
  uint32_t *site_of; /* and back, or BURSAR_READER_NONE */
  uint32_t site_count;
  uint32_t *node_at;
  uint32_t *node_of;
  uint32_t node_count;
};

/* ---- columns ---- */

static void add_number(struct bursar_buffer *out, uint64_t value) {
  unsigned char bytes[VARINT_MAX];
  size_t used = 0;
  while (value >= 128) {
    bytes[used++] = (unsigned char)(value | 128);
    value >>= 7;
  }
  bytes[used++] = (unsigned char)value;
  bursar_buffer_add(out, bytes, used);
}

static uint64_t zigzag(uint64_t now, uint64_t before) {
  uint64_t up = now - before;
  return now >= before ? up << 1 : ((before - now) << 1) - 1;
}

/* A number that a page's floating point holds exactly. */
static uint64_t exact(uint64_t value) { return value < (UINT64_C(1) << 52) ? value : (UINT64_C(1) << 52); }

static uint64_t blocks_of(struct bursar_held held) {
  return held.blocks == BURSAR_MODEL_UNKNOWN ? 0 : exact(held.blocks);
}

static void write_base64(struct bursar_buffer *out, const unsigned char *in, size_t length) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char chunk[4096];
  size_t used = 0;
  for (size_t i = 0; i < length; i += 3) {
    uint32_t bits = (uint32_t)in[i] << 16;
    if (i + 1 < length)
      bits |= (uint32_t)in[i + 1] << 8;
    if (i + 2 < length)
      bits |= in[i + 2];
    chunk[used++] = digits[bits >> 18];
    chunk[used++] = digits[bits >> 12 & 63];
    chunk[used++] = i + 1 < length ? digits[bits >> 6 & 63] : '=';
    chunk[used++] = i + 2 < length ? digits[bits & 63] : '=';
    if (used == sizeof(chunk)) {
      bursar_buffer_add(out, chunk, used);
      used = 0;
    }
  }
  bursar_buffer_add(out, chunk, used);
}

static void begin_column(struct page *page) {
  bursar_buffer_free(&page->column);
  bursar_buffer_init(&page->column, COLUMN_CAP);
}

/* Writes the column as a JSON string.  A column that failed fails the page. */
static void end_column(struct page *page) {
  if (page->column.failed != 0 && page->out.failed == 0)
    page->out.failed = page->column.failed;
  bursar_buffer_char(&page->out, '"');
  if (page->out.failed == 0)
    write_base64(&page->out, (const unsigned char *)page->column.data, page->column.used);
  bursar_buffer_char(&page->out, '"');
}

typedef uint64_t value_at(const struct page *page, uint32_t index);

static void write_column(struct page *page, const char *name, uint32_t count, value_at *value) {
  uint64_t any = 0;
  bursar_buffer_format(&page->out, ",\"%s\":", name);
  begin_column(page);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t number = value(page, i);
    any |= number;
    add_number(&page->column, number);
  }
  if (any == 0)
    begin_column(page);
  end_column(page);
}

/* ---- what the page holds ---- */

static bool holds_something(const struct bursar_model *model, uint32_t site) {
  const struct bursar_model_site *it = &model->sites[site];
  return it->allocations > 0 || it->allocated_bytes > 0 || it->live.bytes > 0 || it->peak.bytes > 0 ||
         model->last[site].bytes > 0;
}

static int choose(struct page *page) {
  const struct bursar_model *model = page->model;
  page->site_at = calloc((size_t)model->site_count + 1, sizeof(uint32_t));
  page->site_of = calloc((size_t)model->site_count + 1, sizeof(uint32_t));
  page->node_at = calloc((size_t)model->node_count + 1, sizeof(uint32_t));
  page->node_of = calloc((size_t)model->node_count + 1, sizeof(uint32_t));
  if (!page->site_at || !page->site_of || !page->node_at || !page->node_of)
    return -ENOMEM;
  for (uint32_t i = 0; i < model->site_count; i++) {
    page->site_of[i] = BURSAR_READER_NONE;
    if (!holds_something(model, i))
      continue;
    page->site_of[i] = page->site_count;
    page->site_at[page->site_count++] = i;
    page->node_of[model->sites[i].node] = 1; /* for now: it is wanted */
  }
  for (uint32_t i = model->node_count; i-- > BURSAR_NODE_FIRST;)
    if (page->node_of[i])
      page->node_of[model->nodes[i].parent] = 1;
  for (uint32_t i = 0; i < model->node_count; i++) {
    bool wanted = bursar_model_is_root(i) || page->node_of[i];
    page->node_of[i] = wanted ? page->node_count : BURSAR_READER_NONE;
    if (wanted)
      page->node_at[page->node_count++] = i;
  }
  return 0;
}

/* ---- strings ---- */

static int by_address(const void *left, const void *right) {
  const struct bursar_text *a = left;
  const struct bursar_text *b = right;
  if (a->bytes != b->bytes)
    return (uintptr_t)a->bytes < (uintptr_t)b->bytes ? -1 : 1;
  return (a->length > b->length) - (a->length < b->length);
}

static int gather_strings(struct page *page) {
  const struct bursar_model *model = page->model;
  size_t most = (size_t)model->code_count * 2 + model->site_count;
  struct bursar_text *strings = malloc((most + 1) * sizeof(*strings));
  if (!strings)
    return -ENOMEM;
  size_t used = 0;
  for (uint32_t i = 0; i < model->code_count; i++) {
    strings[used++] = model->codes[i].function;
    strings[used++] = model->codes[i].file;
  }
  for (uint32_t i = 0; i < model->site_count; i++)
    strings[used++] = model->sites[i].type;
  qsort(strings, used, sizeof(*strings), by_address);
  size_t kept = 0;
  for (size_t i = 0; i < used; i++)
    if (strings[i].bytes && (kept == 0 || by_address(&strings[kept - 1], &strings[i]) != 0))
      strings[kept++] = strings[i];
  page->strings = strings;
  page->string_count = (uint32_t)kept;
  return 0;
}

/* String 0 is the empty one: unknown. */
static uint64_t string_index(const struct page *page, struct bursar_text text) {
  if (!text.bytes)
    return 0;
  const struct bursar_text *found = bsearch(&text, page->strings, page->string_count, sizeof(text), by_address);
  return found ? (uint64_t)(found - page->strings) + 1 : 0;
}

static void write_strings(struct page *page) {
  bursar_buffer_text(&page->out, ",\n\"strings\":[\"\"");
  for (uint32_t i = 0; i < page->string_count; i++) {
    bursar_buffer_char(&page->out, ',');
    bursar_escape_json(&page->out, page->strings[i]);
  }
  bursar_buffer_char(&page->out, ']');
}

/* ---- codes, nodes, sites, ticks ---- */

static uint64_t code_name(const struct page *page, uint32_t i) {
  return string_index(page, page->model->codes[i].function);
}
static uint64_t code_file(const struct page *page, uint32_t i) {
  return string_index(page, page->model->codes[i].file);
}

static uint64_t code_native(const struct page *page, uint32_t i) { return page->model->codes[i].native; }

static uint64_t node_parent(const struct page *page, uint32_t i) {
  return bursar_model_is_root(i) ? 0 : i - page->node_of[page->model->nodes[page->node_at[i]].parent];
}
static uint64_t node_code(const struct page *page, uint32_t i) {
  uint32_t code = page->model->nodes[page->node_at[i]].code;
  return code == BURSAR_READER_NONE ? 0 : (uint64_t)code + 1;
}
static uint64_t node_line(const struct page *page, uint32_t i) { return page->model->nodes[page->node_at[i]].line; }

static const struct bursar_model_site *site_in(const struct page *page, uint32_t i) {
  return &page->model->sites[page->site_at[i]];
}

static uint64_t site_node(const struct page *page, uint32_t i) {
  return zigzag(page->node_of[site_in(page, i)->node], i == 0 ? 0 : page->node_of[site_in(page, i - 1)->node]);
}
static uint64_t site_domain(const struct page *page, uint32_t i) { return site_in(page, i)->domain; }
static uint64_t site_type(const struct page *page, uint32_t i) { return string_index(page, site_in(page, i)->type); }
static uint64_t site_peak(const struct page *page, uint32_t i) { return exact(site_in(page, i)->peak.bytes); }
static uint64_t site_peak_blocks(const struct page *page, uint32_t i) { return blocks_of(site_in(page, i)->peak); }
static uint64_t site_last(const struct page *page, uint32_t i) {
  return exact(page->model->last[page->site_at[i]].bytes);
}
static uint64_t site_last_blocks(const struct page *page, uint32_t i) {
  return blocks_of(page->model->last[page->site_at[i]]);
}
static uint64_t site_end(const struct page *page, uint32_t i) {
  return zigzag(exact(site_in(page, i)->live.bytes), exact(page->model->last[page->site_at[i]].bytes));
}
static uint64_t site_end_blocks(const struct page *page, uint32_t i) {
  return zigzag(blocks_of(site_in(page, i)->live), blocks_of(page->model->last[page->site_at[i]]));
}
static uint64_t site_alloc_bytes(const struct page *page, uint32_t i) {
  return exact(site_in(page, i)->allocated_bytes);
}
static uint64_t site_allocs(const struct page *page, uint32_t i) { return exact(site_in(page, i)->allocations); }
static uint64_t site_temporaries(const struct page *page, uint32_t i) { return exact(site_in(page, i)->temporaries); }

static uint64_t tick_time(const struct page *page, uint32_t i) {
  const struct bursar_model_tick *ticks = page->model->ticks;
  uint64_t now = ticks[i].time_ns / 1000;
  uint64_t before = i == 0 ? 0 : ticks[i - 1].time_ns / 1000;
  return now > before ? now - before : 0;
}
static uint64_t tick_high(const struct page *page, uint32_t i) { return exact(page->model->ticks[i].high_bytes); }

static void write_codes(struct page *page) {
  uint32_t count = page->model->code_count;
  bursar_buffer_format(&page->out, ",\n\"codes\":{\"count\":%" PRIu32, count);
  write_column(page, "name", count, code_name);
  write_column(page, "file", count, code_file);
  write_column(page, "native", count, code_native);
  bursar_buffer_char(&page->out, '}');
}

static void write_nodes(struct page *page) {
  uint32_t count = page->node_count;
  bursar_buffer_text(&page->out, ",\n\"roots\":[");
  for (uint32_t i = 0; i < BURSAR_NODE_FIRST; i++) {
    bursar_buffer_text(&page->out, i == 0 ? "" : ",");
    bursar_escape_json(&page->out, bursar_model_function(page->model, i));
  }
  bursar_buffer_format(&page->out, "],\n\"nodes\":{\"count\":%" PRIu32, count);
  write_column(page, "parent", count, node_parent);
  write_column(page, "code", count, node_code);
  write_column(page, "line", count, node_line);
  bursar_buffer_char(&page->out, '}');
}

static void write_sites(struct page *page) {
  static const struct {
    const char *name;
    value_at *value;
  } columns[] = {
      {"node", site_node},
      {"domain", site_domain},
      {"type", site_type},
      {"peak", site_peak},
      {"peak_blocks", site_peak_blocks},
      {"last", site_last},
      {"last_blocks", site_last_blocks},
      {"end", site_end},
      {"end_blocks", site_end_blocks},
      {"alloc_bytes", site_alloc_bytes},
      {"allocs", site_allocs},
      {"temporaries", site_temporaries},
  };
  uint32_t count = page->site_count;
  bursar_buffer_format(&page->out, ",\n\"sites\":{\"count\":%" PRIu32, count);
  for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
    write_column(page, columns[i].name, count, columns[i].value);
  bursar_buffer_char(&page->out, '}');
}

static void write_ticks(struct page *page) {
  uint32_t count = page->model->tick_count;
  bursar_buffer_format(&page->out, ",\n\"ticks\":{\"count\":%" PRIu32, count);
  write_column(page, "time_us", count, tick_time);
  write_column(page, "high", count, tick_high);
  bursar_buffer_text(&page->out, ",\"live\":[");
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    bursar_buffer_text(&page->out, domain == 0 ? "" : ",");
    begin_column(page);
    for (uint32_t i = 0; i < count; i++)
      add_number(&page->column, exact(page->model->ticks[i].live_by_domain[domain]));
    end_column(page);
  }
  bursar_buffer_text(&page->out, "]}");
}

/* ---- scopes ---- */

static void write_scopes(struct page *page) {
  const struct bursar_model *model = page->model;
  uint32_t count = model->scope_count < SCOPES_MAX ? model->scope_count : SCOPES_MAX;
  bursar_buffer_format(&page->out, ",\n\"all_scopes\":%" PRIu32 ",\"scopes\":[", model->scope_count);
  for (uint32_t i = 0; i < count; i++) {
    const struct bursar_model_scope *scope = &model->scopes[i];
    const uint64_t numbers[] = {scope->live_bytes, scope->retained_bytes, scope->calls,
                                scope->open,       scope->peak_p50,       scope->peak_p95,
                                scope->peak_p99,   scope->peak_max,       scope->allocated_bytes};
    bursar_buffer_text(&page->out, i ? ",\n[" : "\n[");
    bursar_escape_json(&page->out, scope->name);
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
      if (numbers[k] == BURSAR_MODEL_UNKNOWN)
        bursar_buffer_text(&page->out, ",null");
      else
        bursar_buffer_format(&page->out, ",%" PRIu64, exact(numbers[k]));
    bursar_buffer_format(&page->out, ",%" PRIu64 ".%09" PRIu64 "]", scope->time_ns / 1000000000,
                         scope->time_ns % 1000000000);
  }
  bursar_buffer_char(&page->out, ']');
}

/* ---- the history ---- */

struct change {
  uint64_t bytes;
  uint64_t blocks;
};

struct history {
  struct change *held;  /* by site, at the instant that the walk back has reached */
  struct change *later; /* by site, what it held one stop later; sound where `touched` says so */
  uint32_t *touched;    /* by site: the step that changed it last, counted from 1 */
  uint32_t *changed;    /* the sites that this step changed */
  uint32_t changed_count;
  uint32_t outside[BURSAR_DOMAIN_COUNT]; /* the site of each domain that has no undo records, or site_count */
};

static void free_history(struct history *history) {
  free(history->held);
  free(history->later);
  free(history->touched);
  free(history->changed);
}

static int open_history(const struct bursar_model *model, struct history *history) {
  size_t room = (size_t)model->site_count + 1;
  *history = (struct history){.held = calloc(room, sizeof(*history->held)),
                              .later = calloc(room, sizeof(*history->later)),
                              .touched = calloc(room, sizeof(*history->touched)),
                              .changed = calloc(room, sizeof(*history->changed))};
  if (!history->held || !history->later || !history->touched || !history->changed) {
    free_history(history);
    return -ENOMEM;
  }
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    history->outside[domain] = model->site_count;
  for (uint32_t i = 0; i < model->site_count; i++) {
    history->held[i] = (struct change){exact(model->last[i].bytes), blocks_of(model->last[i])};
    if (model->sites[i].outside && history->outside[model->sites[i].domain] == model->site_count)
      history->outside[model->sites[i].domain] = i;
  }
  return 0;
}

static void set_held(struct history *history, uint32_t step, uint32_t site, struct change value) {
  if (history->touched[site] != step) {
    history->touched[site] = step;
    history->later[site] = history->held[site];
    history->changed[history->changed_count++] = site;
  }
  history->held[site] = value;
}

static int by_index(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left;
  uint32_t b = *(const uint32_t *)right;
  return (a > b) - (a < b);
}

/* Goes back from undo record `from` to those of tick `to`, and packs what is different there. */
static void pack_step(const struct page *page, struct history *history, uint32_t step, uint32_t from, uint32_t to,
                      struct bursar_buffer *out) {
  const struct bursar_model *model = page->model;
  history->changed_count = 0;
  for (uint32_t i = from; i > model->ticks[to].first_undo; i--) {
    const struct bursar_model_undo *undo = &model->undos[i - 1];
    if (undo->site != BURSAR_READER_NONE)
      set_held(history, step, undo->site, (struct change){exact(undo->held.bytes), blocks_of(undo->held)});
  }
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (history->outside[domain] < model->site_count)
      set_held(history, step, history->outside[domain],
               (struct change){exact(model->ticks[to].outside_bytes[domain]), 0});
  qsort(history->changed, history->changed_count, sizeof(*history->changed), by_index);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < history->changed_count; i++) {
    uint32_t site = history->changed[i];
    bool moved = history->held[site].bytes != history->later[site].bytes ||
                 history->held[site].blocks != history->later[site].blocks;
    if (moved && page->site_of[site] != BURSAR_READER_NONE)
      history->changed[kept++] = site;
  }
  add_number(out, kept);
  for (uint32_t i = 0; i < kept; i++) {
    uint32_t site = history->changed[i];
    add_number(out, page->site_of[site] - (i == 0 ? 0 : page->site_of[history->changed[i - 1]]));
    add_number(out, zigzag(history->held[site].bytes, history->later[site].bytes));
    add_number(out, zigzag(history->held[site].blocks, history->later[site].blocks));
  }
}

/* Packs every stride-th of the ticks that can be gone back to, the newest first.  -EFBIG where that is more than the page
 * may hold. */
static int pack_history(const struct page *page, const uint32_t *whole, uint32_t count, uint32_t stride,
                        struct bursar_buffer *out) {
  const struct bursar_model *model = page->model;
  struct history history;
  int status = open_history(model, &history);
  if (status != 0)
    return status;
  uint32_t from = model->undo_count;
  uint32_t step = 0;
  for (uint32_t left = count; left > 0 && out->failed == 0;) {
    uint32_t tick = whole[left - 1];
    pack_step(page, &history, ++step, from, tick, out);
    if (model->ticks[tick].first_undo < from)
      from = model->ticks[tick].first_undo;
    left = left > stride ? left - stride : 0;
  }
  free_history(&history);
  return out->failed;
}

/* Packs into page->column with the smallest stride that fits; *stride is 0 where not even one step does. */
static int fit_history(struct page *page, const uint32_t *whole, uint32_t count, uint32_t *stride) {
  int status = -EFBIG;
  for (*stride = 1; status == -EFBIG && *stride <= count; *stride *= 2) {
    bursar_buffer_free(&page->column);
    bursar_buffer_init(&page->column, BURSAR_HTML_HISTORY_MAX);
    status = pack_history(page, whole, count, *stride, &page->column);
    if (status == 0)
      return 0;
  }
  *stride = 0;
  begin_column(page); /* the page then shows the peak and the end alone */
  return status == -EFBIG ? 0 : status;
}

static int write_history(struct page *page) {
  const struct bursar_model *model = page->model;
  uint32_t *whole = calloc((size_t)model->tick_count + 1, sizeof(*whole));
  uint32_t count = 0;
  uint32_t stride = 0;
  if (!whole)
    return -ENOMEM;
  for (uint32_t i = 0; i < model->tick_count; i++)
    if (model->ticks[i].whole)
      whole[count++] = i;
  int status = fit_history(page, whole, count, &stride);
  bursar_buffer_text(&page->out, ",\n\"undo\":{\"steps\":");
  end_column(page);
  uint32_t stops = 0;
  uint32_t last = 0;
  begin_column(page);
  for (uint32_t i = stride > 0 ? (count - 1) % stride : count; i < count; i += stride) {
    add_number(&page->column, whole[i] - last);
    last = whole[i];
    stops++;
  }
  bursar_buffer_text(&page->out, ",\"ticks\":");
  end_column(page);
  bursar_buffer_format(&page->out, ",\"stops\":%" PRIu32 "}", stops);
  free(whole);
  return status;
}

/* ---- facts ---- */

static void fact_text(struct page *page, const char *name, struct bursar_text text) {
  bursar_buffer_format(&page->out, ",\"%s\":", name);
  bursar_escape_json(&page->out, text);
}
static void fact_word(struct page *page, const char *name, const char *word) {
  fact_text(page, name, (struct bursar_text){word, (uint32_t)strlen(word)});
}
static void fact_number(struct page *page, const char *name, uint64_t value) {
  bursar_buffer_format(&page->out, ",\"%s\":%" PRIu64, name, exact(value));
}
static void fact_known(struct page *page, const char *name, uint64_t value) {
  if (value == BURSAR_MODEL_UNKNOWN)
    bursar_buffer_format(&page->out, ",\"%s\":null", name);
  else
    fact_number(page, name, value);
}
static void fact_seconds(struct page *page, const char *name, uint64_t ns) {
  bursar_buffer_format(&page->out, ",\"%s\":%" PRIu64 ".%09" PRIu64, name, ns / 1000000000, ns % 1000000000);
}

static struct bursar_text last_part(struct bursar_text path) {
  for (uint32_t i = path.length; i > 0; i--)
    if (path.bytes[i - 1] == '/' && i < path.length)
      return (struct bursar_text){path.bytes + i, path.length - i};
  return path;
}

static void write_note(struct page *page, bool *first, const char *text) {
  bursar_buffer_text(&page->out, *first ? "" : ",");
  bursar_escape_json(&page->out, (struct bursar_text){text, (uint32_t)strlen(text)});
  *first = false;
}

/* What a reader must know before believing the figures.  What was folded, the page says from the facts. */
static void write_notes(struct page *page) {
  const struct bursar_model *model = page->model;
  const struct bursar_reader *reader = model->reader;
  bool first = true;
  bursar_buffer_text(&page->out, ",\"notes\":[");
  if (reader->life == BURSAR_LIFE_CUT)
    write_note(page, &first,
               "The program ended without closing its books (killed, or os._exit): this is its last state.");
  if (model->running)
    write_note(page, &first, "The program was still running: this is its state when the report was written.");
  if (reader->life == BURSAR_LIFE_BROKEN)
    write_note(page, &first, "The books stopped for want of space: what the program did later is not in them.");
  if (model->estimated)
    write_note(page, &first,
               "What is live, and where, is estimated from samples; \xc2\xb1 is one standard error. What a stack of "
               "small "
               "blocks holds is known to about the square root of (its bytes \xc3\x97 512 KiB). Peaks are biased: they "
               "stand where chance made them greatest.");
  if (reader->header.mode == BURSAR_MODE_COUNT)
    write_note(page, &first, "Mode count knows domains alone: no stacks.");
  for (uint32_t i = 0; i < reader->note_count && i < BURSAR_READER_NOTES; i++)
    write_note(page, &first, reader->note[i]);
  bursar_buffer_char(&page->out, ']');
}

static void write_program_facts(struct page *page) {
  const struct bursar_model *model = page->model;
  const struct bursar_header *header = &model->reader->header;
  struct bursar_text ledger = {model->reader->path, (uint32_t)strlen(model->reader->path)};
  struct bursar_text program = model->main_file.bytes && model->main_file.length > 0 ? model->main_file : ledger;
  struct bursar_text python = {header->python_version,
                               (uint32_t)strnlen(header->python_version, sizeof(header->python_version))};
  struct bursar_text bursar = {header->bursar_version,
                               (uint32_t)strnlen(header->bursar_version, sizeof(header->bursar_version))};
  fact_text(page, "program", last_part(program));
  fact_text(page, "main_file", model->main_file);
  fact_text(page, "python", python);
  fact_text(page, "bursar_version", bursar);
  fact_word(page, "mode", model->mode);
  fact_word(page, "unit", model->unit);
  fact_word(page, "life", bursar_reader_life_name(model->reader->life));
  fact_number(page, "pid", header->pid);
  fact_number(page, "started_unix_s", header->started_unix_ns / 1000000000);
  bursar_buffer_text(&page->out, model->complete ? ",\"complete\":true" : ",\"complete\":false");
}

static void write_facts(struct page *page) {
  const struct bursar_model *model = page->model;
  bursar_buffer_format(&page->out, "{\"schema\":%d,\n\"facts\":{\"domains\":[", BURSAR_HTML_SCHEMA);
  for (uint32_t domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    bursar_buffer_format(&page->out, "%s\"%s\"", domain == 0 ? "" : ",", bursar_domains_name(domain));
  bursar_buffer_char(&page->out, ']');
  write_program_facts(page);
  fact_seconds(page, "run_s", model->run_ns);
  fact_seconds(page, "peak_time_s", model->peak_time_ns);
  fact_seconds(page, "end_time_s", model->live_time_ns);
  fact_number(page, "peak_bytes", model->peak_bytes);
  fact_number(page, "peak_error_bytes", model->peak_error_bytes);
  fact_number(page, "live_bytes", model->live.bytes);
  fact_number(page, "live_error_bytes", model->live_error_bytes);
  fact_known(page, "allocations", model->allocations);
  fact_known(page, "allocated_bytes", model->allocated_bytes);
  if (model->estimated) {
    fact_number(page, "peak_stderr", (uint64_t)(model->errors.peak_bytes + 0.5));
    fact_number(page, "live_stderr", (uint64_t)(model->errors.live_bytes + 0.5));
  }
  fact_known(page, "temporary_allocations", model->temporaries);
  fact_number(page, "temporary_within", model->temporary_within);
  fact_number(page, "outside_allocations", model->outside_allocations);
  fact_number(page, "outside_bytes", model->outside_bytes);
  fact_number(page, "folded_sites", model->folded_sites);
  fact_number(page, "unresolved_frames", model->unresolved_frames);
  fact_number(page, "deep_stacks", model->deep_stacks);
  fact_number(page, "folded_scopes", model->folded_scopes);
  fact_number(page, "sites", page->site_count);
  uint32_t end = model->tick_count;
  while (end > 0 && !model->ticks[end - 1].end)
    end--;
  if (end > 0)
    fact_number(page, "end_tick", end - 1);
  else
    bursar_buffer_text(&page->out, ",\"end_tick\":null");
  bursar_buffer_text(&page->out, model->history_lossy ? ",\"history_lossy\":true" : ",\"history_lossy\":false");
  write_notes(page);
  bursar_buffer_char(&page->out, '}');
}

static int write_page(struct page *page) {
  int status = choose(page);
  if (status == 0)
    status = gather_strings(page);
  if (status != 0)
    return status;
  bursar_buffer_add(&page->out, bursar_page_before, bursar_page_before_length);
  write_facts(page);
  write_strings(page);
  write_codes(page);
  write_nodes(page);
  write_sites(page);
  write_ticks(page);
  write_scopes(page);
  status = write_history(page);
  if (status != 0)
    return status;
  bursar_buffer_char(&page->out, '}');
  bursar_buffer_add(&page->out, bursar_page_after, bursar_page_after_length);
  return bursar_buffer_finish(&page->out);
}

int bursar_html_write(const struct bursar_model *model, int fd, struct bursar_error *error) {
  struct page page = {.model = model};
  bursar_buffer_to(&page.out, fd, UINT64_MAX);
  bursar_buffer_init(&page.column, COLUMN_CAP);
  int status = write_page(&page);
  free(page.strings);
  free(page.site_at);
  free(page.site_of);
  free(page.node_at);
  free(page.node_of);
  bursar_buffer_free(&page.column);
  bursar_buffer_free(&page.out);
  if (status == 0)
    return BURSAR_OK;
  return bursar_error_set(error, BURSAR_FAILED, "cannot write the HTML report: %s; %s", strerror(-status),
                          status == -ENOMEM ? "free some memory and try again" : "choose another place with -o");
}
