/* model_scopes.h: the model's part that is scopes and events: see model.h. */
#ifndef BURSAR_REPORT_MODEL_SCOPES_H
#define BURSAR_REPORT_MODEL_SCOPES_H

#include "report/model.h"

/* Fills scopes and events of a model from its reader; run_ns is known.  Ownership: the model's.  Threads: one.  Class N. */
int bursar_model_scopes_load(struct bursar_model *model, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
