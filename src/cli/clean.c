/* clean.c: `bursar clean`: removes the ledgers of ended processes from the default directory. */
#include "base/size.h"
#include "cli/cli.h"
#include "cli/entries.h"
#include "ledger/place.h"

#include <string.h>
#include <unistd.h>

static void print_text(struct bursar_buffer *out, const struct bursar_place_list *list, bool dry_run) {
  char size[BURSAR_SIZE_TEXT];
  uint64_t bytes = 0;
  for (size_t i = 0; i < list->count; i++) {
    bytes += list->entries[i].file_bytes;
    bursar_buffer_text(out, dry_run ? "would remove " : "removed ");
    bursar_entries_path(out, list, &list->entries[i]);
    bursar_buffer_char(out, '\n');
  }
  bursar_buffer_format(out, "%zu ledger%s, %s\n", list->count, list->count == 1 ? "" : "s",
                       bursar_size_print(bytes, size));
}

int bursar_cli_clean(int argc, char **argv) {
  const char *format = "text";
  bool dry_run = false;
  const struct bursar_cli_option options[] = {
      {.name = "dry-run", .letter = 'n', .flag = &dry_run, .help = "only say what would be removed"},
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text or json"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "clean",
      .usage = "[--dry-run] [--format text|json]",
      .about = "Removes the ledgers of ended processes from where bursar ls finds them.",
      .options = options};
  struct bursar_place_list removed;
  struct bursar_error error;
  struct bursar_buffer out;
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status < 0)
    status = bursar_entries_check(syntax.verb, format, argv + 1, count);
  if (status >= 0)
    return status;
  if (bursar_place_clean(dry_run, &removed, &error) < 0)
    return bursar_cli_fail(&error);
  bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
  if (strcmp(format, "json") == 0)
    bursar_entries_json(&out, &removed);
  else
    print_text(&out, &removed, dry_run);
  bursar_place_list_free(&removed);
  return bursar_cli_finish(&out);
}
