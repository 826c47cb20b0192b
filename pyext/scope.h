/* scope.h: which scope the running thread is in: the value of a context variable, so that tasks have their own, and
 * _bursar.Scope, which sets it.
 *
 * A context switches without telling anybody; its version in the thread state tells.  Asked before each allocation, but only
 * once a scope was entered.
 * Main GIL.  Class H, but for the type. */
#ifndef BURSAR_PYEXT_SCOPE_H
#define BURSAR_PYEXT_SCOPE_H

#include "account/account.h"
#include "compat.h"

extern bool bursar_scope_used;

/* The thread's context is not the one that was looked at last. */
static inline bool bursar_scope_stale(void) { return bursar_thread()->context_ver != bursar_account.context_ver; }
static inline bool bursar_scope_moved(void) { return __builtin_expect(bursar_scope_used, 0) && bursar_scope_stale(); }
/* Looks at it.  The thread is at hand (bursar_frames_tag was called). */
void bursar_scope_follow(void);

/* C's scopes, of one thread.  Any thread.  A handle; 0 where nothing is counted. */
uint64_t bursar_scope_begin(const char *name, size_t bytes);
void bursar_scope_end(uint64_t handle);

/* Adds the type.  0, or -1 with an exception. */
int bursar_scope_add_type(PyObject *module);
/* At the start of books. */
void bursar_scope_start(void);

#endif
