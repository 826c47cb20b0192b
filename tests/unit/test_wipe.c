#include "secret/wipe.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

/* Every length up to some, at every alignment, and past where stores stream: all of it, and nothing else. */
static void test_exactly_its_bytes(void) {
  static unsigned char room[2 * BURSAR_WIPE_STREAM + 256];
  static const size_t lengths[] = {0,
                                   1,
                                   15,
                                   16,
                                   17,
                                   63,
                                   64,
                                   65,
                                   511,
                                   4096,
                                   BURSAR_WIPE_STREAM - 1,
                                   BURSAR_WIPE_STREAM,
                                   BURSAR_WIPE_STREAM + 63,
                                   2 * BURSAR_WIPE_STREAM + 7};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    size_t wrong = 0;
    for (size_t at = 64; at < 64 + 17; at++) {
      size_t around = at + lengths[i] + 128;
      memset(room, 0xA5, around);
      bursar_wipe(room + at, lengths[i]);
      for (size_t k = 0; k < around; k++)
        wrong += room[k] != (k >= at && k < at + lengths[i] ? 0 : 0xA5);
    }
    OK(wrong == 0, "%zu bytes, at any alignment", lengths[i]);
  }
}

int main(void) {
  test_exactly_its_bytes();
  return tap_done();
}
