/* search.h: finds forms (forms.h), and the larger part of one, in memory, at some gigabytes a second.
 *
 * Of each form a few words of four bytes are chosen, at least one of which lies in any part that is long enough.  Where a word
 * is met (by eight bytes of nibble masks for 32 places at once, with AVX2; elsewhere by two tables of bits), the form is laid
 * beside it and both ends are followed as far as they agree.
 *
 * Ownership: the caller's struct, which holds pieces of the secret: it lies in memory that the caller wipes, at a multiple of 32,
 * and borrows the forms.  Nothing allocates, no lock.  Threads: any may run one search.  Safety class F. */
#ifndef BURSAR_SECRET_SEARCH_H
#define BURSAR_SECRET_SEARCH_H

#include "secret/forms.h"

#define BURSAR_SEARCH_WORD 4u
#define BURSAR_SEARCH_WORDS 512u /* of all forms together */
#define BURSAR_SEARCH_GROUPS 2u  /* of eight buckets each */

struct bursar_search_word {
  uint32_t word;
  uint32_t next; /* index + 1 of the next of this hash; 0: none */
  uint32_t form;
  uint32_t reserved;
  size_t offset; /* in the form */
};

struct bursar_search {
  /* By byte of the word: the buckets that have such a lower, such an upper half; twice, for the two lanes of a register. */
  _Alignas(32) unsigned char low[BURSAR_SEARCH_GROUPS][BURSAR_SEARCH_WORD][32];
  _Alignas(32) unsigned char high[BURSAR_SEARCH_GROUPS][BURSAR_SEARCH_WORD][32];
  uint64_t pairs[2][1024]; /* a bit for each first two, last two bytes of a word */
  uint32_t first[256];     /* by hash: index + 1 */
  struct bursar_search_word words[BURSAR_SEARCH_WORDS];
  uint32_t count;
  bool plain;     /* for tests: without AVX2 */
  size_t longest; /* form */
  const struct bursar_forms_one *forms[2 * BURSAR_FORMS_COUNT];
  uint32_t form_count;
};

struct bursar_search_find {
  uint32_t form; /* in the order in which they were added */
  size_t at;     /* offset in the data */
  size_t length; /* of what agrees */
  size_t from;   /* offset in the form */
};
typedef void bursar_search_visit(const struct bursar_search_find *find, void *context);

void bursar_search_init(struct bursar_search *search);
/* False: there is no room for so many. */
bool bursar_search_add(struct bursar_search *search, const struct bursar_forms *forms);
/* After the last was added. */
void bursar_search_ready(struct bursar_search *search);
/* Looks for words that begin in [from, to) of `bytes` bytes of data.  What is found may reach beyond, as far as the data go:
 * who reads in pieces gives `longest` bytes before and after.  A find that has several words is told several times. */
void bursar_search_run(const struct bursar_search *search, const unsigned char *data, size_t bytes, size_t from,
                       size_t to, bursar_search_visit *visit, void *context);

#endif
