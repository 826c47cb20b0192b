/* tune.h: settings of the C library's malloc, which it reads once, before a program begins.
 *
 * Class N. */
#ifndef BURSAR_POLICY_TUNE_H
#define BURSAR_POLICY_TUNE_H

#include <stddef.h>

#define BURSAR_TUNE_ROOM 256u

/* The profiles' names; NULL ends them. */
extern const char *const bursar_tune_names[];
/* Puts a profile's settings behind what GLIBC_TUNABLES holds, those left out that the user has chosen there or by MALLOC_….
 * `added` is what was put behind, for whoever takes it out again; "": nothing.  0 or a negative errno. */
int bursar_tune_set(const char *name, char added[BURSAR_TUNE_ROOM]) __attribute__((warn_unused_result));

#endif
