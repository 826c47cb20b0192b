#include "secret/scan.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "prim/apart.h"
#include "secret/scan_text.h"
#include "secret/wipe.h"
#include "tap.h"

#define PAGE 4096u
#define PAGES 200u
#define HITS 256u

static struct bursar_search search __attribute__((aligned(32)));
static struct bursar_forms forms, canary;
static unsigned char forms_room[8192], canary_room[8192], canary_bytes[32], buffer[1 << 20];
static struct bursar_scan scan;
static struct bursar_scan_hit hits[HITS];

/* Masked, so that this program's own data hold no copy. */
static void secret_of(unsigned char out[20]) {
  static const volatile unsigned char masked[20] = "kY3#pQ9!vB7$mR2&tX5*";
  for (unsigned i = 0; i < 20; i++)
    out[i] = masked[i] ^ 0x15;
}

static void begin(void) {
  unsigned char bytes[20];
  struct bursar_forms_secret secret = {.at = bytes, .length = 20, .kind = BURSAR_FORMS_BYTES}, like = secret;
  secret_of(bytes);
  if (bursar_forms_make(&secret, forms_room, sizeof forms_room, &forms) != 0 ||
      !bursar_scan_canary_secret(&like, canary_bytes) ||
      bursar_forms_make(&like, canary_room, sizeof canary_room, &canary) != 0)
    abort();
  bursar_wipe(bytes, sizeof bytes);
  bursar_search_init(&search);
  if (!bursar_search_add(&search, &forms) || !bursar_search_add(&search, &canary))
    abort();
  bursar_search_ready(&search);
  scan = (struct bursar_scan){.pid = getpid(),
                              .search = &search,
                              .secret_forms = (uint32_t)forms.count,
                              .buffer = buffer,
                              .buffer_bytes = bursar_scan_buffer(&search),
                              .hits = hits,
                              .hits_room = HITS,
                              .left_out_count = 3};
  scan.left_out[0] = (struct bursar_scan_range){(uintptr_t)forms_room, (uintptr_t)(forms_room + sizeof forms_room)};
  scan.left_out[1] = (struct bursar_scan_range){(uintptr_t)buffer, (uintptr_t)(buffer + sizeof buffer)};
  scan.left_out[2] = (struct bursar_scan_range){(uintptr_t)canary_room, (uintptr_t)(canary_room + sizeof canary_room)};
}

static const struct bursar_scan_hit *hit_at(const void *address) {
  for (uint32_t i = 0; i < scan.hit_count; i++)
    if (scan.hits[i].address == (uintptr_t)address)
      return &scan.hits[i];
  return NULL;
}

/* The test's own stack may hold more. */
static uint32_t hits_in(const unsigned char *area, size_t bytes, bool held) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < scan.hit_count; i++)
    count += scan.hits[i].address - (uintptr_t)area < bytes && scan.hits[i].held == held;
  return count;
}

static unsigned char *map(size_t pages) {
  return mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* At the ends of pages, of the pieces that are read together, and of the mapping: in each form, read through the kernel. */
static void test_across_boundaries(void) {
  static const size_t places[] = {0, PAGE - 3, 16 * PAGE - 19, 64 * PAGE - 1, 64 * PAGE + PAGE - 40, 128 * PAGE - 90};
  unsigned char *area = map(PAGES);
  begin();
  memset(area, 'x', PAGES * PAGE);
  size_t missed = 0, wrong = 0;
  for (size_t form = 0; form < forms.count; form++) {
    const struct bursar_forms_one *one = &forms.at[form];
    unsigned char *last = area + PAGES * PAGE - one->length;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
      memcpy(area + places[i], one->at, one->length);
    memcpy(last, one->at, one->length);
    EQ(bursar_scan_run(&scan), 0);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      const struct bursar_scan_hit *hit = hit_at(area + places[i]);
      missed += !hit;
      wrong += hit && (!hit->whole || hit->length != one->length || hit->where != BURSAR_SCAN_OTHER);
      memset(area + places[i], 'x', one->length);
    }
    missed += !hit_at(last);
    memset(last, 'x', one->length);
  }
  EQ(missed, 0);
  EQ(wrong, 0);
  EQ(bursar_scan_run(&scan), 0);
  EQ(hits_in(area, PAGES * PAGE, false), 0);
  munmap(area, PAGES * PAGE);
}

/* A page that was never touched lies between; one without access is told. */
static void test_holes(void) {
  unsigned char *area = map(8), bytes[20];
  begin();
  secret_of(bytes);
  memcpy(area + PAGE - 20, bytes, 20);
  memcpy(area + 4 * PAGE, bytes, 20);
  memcpy(area + 6 * PAGE - 7, bytes, 20);
  bursar_wipe(bytes, sizeof bytes);
  EQ(bursar_scan_run(&scan), 0);
  OK(hit_at(area + PAGE - 20) && hit_at(area + 4 * PAGE) && hit_at(area + 6 * PAGE - 7), "beside holes");
  mprotect(area + 4 * PAGE, PAGE, PROT_NONE);
  EQ(bursar_scan_run(&scan), 0);
  OK(!hit_at(area + 4 * PAGE), "what may not be read is not");
  OK(scan.unreadable >= PAGE, "and is told");
  scan.left_out[scan.left_out_count++] =
      (struct bursar_scan_range){(uintptr_t)area, (uintptr_t)area + PAGE}; /* the first is left out */
  scan.held[scan.held_count++] =
      (struct bursar_scan_range){(uintptr_t)area + 6 * PAGE - 7, (uintptr_t)area + 6 * PAGE + 13};
  EQ(bursar_scan_run(&scan), 0);
  EQ(hits_in(area, 8 * PAGE, true), 1);
  EQ(hits_in(area, 8 * PAGE, false), 0);
  EQ(bursar_scan_copies(&scan), scan.hit_count - 1);
  munmap(area, 8 * PAGE);
}

/* As glibc's malloc lays them out: a sanitizer has another. */
static void test_blocks(void) {
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
  return;
#endif
  unsigned char bytes[20], *kept = malloc(3000), *gone = malloc(100000), *after = malloc(3000);
  unsigned char *large = malloc(4 << 20);
  begin();
  secret_of(bytes);
  bursar_forms_copy(kept + 100, bytes, 20);
  bursar_forms_copy(large + (1 << 20), bytes, 20);
  uintptr_t freed = (uintptr_t)gone + 90000;
  free(gone);
  bursar_forms_copy((void *)freed, bytes, 20); /* now: MALLOC_PERTURB_ overwrites what is freed */
  bursar_wipe(bytes, sizeof bytes);
  EQ(bursar_scan_run(&scan), 0);
  const struct bursar_scan_hit *hit = hit_at(kept + 100);
  OK(hit && hit->where == BURSAR_SCAN_LIVE && hit->block == (uintptr_t)kept, "in a live block");
  hit = hit_at((const void *)freed);
  OK(hit && hit->where == BURSAR_SCAN_FREED, "in a freed one");
  hit = hit_at(large + (1 << 20));
  OK(hit && hit->where == BURSAR_SCAN_LIVE, "in a mapped one");
  free(kept);
  free(after);
  memset(large, 0, 4 << 20);
  free(large);
}

/* A canary that is overwritten, or where nothing can be read, is missed; without any, all are. */
static void test_canaries(void) {
  unsigned char *area = map(1), *other = map(3), small[64];
  const struct bursar_scan_place places[] = {{"one", area, BURSAR_SCAN_PLACE_BYTES}, {"two", other + PAGE, PAGE}};
  const struct bursar_scan_place narrow = {"narrow", small, sizeof small};
  begin();
  OK(bursar_scan_missed(&scan), "no canary is a missed one");
  EQ(bursar_scan_plant(&scan, &canary, scan.secret_forms, &narrow, 1), -ENOSPC);
  EQ(bursar_scan_plant(&scan, &canary, scan.secret_forms, places, 2), 0);
  EQ(scan.canary_count, 2 * canary.count);
  EQ(bursar_scan_run(&scan), 0);
  OK(!bursar_scan_missed(&scan), "all are found");
  mprotect(other + PAGE, PAGE, PROT_NONE);
  for (uint32_t i = 0; i < scan.canary_count; i++)
    scan.canaries[i].found = false;
  EQ(bursar_scan_run(&scan), 0);
  OK(bursar_scan_missed(&scan) && bursar_scan_missed(&scan)->place == 1, "not where nothing can be read");
  mprotect(other + PAGE, PAGE, PROT_READ | PROT_WRITE);
  area[scan.canaries[3].address % PAGE] ^= 1;
  for (uint32_t i = 0; i < scan.canary_count; i++)
    scan.canaries[i].found = false;
  EQ(bursar_scan_run(&scan), 0);
  OK(bursar_scan_missed(&scan) == &scan.canaries[3], "nor what was overwritten");
  munmap(area, PAGE);
  munmap(other, 3 * PAGE);
}

/* Gone before, and gone but for its parent's wait. */
static void test_processes_that_ended(void) {
  siginfo_t info;
  pid_t pid = fork();
  if (pid == 0)
    _exit(0);
  waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
  begin();
  scan.pid = pid;
  EQ(bursar_scan_run(&scan), -ESRCH);
  waitpid(pid, NULL, 0);
  EQ(bursar_scan_run(&scan), -ESRCH);
}

static int see(void *context) {
  volatile unsigned char *byte = context;
  *byte += 1;
  return *byte;
}

static int fall(void *context) {
  raise(SIGKILL);
  return 0;
}

static volatile sig_atomic_t told;
static void tell(int number) { told = 1; }

static void test_apart(void) {
  static unsigned char stack[65536] __attribute__((aligned(16))), byte = 6;
  struct sigaction action = {.sa_handler = tell};
  sigaction(SIGCHLD, &action, NULL);
  pid_t pid = bursar_apart_start(see, &byte, stack + sizeof stack);
  OK(waitpid(-1, NULL, WNOHANG) < 0, "it is no child that a program waits for");
  EQ(bursar_apart_wait(pid), 7);
  EQ(byte, 6);
  EQ(bursar_apart_wait(bursar_apart_start(fall, NULL, stack + sizeof stack)), 256 + SIGKILL);
  EQ(told, 0);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0); /* forked children have nothing of it to flush */
  test_across_boundaries();
  test_holes();
  test_blocks();
  test_canaries();
  test_processes_that_ended();
  test_apart();
  return tap_done();
}
