#include "base/size.h"
#include "ledger/domains.h"
#include "report/views.h"

/* One row a site: what it held, and where. */
#define FIXED_COLUMNS 40 /* share, size, blocks, domain, and the gaps; the bar comes on top */

static void print_title(const struct bursar_view *view, const char *what) {
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_text(view->out, what);
  bursar_view_instant(view);
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  bursar_buffer_char(view->out, '\n');
}

static void print_headings(const struct bursar_view *view, const char *first) {
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_format(view->out, "%*s%7s %9s %s%8s  %-10s  %s\n", (int)bursar_view_bar_columns(view), "", "share",
                       first, view->model->estimated ? "\xc2\xb1 error    " : "", "blocks", "domain",
                       "function, line, callers");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
}

/* The error beside a figure, where all of them are estimates. */
static void print_error(const struct bursar_view *view, double error) {
  char text[BURSAR_SIZE_TEXT];
  if (!view->model->estimated)
    return;
  if (error >= 0)
    bursar_buffer_format(view->out, "\xc2\xb1 %-9s ", bursar_size_print((uint64_t)(error + 0.5), text));
  else
    bursar_buffer_format(view->out, "\xc2\xb1 %-9s ", "not known");
}

static void print_where(const struct bursar_view *view, const struct bursar_model_site *site) {
  unsigned taken = FIXED_COLUMNS + bursar_view_bar_columns(view) + (view->model->estimated ? 12 : 0);
  bursar_buffer_format(view->out, "  %-10s  ", bursar_domains_name(site->domain));
  size_t room = view->width > taken ? view->width - taken : 0;
  if (view->model->reader->header.mode == BURSAR_MODE_COUNT)
    bursar_buffer_text(view->out, "(all of it: mode count keeps no stacks)");
  else if (site->outside)
    bursar_buffer_text(view->out, view->model->plain ? "(no stack)" : "(outside the GIL: no stack)");
  else
    bursar_view_stack(view, site->node, room < 16 ? 16 : room);
  bursar_buffer_char(view->out, '\n');
}

static void print_row(const struct bursar_view *view, const struct bursar_model_site *site, struct bursar_held held,
                      uint64_t whole, double error) {
  bursar_view_bar(view, held.bytes, whole);
  bursar_view_share(view, held.bytes, whole);
  bursar_buffer_char(view->out, ' ');
  bursar_view_size(view, held.bytes);
  bursar_buffer_char(view->out, ' ');
  print_error(view, error);
  bursar_view_count(view, held.blocks);
  print_where(view, site);
}

void bursar_table_print(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  uint64_t rest = 0, rest_bytes = 0;
  print_title(view, "Held ");
  print_headings(view, "bytes");
  for (uint32_t i = 0; i < model->site_count && !view->out->failed; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    if (!site->at.bytes)
      continue;
    if (bursar_view_shows(i, site->at.bytes, model->at.bytes)) {
      print_row(view, site, site->at, model->at.bytes, site->errors.at_bytes);
      continue;
    }
    rest++;
    rest_bytes += site->at.bytes;
  }
  if (rest)
    bursar_view_rest(view, rest, "sites", rest_bytes, model->at.bytes);
  if (!model->at.bytes)
    bursar_buffer_text(view->out, "nothing was held\n");
}

void bursar_table_print_leaks(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  uint64_t rows = 0, rest = 0, rest_bytes = 0, whole = 0;
  char text[BURSAR_SIZE_TEXT];
  for (uint32_t i = 0; i < model->site_count; i++)
    if (model->sites[i].leak)
      whole += model->sites[i].live.bytes;
  print_title(view, model->plain ? "Allocated since the start, and still live "
                                 : "Allocated while __main__ ran, and still live ");
  print_headings(view, "bytes");
  for (uint32_t i = 0; i < model->site_count && !view->out->failed; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    if (!site->leak)
      continue;
    if (bursar_view_shows(rows++, site->live.bytes, whole)) {
      print_row(view, site, site->live, whole, site->errors.live_bytes);
      continue;
    }
    rest++;
    rest_bytes += site->live.bytes;
  }
  if (rest)
    bursar_view_rest(view, rest, "sites", rest_bytes, whole);
  if (rows)
    bursar_buffer_format(view->out, "%s in all\n", bursar_size_print(whole, text));
  else
    bursar_buffer_text(view->out, "nothing was left over\n");
}

void bursar_table_print_temporary(const struct bursar_view *view) {
  const struct bursar_model *model = view->model;
  uint64_t rows = 0, rest = 0, rest_count = 0;
  char text[BURSAR_SIZE_TEXT], more[BURSAR_SIZE_TEXT];
  if (model->temporaries == BURSAR_MODEL_UNKNOWN) {
    bursar_buffer_format(view->out, "mode %s does not tell temporary allocations: use mode exact\n", model->mode);
    return;
  }
  bursar_view_style(view, BURSAR_STYLE_BOLD);
  bursar_buffer_format(view->out, "Temporary allocations: freed before their thread's next %u\n",
                       model->temporary_within ? model->temporary_within : 1);
  bursar_view_style(view, BURSAR_STYLE_DIM);
  bursar_buffer_format(view->out, "%*s%7s %9s %8s  %-10s  %s\n", (int)bursar_view_bar_columns(view), "", "share",
                       "temporary", "of all", "domain", "function, line, callers");
  bursar_view_style(view, BURSAR_STYLE_PLAIN);
  for (uint32_t i = 0; i < model->site_count && !view->out->failed; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    if (!site->temporaries)
      break;
    if (!bursar_view_shows(rows++, site->temporaries, model->temporaries)) {
      rest++;
      rest_count += site->temporaries;
      continue;
    }
    bursar_view_bar(view, site->temporaries, model->temporaries);
    bursar_view_share(view, site->temporaries, model->temporaries);
    bursar_buffer_format(view->out, " %9s ", bursar_size_count(site->temporaries, text));
    bursar_view_count(view, site->allocations);
    print_where(view, site);
  }
  if (rest)
    bursar_buffer_format(view->out, "\xe2\x80\xa6 %s more sites: %s temporary allocations\n",
                         bursar_size_count(rest, text), bursar_size_count(rest_count, more));
  if (!rows)
    bursar_buffer_text(view->out, "there were none\n");
}
