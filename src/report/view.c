#include "report/view.h"
#include "report/estimate.h"

#include "base/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_CELLS 10
#define BAR_WIDTH_MIN 90
#define ELLIPSIS "\xe2\x80\xa6"
#define LEFT_ARROW "\xe2\x86\x90"

void bursar_view_fit(struct bursar_view *view, int fd) {
  struct winsize size;
  const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
  bool terminal = isatty(fd) == 1;
  view->width = BURSAR_VIEW_WIDTH;
  if (terminal && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col)
    view->width = size.ws_col;
  if (view->width < BURSAR_VIEW_WIDTH_MIN)
    view->width = BURSAR_VIEW_WIDTH_MIN;
  if (view->width > BURSAR_VIEW_WIDTH_MAX)
    view->width = BURSAR_VIEW_WIDTH_MAX;
  view->colour = terminal && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

void bursar_view_style(const struct bursar_view *view, enum bursar_view_style style) {
  static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[36m", "\033[33m"};
  if (view->colour)
    bursar_buffer_text(view->out, codes[style]);
}

/* --- amounts ----------------------------------------------------------------------------------------------------- */

void bursar_view_size(const struct bursar_view *view, uint64_t bytes) {
  char text[BURSAR_SIZE_TEXT];
  bursar_buffer_format(view->out, "%9s", bursar_size_print(bytes, text));
}

void bursar_view_count(const struct bursar_view *view, uint64_t count) {
  char text[BURSAR_SIZE_TEXT];
  bursar_buffer_format(view->out, "%8s", count == BURSAR_MODEL_UNKNOWN ? "-" : bursar_size_count(count, text));
}

void bursar_view_share(const struct bursar_view *view, uint64_t part, uint64_t whole) {
  if (whole)
    bursar_buffer_format(view->out, "%5.1f %%", 100.0 * (double)part / (double)whole);
  else
    bursar_buffer_text(view->out, "    - %");
}

unsigned bursar_view_bar_columns(const struct bursar_view *view) {
  return view->width < BAR_WIDTH_MIN ? 0 : BAR_CELLS + 1;
}

void bursar_view_bar(const struct bursar_view *view, uint64_t part, uint64_t whole) {
  static const char *const eighths[] = {"",
                                        "\xe2\x96\x8f",
                                        "\xe2\x96\x8e",
                                        "\xe2\x96\x8d",
                                        "\xe2\x96\x8c",
                                        "\xe2\x96\x8b",
                                        "\xe2\x96\x8a",
                                        "\xe2\x96\x89"};
  if (!bursar_view_bar_columns(view))
    return;
  double share = whole ? (double)part / (double)whole : 0;
  unsigned filled = (unsigned)((share > 1 ? 1 : share) * BAR_CELLS * 8 + 0.5), full = filled / 8, rest = filled % 8;
  bursar_view_style(view, BURSAR_STYLE_BAR);
  bursar_buffer_repeat(view->out, "\xe2\x96\x88", full);
  bursar_buffer_text(view->out, eighths[rest]);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_repeat(view->out, " ", BAR_CELLS + 1 - full - (rest ? 1 : 0));
}

bool bursar_view_shows(uint64_t i, uint64_t part, uint64_t whole) {
  return i < BURSAR_VIEW_ROWS_SMALL || (i < BURSAR_VIEW_ROWS && part >= whole / 1000);
}

void bursar_view_rest(const struct bursar_view *view, uint64_t count, const char *things, uint64_t bytes,
                      uint64_t whole) {
  char text[BURSAR_SIZE_TEXT], number[BURSAR_SIZE_TEXT];
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_format(view->out, ELLIPSIS " %s more %s: %s", bursar_size_count(count, number), things,
                       bursar_size_print(bytes, text));
  if (whole)
    bursar_buffer_format(view->out, ", %.1f %%", 100.0 * (double)bytes / (double)whole);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

/* --- places ------------------------------------------------------------------------------------------------------ */

static size_t after_last(struct bursar_text text, const char *part) {
  size_t length = strlen(part);
  for (size_t at = text.length; at >= length; at--)
    if (memcmp(text.bytes + at - length, part, length) == 0)
      return at;
  return 0;
}

/* The offset behind "/lib/python3.11/", 0 where there is none. */
static size_t after_library(struct bursar_text text) {
  size_t at = after_last(text, "/lib/python3.");
  size_t digits = at;
  while (digits < text.length && text.bytes[digits] >= '0' && text.bytes[digits] <= '9')
    digits++;
  return at && digits < text.length && text.bytes[digits] == '/' ? digits + 1 : 0;
}

struct bursar_text bursar_view_short(const struct bursar_model *model, struct bursar_text file) {
  size_t skip = 0;
  if (!file.bytes)
    return file;
  skip = after_last(file, "/site-packages/");
  if (!skip)
    skip = after_last(file, "/dist-packages/");
  if (!skip)
    skip = after_library(file);
  size_t folder = model->main_file.bytes ? after_last(model->main_file, "/") : 0;
  if (!skip && folder && folder < file.length && memcmp(file.bytes, model->main_file.bytes, folder) == 0)
    skip = folder;
  return skip < file.length ? (struct bursar_text){file.bytes + skip, file.length - (uint32_t)skip} : file;
}

static int print_number(char out[16], uint32_t line) {
  return line ? snprintf(out, 16, ":%u", line) : snprintf(out, 16, "%s", "");
}

size_t bursar_view_line(const struct bursar_view *view, uint32_t node, size_t columns) {
  char number[16];
  struct bursar_text file = bursar_view_short(view->model, bursar_model_file(view->model, node));
  if (!file.bytes)
    return bursar_escape_terminal_cut(view->out, bursar_model_function(view->model, node), columns);
  size_t digits = (size_t)print_number(number, view->model->nodes[node].line);
  size_t taken = bursar_escape_terminal_cut(view->out, file, columns > digits ? columns - digits : 0);
  bursar_buffer_text(view->out, number);
  return taken + digits;
}

size_t bursar_view_place(const struct bursar_view *view, uint32_t node, size_t columns) {
  const struct bursar_model *model = view->model;
  struct bursar_text function = bursar_model_function(model, node);
  struct bursar_text file = bursar_view_short(model, bursar_model_file(model, node));
  if (!file.bytes)
    return bursar_escape_terminal_cut(view->out, function, columns);
  char number[16];
  size_t fixed = 1 + (size_t)print_number(number, model->nodes[node].line);
  size_t room = columns > fixed ? columns - fixed : 0, file_columns = bursar_escape_columns(file);
  size_t for_function = room > file_columns && room - file_columns > room * 2 / 3 ? room - file_columns : room * 2 / 3;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  size_t taken = bursar_escape_terminal_cut(view->out, function, for_function);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, ' ');
  taken += bursar_escape_terminal_cut(view->out, file, room > taken ? room - taken : 0);
  bursar_buffer_text(view->out, number);
  return taken + fixed;
}

/* A frame of the machinery that runs an import: there are five for each, and they say nothing of who imports what. */
static bool is_import_step(const struct bursar_model *model, uint32_t node) {
  static const char start[] = "<frozen importlib.";
  struct bursar_text file = bursar_model_file(model, node);
  return file.bytes && file.length >= sizeof start - 1 && memcmp(file.bytes, start, sizeof start - 1) == 0;
}

/* What stands between two frames that a reader looks for: the table leaves it out, the tree and the page do not. */
static bool is_between(const struct bursar_model *model, uint32_t node) {
  return model->nodes[node].native || is_import_step(model, node);
}

/* The frame above, past what is between; NONE where there is no other. */
static uint32_t caller_of(const struct bursar_model *model, uint32_t node, bool *skipped) {
  *skipped = false;
  do {
    node = bursar_model_is_root(node) ? node : model->nodes[node].parent;
    if (bursar_model_is_root(node))
      return BURSAR_READER_NONE;
    *skipped = *skipped || is_between(model, node);
  } while (is_between(model, node));
  return node;
}

/* What the machinery allocates is told by who imported: "_compile_bytecode ← … ← shop.py:3"; what native code does, by the
 * line of Python that called it. */
static size_t print_between(const struct bursar_view *view, uint32_t node, uint32_t caller, bool straight,
                            size_t columns) {
  size_t arrows = straight ? 3 : 7, room = (columns - arrows) * (view->model->nodes[node].native ? 3 : 2) / 5;
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  size_t taken = bursar_escape_terminal_cut(view->out, bursar_model_function(view->model, node), room);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_text(view->out, straight ? " " LEFT_ARROW " " : " " LEFT_ARROW " " ELLIPSIS " " LEFT_ARROW " ");
  return taken + arrows + bursar_view_line(view, caller, columns - taken - arrows);
}

void bursar_view_stack(const struct bursar_view *view, uint32_t node, size_t columns) {
  const struct bursar_model *model = view->model;
  bool skipped;
  uint32_t caller = caller_of(model, node, &skipped);
  size_t taken;
  if (is_between(model, node) && caller != BURSAR_READER_NONE && columns >= 32) {
    taken = print_between(view, node, caller, model->nodes[node].native && !skipped, columns);
    node = caller;
  } else {
    taken = bursar_view_place(view, node, columns);
  }
  bursar_view_style(view, BURSAR_STYLE_DIM);
  while ((caller = caller_of(model, node, &skipped)) != BURSAR_READER_NONE) {
    struct bursar_text function = bursar_model_function(model, caller);
    struct bursar_text file = bursar_view_short(model, bursar_model_file(model, caller));
    struct bursar_text inner = bursar_view_short(model, bursar_model_file(model, node));
    bool same = inner.bytes == file.bytes && inner.length == file.length;
    char number[16];
    size_t digits = (size_t)print_number(number, model->nodes[caller].line);
    size_t need = (skipped ? 7 : 3) + bursar_escape_columns(function) + digits +
                  (same || !file.bytes ? 0 : 1 + bursar_escape_columns(file));
    if (taken + need > columns) {
      if (taken + 4 <= columns)
        bursar_buffer_text(view->out, " " LEFT_ARROW " " ELLIPSIS);
      break;
    }
    bursar_buffer_text(view->out, skipped ? " " LEFT_ARROW " " ELLIPSIS " " LEFT_ARROW " " : " " LEFT_ARROW " ");
    bursar_escape_terminal(view->out, function);
    if (!same && file.bytes) {
      bursar_buffer_char(view->out, ' ');
      bursar_escape_terminal(view->out, file);
    }
    bursar_buffer_text(view->out, number);
    taken += need;
    node = caller;
  }
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
}

/* --- the head ---------------------------------------------------------------------------------------------------- */

static void warn(const struct bursar_view *view, const char *text) {
  bursar_buffer_repeat(view->out, " ", view->indent);
  bursar_view_style(view, BURSAR_STYLE_WARN);
  bursar_buffer_format(view->out, "! %s", text);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

static void warn_of_life(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char text[200], size[BURSAR_SIZE_TEXT];
  switch (model->reader->life) {
    case BURSAR_LIFE_CUT:
      warn(view, "the program ended without closing its books (killed, os._exit or exec): the end is the last state");
      break;
    case BURSAR_LIFE_BROKEN:
      warn(view, "the books stopped early for want of space (disk, file size limit): nothing after that is known");
      break;
    case BURSAR_LIFE_STOPPED: warn(view, "the books were closed before the program ended"); break;
    case BURSAR_LIFE_RUNNING:
      if (!model->reader->moved_events)
        break;
      snprintf(text, sizeof text,
               "the program went on while this was read: %llu allocations and frees, figures may be off by %s",
               (unsigned long long)model->reader->moved_events, bursar_size_print(model->reader->moved_bytes, size));
      warn(view, text);
      break;
    default: break;
  }
}

static void warn_of_gaps(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char text[200], size[BURSAR_SIZE_TEXT];
  if (model->folded_sites) {
    snprintf(text, sizeof text, "to keep the ledger small, %llu light stacks are charged to their callers",
             (unsigned long long)model->folded_sites);
    warn(view, text);
  }
  if (model->deep_stacks) {
    snprintf(text, sizeof text, "stacks deeper than is kept are cut: %llu", (unsigned long long)model->deep_stacks);
    warn(view, text);
  }
  if (model->folded_scopes) {
    snprintf(text, sizeof text,
             "to keep the ledger small, %llu scopes or entries of scopes are counted by name, or together",
             (unsigned long long)model->folded_scopes);
    warn(view, text);
  }
  if (model->history_lossy && view->when == BURSAR_MODEL_TIME)
    warn(view, "the journal had no room for every change: past instants are near, not exact");
  if (model->peak_error_bytes > model->peak_bytes / 1000) {
    snprintf(text, sizeof text, "the peak and what is said of it may be off by %s: %s",
             bursar_size_print(model->peak_error_bytes, size),
             model->plain ? "several threads allocated at once" : "threads allocated without the GIL");
    warn(view, text);
  }
  if (model->estimated)
    warn(view,
         "what is live, and where, is estimated; \xc2\xb1 is one standard error. Peaks are biased: chance made them "
         "greatest");
  if (model->reader->freed_before > model->peak_bytes / 1000) {
    snprintf(text, sizeof text, "%s were freed beyond what was allocated: blocks from before the books",
             bursar_size_print(model->reader->freed_before, size));
    warn(view, text);
  }
  for (uint32_t i = 0; i < model->reader->note_count; i++)
    warn(view, model->reader->note[i]);
}

void bursar_view_warnings(const struct bursar_view *view) {
  warn_of_life(view);
  warn_of_gaps(view);
}

char *bursar_view_number(uint64_t count, char out[BURSAR_SIZE_TEXT]) {
  if (count != BURSAR_MODEL_UNKNOWN)
    return bursar_size_count(count, out);
  snprintf(out, BURSAR_SIZE_TEXT, "an unknown number of");
  return out;
}

void bursar_view_temporaries(const struct bursar_view *view) {
  char text[BURSAR_SIZE_TEXT];
  if (view->model->temporaries == BURSAR_MODEL_UNKNOWN)
    bursar_buffer_text(view->out, "how many temporary is not known");
  else
    bursar_buffer_format(view->out, "%s of them temporary", bursar_size_count(view->model->temporaries, text));
}

static void print_path(const struct bursar_view *view) {
  const struct bursar_reader *reader = view->model->reader;
  struct bursar_text path = {reader->path, (uint32_t)strlen(reader->path)};
  struct bursar_text python = {reader->header.python_version, (uint32_t)strlen(reader->header.python_version)};
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_escape_terminal(view->out, path);
  bursar_buffer_text(view->out, python.length ? "  Python " : "");
  bursar_escape_terminal(view->out, python);
  bursar_buffer_format(view->out, ", pid %u, %s, %s, %s bytes", reader->header.pid,
                       bursar_reader_life_name(reader->life), view->model->mode, view->model->unit);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

void bursar_view_head(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  char a[BURSAR_SIZE_TEXT], b[BURSAR_SIZE_TEXT], c[BURSAR_SIZE_TEXT], d[BURSAR_SIZE_TEXT];
  char error[BURSAR_ESTIMATE_TEXT];
  print_path(view);
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_format(view->out, "peak %s%s", bursar_size_print(model->peak_bytes, a),
                       bursar_estimate_print(model->errors.peak_bytes, error));
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_format(view->out, " at %.3f s of %.3f s; %s%s live %s, in %s blocks\n",
                       (double)model->peak_time_ns / 1e9, (double)model->run_ns / 1e9,
                       bursar_size_print(model->live.bytes, b), bursar_estimate_print(model->errors.live_bytes, error),
                       model->running ? "now" : "at the end", bursar_size_count(model->live.blocks, c));
  bursar_buffer_format(view->out, "%s allocations, ", bursar_view_number(model->allocations, a));
  bursar_view_temporaries(view);
  bursar_buffer_format(view->out, "; %s frees; %s allocated in all\n", bursar_view_number(model->frees, c),
                       model->allocated_bytes == BURSAR_MODEL_UNKNOWN ? "an unknown amount"
                                                                      : bursar_size_print(model->allocated_bytes, d));
  bursar_view_warnings(view);
  bursar_buffer_char(view->out, '\n');
}

void bursar_view_instant(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  double seconds = (double)model->at_time_ns / 1e9;
  if (view->when == BURSAR_MODEL_PEAK)
    bursar_buffer_format(view->out, "at the peak (%.3f s)", seconds);
  else if (view->when == BURSAR_MODEL_END)
    bursar_buffer_text(view->out, model->running ? "now" : "at the end");
  else
    bursar_buffer_format(view->out, "at %.3f s", seconds);
}
