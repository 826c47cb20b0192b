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
#include "open.h"

extern bool bursar_scope_used;

/* The thread's context is not the one that was looked at last. */
static inline bool bursar_scope_stale(void) { return bursar_thread()->context_ver != bursar_account.context_ver; }
static inline bool bursar_scope_moved(void) { return __builtin_expect(bursar_scope_used, 0) && bursar_scope_stale(); }
/* Looks at it.  The thread is at hand (bursar_frames_tag was called). */
void bursar_scope_follow(void);

/* Is it in one that wipes?  Under a GIL of the main interpreter; no allocation. */
bool bursar_scope_wipes(void);

/* Of the innermost scope that watches what is left open, from the variable's value outward; *scope is that scope.  NULL: none.  Any
 * thread whose context has the value. */
struct bursar_open *bursar_scope_open(PyObject *value, PyObject **scope);
/* The next one around that scope; borrowed, or NULL. */
PyObject *bursar_scope_open_around(PyObject *scope);
/* The slot of the entry that the running thread is in, 0: none; and the scope there, or around that, which has the slot
 * (borrowed; NULL: it is C's, or another thread's).  Main GIL; no allocation. */
uint32_t bursar_scope_slot(void);
PyObject *bursar_scope_with(uint32_t slot);

/* C's scopes, of one thread.  Any thread.  A handle; 0 where nothing is counted. */
uint64_t bursar_scope_begin(const char *name, size_t bytes);
void bursar_scope_end(uint64_t handle);

/* Python's tell(). */
PyObject *bursar_scope_tell(PyObject *module, PyObject *args);
/* Python's scope_history(). */
PyObject *bursar_scope_history(PyObject *module, PyObject *name);
/* Adds the type.  0, or -1 with an exception. */
int bursar_scope_add_type(PyObject *module);
/* At the start of books. */
void bursar_scope_start(void);

#endif
