#include "secret/wipe.h"

#include <string.h>

#ifdef __SSE2__
  #include <emmintrin.h>
#endif

/* What the asm may have read is not dead, so the stores before it stay, at any level of optimisation. */
static inline void keep(void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }

#ifdef __SSE2__
static void stream(char *p, size_t bytes) {
  size_t head = -(size_t)p & 15;
  memset(p, 0, head);
  p += head;
  bytes -= head;
  const __m128i zero = _mm_setzero_si128();
  for (; bytes >= 64; p += 64, bytes -= 64) {
    _mm_stream_si128((__m128i *)(void *)p, zero);
    _mm_stream_si128((__m128i *)(void *)(p + 16), zero);
    _mm_stream_si128((__m128i *)(void *)(p + 32), zero);
    _mm_stream_si128((__m128i *)(void *)(p + 48), zero);
  }
  _mm_sfence(); /* before the block is another thread's */
  memset(p, 0, bytes);
}
#else
static void stream(char *p, size_t bytes) { memset(p, 0, bytes); }
#endif

void bursar_wipe(void *p, size_t bytes) {
  if (bytes >= BURSAR_WIPE_STREAM)
    stream(p, bytes);
  else
    memset(p, 0, bytes);
  keep(p);
}
