/* Wipes what nobody reads afterwards: a compiler that may takes such stores out.  Prints how much of it is left on the dead
 * stack, and in a freed block. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "secret/wipe.h"

#ifdef LEFT_OUT
  #define WIPE(p, bytes) memset(p, 0, bytes)
#else
  #define WIPE(p, bytes) bursar_wipe(p, bytes)
#endif
#define BYTES 400

static unsigned sum;
static const volatile unsigned char *was;

__attribute__((noinline)) static void fill(unsigned char *p, unsigned seed) {
  for (unsigned i = 0; i < BYTES; i++)
    p[i] = (unsigned char)(0x80 | (i * 7 + seed));
}

__attribute__((noinline)) static void on_the_stack(unsigned seed) {
  unsigned char secret[BYTES];
  fill(secret, seed);
  for (unsigned i = 0; i < BYTES; i++)
    sum += secret[i];
  was = secret;
  WIPE(secret, sizeof secret);
}

__attribute__((noinline)) static void in_a_block(unsigned seed) {
  unsigned char *secret = malloc(BYTES);
  if (!secret)
    abort();
  fill(secret, seed);
  for (unsigned i = 0; i < BYTES; i++)
    sum += secret[i];
  was = secret;
  WIPE(secret, BYTES);
  free(secret);
}

static unsigned left(void) {
  unsigned n = 0;
  for (unsigned i = 64; i < BYTES; i++) /* before that a free block has its links */
    n += was[i] >> 7;
  return n;
}

int main(int argc, char **argv) {
  on_the_stack((unsigned)argc);
  unsigned stack = left();
  in_a_block((unsigned)argc);
  printf("%u %u %u\n", stack, left(), sum != 0);
  return 0;
}
