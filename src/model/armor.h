/* armor.h: bytes that come from a descriptor, in age's armour (letters in lines between BEGIN and END) or not; and letters made
 * of bytes that go out.
 *
 * Ownership: the caller's structs.  Errors: a line; `path` names where they come from.  Threads: one at a time.  Class N. */
#ifndef BURSAR_MODEL_ARMOR_H
#define BURSAR_MODEL_ARMOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

#define BURSAR_ARMOR_LINE 64u /* letters */

struct bursar_armor_input {
  int fd;
  const char *path;
  size_t from, to; /* what is left in raw */
  bool ended;      /* no more comes from fd */
  bool armored, finished, short_line;
  unsigned char line[48]; /* of the armour's line at hand, decoded */
  size_t line_from, line_to;
  char raw[65536];
};

/* Reads the beginning, and sees what it is. */
int bursar_armor_begin(struct bursar_armor_input *in, int fd, const char *path, struct bursar_error *error)
    __attribute__((warn_unused_result));
/* As many bytes as there are, up to `room`: fewer only at the end.  A negative status where it cannot be read. */
ssize_t bursar_armor_read(struct bursar_armor_input *in, void *out, size_t room, struct bursar_error *error);

/* Letters of what goes out. */
struct bursar_armor_output {
  unsigned char held[48];
  size_t count;
};
void bursar_armor_open(struct bursar_armor_output *armor, struct bursar_buffer *out);
void bursar_armor_write(struct bursar_armor_output *armor, const void *bytes, size_t count, struct bursar_buffer *out);
void bursar_armor_close(struct bursar_armor_output *armor, struct bursar_buffer *out);

#endif
