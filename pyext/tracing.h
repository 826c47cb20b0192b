/* tracing.h: in modes sample and count, the whole stacks of all blocks that begin in entries of a scope which has just been found to
 * leak (account/verdict.h), until it is known what survived.
 *
 * Only beginnings are noted: a block lives as long as the cell of its address names its entry (account/charges.h).
 * Any thread, inside the books; while folding is held off, or under the main GIL.  Class H, but for memory at first. */
#ifndef BURSAR_PYEXT_TRACING_H
#define BURSAR_PYEXT_TRACING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/verdict.h"

/* A block of the entry that has the slot begins. */
void bursar_tracing_begins(const void *p, size_t usable, bool pool, uint32_t slot, bool gil);
/* Adds those that live still.  Main GIL, under the lock. */
void bursar_tracing_survivors(struct bursar_verdict_table *table);
/* Forgets all.  Main GIL. */
void bursar_tracing_drop(void);

#endif
