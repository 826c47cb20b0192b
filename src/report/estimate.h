/* estimate.h: in mode sample, what the model says is an estimate: blocks, and the standard errors of all figures.
 *
 * Threads: one at a time, as the model.  Class N. */
#ifndef BURSAR_REPORT_ESTIMATE_H
#define BURSAR_REPORT_ESTIMATE_H

#include "report/model.h"

/* Once the sites and the end are loaded.  index_of: by the ledger's index, the site's in the model, or BURSAR_READER_NONE; several
 * may be one.  Nothing in another mode. */
void bursar_estimate_load(struct bursar_model *model, const uint32_t *index_of);
/* Errors of what is held at the chosen instant. */
void bursar_estimate_choose(struct bursar_model *model, enum bursar_model_when when);

/* " ± 1.2 MiB", or nothing where the figure is exact or its error not known.  Returns `out`. */
#define BURSAR_ESTIMATE_TEXT 48
char *bursar_estimate_print(double error, char out[BURSAR_ESTIMATE_TEXT]);

#endif
