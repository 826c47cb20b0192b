/* context.h: the value of a context variable, looked at without the GIL.
 *
 * A thread's context stays, and what it maps never changes in place: setting a variable puts another map into it, which the
 * thread itself alone does, under the GIL.  So a thread that has released the GIL may read its own. */
#ifndef BURSAR_PYEXT_CONTEXT_H
#define BURSAR_PYEXT_CONTEXT_H

#include "compat.h"

struct bursar_context_variable {
  PyObject *object;
  int32_t hash; /* as the map folds it */
};

/* Main GIL, class N.  -1 with an exception.  The variable is kept by whoever made it. */
int bursar_context_variable(PyObject *object, struct bursar_context_variable *out);
/* Borrowed: the context keeps it.  NULL: not set.  Of the calling thread's own state; class H. */
PyObject *bursar_context_find(const PyThreadState *thread, const struct bursar_context_variable *variable);

#endif
