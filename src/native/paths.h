/* paths.h: numbers for chains of things: a path is its caller's path and a key of 64 bits.
 *
 * A cache that is private to the process: where it is full, or there is no memory, it says so and is emptied.
 * Main GIL.  Class H, but that growing costs system calls. */
#ifndef BURSAR_NATIVE_PATHS_H
#define BURSAR_NATIVE_PATHS_H

#include <stdbool.h>
#include <stdint.h>

#define BURSAR_PATHS_FIRST 4u /* smaller numbers are roots */

struct bursar_path {
  uint64_t key;
  uint32_t parent;
  uint32_t code, place; /* what the key stands for: the owner's, filled in where it is new */
  uint32_t flags;
};

/* Zeroed at first. */
struct bursar_paths {
  struct bursar_path *items; /* by number */
  uint32_t *slots;           /* open addressing; 0 is empty */
  uint32_t count, room;      /* of items; there are twice as many slots */
};

/* The number of (parent, key); *fresh says whether it is new.  0: there is no room. */
uint32_t bursar_paths_of(struct bursar_paths *paths, uint32_t parent, uint64_t key, bool *fresh);
void bursar_paths_clear(struct bursar_paths *paths);

#endif
