/* allowed.h: the names that may be in a model: those of python/bursar/_describe.py, and what arrays are made of.
 *
 * Nothing is imported here, so of the families (sklearn's estimators, torch's modules) a name has to look like one of a class;
 * that it is one of the family is looked at when the model is loaded.
 * Ownership: texts are borrowed.  Threads: any.  Safety class F. */
#ifndef BURSAR_MODEL_ALLOWED_H
#define BURSAR_MODEL_ALLOWED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/escape.h"

#define BURSAR_ALLOWED_NAME 512u /* bytes of a name with its module; what is longer is no name */

/* Names that the user allows. */
struct bursar_allowed_more {
  const char *const *names;
  size_t count;
};

/* "module.name", as libraries call it today.  False: it is longer than a name. */
bool bursar_allowed_name(struct bursar_text module, struct bursar_text name, char out[BURSAR_ALLOWED_NAME]);
/* May an object be made by it, when the model is loaded? */
bool bursar_allowed_makes(struct bursar_text name, struct bursar_allowed_more more);
/* The same, or it means something to who reads a pickle: a part of what an array is made of, a type. */
bool bursar_allowed_known(struct bursar_text name, struct bursar_allowed_more more);
/* Of names that stand for themselves: how _describe.py calls such a node, and its name there; NULL: it is none. */
const char *bursar_allowed_kind(struct bursar_text name, struct bursar_text *shown);

#endif
