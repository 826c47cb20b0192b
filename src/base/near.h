/* near.h: which word was meant?
 *
 * Ownership: the caller's words.  Threads: any.  Class H. */
#ifndef BURSAR_BASE_NEAR_H
#define BURSAR_BASE_NEAR_H

/* The nearest of `words` (ended by NULL) where one is near enough to be meant, else NULL. */
const char *bursar_near(const char *word, const char *const *words);

#endif
