#include "ledger/sketch.h"

/* In the middle of what a counter stands for, so that it is wrong by a sixteenth of a doubling at most, either way. */
static uint64_t bytes_of(uint32_t counter) {
  static const double middle[BURSAR_SKETCH_OCTAVE] = {1.0442737824274138, 1.1387886347566916, 1.241857812073484,
                                                      1.3542555469368927, 1.4768261459394993, 1.6104903319492543,
                                                      1.7562521603732995, 1.9152065613971472};
  if (counter == 0)
    return 0;
  if (counter == BURSAR_SKETCH - 1)
    return BURSAR_SKETCH_UNKNOWN; /* so much or more */
  return (uint64_t)(middle[counter % BURSAR_SKETCH_OCTAVE] * (double)(1ull << counter / BURSAR_SKETCH_OCTAVE) + 0.5);
}

/* The peak of the nearest rank: so many percent of the calls have it, or less. */
uint64_t bursar_sketch_quantile(const struct bursar_scope_name *name, unsigned percent) {
  uint64_t calls = 0, before = 0;
  for (uint32_t i = 0; i < BURSAR_SKETCH; i++)
    calls += name->sketch[i];
  if (!calls)
    return BURSAR_SKETCH_UNKNOWN;
  uint64_t rank = (calls * percent + 99) / 100;
  for (uint32_t i = 0; i < BURSAR_SKETCH; i++) {
    before += name->sketch[i];
    if (before < rank)
      continue;
    uint64_t bytes = bytes_of(i);
    return bytes != BURSAR_SKETCH_UNKNOWN && bytes > name->peak_max ? name->peak_max : bytes;
  }
  return BURSAR_SKETCH_UNKNOWN;
}
