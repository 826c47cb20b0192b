#include "account_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account/hot.h"
#include "account/lock.h"
#include "account/stacks.h"
#include "ledger/place.h"

struct model_calls model_calls;

static void stacks_moved(void) { model_calls.moved++; }
static void warn(const char *line) { model_calls.warned++; }

uint64_t model_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state * 0x2545F4914F6CDD1Dull;
}

uint64_t model_below(uint64_t *state, uint64_t limit) { return (model_random(state) >> 11) % limit; }

static void must(bool good, const char *what) {
  if (good)
    return;
  fprintf(stderr, "account_model: %s failed\n", what);
  abort();
}

static int start(struct account_model *model, const char *folder, struct bursar_settings settings,
                 struct bursar_error *error) {
  static const struct bursar_provider provider = {.stacks_moved = stacks_moved, .warn = warn};
  struct bursar_place place;
  memset(model, 0, sizeof *model);
  snprintf(model->folder, sizeof model->folder, "%s", folder);
  snprintf(model->path, sizeof model->path, "%s/books.bursar", folder);
  int status = bursar_place_create(model->path, true, NULL, &place, error);
  if (status != 0)
    return status;
  bursar_place_close(&place);
  model_calls = (struct model_calls){0};
  model->within = settings.within ? settings.within : 1;
  bursar_account.recent = bursar_account.recents = NULL;
  for (unsigned i = 0; i < MODEL_THREADS; i++) {
    model->recent[i].next = bursar_account.recents;
    bursar_account.recents = &model->recent[i];
  }
  settings.path = model->path;
  settings.phase = BURSAR_PHASE_MAIN;
  settings.python_version = "0";
  status = bursar_account_start(&settings, &provider, error);
  if (status == 0)
    bursar_account_switch_gil(&model->recent[0]);
  return status;
}

int account_model_start(struct account_model *model, const char *folder, uint64_t cap, uint32_t within,
                        struct bursar_error *error) {
  return start(model, folder, (struct bursar_settings){.cap = cap, .within = within}, error);
}

static void open_mode(struct account_model *model, struct bursar_settings settings) {
  char folder[] = "/tmp/bursar-test-XXXXXX";
  struct bursar_error error;
  must(mkdtemp(folder) != NULL, "mkdtemp");
  if (start(model, folder, settings, &error) != 0)
    must(false, error.text);
}

void account_model_open_sampling(struct account_model *model, uint64_t cap, uint32_t interval, uint64_t seed) {
  open_mode(model,
            (struct bursar_settings){.cap = cap, .mode = BURSAR_MODE_SAMPLE, .interval = interval, .seed = seed});
}

void account_model_open_counting(struct account_model *model) {
  open_mode(model, (struct bursar_settings){.mode = BURSAR_MODE_COUNT, .sizes = true});
}

void account_model_open(struct account_model *model, uint64_t cap, uint32_t within) {
  char folder[] = "/tmp/bursar-test-XXXXXX";
  struct bursar_error error;
  must(mkdtemp(folder) != NULL, "mkdtemp");
  if (account_model_start(model, folder, cap, within, &error) != 0)
    must(false, error.text);
}

void account_model_stop(struct account_model *model, enum bursar_state state) {
  bursar_account_stop(state);
  bursar_account.recent = bursar_account.recents = NULL;
}

void account_model_remove(struct account_model *model) {
  (void)unlink(model->path);
  (void)rmdir(model->folder);
}

uint32_t model_site_tag(unsigned which, unsigned domain) {
  char name[32];
  snprintf(name, sizeof name, "function_%u", which);
  bursar_lock_take();
  uint32_t code =
      bursar_stacks_code(bursar_stacks_string(name, strlen(name)), bursar_stacks_string("file.py", 7), which);
  uint32_t tag = bursar_stacks_site(bursar_stacks_node(BURSAR_NODE_MAIN, code, which + 1), domain);
  bursar_lock_give();
  return tag;
}

void model_book(void *p, size_t size, uint32_t tag, unsigned domain) {
  if (!bursar_hot_alloc(p, size, tag, domain))
    bursar_account_alloc_gil(p, size, tag, domain);
}

void model_unbook(void *p, unsigned domain) {
  if (!bursar_hot_free(p, domain))
    bursar_account_free_gil(p, domain);
}

static struct model_held held_by(const struct model_site *site) {
  return (struct model_held){site->alloc_bytes - site->free_bytes, site->allocs - site->frees};
}

static void add(struct account_model *model, struct model_block *block, void *p, uint64_t size, uint32_t tag,
                unsigned domain) {
  uint32_t index = (tag >> BURSAR_CELL_SHIFT) - 1;
  must(index < MODEL_SITES, "a site below MODEL_SITES");
  struct model_site *site = &model->sites[index];
  site->alloc_bytes += size;
  site->allocs++;
  model->alloc_bytes += size;
  model->allocs++;
  model->live += size;
  *block = (struct model_block){.p = p,
                                .size = size,
                                .serial = ++model->serial[model->thread],
                                .site = index,
                                .domain = (uint16_t)domain,
                                .thread = (uint16_t)model->thread};
  /* A block of no bytes that comes while the peak lasts is held at the peak. */
  if (model->live < model->peak || (model->live == model->peak && !(model->at_peak && size == 0)))
    return;
  model->at_peak = true;
  model->peak = model->live;
  for (unsigned i = 0; i < MODEL_SITES; i++)
    model->sites[i].peak = held_by(&model->sites[i]);
}

static void subtract(struct account_model *model, struct model_block *block) {
  struct model_site *site = &model->sites[block->site];
  site->free_bytes += block->size;
  site->frees++;
  model->frees++;
  model->live -= block->size;
  model->at_peak = false;
  if (model->serial[block->thread] - block->serial < model->within) {
    site->temporaries++;
    model->temporaries++;
  }
  block->p = NULL;
}

void account_model_alloc(struct account_model *model, struct model_block *block, void *p, uint64_t size, uint32_t tag,
                         unsigned domain) {
  model_book(p, size, tag, domain);
  add(model, block, p, size, tag, domain);
}

void account_model_free(struct account_model *model, struct model_block *block) {
  model_unbook(block->p, block->domain);
  subtract(model, block);
}

void account_model_realloc(struct account_model *model, struct model_block *block, void *p, uint64_t size,
                           uint32_t tag) {
  struct bursar_record old;
  unsigned domain = block->domain;
  must(bursar_live_take(block->p, &old), "taking a block that is live");
  bursar_account_retire_gil(block->p, old, domain);
  subtract(model, block);
  account_model_alloc(model, block, p, size, tag, domain);
}

void account_model_switch(struct account_model *model, unsigned thread) {
  bursar_account_switch_gil(&model->recent[thread]);
  model->thread = thread;
}

static unsigned differs(unsigned sofar, const char *what, long site, uint64_t got, uint64_t want) {
  if (got == want)
    return 0;
  if (sofar < 8)
    printf("# %s of site %ld: %llu, should be %llu\n", what, site, (unsigned long long)got, (unsigned long long)want);
  return 1;
}

unsigned account_model_differences(const struct account_model *model, bool end) {
  struct bursar_model *books;
  struct bursar_error error;
  unsigned bad = 0, met = 0, used = 0;
  if (bursar_model_open(model->path, &books, &error) != 0) {
    printf("# %s\n", error.text);
    return 1;
  }
  for (uint32_t i = 0; i < books->reader->note_count; i++, bad++)
    printf("# the reader says: %s\n", books->reader->note[i]);
  for (uint32_t i = 0; i < books->site_count; i++) {
    const struct bursar_model_site *got = &books->sites[i];
    const struct model_site *want = &model->sites[got->ledger < MODEL_SITES ? got->ledger : 0];
    struct model_held held = held_by(want);
    long n = (long)got->ledger;
    met++;
    bad += differs(bad, "allocations", n, got->allocations, want->allocs);
    bad += differs(bad, "allocated bytes", n, got->allocated_bytes, want->alloc_bytes);
    bad += differs(bad, "frees", n, got->frees, want->frees);
    bad += differs(bad, "temporaries", n, got->temporaries, want->temporaries);
    bad += differs(bad, "bytes at the peak", n, got->peak.bytes, want->peak.bytes);
    bad += differs(bad, "blocks at the peak", n, got->peak.blocks, want->peak.blocks);
    bad += end ? differs(bad, "live bytes", n, got->live.bytes, held.bytes) : 0;
    bad += end ? differs(bad, "live blocks", n, got->live.blocks, held.blocks) : 0;
  }
  for (unsigned i = 0; i < MODEL_SITES; i++)
    used += model->sites[i].allocs != 0;
  bad += differs(bad, "sites, number", -1, met, used);
  bad += differs(bad, "peak", -1, books->peak_bytes, model->peak);
  bad += differs(bad, "allocations", -1, books->allocations, model->allocs);
  bad += differs(bad, "allocated bytes", -1, books->allocated_bytes, model->alloc_bytes);
  bad += differs(bad, "frees", -1, books->frees, model->frees);
  bad += differs(bad, "temporaries", -1, books->temporaries, model->temporaries);
  bad += end ? differs(bad, "live bytes", -1, books->live.bytes, model->live) : 0;
  bad += differs(bad, "unmatched bytes", -1, books->reader->unmatched_bytes, 0);
  bursar_model_free(books);
  return bad;
}

/* --- places ------------------------------------------------------------------------------------------------------- */

static const uint64_t place_bytes[8] = {16, 32, 64, 528, 4112, 65552, 1u << 20, (uint64_t)1 << 36};
#define PLACES_FROM ((uintptr_t)0x200000000000)
#define PLACES_APART ((uintptr_t)0x40000000000) /* between the stretches of two classes */

void *model_place_take(struct model_places *places, uint64_t size) {
  unsigned class = 0;
  while (place_bytes[class] < size)
    class++;
  uint32_t slot = places->freed_count[class] ? places->freed[class][--places->freed_count[class]]
                                             : places->fresh[class]++;
  must(slot < 512 && (class < 7 || slot < 64), "a place");
  return (void *)(PLACES_FROM + class * PLACES_APART + slot * place_bytes[class]);
}

void model_place_give(struct model_places *places, void *p) {
  uintptr_t offset = (uintptr_t)p - PLACES_FROM;
  unsigned class = (unsigned)(offset / PLACES_APART);
  places->freed[class][places->freed_count[class]++] = (uint32_t)(offset % PLACES_APART / place_bytes[class]);
}
