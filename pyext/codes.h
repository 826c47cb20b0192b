/* codes.h: what is remembered of each code object that was seen on a stack: its name in the ledger and its lines.
 *
 * Code objects are not kept alive: the memory of each ends with it (frames.h hears of that), and what says that a memo
 * still fits is checked again each time that it is looked up.
 * Main GIL.  Class H.  NULL where there is no memory. */
#ifndef BURSAR_PYEXT_CODES_H
#define BURSAR_PYEXT_CODES_H

#include "compat.h"

struct bursar_code_memo {
  PyCodeObject *code; /* NULL once it is dead; the memo itself is used again, never unmapped */
  const void *table;  /* its line table, to know it by */
  uint32_t id;        /* index in the ledger */
  int32_t first_line;
  uint32_t units; /* code units + 1: unit -1 is where a frame has not started */
  uint16_t *near; /* by unit + 1: line - first_line + 1, 0 for none; NULL until asked for */
  int32_t *far;   /* the same where it does not fit */
};

struct bursar_code_memo *bursar_codes_find(PyCodeObject *code);
/* The line at a position of this code; the function's own where the compiler gave the place none.  0: not known. */
uint32_t bursar_codes_line(struct bursar_code_memo *memo, bursar_position position);
/* The code object dies.  False: it was not remembered. */
bool bursar_codes_forget(const PyCodeObject *code);
/* New books: nothing in the old ledger counts any more. */
void bursar_codes_clear(void);

#endif
