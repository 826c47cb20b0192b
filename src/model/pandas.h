/* pandas.h: frames, series and indexes of pandas', as a pickle says them, made into what _describe_pandas.py writes.
 *
 * Ownership: the caller's nodes.  Errors: a line with the byte, and what it is that is not known.  Threads: one at a time.
 * Class N. */
#ifndef BURSAR_MODEL_PANDAS_H
#define BURSAR_MODEL_PANDAS_H

#include "base/error.h"
#include "model/nodes.h"
#include "model/source.h"

/* Is it a name that means something here? */
bool bursar_pandas_knows(struct bursar_text name);
/* Each object of pandas' becomes a record (nodes.h) where it stands. */
int bursar_pandas_rewrite(struct bursar_nodes *nodes, const struct bursar_source *source, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
