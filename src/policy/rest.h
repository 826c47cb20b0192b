/* rest.h: when the process rests: no scope is open anywhere, and for how long that has been so.
 *
 * A request is a scope, whether books are open or not; so what may hold a request up waits for a rest.
 * Any thread.  Class H. */
#ifndef BURSAR_POLICY_REST_H
#define BURSAR_POLICY_REST_H

#include <stdbool.h>
#include <stdint.h>

extern uint32_t bursar_rest_scopes; /* that are open */

static inline void bursar_rest_entered(void) { (void)__atomic_add_fetch(&bursar_rest_scopes, 1, __ATOMIC_SEQ_CST); }
/* Where a forked child leaves its parent's scopes, there are none left. */
void bursar_rest_left(void);
/* Scopes that are open. */
static inline uint32_t bursar_rest_open(void) { return __atomic_load_n(&bursar_rest_scopes, __ATOMIC_SEQ_CST); }
/* How long no scope was open, in ns; 0: one is, or none ever was. */
uint64_t bursar_rest_since(void);
/* How often the last open scope ended: whoever saw this number knows whether there was work since. */
uint64_t bursar_rest_count(void);
/* In a forked child: its parent's other threads are not there, nor what they were in.  Class F. */
void bursar_rest_after_fork(void);

#endif
