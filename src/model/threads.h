/* threads.h: a piece of work done by several threads at once, each with its part of it.
 *
 * Ownership: the parts are the caller's.  Where no thread can be begun its part is done here.  Class N. */
#ifndef BURSAR_MODEL_THREADS_H
#define BURSAR_MODEL_THREADS_H

#include <stddef.h>
#include <stdint.h>

#define BURSAR_THREADS_MOST 16u

/* How many parts `items` make for so many threads, where `each` are worth one. */
unsigned bursar_threads_parts(uint64_t items, uint64_t each, unsigned threads);
/* Calls work(part) for each of `count` parts of so many bytes, and returns when all have. */
void bursar_threads_run(void *parts, size_t bytes, unsigned count, void *(*work)(void *part));

#endif
