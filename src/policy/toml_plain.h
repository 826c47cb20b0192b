/* toml_plain.h: values of TOML that stand without quotes: numbers, dates and times, words.
 *
 * Ownership: borrowed texts.  Threads: any.  Class H. */
#ifndef BURSAR_POLICY_TOML_PLAIN_H
#define BURSAR_POLICY_TOML_PLAIN_H

#include "policy/toml.h"

/* The bytes of the value that `at` begins with, whose kind and number go to the node; 0: none does.  *wrong is set, to "what; what to
 * do", where it is one that cannot be. */
size_t bursar_toml_plain(const char *at, const char *end, struct bursar_toml_node *out, const char **wrong);

#endif
