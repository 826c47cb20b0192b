/* toml.h: a TOML 1.0 document as a tree, with the line and column of everything in it.
 *
 * All of the syntax.  Bounds: BURSAR_TOML_BYTES of text, BURSAR_TOML_NODES keys and values, brackets BURSAR_TOML_DEEP deep,
 * integers of 64 bits.  Rejected is what tomllib rejects.  After a mistake in a statement the next line is looked at, where
 * what was begun cannot reach that far.
 *
 * Ownership: a tree's memory is its own, from the system and not from malloc, until _free (NULL and a zeroed one are fine).
 * Threads: one at a time.  errno kept.  Class H, but that it costs system calls: a process hears of changes in its hooks. */
#ifndef BURSAR_POLICY_TOML_H
#define BURSAR_POLICY_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/escape.h"
#include "policy/mistakes.h"

#define BURSAR_TOML_BYTES (256u << 10)
#define BURSAR_TOML_NODES (16u << 10)
#define BURSAR_TOML_DEEP 64u

enum bursar_toml_kind {
  BURSAR_TOML_TABLE,
  BURSAR_TOML_ARRAY,
  BURSAR_TOML_STRING,
  BURSAR_TOML_INTEGER,
  BURSAR_TOML_REAL,
  BURSAR_TOML_BOOLEAN,
  BURSAR_TOML_TIME /* a date, a time, or both */
};

struct bursar_toml_node {
  struct bursar_text key;  /* bytes is NULL: the root, or an item of an array */
  struct bursar_text text; /* a string's; of numbers, booleans and times: as they are written */
  union {
    int64_t integer;
    double real;
    bool boolean;
  };
  uint32_t line, column; /* of its key, where it has one, else of itself */
  uint32_t value_line, value_column;
  uint32_t first, last; /* of a table's or an array's; 0: it is empty */
  uint32_t next;        /* in the same table or array; 0: there is none */
  uint32_t epoch;       /* these are the parser's: see toml.c */
  uint8_t kind;
  uint8_t how;
};

struct bursar_toml {
  struct bursar_toml_node *nodes; /* the first is the root, a table */
  uint32_t count;
  void *memory;
  size_t bytes;
};

/* 0, or -EINVAL where mistakes were added; the tree then has what could be read.  -ENOMEM, -E2BIG: and no tree. */
int bursar_toml_parse(const char *text, size_t bytes, struct bursar_toml *out, struct bursar_mistakes *mistakes)
    __attribute__((warn_unused_result));
void bursar_toml_free(struct bursar_toml *toml);
/* "a table", "a text" … */
const char *bursar_toml_kind_name(uint8_t kind);

#endif
