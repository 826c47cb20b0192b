/* vault.h: a pool of locked pages for secrets, one for the process.
 *
 * A *slot* is one secret's place: whole pages of its own, at whose end its bytes stand, so that a write past them faults.
 * What is before them in the slot is a *canary*: a write there is noticed when the slot is closed, or given back.
 * A slot is *closed*, and its pages without access, unless somebody has it *open*; so are those that are free.
 *
 * After a fork the child has neither the pages nor the pool: its slots are another process's, which every function notices
 * before it touches one, and it begins a pool of its own.
 * Ownership: the struct is the caller's, the pages are the pool's until bursar_vault_return.
 * Threads: any; one lock, a leaf, held over at most a change of access (when the pool grows: over its mappings).  One slot is
 * opened and closed by any threads at once; it is taken and given back by one.  Errors: a status and its line; errno is
 * kept.  Class N. */
#ifndef BURSAR_SECRET_VAULT_H
#define BURSAR_SECRET_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define BURSAR_VAULT_SLOTS 16384u       /* at most, of one process */
#define BURSAR_VAULT_BYTES (1ull << 40) /* at most, of one slot */

struct bursar_vault_slot {
  char *data; /* bytes of zeros at first; readable while open */
  size_t bytes;
  uint64_t pool; /* which pool it is of; 0: none */
  uint32_t cell;
  uint32_t readers, writers; /* who has it open */
  bool used;                 /* was open once: there is something to wipe */
};

/* What a slot is to this process. */
enum bursar_vault_whose { BURSAR_VAULT_NOBODYS, BURSAR_VAULT_OURS, BURSAR_VAULT_LOST };
/* LOST: made before a fork or before bursar_vault_wipe. */
enum bursar_vault_whose bursar_vault_whose(const struct bursar_vault_slot *slot);

/* Begins the pool: hidden pages where the kernel has them and `hide`.  The first _take does it by itself, with true.
 * BURSAR_MISUSE: it has begun. */
int bursar_vault_start(bool hide, struct bursar_error *error) __attribute__((warn_unused_result));
/* Are the pool's pages hidden from the kernel's readers?  1, 0; -1: it has not begun. */
int bursar_vault_hidden(void);

/* A closed slot for 1 to BURSAR_VAULT_BYTES bytes.  BURSAR_FAILED: the limit, or no memory. */
int bursar_vault_take(size_t bytes, struct bursar_vault_slot *slot, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* Wipes it and gives it back, whoever has it open; nothing of another process's, which forgets it.  BURSAR_FAILED: the canary was
 * written to; it is wiped all the same. */
int bursar_vault_return(struct bursar_vault_slot *slot, struct bursar_error *error) __attribute__((warn_unused_result));
/* Each open is closed once, with the same `write`.  BURSAR_MISUSE: it is not ours. */
int bursar_vault_open(struct bursar_vault_slot *slot, bool write, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* BURSAR_FAILED: the canary was written to, or access could not be taken away; it counts as closed. */
int bursar_vault_close(struct bursar_vault_slot *slot, bool write, struct bursar_error *error)
    __attribute__((warn_unused_result));

/* Wipes every slot of this process, at its end: slots are LOST, and what was open stays readable, as zeros. */
void bursar_vault_wipe(void);

/* Are they the same?  Takes as long whatever is in them. */
bool bursar_vault_equal(const void *a, const void *b, size_t bytes);

#endif
