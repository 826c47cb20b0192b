/* json.h: the facts of a ledger for programs: one JSON object, names as docs say, bytes as integers, times in seconds.
 *
 * Ownership: all borrowed for the call.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_REPORT_JSON_H
#define BURSAR_REPORT_JSON_H

#include "base/buffer.h"
#include "report/model.h"
#include "report/views.h"

#define BURSAR_JSON_SCHEMA 1

/* `live_*` are those of the model's chosen instant; sites come in the model's order.  The views leaks and temporary leave
 * other sites out; the rest list all.  Errors: no memory; what the buffer could not take shows when it is finished. */
int bursar_json_write(const struct bursar_model *model, enum bursar_views_kind kind, enum bursar_model_when when,
                      struct bursar_buffer *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* `"key":1.234567890` from nanoseconds. */
void bursar_json_seconds(struct bursar_buffer *out, const char *key, uint64_t ns);
/* `"key":123`, or null for BURSAR_MODEL_UNKNOWN. */
void bursar_json_number(struct bursar_buffer *out, const char *key, uint64_t value);
/* `"stack":[…]`, innermost frame first. */
void bursar_json_stack(struct bursar_buffer *out, const struct bursar_model *model, uint32_t node);

#endif
