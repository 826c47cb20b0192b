#include "native/marks.h"

#include <pthread.h>
#include <stdlib.h>

#include "tap.h"

static struct bursar_marks marks;

static const void *at(uintptr_t p) { return (const void *)p; }

static void test_one_block_is_one_bit(void) {
  static const uintptr_t places[] = {0x1000, 0x1010, 0x13f0, 0x1400, 0xfffffff0, 0x100000000, 0x7ffffffffff0};
  const size_t count = sizeof places / sizeof *places;
  for (size_t i = 0; i < count; i++) {
    OK(!bursar_marks_has(&marks, at(places[i])), "%#zx is not marked", (size_t)places[i]);
    bursar_marks_put(&marks, at(places[i]));
    bursar_marks_put(&marks, at(places[i])); /* its end was not seen */
    size_t marked = 0;
    for (size_t k = 0; k < count; k++)
      marked += bursar_marks_has(&marks, at(places[k]));
    EQ(marked, i + 1);
    EQ(marks.count, i + 1);
  }
  for (size_t i = 0; i < count; i++) {
    OK(bursar_marks_take(&marks, at(places[i])) && !bursar_marks_take(&marks, at(places[i])), "taken once");
    OK(!bursar_marks_has(&marks, at(places[i])), "and gone");
  }
  EQ(marks.count, 0);
  EQ(marks.lost, 0);
}

static void test_no_address_of_ours(void) {
  bursar_marks_put(&marks, at(1ull << 47));
  EQ(marks.lost, 1);
  OK(!bursar_marks_has(&marks, NULL) && !bursar_marks_take(&marks, NULL), "NULL is nobody's block");
}

/* Blocks of several threads lie in one word. */
#define THREADS 4
#define ROUNDS 20000
static pthread_barrier_t together;

static void *work(void *number) {
  size_t wrong = 0;
  pthread_barrier_wait(&together);
  for (unsigned round = 0; round < ROUNDS; round++)
    for (unsigned k = 0; k < 16; k++) {
      const void *p = at(0x500000000 + ((uintptr_t)number + THREADS * (uintptr_t)k) * 16);
      bursar_marks_put(&marks, p);
      wrong += !bursar_marks_take(&marks, p);
    }
  return (void *)wrong;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  void *wrong[THREADS];
  pthread_barrier_init(&together, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
      abort();
  for (unsigned i = 0; i < THREADS; i++) {
    pthread_join(threads[i], &wrong[i]);
    EQ(wrong[i], 0);
  }
  EQ(marks.count, 0);
}

static void test_any_and_none(void) {
  const void *pool = at(0x6ffffc000);
  OK(!bursar_marks_any(&marks, pool, 16384), "none");
  bursar_marks_put(&marks, at(0x6ffffffe8));
  OK(bursar_marks_any(&marks, pool, 16384), "the last of it");
  OK(!bursar_marks_any(&marks, at(0x6ffff8000), 16384), "none before");
  OK(!bursar_marks_any(&marks, at(0x700000000), 16384), "none behind");
  bursar_marks_clear(&marks);
  OK(!bursar_marks_any(&marks, pool, 16384) && !bursar_marks_has(&marks, at(0x6ffffffe8)), "none any more");
  EQ(marks.count, 0);
}

int main(void) {
  test_one_block_is_one_bit();
  test_no_address_of_ours();
  test_threads();
  test_any_and_none();
  return tap_done();
}
