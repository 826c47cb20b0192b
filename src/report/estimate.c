#include "report/estimate.h"

#include <math.h>
#include <stdio.h>

#include "base/size.h"

static uint64_t whole(double figure) { return figure > 0 ? (uint64_t)(figure + 0.5) : 0; }

/* Mappings are booked exactly in every mode. */
static bool is_estimate(const struct bursar_model_site *site) { return site->domain != BURSAR_DOMAIN_MMAP; }

/* Which of the variances that were saved holds. */
struct moment {
  double blocks, variance, blocks_variance;
};

static struct moment now_of(const struct bursar_estimate *e) {
  return (struct moment){e->live_blocks, e->live_variance, e->live_blocks_variance};
}

static struct moment end_of(const struct bursar_model *model, const struct bursar_estimate *e) {
  bool saved = model->end_is_tick && e->end_tick == (uint32_t)model->reader->counts.end_tick;
  return saved ? (struct moment){e->end_blocks, e->end_variance, e->end_blocks_variance} : now_of(e);
}

static struct moment peak_of(const struct bursar_model *model, const struct bursar_estimate *e) {
  bool saved = !model->peak_is_now && e->peak_epoch == model->reader->books.peak_epoch;
  return saved ? (struct moment){e->peak_blocks, e->peak_variance, e->peak_blocks_variance} : now_of(e);
}

static void clear_site(struct bursar_model *model, uint32_t i) {
  struct bursar_model_site *site = &model->sites[i];
  site->samples = site->allocations;
  site->allocations = site->live.blocks = site->peak.blocks = model->last[i].blocks = 0;
}

/* Errors are sums of variances until all are added. */
static void add_site(struct bursar_model *model, uint32_t ledger, uint32_t i) {
  struct bursar_model_site *site = &model->sites[i];
  const struct bursar_estimate *e = &model->reader->estimate[ledger];
  struct moment now = now_of(e), end = end_of(model, e), peak = peak_of(model, e);
  site->allocations += whole(e->allocs);
  model->last[i].blocks += whole(now.blocks);
  site->live.blocks += whole(end.blocks);
  site->peak.blocks += whole(peak.blocks);
  site->errors.live_bytes += end.variance;
  site->errors.live_blocks += end.blocks_variance;
  site->errors.peak_bytes += peak.variance;
  site->errors.peak_blocks += peak.blocks_variance;
  site->errors.allocated_bytes += e->alloc_variance;
  site->errors.allocations += e->allocs_variance;
}

static void finish_site(struct bursar_model *model, uint32_t i) {
  struct bursar_model_site *site = &model->sites[i];
  struct bursar_model_errors *errors = &site->errors;
  site->frees = site->allocations > model->last[i].blocks ? site->allocations - model->last[i].blocks : 0;
  errors->live_bytes = sqrt(errors->live_bytes);
  errors->live_blocks = sqrt(errors->live_blocks);
  errors->allocated_bytes = sqrt(errors->allocated_bytes);
  errors->allocations = sqrt(errors->allocations);
  errors->peak_bytes = sqrt(errors->peak_bytes);
  errors->peak_blocks = sqrt(errors->peak_blocks);
  /* What threads without a stack held at the peak is known, but not how well. */
  if (site->outside && !model->peak_is_now) {
    errors->peak_bytes = errors->peak_blocks = NAN;
    site->peak.blocks = BURSAR_MODEL_UNKNOWN;
  }
}

static void load_sites(struct bursar_model *model, const uint32_t *index_of) {
  for (uint32_t i = 0; i < model->site_count; i++)
    if (is_estimate(&model->sites[i]))
      clear_site(model, i);
  for (uint32_t ledger = 0; ledger < model->reader->sites; ledger++) {
    uint32_t i = index_of[ledger];
    if (i != BURSAR_READER_NONE && is_estimate(&model->sites[i]))
      add_site(model, ledger, i);
  }
  for (uint32_t i = 0; i < model->site_count; i++)
    if (is_estimate(&model->sites[i]))
      finish_site(model, i);
}

static void add_square(double *sum, double error) { *sum += error * error; }

/* Samples are independent of each other, so variances add up. */
static void sum_up(struct bursar_model *model) {
  struct bursar_model_errors *all = &model->errors;
  model->live.blocks = 0;
  for (uint32_t i = 0; i < model->site_count; i++) {
    const struct bursar_model_site *site = &model->sites[i];
    model->live.blocks += site->live.blocks;
    add_square(&all->live_bytes, site->errors.live_bytes);
    add_square(&all->live_blocks, site->errors.live_blocks);
    if (!isnan(site->errors.peak_bytes)) /* of threads without the GIL: a small part, as a rule */
      add_square(&all->peak_bytes, site->errors.peak_bytes);
    add_square(&model->live_errors_by_domain[site->domain], site->errors.live_bytes);
    add_square(&model->peak_errors_by_domain[site->domain], site->errors.peak_bytes);
  }
  all->live_bytes = sqrt(all->live_bytes);
  all->live_blocks = sqrt(all->live_blocks);
  all->peak_bytes = sqrt(all->peak_bytes);
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    model->live_errors_by_domain[domain] = sqrt(model->live_errors_by_domain[domain]);
    model->peak_errors_by_domain[domain] = sqrt(model->peak_errors_by_domain[domain]);
  }
}

void bursar_estimate_load(struct bursar_model *model, const uint32_t *index_of) {
  const struct bursar_reader *reader = model->reader;
  model->estimated = reader->header.mode == BURSAR_MODE_SAMPLE;
  if (reader->header.mode != BURSAR_MODE_EXACT)
    model->temporaries = BURSAR_MODEL_UNKNOWN;
  if (reader->header.mode == BURSAR_MODE_COUNT && !model->peak_is_now)
    for (uint32_t i = 0; i < model->site_count; i++)
      model->sites[i].peak.blocks = BURSAR_MODEL_UNKNOWN;
  if (!model->estimated)
    return;
  load_sites(model, index_of);
  sum_up(model);
  /* What was allocated was counted, all of it. */
  const struct bursar_tally *maps = &reader->total[BURSAR_DOMAIN_MMAP];
  bool known = reader->counted_known;
  model->allocations = known ? maps->allocs : BURSAR_MODEL_UNKNOWN;
  model->frees = BURSAR_MODEL_UNKNOWN; /* those of chosen blocks alone are counted */
  model->allocated_bytes = known ? maps->alloc_bytes : BURSAR_MODEL_UNKNOWN;
  for (unsigned domain = 0; known && domain < BURSAR_DOMAIN_COUNT; domain++) {
    model->allocations += reader->counted[domain].allocs;
    model->allocated_bytes += reader->counted[domain].alloc_bytes;
  }
}

void bursar_estimate_choose(struct bursar_model *model, enum bursar_model_when when) {
  struct bursar_model_errors *all = &model->errors;
  if (!model->estimated)
    return;
  all->at_bytes = when == BURSAR_MODEL_PEAK ? all->peak_bytes : when == BURSAR_MODEL_END ? all->live_bytes : NAN;
  all->at_blocks = when == BURSAR_MODEL_END ? all->live_blocks : NAN;
  for (uint32_t i = 0; i < model->site_count; i++) {
    struct bursar_model_site *site = &model->sites[i];
    struct bursar_model_errors *errors = &site->errors;
    if (!is_estimate(site))
      continue;
    errors->at_bytes = when == BURSAR_MODEL_PEAK  ? errors->peak_bytes
                       : when == BURSAR_MODEL_END ? errors->live_bytes
                                                  : NAN;
    errors->at_blocks = when == BURSAR_MODEL_PEAK  ? errors->peak_blocks
                        : when == BURSAR_MODEL_END ? errors->live_blocks
                                                   : NAN;
    if (when == BURSAR_MODEL_TIME) /* the journal keeps samples, not blocks */
      site->at.blocks = BURSAR_MODEL_UNKNOWN;
  }
}

char *bursar_estimate_print(double error, char out[BURSAR_ESTIMATE_TEXT]) {
  char size[BURSAR_SIZE_TEXT];
  out[0] = 0;
  if (error > 0)
    snprintf(out, BURSAR_ESTIMATE_TEXT, " \xc2\xb1 %s", bursar_size_print(whole(error), size));
  return out;
}
