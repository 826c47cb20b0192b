#include "tracing.h"

#include "account/charges.h"
#include "account/fold.h"
#include "account/lock.h"
#include "frames.h"
#include "prim/prim.h"

/* By address, hashed.  What has ended stays until its place is needed. */
#define BLOCKS 65536u
static struct block {
  const void *p; /* NULL: none */
  uint64_t serial;
  uint64_t bytes;
  uint32_t number, generation; /* of its site */
  uint32_t slot;
  bool pool;
} *blocks, *spare;
static uint32_t used, missed; /* places; blocks for which there was none since room was made */

static uint32_t place_of(const struct block *in, const void *p) {
  uint32_t at = (uint32_t)((uintptr_t)p >> 4) * 0x9E3779B1u >> 16; /* BLOCKS is 2^16 */
  while (in[at].p && in[at].p != p)
    at = (at + 1) % BLOCKS;
  return at;
}

static bool lives(const struct block *block) {
  const struct bursar_scope *scope = &bursar_account.scopes[block->slot];
  return scope->serial == block->serial && bursar_charges_slot(block->p, block->bytes, block->pool) == block->slot;
}

/* Makes room: most of what began in a call has ended with it. */
static void clear_out(void) {
  used = 0;
  for (uint32_t i = 0; i < BLOCKS; i++)
    if (blocks[i].p && lives(&blocks[i])) {
      spare[place_of(spare, blocks[i].p)] = blocks[i];
      used++;
    }
  struct block *old = blocks;
  blocks = spare;
  spare = old;
  bursar_prim_discard(spare, BLOCKS * sizeof *spare);
}

static bool ready(void) {
  if (!blocks) {
    blocks = bursar_prim_reserve(BLOCKS * sizeof *blocks, true);
    spare = bursar_prim_reserve(BLOCKS * sizeof *blocks, true);
  }
  return blocks && spare;
}

void bursar_tracing_begins(const void *p, size_t usable, bool pool, uint32_t slot, bool gil) {
  uint32_t number = !gil   ? bursar_frames_detached(BURSAR_DOMAIN_MALLOC)
                    : pool ? bursar_frames_tag(BURSAR_DOMAIN_OBJ) >> BURSAR_CELL_SHIFT
                           : bursar_frames_native_tag(BURSAR_DOMAIN_MALLOC) >> BURSAR_CELL_SHIFT;
  bursar_lock_take();
  /* Where most live, not for each block that finds no place: all places are looked through. */
  if (ready() && used >= BLOCKS / 4 * 3 && missed++ % (BLOCKS / 4) == 0)
    clear_out();
  if (blocks && spare && used < BLOCKS / 4 * 3) {
    struct block *block = &blocks[place_of(blocks, p)];
    used += !block->p;
    *block = (struct block){.p = p,
                            .serial = bursar_account.scopes[slot].serial,
                            .bytes = usable,
                            .number = number,
                            .generation = bursar_fold_generation,
                            .slot = slot,
                            .pool = pool};
  }
  bursar_lock_give();
}

void bursar_tracing_survivors(struct bursar_verdict_table *table) {
  if (!blocks)
    return;
  for (uint32_t i = 0; i < BLOCKS; i++)
    if (blocks[i].p && lives(&blocks[i]))
      bursar_verdict_add(table, bursar_fold_where(blocks[i].number, blocks[i].generation), blocks[i].slot,
                         blocks[i].bytes);
}

void bursar_tracing_drop(void) {
  if (!blocks)
    return;
  bursar_lock_take();
  used = missed = 0;
  bursar_prim_discard(blocks, BLOCKS * sizeof *blocks);
  bursar_lock_give();
}
