/* nodes.h: what a pickle or a Python literal says, as a graph of plain nodes.
 *
 *   extent   bytes that stay where they lie in a file, and how they are written there
 *   node     a thing: a number, an extent, a container with links to other nodes, a name, an object made by a name
 *   cell     a link of a container to a node; containers are chains of cells
 *
 * A node's number is its place in the table; 0 is none.  Numbers stay, pointers to nodes do not outlive an addition.
 * Ownership: the caller's struct, freed by _free (a zeroed one is fine).  Errors: 0 or false where a limit is passed or there
 * is no memory.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_MODEL_NODES_H
#define BURSAR_MODEL_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/escape.h"

#define BURSAR_NODES_MOST (4u << 20)  /* nodes, and places on a pickle's stack and in its memo */
#define BURSAR_NODES_CELLS (8u << 20) /* links */
#define BURSAR_NODES_TEXTS 100000000u /* bytes of short texts and names: more than a header can have */
#define BURSAR_NODES_KEYS 256u        /* of a dict that is searched: they are gone through */
#define BURSAR_NODES_SHORT 1024u      /* texts up to here are kept in memory */

enum bursar_node_kind {
  BURSAR_NODE_NONE,
  BURSAR_NODE_FALSE,
  BURSAR_NODE_TRUE,
  BURSAR_NODE_INT,
  BURSAR_NODE_LONG, /* an extent: little-endian, two's complement */
  BURSAR_NODE_FLOAT,
  BURSAR_NODE_TEXT,
  BURSAR_NODE_BYTES,
  BURSAR_NODE_BYTEARRAY,
  BURSAR_NODE_LIST,
  BURSAR_NODE_TUPLE,
  BURSAR_NODE_SET,
  BURSAR_NODE_FROZENSET,
  BURSAR_NODE_DICT,   /* keys and values in turn */
  BURSAR_NODE_NAME,   /* a class or function: "module.name" */
  BURSAR_NODE_OBJECT, /* made by a name */
  BURSAR_NODE_PERSISTENT,
  /* What others are made into, before they are written: */
  BURSAR_NODE_RECORD, /* of that kind in a description: names and values in turn */
  BURSAR_NODE_ROW,    /* a list in one */
  BURSAR_NODE_VIEW    /* an array of two dimensions, and the number of a row of it */
};

/* How bytes or a text are written. */
enum bursar_form {
  BURSAR_FORM_RAW,     /* bytes as they are; of a text: Python 2's, Latin-1 */
  BURSAR_FORM_UTF8,    /* a text as it is; of bytes: each a character of a text in UTF-8 */
  BURSAR_FORM_UNICODE, /* the same with \uXXXX, and Latin-1 else (protocol 0) */
  BURSAR_FORM_ESCAPED  /* Python 2's literal: \xNN, \n, \\ … */
};

struct bursar_extent {
  uint64_t at, length; /* in the file */
  uint64_t bytes;      /* that it stands for */
  uint8_t form;
};

struct bursar_chain {
  uint32_t first, last; /* cells; 0: none */
};

struct bursar_object {
  uint32_t of, arguments, state; /* nodes */
  struct bursar_chain items, pairs;
  uint32_t plan; /* of an array that rows are views of: its tensor's number, +1 */
};

struct bursar_node {
  uint8_t kind;
  bool shared; /* met more than once */
  bool made;   /* of an object: by its class's __new__ */
  uint8_t form;
  uint32_t text;  /* in memory, +1; 0: not there.  Of a name always */
  uint64_t place; /* of the operation that made it */
  union {
    int64_t number;
    double real;
    struct {
      uint64_t at, length;
    } extent;
    struct {
      struct bursar_chain chain;
      uint32_t count; /* of links */
    } many;
    uint32_t object; /* its number among objects */
    uint32_t id;     /* of a persistent one */
    uint64_t text_length;
  };
};

struct bursar_cell {
  uint32_t node, next;
};

struct bursar_nodes {
  struct bursar_node *nodes;
  struct bursar_cell *cells;
  struct bursar_object *objects;
  uint32_t count, room, cell_count, cell_room, object_count, object_room;
  struct bursar_buffer texts;
};

void bursar_nodes_init(struct bursar_nodes *nodes);
void bursar_nodes_free(struct bursar_nodes *nodes);
/* A node of that kind, which is otherwise zero. */
uint32_t bursar_nodes_add(struct bursar_nodes *nodes, enum bursar_node_kind kind, uint64_t place);
uint32_t bursar_nodes_add_object(struct bursar_nodes *nodes, uint32_t of, uint32_t arguments, uint64_t place);
/* A text, bytes or a name whose content is in memory. */
uint32_t bursar_nodes_add_text(struct bursar_nodes *nodes, enum bursar_node_kind kind, const char *text, size_t length,
                               uint64_t place);
/* Keeps the text of a node that is an extent. */
bool bursar_nodes_keep(struct bursar_nodes *nodes, uint32_t node, const char *text, size_t length);
bool bursar_nodes_link(struct bursar_nodes *nodes, struct bursar_chain *chain, uint32_t node);
/* The same, of a container. */
bool bursar_nodes_append(struct bursar_nodes *nodes, uint32_t container, uint32_t node);
struct bursar_object *bursar_nodes_object(const struct bursar_nodes *nodes, uint32_t node);
/* The text that is kept in memory; bytes NULL where none is. */
struct bursar_text bursar_nodes_text(const struct bursar_nodes *nodes, uint32_t node);
/* Is it a text, or a name, of these words? */
bool bursar_nodes_is(const struct bursar_nodes *nodes, uint32_t node, const char *words);
/* The name that an object is made by; bytes NULL where it is no object. */
struct bursar_text bursar_nodes_maker(const struct bursar_nodes *nodes, uint32_t node);
/* Up to `most` links of a container; how many it has. */
uint32_t bursar_nodes_links(const struct bursar_nodes *nodes, uint32_t container, uint32_t *out, uint32_t most);
/* A dict's value; 0: it has no such key, or more keys than BURSAR_NODES_KEYS: nothing that is looked into has. */
uint32_t bursar_nodes_value(const struct bursar_nodes *nodes, uint32_t dict, const char *key);

#endif
