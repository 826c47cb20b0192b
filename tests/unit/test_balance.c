/* Resident memory from hand-made facts: what the kernel's text says, what a look adds, and that the lines add up. */
#include "memory/heap.h"
#include "memory/pieces.h"
#include "memory/pools.h"
#include "memory/regions.h"
#include "prim/smaps.h"
#include "report/balance.h"
#include "report/balance_text.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define LEDGER 4711

static char text[65536];
static size_t used;

static void mapping(const char *head, unsigned rss_kib, const char *flags) {
  used += (size_t)snprintf(text + used, sizeof text - used,
                           "%s\nSize: 4 kB\nRss: %u kB\nPss: %u kB\nPrivate_Dirty: %u kB\nSwap: 1 kB\nVmFlags: %s\n",
                           head, rss_kib, rss_kib / 2, rss_kib, flags);
}

/* One of each kind.  What is resident is told in distinct powers, so that a sum shows what went into it. */
static int make_regions(struct bursar_regions *out) {
  used = 0;
  mapping("00400000-00401000 r--p 00000000 08:01 10                  /usr/bin/python3", 1, "rd");
  mapping("00401000-00501000 r-xp 00001000 08:01 10                  /usr/bin/python3", 2, "rd ex");
  mapping("00501000-00601000 rw-p 00101000 08:01 10                  /usr/bin/python3", 4, "rd wr");
  mapping("00601000-00701000 rw-p 00000000 00:00 0 ", 8, "rd wr"); /* its bss */
  mapping("00a00000-00b00000 rw-p 00000000 00:00 0                   [heap]", 16, "rd wr");
  mapping("7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ", 32, "rd wr"); /* a thread's heap */
  mapping("7f0000100000-7f0004000000 ---p 00000000 00:00 0 ", 0, "mr");
  mapping("7f1000000000-7f1000001000 ---p 00000000 00:00 0 ", 0, "mr");
  mapping("7f1000001000-7f1000800000 rw-p 00000000 00:00 0 ", 64, "rd wr");           /* a thread's stack */
  mapping("7f2000000000-7f2000800000 rw-p 00000000 00:00 0 ", 128, "rd wr nr dd nh"); /* marked as ours */
  mapping("7f2100000000-7f2100800000 rw-s 00000000 08:01 4711        /run/x.bursar", 256, "rd wr sh");
  mapping("7f2200000000-7f2200800000 r--s 00000000 08:01 12          /data/weights file.bin", 2048, "rd sh");
  mapping("7f2300000000-7f2300800000 rw-s 00000000 00:05 13          /dev/shm/queue", 512, "rd wr sh");
  mapping("7f3000000000-7f3000800000 rw-p 00000000 00:00 0 ", 1024, "rd wr"); /* nobody's */
  mapping("7fff00000000-7fff00100000 rw-p 00000000 00:00 0           [stack]", 4096, "rd wr gd");
  return bursar_regions_parse(text, used, LEDGER, 8 * MIB, out);
}

static const struct bursar_balance_line *find(const struct bursar_balance *balance, const char *name) {
  for (uint32_t i = 0; i < balance->line_count; i++)
    if (strcmp(balance->lines[i].name, name) == 0)
      return &balance->lines[i];
  static const struct bursar_balance_line none = {.name = "none", .bytes = 999};
  return &none;
}

static uint64_t total(const struct bursar_balance *balance) {
  uint64_t sum = balance->unexplained;
  for (uint32_t i = 0; i < balance->line_count; i++)
    sum += balance->lines[i].bytes == BURSAR_BALANCE_UNKNOWN ? 0 : balance->lines[i].bytes;
  return sum;
}

static struct bursar_balance_facts facts_with(const struct bursar_regions *regions, const struct bursar_inside *inside,
                                              uint32_t domains) {
  return (struct bursar_balance_facts){.regions = regions,
                                       .inside = inside,
                                       .domains = domains,
                                       .cgroup = {BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN, 0}};
}

static void test_the_kernel_alone(void) {
  static struct bursar_balance balance;
  struct bursar_regions regions;
  struct bursar_inside nothing = {.known = 0};
  EQ(make_regions(&regions), 0);
  EQ(regions.count, 15);
  EQ(regions.rss, 8191 * KIB);
  EQ(regions.swap, 15 * KIB);
  struct bursar_balance_facts facts = facts_with(&regions, &nothing, 0);
  bursar_balance_make(&facts, &balance);
  EQ(balance.rss, 8191 * KIB);
  EQ(find(&balance, "interpreter and libraries")->bytes, (1 + 2 + 4 + 8) * KIB);
  EQ(find(&balance, "malloc heaps, use not known")->bytes, (16 + 32) * KIB);
  EQ(find(&balance, "thread stacks")->bytes, 64 * KIB);
  EQ(find(&balance, "bursar itself")->bytes, (128 + 256) * KIB);
  EQ(find(&balance, "mapped file")->bytes, 2048 * KIB);
  SAME(find(&balance, "mapped file")->detail, "/data/weights file.bin");
  EQ(find(&balance, "shared memory")->bytes, 512 * KIB);
  EQ(find(&balance, "main stack")->bytes, 4096 * KIB);
  EQ(balance.unexplained, 1024 * KIB);
  EQ(total(&balance), balance.rss);
  OK(balance.returnable == BURSAR_BALANCE_UNKNOWN, "what a trim would return is not known");
  OK(strcmp(find(&balance, "python.obj")->name, "none") == 0, "no books, no domains");
  bursar_regions_free(&regions);
}

/* Of the same process, told from inside: all but the 1024 KiB that are nobody's, of which an arena takes a part. */
static struct bursar_inside inside_of_it(void) {
  struct bursar_inside inside = {.known = BURSAR_INSIDE_MEMORY | BURSAR_INSIDE_HEAPS | BURSAR_INSIDE_BLOCKS |
                                          BURSAR_INSIDE_MAPS | BURSAR_INSIDE_WHOLE,
                                 .heaps = 2,
                                 .stack_resident = 64 * KIB,
                                 .bss_resident = 8 * KIB,
                                 .arena_bytes = 1 * MIB,
                                 .arena_resident = 600 * KIB,
                                 .arena_used = 500 * KIB,
                                 .chunk_bytes = 1 * MIB,
                                 .chunk_resident = 300 * KIB,
                                 .in_arenas = 450 * KIB};
  inside.heap[0] = (struct bursar_inside_heap){16 * KIB, 6 * KIB, 4 * KIB};
  inside.heap[1] = (struct bursar_inside_heap){32 * KIB, 12 * KIB, 8 * KIB};
  inside.live[BURSAR_DOMAIN_OBJ] = inside.resident[BURSAR_DOMAIN_OBJ] = 450 * KIB;
  inside.live[BURSAR_DOMAIN_NUMPY] = 1000 * MIB;
  inside.resident[BURSAR_DOMAIN_NUMPY] = 290 * KIB;
  return inside;
}

static void test_from_inside(void) {
  static struct bursar_balance balance;
  struct bursar_regions regions;
  struct bursar_inside inside = inside_of_it();
  EQ(make_regions(&regions), 0);
  struct bursar_balance_facts facts = facts_with(&regions, &inside, BURSAR_DOMAINS_ALL);
  bursar_balance_make(&facts, &balance);
  EQ(find(&balance, "python.obj")->bytes, 450 * KIB);
  EQ(find(&balance, "numpy")->bytes, 290 * KIB);
  EQ(find(&balance, "numpy")->live, 1000 * MIB);
  EQ(find(&balance, "pymalloc: used, not booked")->bytes, 50 * KIB);
  EQ(find(&balance, "pymalloc: free in arenas")->bytes, 100 * KIB);
  EQ(find(&balance, "malloc: free, main heap")->bytes, 6 * KIB);
  EQ(find(&balance, "malloc: free, thread arena 1")->bytes, 12 * KIB);
  /* 48 in heaps less 18 that are free, 300 in chunks, less 290 of arrays. */
  EQ(find(&balance, "malloc: used, not booked")->bytes, (30 + 300 - 290) * KIB);
  EQ(balance.returnable, 12 * KIB);
  EQ(balance.live_not_resident, 1000 * MIB - 290 * KIB);
  EQ(balance.unexplained, (1024 - 600 - 300) * KIB);
  EQ(total(&balance), balance.rss);
  bursar_regions_free(&regions);
}

/* More is booked than is resident: what cannot be there is not resident, and no line eats into 'unexplained'. */
static void test_more_booked_than_there_is(void) {
  static struct bursar_balance balance;
  struct bursar_regions regions;
  struct bursar_inside inside = inside_of_it();
  inside.resident[BURSAR_DOMAIN_NUMPY] = 1000 * MIB;
  EQ(make_regions(&regions), 0);
  struct bursar_balance_facts facts = facts_with(&regions, &inside, BURSAR_DOMAINS_ALL);
  bursar_balance_make(&facts, &balance);
  EQ(find(&balance, "numpy")->bytes, (500 + 30 + 300 - 450) * KIB);
  EQ(balance.unexplained, (1024 - 600 - 300) * KIB);
  EQ(balance.live_not_resident, 1000 * MIB - 380 * KIB);
  EQ(total(&balance), balance.rss);
  /* A look and the mappings were of two instants: the lines still add up, and nothing is below 0. */
  inside.chunk_resident = 100 * MIB;
  bursar_balance_make(&facts, &balance);
  EQ(total(&balance), balance.rss);
  EQ(balance.unexplained, 0);
  bursar_regions_free(&regions);
}

/* Another malloc than glibc's: blocks explain the memory that they were seen in, and what is around them is unexplained. */
static void test_another_malloc(void) {
  static struct bursar_balance balance;
  struct bursar_regions regions;
  struct bursar_inside inside = inside_of_it();
  inside.chunk_resident = 0;
  inside.resident[BURSAR_DOMAIN_NUMPY] = 290 * KIB;
  inside.elsewhere = 290 * KIB;
  EQ(make_regions(&regions), 0);
  struct bursar_balance_facts facts = facts_with(&regions, &inside, BURSAR_DOMAINS_ALL);
  bursar_balance_make(&facts, &balance);
  EQ(find(&balance, "numpy")->bytes, 290 * KIB);
  EQ(find(&balance, "pymalloc: used, not booked")->bytes, 50 * KIB);
  EQ(find(&balance, "malloc: used, not booked")->bytes, 30 * KIB);
  EQ(balance.unexplained, (1024 - 600 - 290) * KIB);
  EQ(total(&balance), balance.rss);
  bursar_regions_free(&regions);
}

static void test_not_known_is_never_zero(void) {
  static struct bursar_balance balance;
  struct bursar_regions regions;
  struct bursar_inside inside = inside_of_it();
  struct bursar_buffer out;
  inside.known = BURSAR_INSIDE_MEMORY;
  EQ(make_regions(&regions), 0);
  struct bursar_balance_facts facts = facts_with(&regions, &inside, BURSAR_DOMAINS_OF_PYTHON);
  facts.live[BURSAR_DOMAIN_OBJ] = 77;
  bursar_balance_make(&facts, &balance);
  OK(find(&balance, "python.obj")->bytes == BURSAR_BALANCE_UNKNOWN, "what of the blocks is resident is not known");
  EQ(find(&balance, "python.obj")->live, 77);
  EQ(find(&balance, "malloc heaps, use not known")->bytes, 348 * KIB);
  EQ(find(&balance, "pymalloc: used")->bytes, 500 * KIB);
  EQ(total(&balance), balance.rss);
  balance.pid = 5;
  bursar_buffer_init(&out, 1 << 20);
  bursar_balance_text_json(&balance, &out);
  HAS(out.data, "{\"name\": \"python.obj\", \"bytes\": null, \"live_bytes\": 77,");
  HAS(out.data, "\"returnable_bytes\": null,");
  HAS(out.data, "\"unexplained_bytes\": 126976,");
  bursar_buffer_free(&out);
  bursar_buffer_init(&out, 1 << 20);
  bursar_balance_text_print(&balance, &out);
  HAS(out.data, "   not known       -  python.obj");
  HAS(out.data, "77 B booked");
  bursar_buffer_free(&out);
  bursar_regions_free(&regions);
  facts.regions = NULL;
  bursar_balance_make(&facts, &balance);
  OK(balance.rss == BURSAR_BALANCE_UNKNOWN && balance.unexplained == BURSAR_BALANCE_UNKNOWN,
     "of a program that has ended nothing is resident that one could know");
  EQ(find(&balance, "python.obj")->live, 77);
}

static void test_what_is_no_smaps(void) {
  struct bursar_regions regions;
  char wrong[][64] = {"hello\n", "00400000-00401000 r-xp", "00400000 r-xp 00000000 08:01 10\n", "Rss: 4 kB\n",
                      "00401000-00400000 r-xp 00000000 08:01 10\n"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    EQ(bursar_regions_parse(wrong[i], strlen(wrong[i]), 0, 8 * MIB, &regions), -EINVAL);
}

/* --- the parts of a look --------------------------------------------------------------------------------------------- */

static void test_pages(void) {
  uint64_t bits[3] = {~0ull, 1ull, 0};
  struct bursar_regions_one region = {.from = 0x10000, .to = 0x10000 + 130 * 4096, .rss = 65 * 4096, .bits = bits};
  EQ(bursar_regions_resident(&region, region.from, region.to), 65 * 4096);
  EQ(bursar_regions_resident(&region, region.from + 16, region.from + 16 + 65 * 4096), 65 * 4096 - 16);
  EQ(bursar_regions_resident(&region, region.from + 16, region.from + 64 * 4096), 64 * 4096 - 16);
  EQ(bursar_regions_resident(&region, region.from + 16, region.from + 20), 4);
  EQ(bursar_regions_resident(&region, region.from + 65 * 4096, region.to), 0);
  EQ(bursar_regions_resident(&region, 0, 0x10001), 1);
  EQ(bursar_regions_resident(&region, region.to, region.to + 4096), 0);
  region.bits = NULL;
  EQ(bursar_regions_resident(&region, region.from, region.from + 4096), 4096);
  EQ(bursar_regions_resident(&region, region.from, region.to), 65 * 4096);
}

static void test_pieces(void) {
  struct bursar_pieces pieces;
  EQ(bursar_pieces_init(&pieces), 0);
  bursar_pieces_add(&pieces, 100, 200, BURSAR_PIECES_ARENA);
  bursar_pieces_add(&pieces, 300, 400, BURSAR_PIECES_CHUNK);
  bursar_pieces_add(&pieces, 150, 350, BURSAR_PIECES_MAP); /* what is left of it */
  bursar_pieces_add(&pieces, 120, 180, BURSAR_PIECES_MAP); /* nothing */
  EQ(pieces.count, 3);
  EQ(pieces.at[1].from, 200);
  EQ(pieces.at[1].to, 300);
  EQ(pieces.at[1].kind, BURSAR_PIECES_MAP);
  uint64_t from = 50, to = 500;
  OK(bursar_pieces_gap(&pieces, &from, &to) && from == 50 && to == 100, "the gap before");
  from = 100, to = 500;
  OK(bursar_pieces_gap(&pieces, &from, &to) && from == 400 && to == 500, "the gap behind");
  from = 110, to = 390;
  OK(!bursar_pieces_gap(&pieces, &from, &to), "no gap");
  bursar_pieces_free(&pieces);
}

static void test_signs(void) {
  uint32_t pool[12] = {3, 0, 0, 0, 0, 0, 0, 0, 7, 1, 48 + 64, 16384 - 32};
  unsigned char bytes[48];
  struct bursar_pools_header header;
  const uint64_t at = 0x7f0000004000;
  memcpy(bytes, pool, sizeof bytes);
  OK(bursar_pools_is(at, bytes, &header), "a pool of 32-byte blocks");
  EQ(header.used, 96);
  EQ(header.arena, 7);
  OK(!bursar_pools_is(at + 4096, bytes, &header), "not where no pool can be");
  const struct {
    unsigned word, value;
  } wrong[] = {{0, 600}, {2, 5}, {9, 32}, {9, 2}, {10, 48 + 65}, {10, 20000}, {11, 16384 - 48}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    memcpy(bytes, pool, sizeof bytes);
    memcpy(bytes + wrong[i].word * 4, &wrong[i].value, 4);
    OK(!bursar_pools_is(at, bytes, &header), "word %u wrong", wrong[i].word);
  }
  const uint64_t chunk[2] = {0, 0x100002}, in_use[2] = {0, 0x100001}, odd[2] = {0, 0x100012},
                 less_its_head[2] = {0, 0xffff2}, small[2] = {0, 0x1002};
  EQ(bursar_heap_mapped(0x10000, chunk, 0x10000 + 0x100000), 0x100000);
  EQ(bursar_heap_mapped(0x10000, chunk, 0x10000 + 0xff000), 0);
  EQ(bursar_heap_mapped(0x10000, less_its_head, 0x10000 + 0x100000), 0x100000); /* glibc 2.43 */
  EQ(bursar_heap_mapped(0x10000, in_use, UINT64_MAX), 0);
  EQ(bursar_heap_mapped(0x10000, odd, UINT64_MAX), 0);
  EQ(bursar_heap_mapped(0x10000, small, UINT64_MAX), 0);
}

static void write_file(const char *path, const char *content) {
  FILE *file = fopen(path, "w");
  if (file) {
    fputs(content, file);
    fclose(file);
  }
}

static void test_cgroups(void) {
  char mount[] = "/tmp/bursar-test-XXXXXX", path[256];
  struct bursar_smaps_cgroup group;
  OK(mkdtemp(mount) != NULL, "a folder");
  const char *const folders[] = {"a", "a/b", "a/b/c", "memory", "memory/x"};
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    snprintf(path, sizeof path, "%s/%s", mount, folders[i]);
    mkdir(path, 0700);
  }
  const char *const files[][2] = {{"a/memory.max", "1000\n"},
                                  {"a/memory.current", "400\n"},
                                  {"a/b/memory.max", "max\n"},
                                  {"a/b/memory.current", "5\n"},
                                  {"memory/x/memory.limit_in_bytes", "2000\n"},
                                  {"memory/x/memory.usage_in_bytes", "7\n"},
                                  {"memory/memory.limit_in_bytes", "9223372036854771712\n"}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/%s", mount, files[i][0]);
    write_file(path, files[i][1]);
  }
  bursar_smaps_cgroup_at("0::/a/b/c\n", mount, &group); /* the nearest that has a limit */
  EQ(group.version, 2);
  EQ(group.limit, 1000);
  EQ(group.usage, 400);
  bursar_smaps_cgroup_at("3:cpu:/a\n4:memory:/x\n0::/\n", mount, &group);
  EQ(group.version, 1);
  EQ(group.limit, 2000);
  EQ(group.usage, 7);
  bursar_smaps_cgroup_at("4:memory:/\n0::/\n", mount, &group); /* no limit is a very large one */
  EQ(group.version, 0);
  OK(group.limit == BURSAR_SMAPS_UNKNOWN, "no limit is not known, not 0");
  for (size_t i = sizeof files / sizeof *files; i-- > 0;) {
    snprintf(path, sizeof path, "%s/%s", mount, files[i][0]);
    unlink(path);
  }
  for (size_t i = sizeof folders / sizeof *folders; i-- > 0;) {
    snprintf(path, sizeof path, "%s/%s", mount, folders[i]);
    rmdir(path);
  }
  rmdir(mount);
}

int main(void) {
  test_the_kernel_alone();
  test_from_inside();
  test_more_booked_than_there_is();
  test_another_malloc();
  test_not_known_is_never_zero();
  test_what_is_no_smaps();
  test_pages();
  test_pieces();
  test_signs();
  test_cgroups();
  return tap_done();
}
