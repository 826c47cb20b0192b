#include "report/diff.h"

#include "base/index.h"
#include "base/size.h"
#include "ledger/domains.h"
#include "report/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE BURSAR_READER_NONE

/* Both models' stacks, numbered together. */
struct joining {
  struct bursar_index names; /* texts of both */
  struct bursar_index stacks;
  struct bursar_index rows; /* (stack, domain) */
  uint32_t *stack_of;       /* by node of the model at hand */
};

static uint32_t name_of(struct joining *j, struct bursar_text text) { return bursar_index_of_text(&j->names, text); }

/* Numbers are moved up by the roots, which stand for themselves. */
static void join_stacks(struct joining *j, const struct bursar_model *model) {
  for (uint32_t i = 0; i < model->node_count; i++) {
    const struct bursar_model_node *node = &model->nodes[i];
    if (i < BURSAR_NODE_FIRST) {
      j->stack_of[i] = bursar_index_of(&j->stacks, UINT64_MAX, i);
      continue;
    }
    uint32_t function = name_of(j, bursar_model_function(model, i));
    uint32_t file = name_of(j, bursar_view_short(model, bursar_model_file(model, i)));
    j->stack_of[i] = bursar_index_of(&j->stacks, (uint64_t)j->stack_of[node->parent] << 32 | node->line,
                                     (uint64_t)function << 32 | file);
  }
}

static void join_sites(struct joining *j, struct bursar_diff *diff, const struct bursar_model *model, bool is_after) {
  for (uint32_t i = 0; i < model->site_count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    if (!site->peak.bytes && !site->peak.blocks)
      continue;
    uint32_t at = bursar_index_of(&j->rows, j->stack_of[site->node], (uint64_t)site->domain << 1 | site->outside);
    struct bursar_diff_row *row = &diff->rows[at];
    row->model = model;
    row->node = site->node;
    row->domain = site->domain;
    struct bursar_held *held = is_after ? &row->after : &row->before;
    held->bytes += site->peak.bytes;
    held->blocks += site->peak.blocks;
  }
  diff->count = j->rows.count;
}

static uint64_t change_of(const struct bursar_diff_row *row) {
  return row->after.bytes > row->before.bytes ? row->after.bytes - row->before.bytes
                                              : row->before.bytes - row->after.bytes;
}

static int greatest_first(const void *left, const void *right) {
  const struct bursar_diff_row *a = left, *b = right;
  uint64_t by_a = change_of(a), by_b = change_of(b);
  if (by_a != by_b)
    return by_a > by_b ? -1 : 1;
  if (a->after.bytes != b->after.bytes)
    return a->after.bytes > b->after.bytes ? -1 : 1;
  if (a->node != b->node)
    return a->node < b->node ? -1 : 1;
  return a->domain < b->domain ? -1 : a->domain > b->domain;
}

int bursar_diff_make(const struct bursar_model *before, const struct bursar_model *after, struct bursar_diff *out,
                     struct bursar_error *error) {
  struct joining j = {0};
  uint32_t nodes = before->node_count + after->node_count, sites = before->site_count + after->site_count;
  int status = 0;
  *out = (struct bursar_diff){.before = before, .after = after};
  out->rows = calloc(sites ? sites : 1, sizeof *out->rows);
  j.stack_of = calloc(nodes, sizeof *j.stack_of);
  if (!out->rows || !j.stack_of || bursar_index_init_texts(&j.names, before->name_count + after->name_count + 8) != 0 ||
      bursar_index_init(&j.stacks, nodes) != 0 || bursar_index_init(&j.rows, sites) != 0) {
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory to compare %u sites", sites);
    goto out;
  }
  join_stacks(&j, before);
  join_sites(&j, out, before, false);
  join_stacks(&j, after);
  join_sites(&j, out, after, true);
  qsort(out->rows, out->count, sizeof *out->rows, greatest_first);
out:
  bursar_index_free(&j.names);
  bursar_index_free(&j.stacks);
  bursar_index_free(&j.rows);
  free(j.stack_of);
  if (status != 0)
    bursar_diff_free(out);
  return status;
}

void bursar_diff_free(struct bursar_diff *diff) {
  free(diff->rows);
  *diff = (struct bursar_diff){0};
}

int64_t bursar_diff_growth(const struct bursar_diff *diff) {
  return (int64_t)(diff->after->peak_bytes - diff->before->peak_bytes);
}

/* --- text -------------------------------------------------------------------------------------------------------- */

static const char *print_change(uint64_t before, uint64_t after, char out[BURSAR_SIZE_TEXT + 2]) {
  char size[BURSAR_SIZE_TEXT];
  uint64_t change = after > before ? after - before : before - after;
  snprintf(out, BURSAR_SIZE_TEXT + 2, "%s%s",
           after > before   ? "+"
           : after < before ? "-"
                            : "",
           bursar_size_print(change, size));
  return out;
}

static void print_ledger(const struct bursar_view *view, const char *label, const struct bursar_model *model) {
  struct bursar_text path = {model->reader->path, (uint32_t)strlen(model->reader->path)};
  bursar_buffer_format(view->out, "%-7s", label);
  bursar_view_size(view, model->peak_bytes);
  bursar_buffer_text(view->out, "  ");
  bursar_escape_terminal(view->out, path);
  bursar_buffer_text(view->out, model->complete ? "\n" : "  (not complete)\n");
  struct bursar_view own = *view;
  own.model = model;
  own.indent = 2;
  bursar_view_warnings(&own);
}

void bursar_diff_print(const struct bursar_diff *diff, const struct bursar_view *view) {
  char change[BURSAR_SIZE_TEXT + 2], number[BURSAR_SIZE_TEXT];
  uint32_t rows = 0, rest = 0;
  print_ledger(view, "before", diff->before);
  print_ledger(view, "after", diff->after);
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_format(view->out, "peak   %9s\n",
                       print_change(diff->before->peak_bytes, diff->after->peak_bytes, change));
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_format(view->out, "\n%10s %9s %9s  %-10s  %s\n", "change", "before", "after", "domain",
                       "function, line, callers");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  for (uint32_t i = 0; i < diff->count && !view->out->failed; i++) {
    const struct bursar_diff_row *row = &diff->rows[i];
    if (!change_of(row))
      continue;
    if (rows >= BURSAR_VIEW_ROWS) {
      rest++;
      continue;
    }
    rows++;
    bursar_buffer_format(view->out, "%10s ", print_change(row->before.bytes, row->after.bytes, change));
    bursar_view_size(view, row->before.bytes);
    bursar_buffer_char(view->out, ' ');
    bursar_view_size(view, row->after.bytes);
    bursar_buffer_format(view->out, "  %-10s  ", bursar_domains_name(row->domain));
    struct bursar_view place = *view;
    place.model = row->model;
    bursar_view_stack(&place, row->node, view->width > 60 ? view->width - 44 : 20);
    bursar_buffer_char(view->out, '\n');
  }
  if (rest)
    bursar_buffer_format(view->out, "\xe2\x80\xa6 %s more sites changed less\n", bursar_size_count(rest, number));
  if (!rows)
    bursar_buffer_text(view->out, "no site changed\n");
}

/* --- JSON -------------------------------------------------------------------------------------------------------- */

static void write_side(struct bursar_buffer *out, const char *name, const struct bursar_model *model) {
  struct bursar_text path = {model->reader->path, (uint32_t)strlen(model->reader->path)};
  bursar_buffer_format(out, "\"%s\":{\"ledger\":", name);
  bursar_escape_json(out, path);
  bursar_buffer_char(out, ',');
  bursar_json_number(out, "peak_bytes", model->peak_bytes);
  bursar_buffer_char(out, ',');
  bursar_json_seconds(out, "peak_time_s", model->peak_time_ns);
  bursar_buffer_char(out, ',');
  bursar_json_number(out, "allocations", model->allocations);
  bursar_buffer_char(out, ',');
  bursar_json_number(out, "allocated_bytes", model->allocated_bytes);
  bursar_buffer_text(out, model->complete ? ",\"complete\":true},\n" : ",\"complete\":false},\n");
}

void bursar_diff_write_json(const struct bursar_diff *diff, struct bursar_buffer *out) {
  bursar_buffer_text(out, "{\n");
  bursar_json_number(out, "schema", BURSAR_JSON_SCHEMA);
  bursar_buffer_text(out, ",\n");
  write_side(out, "before", diff->before);
  write_side(out, "after", diff->after);
  bursar_buffer_format(out, "\"peak_change_bytes\":%lld,\n\"sites\":[", (long long)bursar_diff_growth(diff));
  bool first = true;
  for (uint32_t i = 0; i < diff->count && !out->failed; i++) {
    const struct bursar_diff_row *row = &diff->rows[i];
    if (!change_of(row) && row->before.blocks == row->after.blocks)
      continue;
    bursar_buffer_format(out, "%s{\"domain\":\"%s\",\"change_bytes\":%lld,\"change_blocks\":%lld,",
                         first ? "\n" : ",\n", bursar_domains_name(row->domain),
                         (long long)(row->after.bytes - row->before.bytes),
                         (long long)(row->after.blocks - row->before.blocks));
    bursar_json_number(out, "peak_bytes_before", row->before.bytes);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "peak_bytes_after", row->after.bytes);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "peak_blocks_before", row->before.blocks);
    bursar_buffer_char(out, ',');
    bursar_json_number(out, "peak_blocks_after", row->after.blocks);
    bursar_buffer_char(out, ',');
    bursar_json_stack(out, row->model, row->node);
    bursar_buffer_char(out, '}');
    first = false;
  }
  bursar_buffer_text(out, "]\n}\n");
}
