/* open.h: what is opened in a scope and left open at its end.
 *
 * Descriptors are noted by the hooks of native/descriptors.h; threads, subprocesses, memory maps and database connections by
 * audit hooks and their types, as objects.  Nothing of it stands before the first scope asks.  What is said of it is
 * python/bursar/_open.py's business.
 * Main GIL, class N. */
#ifndef BURSAR_PYEXT_OPEN_H
#define BURSAR_PYEXT_OPEN_H

#include "compat.h"

/* Of a scope. */
struct bursar_open {
  uint64_t watch;    /* 0: nothing is watched */
  PyObject *action;  /* "event", "warn" or "error"; NULL: none */
  PyObject *objects; /* a list of what was opened, as tuples; NULL: nothing yet */
};

/* What scopes of that name do where they say nothing: an action; None: nothing.  -1 with an exception. */
int bursar_open_default(PyObject *name, PyObject *action);
/* As the keyword left_open (NULL or None: what was said of the name) has it.  -1 with an exception. */
int bursar_open_ask(struct bursar_open *open, PyObject *action, PyObject *name);
/* Its scope is about to be the value of that context variable.  -1 with an exception. */
int bursar_open_begin(struct bursar_open *open, PyObject *variable);
/* It has ended: tells what is left.  `exit`: what __exit__ was called with.  -1 with an exception. */
int bursar_open_end(struct bursar_open *open, PyObject *scope, PyObject *exit);
/* Whoever watched is gone: nothing is told. */
void bursar_open_drop(struct bursar_open *open);

/* The interpreter has ended that all of this was asked for in: another one begins. */
void bursar_open_forget(void);

/* open_*, for python/bursar/_open.py. */
int bursar_open_add(PyObject *module);

#endif
