/* scanner.c: an independent, slow and simple search through a process's memory, for the tests alone.  It shares no line
 * with bursar's own scan.
 *
 *   scanner PID < PATTERNS      one pattern a line:  NAME MIN HEX
 *
 * Each stretch of at least MIN bytes in common with a pattern is one hit, whole or in part:
 *
 *   hit NAME REGION ADDRESS BYTES
 *   scanned BYTES
 *
 * All mappings that may be read and written are read, those pages of them that are in memory or in swap.  REGION is
 * stack for the main thread's, thread for a mapping that follows a guard (a thread's stack), else heap, file or anonymous. */
#include <ctype.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 4, PATTERNS = 512, PAGE = 4096 };

struct pattern {
  char name[64];
  unsigned char *text;
  size_t length, least, part; /* any stretch of `least` bytes holds one of the parts, at its place, whole */
  uint64_t last;              /* the address of the last hit's end: a stretch is found at each of its parts */
};

static struct pattern patterns[PATTERNS];
static int count;
static unsigned char first[65536]; /* whether some part begins with these two bytes */

static void die(const char *what) {
  fprintf(stderr, "scanner: %s\n", what);
  exit(2);
}

static void read_patterns(void) {
  static char line[1 << 20], hex[1 << 20];
  while (fgets(line, sizeof line, stdin)) {
    struct pattern *p = &patterns[count++];
    if (count == PATTERNS || sscanf(line, "%63s %zu %s", p->name, &p->least, hex) != 3)
      die("a pattern is NAME MIN HEX");
    p->length = strlen(hex) / 2;
    p->text = malloc(p->length);
    for (size_t i = 0; p->text && i < p->length; i++) {
      unsigned byte;
      sscanf(hex + 2 * i, "%2x", &byte);
      p->text[i] = (unsigned char)byte;
    }
    if (!p->text || p->least < 4 || p->least > p->length)
      die("a pattern is too short");
    /* A stretch of 2q - 1 bytes holds one of the parts of q bytes that stand one behind the other. */
    p->part = p->least == p->length ? p->length : (p->least + 1) / 2;
    for (size_t at = 0; at + p->part <= p->length; at += p->part)
      first[p->text[at] | p->text[at + 1] << 8] = 1;
  }
}

/* The stretch around what was found at `at`, whose place in the pattern is `place`. */
static void stretch(struct pattern *p, const unsigned char *memory, size_t bytes, size_t at, size_t place,
                    uint64_t base, const char *region) {
  size_t from = at, begins = place, until = at, ends = place;
  while (from > 0 && begins > 0 && memory[from - 1] == p->text[begins - 1])
    from--, begins--;
  while (until < bytes && ends < p->length && memory[until] == p->text[ends])
    until++, ends++;
  if (until - from < p->least || base + until == p->last)
    return;
  p->last = base + until;
  printf("hit %s %s %llx %zu\n", p->name, region, (unsigned long long)(base + from), until - from);
}

static void search(const unsigned char *memory, size_t bytes, uint64_t base, const char *region) {
  for (size_t at = 0; at + 1 < bytes; at++) {
    if (!first[memory[at] | memory[at + 1] << 8])
      continue;
    for (int i = 0; i < count; i++) {
      struct pattern *p = &patterns[i];
      for (size_t place = 0; place + p->part <= p->length; place += p->part)
        if (at + p->part <= bytes && memcmp(memory + at, p->text + place, p->part) == 0)
          stretch(p, memory, bytes, at, place, base, region);
    }
  }
}

/* The mapping's runs of pages that are in memory or in swap, each as one. */
static uint64_t search_mapping(int memory, int pagemap, uint64_t start, uint64_t end, const char *region) {
  uint64_t scanned = 0;
  size_t pages = (end - start) / PAGE;
  uint64_t *entries = malloc(pages * 8);
  if (!entries || pread(pagemap, entries, pages * 8, (off_t)(start / PAGE * 8)) != (ssize_t)(pages * 8))
    die("pagemap");
  for (size_t page = 0; page < pages; page++) {
    if (!(entries[page] >> 62))
      continue;
    size_t run = 1;
    while (page + run < pages && entries[page + run] >> 62)
      run++;
    unsigned char *copy = malloc(run * PAGE);
    ssize_t got = copy ? pread(memory, copy, run * PAGE, (off_t)(start + page * PAGE)) : -1;
    if (got > 0) {
      scanned += (uint64_t)got;
      search(copy, (size_t)got, start + page * PAGE, region);
    }
    free(copy);
    page += run;
  }
  free(entries);
  return scanned;
}

int main(int argc, char **argv) {
  char path[64], line[4600], permissions[8], name[4200];
  unsigned long long start, end, guard_end = 0, scanned = 0;
  if (argc != 2)
    die("which process?");
  read_patterns();
  snprintf(path, sizeof path, "/proc/%s/mem", argv[1]);
  int memory = open(path, O_RDONLY);
  snprintf(path, sizeof path, "/proc/%s/pagemap", argv[1]);
  int pagemap = open(path, O_RDONLY);
  snprintf(path, sizeof path, "/proc/%s/maps", argv[1]);
  FILE *maps = fopen(path, "r");
  if (memory < 0 || pagemap < 0 || !maps)
    die("this process cannot be read");
  while (fgets(line, sizeof line, maps)) {
    name[0] = 0;
    if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %4199[^\n]", &start, &end, permissions, name) < 3)
      die("a line of maps");
    if (memcmp(permissions, "rw", 2) == 0)
      scanned += search_mapping(memory, pagemap, start, end,
                                strcmp(name, "[stack]") == 0     ? "stack"
                                : strcmp(name, "[heap]") == 0    ? "heap"
                                : name[0] == '/'                 ? "file"
                                : !name[0] && start == guard_end ? "thread"
                                                                 : "anonymous");
    guard_end = memcmp(permissions, "---", 3) == 0 && end - start < 1 << 20 ? end : 0;
  }
  printf("scanned %llu\n", scanned);
  return 0;
}
