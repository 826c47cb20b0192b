/* tap.h: the Test Anything Protocol in a few lines.  Include it in one file a test program. */
#ifndef BURSAR_TESTS_TAP_H
#define BURSAR_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failures;

__attribute__((format(printf, 4, 5))) static inline bool tap_result(bool good, const char *file, int line,
                                                                    const char *format, ...) {
  va_list args;
  printf("%s %d - ", good ? "ok" : "not ok", ++tap_count);
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  printf("\n");
  fflush(stdout); /* a forked child writes what it finds there once more, under ThreadSanitizer in _exit too */
  if (!good) {
    tap_failures++;
    printf("# failed at %s:%d\n", file, line);
  }
  return good;
}

static inline bool tap_equal(long long got, long long want, const char *file, int line, const char *what) {
  bool good = tap_result(got == want, file, line, "%s is %lld", what, want);
  if (!good)
    printf("# got %lld\n", got);
  return good;
}

static inline bool tap_same(const char *got, const char *want, const char *file, int line, const char *what) {
  bool good = tap_result(got && strcmp(got, want) == 0, file, line, "%s", what);
  if (!good)
    printf("# want: %s\n# got:  %s\n", want, got ? got : "(null)");
  return good;
}

static inline bool tap_contains(const char *text, const char *part, bool wanted, const char *file, int line) {
  bool good = tap_result((strstr(text, part) != NULL) == wanted, file, line, "has %s%s", wanted ? "" : "not ", part);
  if (!good)
    printf("# in: %.2000s\n", text);
  return good;
}

/* A condition, a number and its value, a text and its value. */
#define OK(condition, ...) tap_result((condition), __FILE__, __LINE__, __VA_ARGS__)
#define EQ(got, want) tap_equal((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define SAME(got, want) tap_same((got), (want), __FILE__, __LINE__, #got)
#define HAS(text, part) tap_contains((text), (part), true, __FILE__, __LINE__)
#define HAS_NOT(text, part) tap_contains((text), (part), false, __FILE__, __LINE__)

/* The last line of main. */
static inline int tap_done(void) {
  printf("1..%d\n", tap_count);
  return tap_failures ? 1 : 0;
}

#endif
