/* symbols_sample.c: a library whose functions and lines test_symbols.c knows. */
void *sample_here(void);
void *sample_inlined(void);

__attribute__((noinline)) static void *return_address(void) { return __builtin_return_address(0); }

void *sample_here(void) {
  void *here = return_address(); /* line 8 */
  __asm__ volatile("" : "+r"(here));
  return here;
}

static inline __attribute__((always_inline)) void *innermost(void) {
  void *here = return_address(); /* line 14 */
  __asm__ volatile("" : "+r"(here));
  return here;
}

static inline __attribute__((always_inline)) void *between(void) {
  void *here = innermost(); /* line 20 */
  __asm__ volatile("" : "+r"(here));
  return here;
}

void *sample_inlined(void) {
  void *here = between(); /* line 26 */
  __asm__ volatile("" : "+r"(here));
  return here;
}
