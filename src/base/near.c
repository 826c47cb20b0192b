#include "base/near.h"

#include <string.h>

#define WORD_MAX 32 /* longer words are near to nothing */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Letters to change, add, drop or swap with their neighbour to make one word of the other. */
static size_t distance(const char *a, const char *b) {
  size_t row[3][WORD_MAX + 1];
  size_t la = strlen(a);
  size_t lb = strlen(b);
  if (la > WORD_MAX || lb > WORD_MAX)
    return WORD_MAX;
  for (size_t j = 0; j <= lb; j++)
    row[0][j] = j;
  for (size_t i = 1; i <= la; i++) {
    size_t *now = row[i % 3];
    const size_t *before = row[(i + 2) % 3];
    now[0] = i;
    for (size_t j = 1; j <= lb; j++) {
      now[j] = least(least(before[j] + 1, now[j - 1] + 1), before[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = least(now[j], row[(i + 1) % 3][j - 2] + 1);
    }
  }
  return row[la % 3][lb];
}

const char *bursar_near(const char *word, const char *const *words) {
  const char *best = NULL;
  size_t best_distance = WORD_MAX;
  size_t length = strlen(word);
  for (; *words; words++) {
    size_t far = length >= 2 && strncmp(word, *words, length) == 0 ? 1 : distance(word, *words);
    if (far < best_distance) {
      best_distance = far;
      best = *words;
    }
  }
  /* A third of the letters may be wrong, at least one. */
  return best && best_distance <= 1 + length / 3 && best_distance < length ? best : NULL;
}
