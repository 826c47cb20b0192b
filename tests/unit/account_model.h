/* account_model.h: plain books beside the real ones, for tests of the account.
 *
 * Events go to both: to the account as the hooks hand them over, and to sums that are kept in the slowest possible way.
 * What the ledger says afterwards, read back through the reader, must be what the sums say, to the byte.
 * Addresses are invented: the account never touches the blocks that it books.
 * Threads: one.  Failures of the machine (no disk, no memory) abort. */
#ifndef BURSAR_TESTS_ACCOUNT_MODEL_H
#define BURSAR_TESTS_ACCOUNT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/account.h"
#include "report/model.h"

#define MODEL_SITES 2048
#define MODEL_THREADS 4

struct model_held {
  uint64_t bytes, blocks;
};

struct model_site {
  uint64_t alloc_bytes, allocs, free_bytes, frees, temporaries;
  struct model_held peak;
};

struct model_block {
  void *p; /* NULL: none */
  uint64_t size;
  uint64_t serial; /* its thread's allocations up to this one */
  uint32_t site;   /* as the ledger numbers it */
  uint16_t domain;
  uint16_t thread;
};

struct account_model {
  struct model_site sites[MODEL_SITES];
  uint64_t live, peak, allocs, alloc_bytes, frees, temporaries;
  uint64_t serial[MODEL_THREADS];
  bool at_peak;    /* nothing was freed since */
  unsigned thread; /* at hand */
  uint32_t within;
  struct bursar_recent recent[MODEL_THREADS];
  char folder[64], path[128];
};

/* What the provider was told since account_model_open. */
struct model_calls {
  unsigned moved, warned;
};
extern struct model_calls model_calls;

/* A generator of its own, so that a seed is a sequence for ever. */
uint64_t model_random(uint64_t *state);
uint64_t model_below(uint64_t *state, uint64_t limit);

/* A folder and a ledger in it, and the books open, phase MAIN.  `within` 0 is 1. */
void account_model_open(struct account_model *model, uint64_t cap, uint32_t within);
/* The same in a folder that is there already. */
int account_model_start(struct account_model *model, const char *folder, uint64_t cap, uint32_t within,
                        struct bursar_error *error);
/* Mode sample, at this cap, interval and seed (0: as in sample.h).  Only the file and the provider of the model are used. */
void account_model_open_sampling(struct account_model *model, uint64_t cap, uint32_t interval, uint64_t seed);
/* Mode count, likewise. */
void account_model_open_counting(struct account_model *model);
/* Closes the books; the ledger stays. */
void account_model_stop(struct account_model *model, enum bursar_state state);
/* Removes the ledger and its folder. */
void account_model_remove(struct account_model *model);

/* The tag of a stack of one frame below MAIN. */
uint32_t model_site_tag(unsigned which, unsigned domain);

/* Books it as the hooks do: the fast half, and where that declines the slow one. */
void model_book(void *p, size_t size, uint32_t tag, unsigned domain);
void model_unbook(void *p, unsigned domain);

void account_model_alloc(struct account_model *model, struct model_block *block, void *p, uint64_t size, uint32_t tag,
                         unsigned domain);
void account_model_free(struct account_model *model, struct model_block *block);
/* As realloc: the block is retired, whether it moves or not, and one of the new size is booked. */
void account_model_realloc(struct account_model *model, struct model_block *block, void *p, uint64_t size,
                           uint32_t tag);
void account_model_switch(struct account_model *model, unsigned thread);

/* How many figures of the ledger, read back, are not the model's; the first few are printed.  `end`: what the sites hold
 * now is what the ledger calls live. */
unsigned account_model_differences(const struct account_model *model, bool end);

/* Hands out addresses: a size class has a stretch of its own, and the place freed last is given first. */
struct model_places {
  uint32_t freed[8][512], freed_count[8], fresh[8];
};
void *model_place_take(struct model_places *places, uint64_t size);
void model_place_give(struct model_places *places, void *p);

#endif
