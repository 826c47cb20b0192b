/* Changes of a policy that binds: what is made, what is refused, what only the caller can make. */
#include "policy/change.h"
#include "tap.h"

static struct bursar_change change;

static enum bursar_changed_result make(const char *text) {
  bursar_change_make(text, strlen(text), &change);
  return change.result;
}

static int64_t hard(void) { return bursar_limits_find("a", 1)->now[BURSAR_LIMIT_HARD]; }

int main(void) {
  EQ(bursar_limits_set("a", 1, BURSAR_LIMIT_HARD, 300 << 20), 0);
  EQ(bursar_limits_set_process(1 << 30), 0);
  EQ(make("scope.a.hard = \"200 MiB\""), BURSAR_CHANGED_MADE);
  SAME(change.text, "scope.a.hard 300 MiB -> 200 MiB");
  EQ(hard(), 200 << 20);
  EQ(make("scope.a.hard = \"301 MiB\""), BURSAR_CHANGED_REFUSED);
  SAME(change.text,
       "scope.a.hard stays 200 MiB: 301 MiB is above the 300 MiB set at the start, and it can only be tighter");
  EQ(make("scope.a.hard = \"none\""), BURSAR_CHANGED_REFUSED);
  EQ(hard(), 200 << 20);
  EQ(make("[scope.a]\nhard = 314572800"), BURSAR_CHANGED_MADE);
  EQ(hard(), 300 << 20);
  EQ(make("scope.a.soft = 314572801"), BURSAR_CHANGED_WRONG);
  HAS(change.text, "change the other first");
  EQ(make("scope.\"b c\".soft = 7"), BURSAR_CHANGED_MADE);
  SAME(change.text, "scope.\"b c\".soft none -> 7 B");
  EQ(make("scope.\"b c\".soft = \"none\""), BURSAR_CHANGED_MADE);
  EQ(make("run.budget = \"2 GiB\""), BURSAR_CHANGED_REFUSED);
  EQ(make("run.budget = \"512 MiB\""), BURSAR_CHANGED_MADE);
  EQ(bursar_limits_process(), 512 << 20);
  EQ(make("run.budget = \"10%\""), 0);
  OK(change.rule.percent && change.rule.number == 10, "a part of the memory is the caller's");
  bursar_change_process(&change, 1 << 20);
  SAME(change.text, "run.budget 512 MiB -> 1 MiB");
  EQ(make("governor.pause = 0.5"), 0);
  EQ(change.rule.number, 500000000);
  EQ(make("scope.a.left_open = \"warn\""), 0);
  OK(change.of_scope && change.key == BURSAR_RULES_LEFT_OPEN, "and so is what is left open");
  EQ(make("run.wipe = false"), BURSAR_CHANGED_REFUSED);
  EQ(make("run.no_core = false"), BURSAR_CHANGED_REFUSED);
  EQ(make("verdict.threshold = 9"), BURSAR_CHANGED_MADE);
  SAME(change.text, "verdict.threshold 64 -> 9");
  EQ(make(""), BURSAR_CHANGED_WRONG);
  EQ(make("scope.a = { hard = 1, soft = 1 }"), BURSAR_CHANGED_WRONG);
  EQ(make("scope.a.hrad = 1"), BURSAR_CHANGED_WRONG);
  HAS(change.text, "did you mean hard?");
  bursar_change_make("scope.a.hard = 1\0", 17, &change);
  EQ(change.result, BURSAR_CHANGED_WRONG);
  EQ(hard(), 300 << 20);
  return tap_done();
}
