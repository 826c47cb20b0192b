#include "report/balance.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "ledger/domains.h"

#define UNKNOWN BURSAR_BALANCE_UNKNOWN
#define FILES_NAMED 12u
#define FILE_LARGE (1u << 20)
#define ARENAS_SHOWN 8u

/* --- lines ----------------------------------------------------------------------------------------------------------- */

static struct bursar_balance_line *line(struct bursar_balance *balance, const char *name, uint64_t bytes,
                                        const char *format, ...) __attribute__((format(printf, 4, 5)));
static struct bursar_balance_line *line(struct bursar_balance *balance, const char *name, uint64_t bytes,
                                        const char *format, ...) {
  va_list args;
  if (balance->line_count == BURSAR_BALANCE_LINES) /* cannot be: what is named each is bounded */
    return &balance->lines[BURSAR_BALANCE_LINES - 1];
  struct bursar_balance_line *to = &balance->lines[balance->line_count++];
  *to = (struct bursar_balance_line){.bytes = bytes, .live = UNKNOWN};
  snprintf(to->name, sizeof to->name, "%s", name);
  va_start(args, format);
  vsnprintf(to->detail, sizeof to->detail, format, args);
  va_end(args);
  return to;
}

void bursar_balance_note(struct bursar_balance *balance, const char *format, ...) {
  va_list args;
  if (balance->note_count == BURSAR_BALANCE_NOTES)
    return;
  va_start(args, format);
  vsnprintf(balance->notes[balance->note_count++], BURSAR_BALANCE_DETAIL, format, args);
  va_end(args);
}

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }
static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static bool knows(const struct bursar_balance_facts *facts, uint32_t what) {
  return (facts->inside->known & what) == what;
}

/* What the kernel alone says, by kind and shape. */
struct kinds {
  uint64_t rss[BURSAR_REGIONS_KINDS], dirty[BURSAR_REGIONS_KINDS];
  uint64_t stack_shaped, heap_shaped, bss_shaped;
};

static struct kinds add_kinds(const struct bursar_regions *regions) {
  struct kinds kinds = {.stack_shaped = 0};
  for (size_t i = 0; i < regions->count; i++) {
    const struct bursar_regions_one *region = &regions->at[i];
    kinds.rss[region->kind] += region->rss;
    kinds.dirty[region->kind] += region->dirty;
    kinds.stack_shaped += region->shape == BURSAR_REGIONS_SHAPE_STACK ? region->rss : 0;
    kinds.heap_shaped += region->shape == BURSAR_REGIONS_SHAPE_HEAP ? region->rss : 0;
    kinds.bss_shaped += region->shape == BURSAR_REGIONS_SHAPE_BSS ? region->rss : 0;
  }
  return kinds;
}

/* --- Python's and malloc's ------------------------------------------------------------------------------------------- */

/* Blocks: all domains but mappings. */
#define BLOCK_DOMAINS BURSAR_DOMAIN_MMAP

struct blocks {
  uint64_t resident[BLOCK_DOMAINS]; /* as lines have it */
  uint64_t sum;
  uint64_t absent; /* live, and not resident */
};

/* Booked bytes cannot be more than what holds them: what is too much was freed in between, or is swapped out. */
static struct blocks fit_blocks(const struct bursar_inside *inside, uint64_t room) {
  struct blocks blocks = {.sum = 0};
  for (unsigned domain = 0; domain < BLOCK_DOMAINS; domain++) {
    blocks.resident[domain] = inside->resident[domain];
    blocks.sum += inside->resident[domain];
    blocks.absent += less(inside->live[domain], inside->resident[domain]);
  }
  while (blocks.sum > room) {
    unsigned largest = 0;
    for (unsigned domain = 1; domain < BLOCK_DOMAINS; domain++)
      if (blocks.resident[domain] > blocks.resident[largest])
        largest = domain;
    uint64_t cut = least(blocks.sum - room, blocks.resident[largest]);
    blocks.resident[largest] -= cut;
    blocks.sum -= cut;
    blocks.absent += cut;
  }
  return blocks;
}

static void domain_line(struct bursar_balance *balance, const struct bursar_balance_facts *facts, unsigned domain,
                        uint64_t resident) {
  static const char *const what[] = {"live Python objects", "live, PyMem_Malloc", "live, PyMem_RawMalloc",
                                     "live data of arrays", "live blocks",        "live mappings"};
  bool heard = facts->domains >> domain & 1;
  struct bursar_balance_line *to = heard
                                       ? line(balance, bursar_domains_name(domain), resident, "%s", what[domain])
                                       : line(balance, bursar_domains_name(domain), UNKNOWN, "%s",
                                              facts->domains ? "not listened to: see --domains" : "no books are open");
  if (heard)
    to->live = knows(facts, BURSAR_INSIDE_BLOCKS) ? facts->inside->live[domain] : facts->live[domain];
}

static void arena_lines(struct bursar_balance *balance, const struct bursar_inside *inside, bool booked, uint64_t used,
                        uint64_t over) {
  char size[BURSAR_SIZE_TEXT];
  if (booked)
    line(balance, "pymalloc: used, not booked", over, "rounding of sizes, and objects from before the books");
  else
    line(balance, "pymalloc: used", used, "Python objects up to 512 bytes");
  line(balance, "pymalloc: free in arenas", inside->arena_resident - used, "arenas of %s in all",
       bursar_size_print(inside->arena_bytes, size));
}

static void free_lines(struct bursar_balance *balance, const struct bursar_inside *inside) {
  uint64_t rest = 0, rest_returnable = 0;
  uint32_t heaps = least(inside->heaps, BURSAR_INSIDE_HEAPS_MAX), hidden = 0;
  char size[BURSAR_SIZE_TEXT];
  for (uint32_t i = 0; i < heaps; i++) {
    const struct bursar_inside_heap *heap = &inside->heap[i];
    bool last = i == BURSAR_INSIDE_HEAPS_MAX - 1; /* stands for several */
    if (i > 0 && (i >= ARENAS_SHOWN || last)) {
      rest += heap->free_resident;
      rest_returnable += heap->returnable;
      hidden++;
      continue;
    }
    char name[BURSAR_BALANCE_NAME] = "malloc: free, main heap";
    if (i)
      snprintf(name, sizeof name, "malloc: free, thread arena %u", i);
    line(balance, name, heap->free_resident, "malloc_trim(0) would return %s",
         bursar_size_print(heap->returnable, size));
  }
  if (hidden)
    line(balance, "malloc: free, other thread arenas", rest, "%u or more; malloc_trim(0) would return %s", hidden,
         bursar_size_print(rest_returnable, size));
}

/* Anonymous memory that is no piece's: where other mallocs than glibc's have their blocks. */
static uint64_t nobodys(const struct bursar_inside *inside, const struct kinds *kinds) {
  uint64_t pieces = inside->stack_resident + inside->bss_resident + inside->arena_resident + inside->chunk_resident +
                    inside->map_resident;
  for (uint32_t i = 1; i < inside->heaps && i < BURSAR_INSIDE_HEAPS_MAX; i++)
    pieces += inside->heap[i].resident;
  return less(kinds->rss[BURSAR_REGIONS_ANON], pieces);
}

/* Everything that is anonymous, where its memory was looked at. */
static void inside_lines(struct bursar_balance *balance, const struct bursar_balance_facts *facts,
                         const struct kinds *kinds) {
  const struct bursar_inside *inside = facts->inside;
  bool booked = facts->domains && knows(facts, BURSAR_INSIDE_BLOCKS), walked = knows(facts, BURSAR_INSIDE_HEAPS);
  uint64_t heaps = 0, vacant = 0, returnable = 0, used = least(inside->arena_used, inside->arena_resident);
  char size[BURSAR_SIZE_TEXT];
  for (uint32_t i = 0; i < inside->heaps && i < BURSAR_INSIDE_HEAPS_MAX; i++) {
    heaps += inside->heap[i].resident;
    vacant += walked ? inside->heap[i].free_resident : 0;
    returnable += inside->heap[i].returnable;
  }
  uint64_t in_use = less(heaps, vacant) + inside->chunk_resident;
  /* Blocks that were seen to lie elsewhere explain what is there; without such a sight nothing there is theirs. */
  uint64_t rest = booked && inside->elsewhere ? nobodys(inside, kinds) : 0, elsewhere = least(inside->elsewhere, rest);
  struct blocks blocks = fit_blocks(inside, used + in_use + rest);
  for (unsigned domain = 0; domain < BLOCK_DOMAINS; domain++)
    domain_line(balance, facts, domain, booked ? blocks.resident[domain] : UNKNOWN);
  domain_line(balance, facts, BURSAR_DOMAIN_MMAP, knows(facts, BURSAR_INSIDE_MAPS) ? inside->map_resident : UNKNOWN);
  uint64_t left = less(used + in_use, booked ? less(blocks.sum, elsewhere) : 0), over = 0;
  if (booked) {
    over = least(less(used, inside->in_arenas), left);
    left -= over;
    balance->live_not_resident = blocks.absent;
  } else {
    left -= used;
  }
  arena_lines(balance, inside, booked, used, over);
  if (walked)
    line(balance, booked ? "malloc: used, not booked" : "malloc: used", left, "%s; %s of all it uses mapped apart",
         booked ? "headers, rounding, and blocks of whom nobody listens to" : "all that malloc holds",
         bursar_size_print(inside->chunk_resident, size));
  else
    line(balance, "malloc heaps, use not known", left, "they could not be walked");
  if (walked)
    free_lines(balance, inside);
  balance->returnable = walked ? returnable : UNKNOWN;
}

/* Where nothing but the kernel could be asked. */
static void outside_lines(struct bursar_balance *balance, const struct bursar_balance_facts *facts,
                          const struct kinds *kinds) {
  for (unsigned domain = 0; facts->domains && domain < BURSAR_DOMAIN_COUNT; domain++)
    domain_line(balance, facts, domain, UNKNOWN);
  if (facts->domains)
    line(balance, "pymalloc: free in arenas", UNKNOWN, "only the program itself can say");
  line(balance, "malloc heaps, use not known", kinds->rss[BURSAR_REGIONS_HEAP] + kinds->heap_shaped,
       "the main heap, and what looks like heaps of threads");
}

/* --- files ----------------------------------------------------------------------------------------------------------- */

struct file {
  const struct bursar_regions_one *region;
  uint64_t rss;
};

/* Keeps the largest; a file's mappings mostly stand in a row. */
static void keep_file(struct file files[FILES_NAMED], struct file file) {
  for (size_t i = 0; i < FILES_NAMED; i++)
    if (file.rss > files[i].rss) {
      struct file down = files[i];
      files[i] = file;
      file = down;
    }
}

static void file_lines(struct bursar_balance *balance, const struct bursar_regions *regions, uint64_t all) {
  struct file files[FILES_NAMED] = {{NULL, 0}}, now = {NULL, 0};
  uint64_t rest = all;
  for (size_t i = 0; i < regions->count; i++) {
    const struct bursar_regions_one *region = &regions->at[i];
    if (region->kind != BURSAR_REGIONS_FILE)
      continue;
    if (now.region && (region->inode != now.region->inode || region->minor != now.region->minor)) {
      keep_file(files, now);
      now.rss = 0;
    }
    now = (struct file){region, now.rss + region->rss};
  }
  keep_file(files, now);
  for (size_t i = 0; i < FILES_NAMED && files[i].rss >= FILE_LARGE; i++) {
    const char *name = bursar_regions_name(regions, files[i].region);
    size_t length = strlen(name), most = BURSAR_BALANCE_DETAIL - 4;
    line(balance, "mapped file", files[i].rss, "%s%s", length > most ? "..." : "",
         name + (length > most ? length - most : 0));
    rest -= files[i].rss;
  }
  line(balance, rest == all ? "mapped files" : "other mapped files", rest, "less than 1 MiB each, or many");
}

static void kernel_lines(struct bursar_balance *balance, const struct bursar_balance_facts *facts,
                         const struct kinds *kinds) {
  const struct bursar_inside *inside = facts->inside;
  bool looked = knows(facts, BURSAR_INSIDE_MEMORY);
  uint64_t bss = looked ? inside->bss_resident : kinds->bss_shaped;
  char a[BURSAR_SIZE_TEXT];
  line(balance, "thread stacks", looked ? inside->stack_resident : kinds->stack_shaped, "%s",
       "those of ended threads that are kept for others too");
  line(balance, "main stack", kinds->rss[BURSAR_REGIONS_STACK], "%s", "");
  line(balance, "interpreter and libraries", kinds->rss[BURSAR_REGIONS_IMAGE] + bss, "%s of it written to, and private",
       bursar_size_print(kinds->dirty[BURSAR_REGIONS_IMAGE] + bss, a));
  file_lines(balance, facts->regions, kinds->rss[BURSAR_REGIONS_FILE]);
  line(balance, "shared memory", kinds->rss[BURSAR_REGIONS_SHARED], "%s", "");
  if (kinds->rss[BURSAR_REGIONS_HIDDEN])
    line(balance, "hidden memory", kinds->rss[BURSAR_REGIONS_HIDDEN], "%s", "secrets in pages of memfd_secret");
  if (kinds->rss[BURSAR_REGIONS_NAMED])
    line(balance, "anonymous, named", kinds->rss[BURSAR_REGIONS_NAMED], "%s",
         "the program gave the kernel a name for it");
  if (kinds->rss[BURSAR_REGIONS_OWN] + kinds->rss[BURSAR_REGIONS_LEDGER])
    line(balance, "bursar itself", kinds->rss[BURSAR_REGIONS_OWN] + kinds->rss[BURSAR_REGIONS_LEDGER],
         "tables; %s of it the ledger", bursar_size_print(kinds->rss[BURSAR_REGIONS_LEDGER], a));
}

/* --- the whole ------------------------------------------------------------------------------------------------------- */

/* Lines never hold more than there is: what is looked at in parts may move meanwhile, and the largest then has too much. */
static uint64_t settle(struct bursar_balance *balance) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < balance->line_count; i++)
    sum += balance->lines[i].bytes == UNKNOWN ? 0 : balance->lines[i].bytes;
  while (sum > balance->rss) {
    struct bursar_balance_line *largest = NULL;
    for (uint32_t i = 0; i < balance->line_count; i++)
      if (balance->lines[i].bytes != UNKNOWN && (!largest || balance->lines[i].bytes > largest->bytes))
        largest = &balance->lines[i];
    if (!largest)
      break;
    uint64_t cut = least(sum - balance->rss, largest->bytes);
    largest->bytes -= cut;
    sum -= cut;
  }
  return balance->rss - sum;
}

void bursar_balance_make(const struct bursar_balance_facts *facts, struct bursar_balance *out) {
  *out = (struct bursar_balance){.rss = UNKNOWN,
                                 .pss = UNKNOWN,
                                 .swap = UNKNOWN,
                                 .page_tables = facts->status.page_tables,
                                 .threads = facts->status.threads,
                                 .cgroup_limit = facts->cgroup.limit,
                                 .cgroup_usage = facts->cgroup.usage,
                                 .unexplained = UNKNOWN,
                                 .returnable = UNKNOWN,
                                 .live_not_resident = UNKNOWN};
  if (!facts->regions) {
    for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
      domain_line(out, facts, domain, UNKNOWN);
    return;
  }
  struct kinds kinds = add_kinds(facts->regions);
  out->rss = facts->regions->rss;
  out->pss = facts->regions->pss;
  out->swap = facts->regions->swap;
  if (knows(facts, BURSAR_INSIDE_MEMORY))
    inside_lines(out, facts, &kinds);
  else
    outside_lines(out, facts, &kinds);
  kernel_lines(out, facts, &kinds);
  if (facts->regions->cut)
    bursar_balance_note(out, "more mappings than can be listed: those beyond are in 'unexplained'");
  if (knows(facts, BURSAR_INSIDE_MEMORY) && !knows(facts, BURSAR_INSIDE_WHOLE))
    bursar_balance_note(out,
                        "more memory that nobody names than is gone through: some of it may be malloc's or Python's");
  out->unexplained = settle(out);
}
