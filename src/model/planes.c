#include "model/planes.h"

#include <string.h>

/* The compiler makes vectors of these loops; with AVX2 where there is that. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  #define WIDE __attribute__((target("avx2")))
  #define HAS_WIDE __builtin_cpu_supports("avx2")
#else
  #define WIDE
  #define HAS_WIDE 0
#endif
/* Wherever they lie. */
typedef uint16_t any16 __attribute__((aligned(1), may_alias));
typedef uint32_t any32 __attribute__((aligned(1), may_alias));
typedef uint64_t any64 __attribute__((aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

unsigned bursar_planes_count(unsigned element) { return element == 2 ? 2 : element == 4 ? 3 : element == 8 ? 8 : 0; }

unsigned bursar_planes_width(unsigned element, unsigned plane) { return element == 4 && plane == 2 ? 2 : 1; }

INLINE void split2(const any16 *in, size_t count, unsigned char *top, unsigned char *low) {
  for (size_t i = 0; i < count; i++) {
    uint16_t y = (uint16_t)(in[i] << 1 | in[i] >> 15);
    top[i] = (unsigned char)(y >> 8);
    low[i] = (unsigned char)y;
  }
}

INLINE void join2(const unsigned char *top, const unsigned char *low, size_t count, any16 *out) {
  for (size_t i = 0; i < count; i++) {
    uint16_t y = (uint16_t)(top[i] << 8 | low[i]);
    out[i] = (uint16_t)(y >> 1 | y << 15);
  }
}

INLINE void split4(const any32 *in, size_t count, unsigned char *top, unsigned char *below, any16 *low) {
  for (size_t i = 0; i < count; i++) {
    uint32_t y = in[i] << 1 | in[i] >> 31;
    top[i] = (unsigned char)(y >> 24);
    below[i] = (unsigned char)(y >> 16);
    low[i] = (uint16_t)y;
  }
}

INLINE void join4(const unsigned char *top, const unsigned char *below, const any16 *low, size_t count, any32 *out) {
  for (size_t i = 0; i < count; i++) {
    uint32_t y = (uint32_t)top[i] << 24 | (uint32_t)below[i] << 16 | low[i];
    out[i] = y >> 1 | y << 31;
  }
}

INLINE void split8(const any64 *in, size_t count, unsigned char *const planes[]) {
  for (size_t i = 0; i < count; i++) {
    uint64_t y = in[i] << 1 | in[i] >> 63;
    for (unsigned k = 0; k < 8; k++)
      planes[k][i] = (unsigned char)(y >> (56 - 8 * k));
  }
}

INLINE void join8(const unsigned char *const planes[], size_t count, any64 *out) {
  for (size_t i = 0; i < count; i++) {
    uint64_t y = 0;
    for (unsigned k = 0; k < 8; k++)
      y = y << 8 | planes[k][i];
    out[i] = y >> 1 | y << 63;
  }
}

INLINE void split(unsigned element, const void *in, size_t count, unsigned char *const planes[]) {
  if (element == 2)
    split2(in, count, planes[0], planes[1]);
  else if (element == 4)
    split4(in, count, planes[0], planes[1], (any16 *)(void *)planes[2]);
  else
    split8(in, count, planes);
}

INLINE void join(unsigned element, const unsigned char *const planes[], size_t count, void *out) {
  if (element == 2)
    join2(planes[0], planes[1], count, out);
  else if (element == 4)
    join4(planes[0], planes[1], (const any16 *)(const void *)planes[2], count, out);
  else
    join8(planes, count, out);
}

WIDE static void split_wide(unsigned element, const void *in, size_t count, unsigned char *const planes[]) {
  split(element, in, count, planes);
}
WIDE static void join_wide(unsigned element, const unsigned char *const planes[], size_t count, void *out) {
  join(element, planes, count, out);
}
static void split_plain(unsigned element, const void *in, size_t count, unsigned char *const planes[]) {
  split(element, in, count, planes);
}
static void join_plain(unsigned element, const unsigned char *const planes[], size_t count, void *out) {
  join(element, planes, count, out);
}

void bursar_planes_split(unsigned element, const void *in, size_t count, unsigned char *const planes[]) {
  (HAS_WIDE ? split_wide : split_plain)(element, in, count, planes);
}
void bursar_planes_join(unsigned element, const unsigned char *const planes[], size_t count, void *out) {
  (HAS_WIDE ? join_wide : join_plain)(element, planes, count, out);
}
