/* counters.c: what it takes to read another process's counters: bench/balance.py compiles it against the core.
 * `counters PID` prints nanoseconds to read live and peak bytes of mapped books, and to find, map, read and unmap them. */
#include <stdio.h>
#include <stdlib.h>

#include "ledger/ask.h"
#include "prim/prim.h"

#define READS 1000000u
#define OPENS 200u

static volatile uint64_t seen;

static void read_all(const struct bursar_ask_counters *counters) {
  seen = bursar_ask_live(counters);
  seen = *(const volatile uint64_t *)&counters->books->peak;
}

static int open_map(pid_t pid, struct bursar_ask *ask, struct bursar_ask_counters *counters) {
  struct bursar_error error;
  if (bursar_ask_open(pid, ask, &error) != 0 || ask->place.fd < 0)
    return -1;
  return bursar_ask_map(ask, counters);
}

static void close_both(struct bursar_ask *ask, struct bursar_ask_counters *counters) {
  bursar_ask_unmap(counters);
  bursar_ask_close(ask);
}

int main(int argc, char **argv) {
  static struct bursar_ask ask;
  struct bursar_ask_counters counters;
  pid_t pid = argc > 1 ? (pid_t)atol(argv[1]) : 0;
  if (open_map(pid, &ask, &counters) != 0) {
    fprintf(stderr, "counters: process %ld keeps no books\n", (long)pid);
    return 1;
  }
  uint64_t began = bursar_prim_now();
  for (unsigned i = 0; i < READS; i++)
    read_all(&counters);
  double each = (double)(bursar_prim_now() - began) / READS;
  close_both(&ask, &counters);
  began = bursar_prim_now();
  for (unsigned i = 0; i < OPENS; i++) {
    if (open_map(pid, &ask, &counters) != 0)
      return 1;
    read_all(&counters);
    close_both(&ask, &counters);
  }
  printf("%.1f %.1f\n", each, (double)(bursar_prim_now() - began) / OPENS);
  return 0;
}
