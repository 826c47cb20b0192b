#include "model/threads.h"

#include <pthread.h>
#include <stdbool.h>

unsigned bursar_threads_parts(uint64_t items, uint64_t each, unsigned threads) {
  uint64_t parts = items / each ? items / each : 1;
  threads = threads && threads < BURSAR_THREADS_MOST ? threads : threads ? BURSAR_THREADS_MOST : 1;
  return parts < threads ? (unsigned)parts : threads;
}

void bursar_threads_run(void *parts, size_t bytes, unsigned count, void *(*work)(void *part)) {
  pthread_t others[BURSAR_THREADS_MOST];
  bool begun[BURSAR_THREADS_MOST] = {false};
  for (unsigned i = 1; i < count; i++)
    begun[i] = pthread_create(&others[i], NULL, work, (char *)parts + i * bytes) == 0;
  for (unsigned i = 0; i < count; i++)
    if (!begun[i])
      (void)work((char *)parts + i * bytes);
  for (unsigned i = 1; i < count; i++)
    if (begun[i])
      pthread_join(others[i], NULL);
}
