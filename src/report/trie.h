/* trie.h: one measure of the sites, added up over the stacks that they stand in.
 *
 * Stacks that read the same are one: nodes whose function, file and line are equal under equal callers are merged, so a
 * function that was defined twice is shown once.  Node 0 is the whole program, above the roots.
 * Ownership: the caller's, from bursar_trie_build to bursar_trie_free; names are the model's.  Threads: one at a time
 * while it is built.  Safety class N. */
#ifndef BURSAR_REPORT_TRIE_H
#define BURSAR_REPORT_TRIE_H

#include "report/model.h"

#include <stdint.h>

enum bursar_trie_measure {
  BURSAR_TRIE_AT,          /* bytes and blocks at the model's chosen instant */
  BURSAR_TRIE_LEAKS,       /* bytes and blocks of leaks */
  BURSAR_TRIE_TEMPORARIES, /* temporary allocations, as bytes and blocks both */
};

struct bursar_trie_node {
  uint32_t parent; /* a smaller index; node 0 is its own */
  uint32_t node;   /* in the model: its names; BURSAR_READER_NONE for node 0 */
  uint32_t first;  /* the largest child, 0 where there is none */
  uint32_t next;   /* the next smaller sibling, 0 where there is none */
  uint32_t depth;
  struct bursar_held own;
  struct bursar_held all; /* own and everything below */
};

struct bursar_trie {
  struct bursar_trie_node *nodes;
  uint32_t count;
  uint32_t *of; /* by node of the model: its node here */
};

int bursar_trie_build(const struct bursar_model *model, enum bursar_trie_measure measure, struct bursar_trie *out,
                      struct bursar_error *error) __attribute__((warn_unused_result));
/* A zeroed one is fine. */
void bursar_trie_free(struct bursar_trie *trie);
/* The next node of a walk that enters each node before its children, 0 at the end.  Start with 0. */
uint32_t bursar_trie_next(const struct bursar_trie *trie, uint32_t at);

#endif
