/* stacks.h: the trie of call stacks, and the sites on it, interned into the ledger.
 *
 * A node is (caller's node, code, line); a site is (node, domain).  Codes are interned by what they say (name, file, first
 * line), so that a program that compiles the same source for ever makes no new ones.
 *
 * When the ledger is full, sites that hold nothing are folded into their nearest ancestors' and their places are used
 * again; where none is left, a new stack is charged to the nearest ancestor that has a place.  Both are counted.
 *
 * Any thread, under the lock (lock.h).  Class H, but that making room costs system calls.  Nothing here fails: 0 (unknown)
 * is always an answer. */
#ifndef BURSAR_ACCOUNT_STACKS_H
#define BURSAR_ACCOUNT_STACKS_H

#include <stddef.h>
#include <stdint.h>

#include "ledger/layout.h"

/* 0, or -1 where there is no room for the roots and lane FREE's sites.  Class N. */
int bursar_stacks_start(void) __attribute__((warn_unused_result));
/* Frees what interning keeps beside the ledger.  Class F. */
void bursar_stacks_stop(void);
/* Makes room for what the next interval may need, so that the hot path's slow half seldom has to. */
void bursar_stacks_room_ahead(void);

/* The offset of the text (at most 4096 bytes of it are kept), 0 where there is no room. */
uint32_t bursar_stacks_string(const char *text, size_t bytes);
/* The code's index.  Index 0 is the unknown code. */
uint32_t bursar_stacks_code(uint32_t name, uint32_t file, uint32_t first_line);
/* The node below `parent`; `parent` itself where the ledger is full. */
uint32_t bursar_stacks_node(uint32_t parent, uint32_t code, uint32_t line);
/* The same for native code: a loaded module by its build id and path (strings), and the node of an address in it. */
uint32_t bursar_stacks_module(uint32_t build_id, uint32_t path);
uint32_t bursar_stacks_native_node(uint32_t parent, uint32_t module, uint32_t address);
/* The site of (node, domain), as a tag for the live table; that of an ancestor where the ledger is full. */
uint32_t bursar_stacks_site(uint32_t node, unsigned domain);
/* The same in lane FREE, whose sites everybody may change, atomically: its number. */
uint32_t bursar_stacks_site_free(uint32_t node, unsigned domain);

/* Sites were folded and nodes have moved: finds everything again by what it says. */
void bursar_stacks_rebuild(void);
/* Folded sites whose places can be used again. */
uint32_t bursar_stacks_vacant(void);

uint32_t bursar_stacks_site_index(const struct bursar_site *site);
/* What a site holds: the frees that were made outside the GIL are taken off. */
struct bursar_holding {
  uint64_t bytes;
  uint64_t blocks;
};
struct bursar_holding bursar_stacks_sites_now(const struct bursar_site *site);
/* The same at the peak. */
struct bursar_holding bursar_stacks_sites_at_peak(const struct bursar_site *site);

#endif
