/* Limits: what may be set and changed, what they refuse, and the thread that looks at what is resident. */
#include "policy/budget.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account/fold.h"
#include "account/scopes.h"
#include "account_model.h"
#include "policy/rest.h"
#include "policy/watch.h"

#define MIB ((int64_t)1 << 20)
#define MANY 200

static struct account_model model;
static int at; /* blocks that were booked */

static char *place(int i) { return (char *)0x100000000000 + (int64_t)i * 64 * MIB; }

/* A block of the entry's begins: its number. */
static int take(uint32_t slot, int64_t bytes) {
  bursar_account_scope_gil(slot, 0);
  model_book(place(++at), (size_t)bytes, model_site_tag(1, 0), 0);
  return at;
}
static void give(int block) { model_unbook(place(block), 0); }

static bool over(uint32_t slot, int64_t bytes, enum bursar_budget_whose *whose, uint32_t *who) {
  struct bursar_budget_refusal by;
  bool no = bursar_budget_over(slot, bytes, 0, 0, true, &by);
  *whose = by.whose;
  *who = by.slot;
  if (no)
    bursar_budget_refused(&by, bytes, 0, -1);
  return no;
}
static bool passes(uint32_t slot, int64_t bytes) {
  enum bursar_budget_whose whose;
  uint32_t who;
  return !over(slot, bytes, &whose, &who);
}
static bool refused_by(uint32_t slot, int64_t bytes, enum bursar_budget_whose whose, uint32_t who) {
  enum bursar_budget_whose was;
  uint32_t by;
  return over(slot, bytes, &was, &by) && was == whose && by == who;
}

static void test_table(void) {
  char name[BURSAR_LIMITS_NAME_MAX + 1] = "n";
  int64_t bytes;
  EQ(bursar_limits_changes, 0);
  OK(!bursar_limits_find("a", 1), "nothing is said of a name");
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_HARD, 100), 0);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, 101), -EPERM);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, 0), -EPERM);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, 50), 0);
  EQ(bursar_limits_find("a", 1)->now[BURSAR_LIMIT_HARD], 50);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, 100), 0);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_SUM, 7), 0);
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_SUM, 0), 0);
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_HARD, -1), -EINVAL);
  EQ(bursar_limits_set(name, sizeof name, BURSAR_LIMIT_HARD, 1), -ENAMETOOLONG);
  EQ(bursar_limits_set_process(1000), 0);
  EQ(bursar_limits_change_process(1001), -EPERM);
  EQ(bursar_limits_change_process(10), 0);
  EQ(bursar_limits_process(), 10);
  EQ(bursar_limits_set_process(0), 0);
  EQ(bursar_limits_parse("2 GiB", &bytes), 0);
  EQ(bytes, 2048 * MIB);
  EQ(bursar_limits_parse("100%", &bytes), 0);
  int64_t all = bytes;
  EQ(bursar_limits_parse("50%", &bytes), 0);
  OK(bytes > 0 && all / 2 - bytes <= 50 && bytes <= all / 2, "half of it");
  static const char *const wrong[] = {"", "%", "0%", "101%", "-5%", "5%%", " 5%", "0", "-1", "lots"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    EQ(bursar_limits_parse(wrong[i], &bytes), -EINVAL);
  unsigned room = 0;
  for (uint64_t i = 0; i < 2 * BURSAR_LIMITS_NAMES; i++) {
    int length = snprintf(name, sizeof name, "name %llu", (unsigned long long)i);
    room += bursar_limits_set(name, (size_t)length, BURSAR_LIMIT_SOFT, 5) == 0;
  }
  EQ(room, BURSAR_LIMITS_NAMES - 1);
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_HARD, 0), 0); /* known already */
}

static void test_entry(void) {
  uint32_t name = bursar_scopes_name("e", 1), outer = bursar_scopes_enter(name, 0);
  uint32_t inner = bursar_scopes_enter(bursar_scopes_name("i", 1), outer);
  OK(bursar_budget_begin(outer, 32 * MIB, 0, NULL), "a budget begins");
  EQ(bursar_budget_open, 1);
  OK(passes(inner, 31 * MIB) && refused_by(inner, 32 * MIB, BURSAR_BUDGET_ENTRY, outer), "all but the reserve");
  int block = take(inner, 31 * MIB);
  OK(refused_by(inner, 4097, BURSAR_BUDGET_ENTRY, outer) && passes(inner, 4096), "small ones may have that");
  give(block);
  OK(passes(outer, 30 * MIB), "what is freed may be had again");
  (void)bursar_scopes_end(inner);
  struct bursar_budget ended = bursar_budget_end(outer);
  EQ(ended.refused, 2);
  EQ(ended.limit, 32 * MIB);
  EQ(ended.held, 31 * MIB);
  EQ(bursar_budget_open, 0);
  (void)bursar_scopes_end(outer);
}

/* Its limits are those of the moment. */
static void test_named(void) {
  const struct bursar_limits *a = bursar_limits_find("a", 1);
  uint32_t name = bursar_scopes_name("a", 1), slots[MANY];
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_SUM, 160 * MIB), 0);
  uint32_t before = bursar_scopes_enter(name, 0); /* without a budget */
  int held = take(before, 10 * MIB), blocks[MANY];
  (void)bursar_scopes_end(before);
  for (int i = 0; i < MANY; i++) {
    slots[i] = bursar_scopes_enter(name, 0);
    if (!bursar_budget_begin(slots[i], 0, 0, a) || !passes(slots[i], MIB / 2))
      break;
    blocks[i] = take(slots[i], MIB / 2);
  }
  EQ(bursar_budget_sum(a), 10 * MIB + MANY * MIB / 2);
  OK(passes(slots[0], 48 * MIB), "what is not held by others of its name");
  OK(refused_by(slots[7], 50 * MIB, BURSAR_BUDGET_NAME, slots[7]), "and no more than that");
  give(held);
  OK(passes(slots[7], 50 * MIB), "what one that has ended held is had again");
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_SUM, 50 * MIB), 0);
  OK(refused_by(slots[3], MIB, BURSAR_BUDGET_NAME, slots[3]), "made tighter");
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, MIB), 0);
  OK(refused_by(slots[3], MIB / 2, BURSAR_BUDGET_ENTRY, slots[3]), "each of them too");
  EQ(bursar_limits_change("a", 1, BURSAR_LIMIT_HARD, 0), 0);
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_SUM, 0), 0);
  uint32_t late = bursar_scopes_enter(name, 0);
  OK(bursar_budget_begin(late, 0, 0, a), "one that begins while there is no sum");
  int taken = take(late, MIB);
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_SUM, MANY * MIB / 2 + 20 * MIB), 0);
  OK(refused_by(late, 20 * MIB, BURSAR_BUDGET_NAME, late), "counts in the one that is set then");
  EQ(bursar_budget_sum(a), MANY * MIB / 2 + MIB);
  give(taken);
  (void)bursar_budget_end(late);
  (void)bursar_scopes_end(late);
  uint32_t nested = bursar_scopes_enter(name, slots[0]);
  OK(bursar_budget_begin(nested, 0, 0, a), "one within one of its name");
  int block = take(nested, MIB);
  EQ(bursar_budget_sum(a), MANY * MIB / 2 + MIB);
  give(block);
  (void)bursar_budget_end(nested);
  (void)bursar_scopes_end(nested);
  for (int i = 0; i < MANY; i++) {
    give(blocks[i]);
    (void)bursar_budget_end(slots[i]);
    (void)bursar_scopes_end(slots[i]);
  }
  EQ(bursar_budget_sum(a), 0);
  EQ(bursar_budget_open, 0);
}

static void test_process(void) {
  uint32_t big = bursar_scopes_enter(bursar_scopes_name("big", 3), 0);
  uint32_t small = bursar_scopes_enter(bursar_scopes_name("small", 5), 0);
  bursar_rest_entered();
  EQ(bursar_limits_set_process(320 * MIB), 0);
  bursar_budget_seen(100 * MIB); /* of which nothing is booked */
  int kept = take(big, 200 * MIB), mine = take(small, 10 * MIB);
  EQ(bursar_budget_held(), 310 * MIB);
  OK(passes(big, 10 * MIB), "up to the limit");
  OK(refused_by(big, 11 * MIB, BURSAR_BUDGET_PROCESS, big), "who has most is refused more");
  OK(passes(small, 11 * MIB), "others are not");
  OK(passes(small, 30 * MIB), "for a sixteenth");
  OK(refused_by(small, 31 * MIB, BURSAR_BUDGET_PROCESS, small), "and then they are");
  OK(passes(0, 30 * MIB) && !passes(0, 31 * MIB), "so is what is in none");
  int more = take(small, 30 * MIB);
  OK(!passes(small, 5000) && !passes(big, 5000) && passes(small, 4096) && passes(0, 65536) && !passes(0, 65537),
     "but small blocks, and the server's own");
  int far = take(small, MIB);
  OK(!passes(small, 4096) && passes(0, 65536), "for 1 MiB more");
  give(far);
  give(more);
  OK(passes(big, 4096), "small blocks of who has most are not, for as long");
  bursar_budget_seen(330 * MIB);
  OK(refused_by(big, 5000, BURSAR_BUDGET_PROCESS, big) && passes(small, 5000), "what is resident counts too");
  give(kept);
  EQ(bursar_budget_held(), 130 * MIB);
  OK(passes(big, 100 * MIB), "what was given back since it was looked at as well");
  bursar_rest_left();
  OK(!passes(0, 191 * MIB) && passes(0, 190 * MIB), "where no scope is open the limit is for what is in none");
  give(mine);
  EQ(bursar_budget_open, 2); /* those who were refused */
  EQ(bursar_budget_end(big).whose, BURSAR_BUDGET_PROCESS);
  EQ(bursar_budget_end(small).limit, 320 * MIB);
  (void)bursar_scopes_end(big);
  (void)bursar_scopes_end(small);
  EQ(bursar_limits_set_process(0), 0);
}

static void test_soft(void) {
  uint32_t slot = bursar_scopes_enter(bursar_scopes_name("s", 1), 0);
  OK(bursar_budget_begin(slot, 0, 16 * MIB, NULL), "soft");
  EQ(bursar_budget_soft(slot, 16 * MIB), 0);
  EQ(bursar_budget_soft(slot, 16 * MIB + 1), slot);
  EQ(bursar_budget_soft(slot, 20 * MIB), 0);
  EQ(bursar_budget_soft(slot, 14 * MIB), 0);
  EQ(bursar_budget_soft(slot, 17 * MIB), slot);
  (void)bursar_budget_end(slot);
  (void)bursar_scopes_end(slot);
}

static void *ask_without_gil(void *given) {
  struct bursar_budget_refusal by;
  uint32_t slot = *(const uint32_t *)given;
  long refused = 0;
  for (int i = 0; i < 20000; i++) {
    bursar_fold_hold_off();
    refused += bursar_budget_over(slot, 10 * MIB, 0, 0, false, &by);
    bursar_fold_let_go();
  }
  return (void *)refused;
}

/* Threads without the GIL ask while entries of the name come and go. */
static void test_threads(void) {
  const struct bursar_limits *a = bursar_limits_find("a", 1);
  uint32_t name = bursar_scopes_name("a", 1), slot = bursar_scopes_enter(name, 0);
  pthread_t thread[2];
  void *refused[2];
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_SUM, 5 * MIB), 0);
  OK(bursar_budget_begin(slot, 0, 0, a), "an entry of the name");
  for (int i = 0; i < 2; i++)
    pthread_create(&thread[i], NULL, ask_without_gil, &slot);
  for (int i = 0; i < 3000; i++) {
    uint32_t other = bursar_scopes_enter(name, 0);
    if (!bursar_budget_begin(other, 0, 0, a))
      break;
    int block = take(other, 100);
    (void)bursar_budget_end(other);
    (void)bursar_scopes_end(other);
    if (i % 2)
      give(block);
  }
  for (int i = 0; i < 2; i++) {
    pthread_join(thread[i], &refused[i]);
    EQ((long)refused[i], 20000);
  }
  EQ(bursar_budget_sum(a), 150000);
  (void)bursar_budget_end(slot);
  (void)bursar_scopes_end(slot);
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_SUM, 0), 0);
}

static void test_watch(void) {
  EQ(bursar_limits_set_process(1 << 30), 0);
  EQ(bursar_watch_start(), 0);
  EQ(bursar_watch_start(), 0);
  OK(bursar_budget_held() > 0, "what is resident is known at once");
  for (int i = 0; i < 20; i++) {
    pid_t child = fork();
    if (!child)
      _exit(bursar_watch_due && bursar_watch_start() == 0 && !bursar_watch_due ? 0 : 1);
    int status = -1;
    (void)waitpid(child, &status, 0);
    if (status || !bursar_watch_due || bursar_watch_start() != 0) {
      OK(false, "fork %d", i);
      break;
    }
  }
  bursar_watch_stop();
  bursar_watch_stop();
  OK(!bursar_watch_due, "nobody is to start it again");
  EQ(bursar_limits_set_process(0), 0);
}

int main(void) {
  test_table();
  account_model_open(&model, 0, 0);
  test_entry();
  test_named();
  test_process();
  test_soft();
  test_threads();
  test_watch();
  bursar_budget_forget();
  bursar_account_scope_gil(0, 0);
  bursar_account_stop(BURSAR_STATE_ENDED);
  account_model_remove(&model);
  return tap_done();
}
