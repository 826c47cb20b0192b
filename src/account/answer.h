/* answer.h: what the process says of its own memory: to itself, and to a reader that asks through the ledger.
 *
 * Main GIL.  No heap, no lock of malloc's, errno kept.  Class H where it says so, else N: a look takes milliseconds. */
#ifndef BURSAR_ACCOUNT_ANSWER_H
#define BURSAR_ACCOUNT_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/layout.h"
#include "memory/look.h"

/* A look into this process, in two halves: what needs no GIL (how: as bursar_look_begin), and what the books know, with it.
 * *look is the caller's to end after a success of the first.  With the books closed, what they would know is not known. */
int bursar_answer_begin(struct bursar_look *look, unsigned how) __attribute__((warn_unused_result));
void bursar_answer_finish(struct bursar_look *look, struct bursar_inside *out);
/* Answers if a reader has asked and the last answer is not too near.  Nothing, cheaply, otherwise: class H.  Not under the
 * lock of the books, which others wait for. */
void bursar_answer_if_asked(void);
/* At the start of books: whether changes are heard. */
void bursar_answer_start(void);
/* The change that a reader asked for and that has no answer yet; false: there is none, or it is being written.  Copied and cut, and
 * otherwise whatever somebody wrote there.  *bytes: of the text, which ends in a zero byte.  Class H. */
bool bursar_answer_asked(uint64_t *number, char text[BURSAR_CONTROL_TEXT + 1], size_t *bytes);
/* Its answer, cut where it is too long.  `more`: bytes that the reader may ask for.  Class H. */
void bursar_answer_change(uint64_t number, enum bursar_changed_result result, const char *text, size_t bytes,
                          size_t more);
/* There are interpreters with GILs of their own from now on, whose arenas come and go beside the main one.  Class H. */
void bursar_answer_expect_many_gils(void);
/* pymalloc got an arena, or gave one back (bytes below 0).  Class H. */
void bursar_answer_arena(int64_t bytes);

#endif
