/* What is asked of a running process through its ledger: who it is, its counters, answers that hold and such as do not. */
#include "ledger/ask.h"
#include "prim/prim.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char folder[] = "/tmp/bursar-test-XXXXXX";
static struct bursar_place place;
static unsigned char *head;

static struct bursar_books *books(void) { return (struct bursar_books *)(void *)(head + BURSAR_AT_BOOKS); }
static struct bursar_answer *answer(void) { return (struct bursar_answer *)(void *)(head + BURSAR_AT_ANSWER); }
static uint64_t *request(void) { return &((struct bursar_control *)(void *)(head + BURSAR_AT_CONTROL))->request; }

/* A ledger of this process, mapped as its writer maps it. */
static void make_ledger(void) {
  char path[256];
  struct bursar_error error;
  OK(mkdtemp(folder) != NULL, "a folder");
  snprintf(path, sizeof path, "%s/own.bursar", folder);
  EQ(bursar_place_create(path, false, NULL, &place, &error), 0);
  head = mmap(NULL, BURSAR_EXTENT_MIN, PROT_READ | PROT_WRITE, MAP_SHARED, place.fd, 0);
  OK(head != MAP_FAILED, "mapped");
  ((struct bursar_counts *)(void *)(head + BURSAR_AT_COUNTS))->state = BURSAR_STATE_OPEN;
  ((struct bursar_header *)(void *)(head + BURSAR_AT_HEADER))->domains = 63;
  books()->gil[0].alloc_bytes = 1000;
  books()->gil[0].free_bytes = 300;
  books()->free_lane[2].alloc_bytes = 50;
  books()->remote[0].free_bytes = 100;
}

/* As the process answers: in this order, for the time at which the reader's question will be past. */
static void put_answer(uint64_t begun, uint64_t done, uint64_t time_ns) {
  const struct bursar_header *header = (const struct bursar_header *)(void *)(head + BURSAR_AT_HEADER);
  memset(answer(), 0, sizeof *answer());
  answer()->inside = (struct bursar_inside){.known = BURSAR_INSIDE_MEMORY, .heaps = 1, .arena_used = 42};
  answer()->begun = begun;
  answer()->done = done;
  answer()->time_ns = time_ns - header->started_mono_ns;
}

static void test_answers(struct bursar_ask *ask) {
  const uint64_t wait = 3000000;
  struct bursar_inside inside = {.arena_used = 7};
  uint64_t later = bursar_prim_now() + 1000000000000ull;
  OK(!bursar_ask_inside(ask, wait, &inside), "nobody answered");
  EQ(inside.arena_used, 7);
  OK(*request() != 0, "it was asked");
  put_answer(5, 5, later);
  OK(bursar_ask_inside(ask, wait, &inside), "an answer");
  EQ(inside.arena_used, 42);
  put_answer(5, 5, bursar_prim_now());
  OK(!bursar_ask_inside(ask, wait, &inside), "one of before the question is none");
  put_answer(6, 5, later);
  OK(!bursar_ask_inside(ask, wait, &inside), "one that is being written is none");
  put_answer(5, 5, later);
  answer()->inside.heaps = BURSAR_INSIDE_HEAPS_MAX + 1;
  OK(!bursar_ask_inside(ask, wait, &inside), "one with more heaps than there is room for is none");
  put_answer(5, 5, later);
  answer()->inside.heap[0].free_resident = 1;
  OK(!bursar_ask_inside(ask, wait, &inside), "one with more free than there is is none");
  put_answer(5, 5, later);
  answer()->inside.chunk_resident = UINT64_MAX;
  OK(!bursar_ask_inside(ask, wait, &inside), "one that cannot be is none");
  put_answer(5, 5, later);
  ask->open = false;
  OK(!bursar_ask_inside(ask, wait, &inside), "closed books are not asked");
  ask->open = true;
}

static struct bursar_changed *changed(void) { return (struct bursar_changed *)(void *)(head + BURSAR_AT_CHANGED); }
static const struct bursar_control *control(void) {
  return (const struct bursar_control *)(void *)(head + BURSAR_AT_CONTROL);
}

static void test_changes(struct bursar_ask *ask) {
  static struct bursar_changed answer;
  bool replaced = true;
  EQ(bursar_ask_change(ask, "scope.a.hard = 1", 3000000, &answer, &replaced), BURSAR_ASK_DEAF);
  EQ(control()->change, 0);
  changed()->takes = 1;
  EQ(bursar_ask_change(ask, "scope.a.hard = 1", 3000000, &answer, &replaced), BURSAR_ASK_WAITS);
  OK(!replaced, "it is the first");
  EQ(control()->bytes, 16);
  OK(memcmp(control()->text, "scope.a.hard = 1", 16) == 0, "it stands on the page");
  EQ(bursar_ask_change(ask, "scope.a.hard = 2", 3000000, &answer, &replaced), BURSAR_ASK_WAITS);
  OK(replaced, "and is replaced");
  changed()->begun = changed()->done = control()->change;
  EQ(bursar_ask_change(ask, "scope.a.hard = 3", 3000000, &answer, &replaced), BURSAR_ASK_WAITS);
  OK(!replaced, "the answer to another is none");
  ask->open = false;
  EQ(bursar_ask_change(ask, "scope.a.hard = 1", 3000000, &answer, &replaced), BURSAR_ASK_DEAF);
  ask->open = true;
}

static void test_counters(const struct bursar_ask *ask) {
  struct bursar_ask_counters counters;
  EQ(bursar_ask_map(ask, &counters), 0);
  EQ(bursar_ask_live(&counters), 650);
  books()->gil[0].alloc_bytes += 10;
  EQ(bursar_ask_live(&counters), 660);
  bursar_ask_unmap(&counters);
  OK(!counters.books, "unmapped");
}

int main(void) {
  static struct bursar_ask ask;
  struct bursar_error error;
  struct bursar_header *header;
  make_ledger();
  EQ(bursar_ask_open(getpid(), &ask, &error), 0);
  OK(ask.place.fd >= 0 && ask.open, "found by what the process maps");
  EQ(ask.live[0], 600);
  EQ(ask.live[2], 50);
  EQ(ask.header.domains, 63);
  test_answers(&ask);
  test_changes(&ask);
  test_counters(&ask);
  bursar_ask_close(&ask);
  header = (struct bursar_header *)(void *)head;
  header->process_start++; /* another process had the number */
  setenv("BURSAR_DIR", folder, 1);
  EQ(bursar_ask_open(getpid(), &ask, &error), BURSAR_FAILED);
  HAS(error.text, "is not the one that wrote its ledger");
  munmap(head, BURSAR_EXTENT_MIN);
  unlink(place.path);
  EQ(bursar_ask_open(getpid(), &ask, &error), 0);
  EQ(ask.place.fd, -1);
  rmdir(folder);
  bursar_place_close(&place);
  return tap_done();
}
