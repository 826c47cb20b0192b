/* ls.c: `bursar ls`: the ledgers in the default directory. */
#include "base/escape.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/entries.h"
#include "ledger/place.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void print_text(struct bursar_buffer *out, const struct bursar_place_list *list) {
  if (list->count)
    bursar_buffer_text(out, "     PID  STATE           PEAK       SIZE  PYTHON   STARTED           LEDGER\n");
  for (size_t i = 0; i < list->count; i++) {
    const struct bursar_place_entry *entry = &list->entries[i];
    char size[BURSAR_SIZE_TEXT];
    char peak[BURSAR_SIZE_TEXT];
    char started[32] = "-";
    struct tm local;
    time_t seconds = (time_t)(entry->started_unix_ns / 1000000000u);
    if (entry->started_unix_ns && localtime_r(&seconds, &local))
      strftime(started, sizeof started, "%Y-%m-%d %H:%M", &local);
    bursar_buffer_format(out, "%8d  %-9s %10s %10s  ", (int)entry->pid, bursar_place_state_name(entry->state),
                         bursar_size_print(entry->peak_bytes, peak), bursar_size_print(entry->file_bytes, size));
    const char *python = entry->python_version[0] ? entry->python_version : "-";
    size_t columns = bursar_escape_terminal(out, bursar_entries_text(python));
    bursar_buffer_repeat(out, " ", columns < 8 ? 8 - columns : 0);
    bursar_buffer_format(out, " %-16s  ", started);
    bursar_entries_path(out, list, entry);
    bursar_buffer_char(out, '\n');
  }
}

int bursar_cli_ls(int argc, char **argv) {
  const char *format = "text";
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text or json"}, {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "ls",
      .usage = "[--format text|json]",
      .about =
          "Lists the ledgers in $BURSAR_DIR, else $XDG_RUNTIME_DIR/bursar, else bursar-UID in the temp\n"
          "directory, oldest first.  States: running, ended, killed (ended without closing the books),\n"
          "stopped (the books were closed and the program goes on), starting, unused (no program ever wrote\n"
          "to it), elsewhere (of another container), newer (of a newer bursar), damaged.",
      .options = options};
  struct bursar_place_list list;
  struct bursar_error error;
  struct bursar_buffer out;
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status < 0)
    status = bursar_entries_check(syntax.verb, format, argv + 1, count);
  if (status >= 0)
    return status;
  if (bursar_place_list(&list, &error) < 0)
    return bursar_cli_fail(&error);
  bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
  if (strcmp(format, "json") == 0) {
    bursar_entries_json(&out, &list);
  } else {
    print_text(&out, &list);
    if (!list.count && isatty(STDOUT_FILENO)) { /* a person sees why there is nothing, a pipe gets nothing */
      bursar_buffer_text(&out, "no ledgers in ");
      bursar_escape_terminal(&out, bursar_entries_text(list.directory));
      bursar_buffer_char(&out, '\n');
    }
  }
  bursar_place_list_free(&list);
  return bursar_cli_finish(&out);
}
