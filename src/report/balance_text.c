#include "report/balance_text.h"

#include <string.h>

#include "base/escape.h"
#include "base/size.h"

#define UNKNOWN BURSAR_BALANCE_UNKNOWN

static struct bursar_text text(const char *bytes) { return (struct bursar_text){bytes, (uint32_t)strlen(bytes)}; }

static const char *amount(uint64_t bytes, char out[BURSAR_SIZE_TEXT]) {
  return bytes == UNKNOWN ? "not known" : bursar_size_print(bytes, out);
}

/* --- for people ------------------------------------------------------------------------------------------------------ */

static void row(struct bursar_buffer *out, uint64_t bytes, uint64_t whole, const char *name) {
  char size[BURSAR_SIZE_TEXT];
  bursar_buffer_format(out, "  %10s  ", amount(bytes, size));
  if (bytes == UNKNOWN || whole == UNKNOWN || !whole)
    bursar_buffer_text(out, "     -  ");
  else
    bursar_buffer_format(out, "%4.1f %%  ", 100.0 * (double)bytes / (double)whole);
  bursar_buffer_text(out, name);
}

static void print_line(const struct bursar_balance *balance, const struct bursar_balance_line *line,
                       struct bursar_buffer *out) {
  char size[BURSAR_SIZE_TEXT];
  row(out, line->bytes, balance->rss, line->name);
  if (line->detail[0] || line->live != UNKNOWN)
    bursar_buffer_repeat(out, " ", strlen(line->name) < 34 ? 34 - strlen(line->name) : 2);
  if (line->live != UNKNOWN && (line->live != line->bytes || line->bytes == UNKNOWN))
    bursar_buffer_format(out, "%s booked%s", bursar_size_print(line->live, size), line->detail[0] ? "; " : "");
  bursar_escape_terminal(out, text(line->detail));
  bursar_buffer_char(out, '\n');
}

/* A line of nothing is left out, but where nothing is known. */
static bool shown(const struct bursar_balance_line *line) {
  return line->bytes || (line->live && line->live != UNKNOWN);
}

static void beside(struct bursar_buffer *out, const char *name, uint64_t bytes) {
  char size[BURSAR_SIZE_TEXT];
  bursar_buffer_format(out, "  %10s          %s\n", amount(bytes, size), name);
}

void bursar_balance_text_print(const struct bursar_balance *balance, struct bursar_buffer *out) {
  char size[BURSAR_SIZE_TEXT];
  bursar_buffer_format(out, "process %ld: ", balance->pid);
  if (balance->rss == UNKNOWN)
    bursar_buffer_text(out, "resident memory not known\n");
  else
    bursar_buffer_format(out, "%s resident\n", bursar_size_print(balance->rss, size));
  for (uint32_t i = 0; i < balance->line_count; i++)
    if (shown(&balance->lines[i]))
      print_line(balance, &balance->lines[i], out);
  row(out, balance->unexplained, balance->rss, "unexplained\n");
  bursar_buffer_text(out, "beside these\n");
  beside(out, "malloc_trim(0) would return", balance->returnable);
  beside(out, "live, not resident", balance->live_not_resident);
  beside(out, "PSS: pages shared with others counted in proportion", balance->pss);
  beside(out, "swapped out", balance->swap);
  beside(out, "page tables", balance->page_tables);
  if (balance->cgroup_limit != UNKNOWN) {
    beside(out, "used by its control group", balance->cgroup_usage);
    beside(out, "limit of its control group", balance->cgroup_limit);
  }
  for (uint32_t i = 0; i < balance->note_count; i++) {
    bursar_buffer_text(out, "note: ");
    bursar_escape_terminal(out, text(balance->notes[i]));
    bursar_buffer_char(out, '\n');
  }
}

/* --- for programs ---------------------------------------------------------------------------------------------------- */

static void number(struct bursar_buffer *out, const char *name, uint64_t value) {
  bursar_buffer_format(out, "\"%s\": ", name);
  if (value == UNKNOWN)
    bursar_buffer_text(out, "null");
  else
    bursar_buffer_number(out, value);
}

static void string(struct bursar_buffer *out, const char *name, const char *value) {
  bursar_buffer_format(out, "\"%s\": ", name);
  bursar_escape_json(out, value ? text(value) : (struct bursar_text){NULL, 0});
}

static void json_lines(const struct bursar_balance *balance, struct bursar_buffer *out) {
  bursar_buffer_text(out, "\"lines\": [");
  for (uint32_t i = 0; i < balance->line_count; i++) {
    const struct bursar_balance_line *line = &balance->lines[i];
    bursar_buffer_text(out, i ? ",\n  {" : "\n  {");
    string(out, "name", line->name);
    bursar_buffer_text(out, ", ");
    number(out, "bytes", line->bytes);
    bursar_buffer_text(out, ", ");
    number(out, "live_bytes", line->live);
    bursar_buffer_text(out, ", ");
    string(out, "detail", line->detail);
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_text(out, "],\n");
}

void bursar_balance_text_json(const struct bursar_balance *balance, struct bursar_buffer *out) {
  const struct {
    const char *name;
    uint64_t value;
  } numbers[] = {{"rss_bytes", balance->rss},
                 {"unexplained_bytes", balance->unexplained},
                 {"returnable_bytes", balance->returnable},
                 {"live_not_resident_bytes", balance->live_not_resident},
                 {"pss_bytes", balance->pss},
                 {"swap_bytes", balance->swap},
                 {"page_tables_bytes", balance->page_tables},
                 {"cgroup_limit_bytes", balance->cgroup_limit},
                 {"cgroup_usage_bytes", balance->cgroup_usage},
                 {"threads", balance->threads}};
  bursar_buffer_format(out, "{\"schema\": %d,\n\"pid\": %ld,\n", BURSAR_BALANCE_SCHEMA, balance->pid);
  string(out, "ledger", balance->ledger);
  bursar_buffer_text(out, ",\n");
  string(out, "state", balance->state);
  bursar_buffer_text(out, ",\n");
  json_lines(balance, out);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    number(out, numbers[i].name, numbers[i].value);
    bursar_buffer_text(out, ",\n");
  }
  bursar_buffer_text(out, "\"notes\": [");
  for (uint32_t i = 0; i < balance->note_count; i++) {
    bursar_buffer_text(out, i ? ", " : "");
    bursar_escape_json(out, text(balance->notes[i]));
  }
  bursar_buffer_text(out, "]}\n");
}
