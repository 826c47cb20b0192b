/* Mode sample over a long run: soak_sample ALLOCATIONS STACKS.  Prints what came of it as JSON, for test_sample_soak.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/sample.h"
#include "account/stacks.h"
#include "account_model.h"
#include "report/model.h"

#define SLOTS (1u << 20)

static struct account_model books;
static uint32_t sizes[SLOTS];

static void *address(uint64_t at) { return (char *)0x200000000000 + at * 512; }

/* One of so many stacks, three frames deep. */
static uint32_t tag_of(uint64_t which) {
  uint32_t node = BURSAR_NODE_MAIN;
  for (unsigned depth = 0; depth < 3; depth++) {
    char name[32];
    int length = snprintf(name, sizeof name, "f%llu", (unsigned long long)(which % 47));
    uint32_t code = bursar_stacks_code(bursar_stacks_string(name, (size_t)length), 0, depth);
    node = bursar_stacks_node(node, code, (uint32_t)(which % 97));
    which /= 47;
  }
  return bursar_stacks_site(node, BURSAR_DOMAIN_OBJ);
}

static long resident(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1)
    pages = -1;
  if (file)
    fclose(file);
  return pages * 4096;
}

int main(int argc, char **argv) {
  uint64_t events = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000,
           stacks = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  uint64_t seed = 12345, live = 0, bytes = 0;
  long early = 0;
  account_model_open_sampling(&books, 0, 0, 1);
  for (uint64_t event = 0; event < events; event++) {
    uint64_t dice = model_random(&seed);
    uint32_t at = (uint32_t)(dice & (SLOTS - 1)), size = 16 + (uint32_t)(dice >> 20 & 511);
    void *p = address(at);
    if (sizes[at] && bursar_sample_may_hold(p))
      bursar_sample_end(p, true);
    live += size - (uint64_t)sizes[at];
    sizes[at] = size;
    bytes += size;
    if (bursar_sample_alloc(size, BURSAR_DOMAIN_OBJ))
      bursar_sample_book_gil(p, size, tag_of((dice >> 32) % stacks), BURSAR_DOMAIN_OBJ);
    if (event == events / 2)
      early = resident();
  }
  long late = resident();
  account_model_stop(&books, BURSAR_STATE_ENDED);
  struct stat st;
  struct bursar_model *model;
  struct bursar_error error;
  if (stat(books.path, &st) != 0 || bursar_model_open(books.path, &model, &error) != 0)
    return 1;
  double summed = 0;
  for (uint32_t i = 0; i < model->site_count; i++)
    summed += (double)model->sites[i].live.bytes;
  printf(
      "{\"live\":%llu,\"estimate\":%llu,\"stderr\":%.0f,\"summed\":%.0f,\"allocations\":%llu,\"allocated\":%llu,"
      "\"counted\":%llu,\"sites\":%u,\"folded\":%llu,\"file\":%llu,\"early\":%ld,\"late\":%ld,\"notes\":%u}\n",
      (unsigned long long)live, (unsigned long long)model->live.bytes, model->errors.live_bytes, summed,
      (unsigned long long)model->allocations, (unsigned long long)bytes, (unsigned long long)model->allocated_bytes,
      model->site_count, (unsigned long long)model->folded_sites, (unsigned long long)st.st_size, early, late,
      model->reader->note_count);
  bursar_model_free(model);
  account_model_remove(&books);
  return 0;
}
