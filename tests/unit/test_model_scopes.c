/* Scopes and events as a reader finds them: known figures, quantiles, both views, JSON, and damage of every kind. */
#include "base/buffer.h"
#include "ledger_build.h"
#include "report/json.h"
#include "report/views.h"
#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

static struct bursar_error error;

static struct bursar_model *open_cut(struct ledger_build *b, uint64_t bytes) {
  struct bursar_reader *reader = NULL;
  struct bursar_model *model = NULL;
  int fd = ledger_build_file_cut(b, bytes);
  if (bursar_reader_open_fd(fd, "test.bursar", &reader, &error) != 0 ||
      bursar_model_load(reader, &model, &error) != 0) {
    printf("Bail out! %s\n", error.text);
    exit(1);
  }
  close(fd);
  return model;
}

static struct bursar_model *open_build(struct ledger_build *b) { return open_cut(b, UINT64_MAX); }

static bool has_note(const struct bursar_model *model, const char *part) {
  for (uint32_t i = 0; i < model->reader->note_count; i++)
    if (strstr(model->reader->note[i], part))
      return true;
  return false;
}

static bool same(struct bursar_text text, const char *want) {
  return text.bytes ? text.length == strlen(want) && memcmp(text.bytes, want, text.length) == 0 : want == NULL;
}

static char *print_view(struct bursar_model *model, enum bursar_views_kind kind, unsigned width) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 1u << 20);
  struct bursar_view view = {.model = model, .out = &out, .width = width, .when = BURSAR_MODEL_END};
  OK(bursar_views_print(model, kind, &view, &error) == 0 && out.failed == 0, "%s prints", bursar_views_names[kind]);
  return out.data;
}

static char *print_json(struct bursar_model *model) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 1u << 20);
  OK(bursar_json_write(model, BURSAR_VIEWS_SCOPES, BURSAR_MODEL_END, &out, &error) == 0 && !out.failed, "JSON prints");
  return out.data;
}

/* `load` was called 100 times and one entry is ended and holds 300 bytes, one is open and holds 1000; within that is an
 * entry of `load` again, and one of `parse`. */
static struct ledger_build *example(void) {
  struct ledger_build *b = ledger_build_example();
  ledger_build_scope_name(b, "(other scopes)");
  uint32_t load = ledger_build_scope_name(b, "load"), parse = ledger_build_scope_name(b, "parse");
  struct bursar_scope_name *name = &b->scope_names[load];
  name->calls = 100;
  name->allocated_bytes = 50000;
  name->allocations = 99;
  name->peak_last = 700;
  name->peak_max = 5000;
  name->time_ns = 2000000000;
  name->time_max_ns = 1000000000;
  ledger_build_scope(b, load, 0, BURSAR_SCOPE_ENDED, 2000, 300);
  uint32_t outer = ledger_build_scope(b, load, 0, BURSAR_SCOPE_OPEN, 9000, 1000);
  uint32_t inner = ledger_build_scope(b, load, outer, BURSAR_SCOPE_OPEN, 4000, 400);
  b->scopes[inner].inner = 1;
  ledger_build_scope(b, parse, inner, BURSAR_SCOPE_ENDED, 4000, 400);
  b->scope_names[parse].calls = 1;
  b->scopes[outer].started_ns = 500000000; /* of 3.5 s */
  b->scopes[outer].free_allocated_bytes = 64;
  b->scopes[outer].free_allocations = 2;
  b->scopes[outer].free_live_bytes = -24;
  for (uint32_t slot = 0; slot < b->scope_count; slot++)
    b->scopes[slot].nested = slot == outer || slot == inner;
  return b;
}

static void test_figures(void) {
  struct ledger_build *b = example();
  struct bursar_model *model = open_build(b);
  EQ(model->reader->note_count, 0);
  EQ(model->scope_count, 2);
  const struct bursar_model_scope *load = &model->scopes[0], *parse = &model->scopes[1];
  OK(same(load->name, "load") && same(parse->name, "parse"), "the one that holds most comes first");
  EQ(load->calls, 100);
  EQ(load->open, 2);
  EQ(load->allocated_bytes, 50000 + 2000 + 9000 + 64);
  EQ(load->allocations, 99 + 1 + 1 + 2);
  EQ(load->live_bytes, 300 + 1000 - 24);
  EQ(load->retained_bytes, 300);
  EQ(load->peak_last, 700);
  EQ(load->peak_max, 9000);
  EQ(load->time_ns, 2000000000 + 3000000000 + 3500000000);
  EQ(load->time_max_ns, 3500000000);
  EQ(parse->live_bytes, 400);
  EQ(parse->retained_bytes, 400);
  EQ(parse->open, 0);
  OK(load->peak_p50 == BURSAR_MODEL_UNKNOWN, "no quantile without a sketch");
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_negative_sums_are_nothing(void) {
  struct ledger_build *b = example();
  b->scopes[2].free_live_bytes = -100000;
  struct bursar_model *model = open_build(b);
  OK(same(model->scopes[0].name, "parse") && model->scopes[1].live_bytes == 0,
     "freed before it was seen: nothing is held");
  bursar_model_free(model);
  ledger_build_free(b);
}

/* Against the peaks themselves. */
static int by_size(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

static uint32_t counter_of(uint64_t bytes) {
  static const double steps[] = {1,
                                 1.0905077326652577,
                                 1.189207115002721,
                                 1.2968395546510096,
                                 1.4142135623730951,
                                 1.5422108254079407,
                                 1.6817928305074292,
                                 1.8340080864093424};
  uint32_t octave = 0, step = 7;
  for (; bytes >> (octave + 1); octave++)
    ;
  while ((double)bytes / (double)(1ull << octave) < steps[step])
    step--;
  return octave * 8 + step;
}

static void test_quantiles(void) {
  enum { CALLS = 5000 };
  static uint64_t peaks[CALLS];
  struct ledger_build *b = example();
  uint64_t dice = 11;
  struct bursar_scope_name *name = &b->scope_names[1];
  name->calls = CALLS;
  name->peak_max = 0;
  for (uint32_t i = 0; i < CALLS; i++) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    peaks[i] = (dice >> 34) >> ((dice >> 20) % 28);
    peaks[i] += peaks[i] == 0;
    name->sketch[counter_of(peaks[i])]++;
    name->peak_max = peaks[i] > name->peak_max ? peaks[i] : name->peak_max;
  }
  qsort(peaks, CALLS, sizeof *peaks, by_size);
  struct bursar_model *model = open_build(b);
  const uint64_t got[] = {model->scopes[0].peak_p50, model->scopes[0].peak_p95, model->scopes[0].peak_p99};
  const unsigned percents[] = {50, 95, 99};
  for (int i = 0; i < 3; i++) {
    double want = (double)peaks[CALLS * percents[i] / 100 - 1], ratio = (double)got[i] / want;
    OK(ratio > 1 - BURSAR_MODEL_SKETCH_ERROR && ratio < 1 + BURSAR_MODEL_SKETCH_ERROR, "p%u is %llu for %.0f",
       percents[i], (unsigned long long)got[i], want);
  }
  bursar_model_free(model);

  memset(name->sketch, 0, sizeof name->sketch);
  name->sketch[counter_of(1000)] = 2;
  name->peak_max = 1000;
  model = open_build(b);
  OK(model->scopes[0].peak_p99 <= 1000 && model->scopes[0].peak_p99 > 955, "no quantile is above the greatest peak");
  bursar_model_free(model);

  name->sketch[BURSAR_SKETCH - 1] = 1000;
  model = open_build(b);
  OK(model->scopes[0].peak_p50 == BURSAR_MODEL_UNKNOWN, "beyond the last counter nothing is known");
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_events(void) {
  struct ledger_build *b = example();
  ledger_build_event(b, 1000000000, BURSAR_EVENT_SCOPE_BEGAN, 1, 0, NULL);
  ledger_build_event(b, 1200000000, BURSAR_EVENT_NOTE, 1, 4000, "two\x1b[2J thirds");
  ledger_build_event(b, 1500000000, BURSAR_EVENT_SCOPE_ENDED, 1, 9000, NULL);
  struct bursar_model *model = open_build(b);
  EQ(model->event_count, 3);
  EQ(model->lost_events, 0);
  OK(strcmp(model->events[1].kind, "note") == 0 && model->events[1].bytes == 4000 &&
         same(model->events[1].scope, "load") && same(model->events[1].text, "two\x1b[2J thirds") &&
         !model->events[2].text.bytes,
     "a note has its scope, its bytes and its text");
  char *text = print_view(model, BURSAR_VIEWS_EVENTS, 100);
  HAS(text, "    1.200  note        3.91 KiB  load  two\\x1b[2J thirds\n");
  HAS(text, "    1.000  began                 load\n");
  HAS(text, "    1.500  ended       8.79 KiB  load\n");
  free(text);
  text = print_json(model);
  HAS(text,
      "{\"time_s\":1.200000000,\"kind\":\"note\",\"scope\":\"load\",\"bytes\":4000,\"text\":\"two\\u001b[2J thirds\"}");
  HAS(text, "\"kind\":\"ended\",\"scope\":\"load\",\"bytes\":9000,\"text\":null}");
  free(text);
  bursar_model_free(model);
  ledger_build_free(b);
}

/* Gone round: the newest are at the beginning of its extents. */
static void test_ring(void) {
  enum { ROOM = 2 * BURSAR_EXTENT_MIN / sizeof(struct bursar_event), NEW = 700 };
  struct ledger_build *b = example();
  for (uint32_t i = 0; i < ROOM; i++)
    ledger_build_event(b, i < NEW ? (ROOM + i) * 1000 : i * 1000, BURSAR_EVENT_NOTE, 1, i, NULL);
  b->counts.events = ROOM + NEW;
  struct bursar_model *model = open_build(b);
  EQ(model->event_count, ROOM);
  EQ(model->lost_events, NEW);
  bool ordered = model->event_count == ROOM;
  for (uint32_t i = 0; i < model->event_count; i++)
    ordered = ordered && model->events[i].time_ns == (NEW + i) * 1000;
  OK(ordered, "a ring is read from its oldest event on");
  char *text = print_view(model, BURSAR_VIEWS_EVENTS, 100);
  HAS(text, "700 older events: there is no room for them");
  HAS(text, "3996 earlier events");
  free(text);
  bursar_model_free(model);

  b->events[NEW].time_ns = (ROOM + NEW) *
                           1000; /* written while the ring was read, and in a file that is still a wrong one */
  b->events[20].scope = 77;
  b->events[21].text = 0x7ffffff0;
  model = open_build(b);
  EQ(model->event_count, ROOM - 3);
  OK(has_note(model, "3 of 4096 events are damaged"), "damaged events are left out, and told");
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_view(void) {
  struct ledger_build *b = example();
  char long_name[300];
  memset(long_name, 'n', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = 0;
  ledger_build_scope(b, ledger_build_scope_name(b, long_name), 0, BURSAR_SCOPE_OPEN, 5, 5);
  for (int i = 0; i < 40; i++)
    ledger_build_scope_name(b, "</script>\x1b[31m");
  b->counts.folded_scopes = 12345;
  struct bursar_model *model = open_build(b);
  char *text = print_view(model, BURSAR_VIEWS_SCOPES, 100);
  HAS(text, "Scopes as they were last");
  HAS(text, "\n 1.25 KiB     300 B      100    2         -  8.79 KiB  59.6 KiB     8.500  load\n");
  HAS(text, "\n    400 B     400 B        1              -       0 B  3.91 KiB");
  HAS(text, "12345 scopes or entries of scopes are counted by name");
  HAS(text, "13 more scopes: --format json has all");
  HAS_NOT(text, "\x1b");
  free(text);
  text = print_view(model, BURSAR_VIEWS_SCOPES, 60);
  HAS(text, "\n 1.25 KiB     300 B      100  8.79 KiB  59.6 KiB  load\n");
  free(text);
  text = print_json(model);
  HAS(text, "\"folded_scopes\":12345,");
  HAS(text,
      "{\"name\":\"load\",\"calls\":100,\"open\":2,\"allocated_bytes\":61064,\"allocations\":103,\"live_bytes\":1276,"
      "\"retained_bytes\":300,\"peak_last_bytes\":700,\"peak_max_bytes\":9000,\"peak_p50_bytes\":null,"
      "\"peak_p95_bytes\":null,\"peak_p99_bytes\":null,\"seconds\":8.500000000,\"max_seconds\":3.500000000}");
  HAS_NOT(text, "</script>");
  free(text);
  bursar_model_free(model);
  ledger_build_free(b);

  b = ledger_build_example();
  model = open_build(b);
  text = print_view(model, BURSAR_VIEWS_SCOPES, 100);
  HAS(text, "none was entered");
  HAS_NOT(text, "counted by name");
  free(text);
  text = print_json(model);
  HAS(text, "\"scopes\":[],\n\"events\":[],");
  free(text);
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_damage(void) {
  struct ledger_build *b = example();
  uint32_t chain = b->scope_count;
  for (uint32_t i = 0; i < 8; i++)
    ledger_build_scope(b, 2, i < 7 ? chain + i + 1 : chain + 2, BURSAR_SCOPE_OPEN, 100,
                       10);                                             /* the last is above the third */
  ledger_build_scope(b, 2, b->scope_count, BURSAR_SCOPE_OPEN, 100, 10); /* its own parent */
  ledger_build_scope(b, 2, 4000000, BURSAR_SCOPE_OPEN, 100, 10);
  ledger_build_scope(b, 9, 0, BURSAR_SCOPE_OPEN, 100, 10);
  ledger_build_scope(b, 2, 0, (enum bursar_scope_state)99, 100, 10);
  ledger_build_scope(b, 2, b->scope_count - 1, BURSAR_SCOPE_OPEN, 100, 10); /* in one that is left out */
  uint32_t negative = ledger_build_scope(b, 2, 0, BURSAR_SCOPE_OPEN, 100, 10);
  b->scopes[negative].live_bytes = INT64_MIN;
  b->scopes[0] = (struct bursar_scope){.state = 9, .live_bytes = -1, .parent = 3};
  ledger_build_scope_name(b, "bad");
  b->scope_names[3].calls = UINT64_MAX;
  ledger_build_scope_name(b, "nameless");
  b->scope_names[4].name = 0xfffffff0;
  struct bursar_model *model = open_build(b);
  const struct bursar_reader *reader = model->reader;
  OK(has_note(model, "7 of 19 entries of scopes are damaged"), "entries with another state, name, parent are told");
  OK(has_note(model, "2 of 5 scopes are damaged"), "and names");
  bool ends = true;
  for (uint32_t i = 0; i < reader->scopes; i++) {
    uint32_t steps = 0;
    for (uint32_t at = i; at && steps <= reader->scopes; at = reader->scope[at].parent)
      steps++;
    ends = ends && steps <= reader->scopes;
  }
  OK(ends, "all parents end at slot 0");
  EQ(model->scopes[1].live_bytes, 400 + 11 * 10);
  bursar_model_free(model);

  uint64_t cuts = 0;
  b->counts_fixed = 0;
  for (uint64_t bytes = 22 * 1024; bytes < 14 * (uint64_t)BURSAR_EXTENT_MIN; bytes += 7777, cuts++)
    bursar_model_free(open_cut(b, bytes));
  OK(cuts > 100, "cut anywhere, it opens");

  b->counts_fixed = 1;
  b->counts.scopes = b->counts.scope_names = UINT32_MAX;
  b->counts.events = UINT64_MAX;
  model = open_build(b);
  OK(has_note(model, "entries of scopes are lost") && has_note(model, "scopes are lost"), "counts that lie are told");
  bursar_model_free(model);
  ledger_build_free(b);
}

int main(void) {
  test_figures();
  test_negative_sums_are_nothing();
  test_quantiles();
  test_events();
  test_ring();
  test_view();
  test_damage();
  return tap_done();
}
