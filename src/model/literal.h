/* literal.h: a literal of Python's, as an npy file's header is one: texts, whole numbers, True, False, tuples, lists, dicts.
 *
 * Ownership: the caller's nodes; the text is borrowed.  Errors: a line with the byte.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_LITERAL_H
#define BURSAR_MODEL_LITERAL_H

#include "base/error.h"
#include "model/nodes.h"

/* `at`: where the text stands in the file, for errors. */
int bursar_literal_read(struct bursar_nodes *nodes, const char *text, size_t length, uint64_t at, const char *path,
                        uint32_t *out, struct bursar_error *error) __attribute__((warn_unused_result));

#endif
