#include "cli/entries.h"

#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

struct bursar_text bursar_entries_text(const char *text) {
  return (struct bursar_text){.bytes = text, .length = (uint32_t)strlen(text)};
}

static void whole_path(char out[2 * BURSAR_PLACE_PATH_MAX], const struct bursar_place_list *list,
                       const struct bursar_place_entry *entry) {
  size_t length = strlen(list->directory);
  memcpy(out, list->directory, length);
  if (length && out[length - 1] != '/')
    out[length++] = '/';
  memcpy(out + length, entry->name, strlen(entry->name) + 1);
}

void bursar_entries_path(struct bursar_buffer *out, const struct bursar_place_list *list,
                         const struct bursar_place_entry *entry) {
  char path[2 * BURSAR_PLACE_PATH_MAX];
  whole_path(path, list, entry);
  bursar_escape_terminal(out, bursar_entries_text(path));
}

static void add_key(struct bursar_buffer *out, const char *key, const char *text) {
  bursar_buffer_format(out, ", \"%s\": ", key);
  if (text[0])
    bursar_escape_json(out, bursar_entries_text(text));
  else
    bursar_buffer_text(out, "null");
}

void bursar_entries_json(struct bursar_buffer *out, const struct bursar_place_list *list) {
  bursar_buffer_text(out, "{\"schema\": 1");
  add_key(out, "directory", list->directory);
  bursar_buffer_text(out, ", \"ledgers\": [");
  for (size_t i = 0; i < list->count; i++) {
    const struct bursar_place_entry *entry = &list->entries[i];
    char path[2 * BURSAR_PLACE_PATH_MAX];
    whole_path(path, list, entry);
    bursar_buffer_format(out, "%s\n  {\"pid\": %d", i ? "," : "", (int)entry->pid);
    add_key(out, "path", path);
    add_key(out, "state", bursar_place_state_name(entry->state));
    add_key(out, "program", entry->program);
    add_key(out, "python", entry->python_version);
    bursar_buffer_format(out, ", \"started_s\": %" PRIu64 ".%09" PRIu64, entry->started_unix_ns / 1000000000u,
                         entry->started_unix_ns % 1000000000u);
    bursar_buffer_format(out, ", \"size_bytes\": %" PRIu64 ", \"peak_bytes\": %" PRIu64 "}", entry->file_bytes,
                         entry->peak_bytes);
  }
  bursar_buffer_text(out, list->count ? "\n]}\n" : "]}\n");
}

int bursar_entries_check(const char *verb, const char *format, char **operands, int count) {
  static const char *const formats[] = {"text", "json", NULL};
  if (count > 0)
    return bursar_cli_complain(2, "%s takes no %s: see bursar %s --help", verb, operands[0], verb);
  return bursar_cli_choice(format, formats) < 0 ? bursar_cli_unknown(verb, "format", format, formats) : -1;
}
