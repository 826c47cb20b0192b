/* buffer.h: bytes on their way out, with a mandatory cap.
 *
 * A buffer either grows in memory up to its cap, or drains to a file descriptor whenever it holds BURSAR_BUFFER_DRAIN
 * bytes (its cap then bounds all that goes through it).  The first error sticks: later calls do nothing, and
 * bursar_buffer_finish tells it, so that callers need not look after each append.
 * Ownership: `data` is the buffer's until bursar_buffer_free; the descriptor stays the caller's.  Threads: one at a
 * time.  Safety class N. */
#ifndef BURSAR_BASE_BUFFER_H
#define BURSAR_BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#define BURSAR_BUFFER_DRAIN 65536u

struct bursar_buffer {
  char *data; /* terminated by a zero byte that `used` does not count, once anything was added */
  size_t used;
  size_t room;
  uint64_t cap;
  uint64_t drained; /* what went to fd */
  int fd;           /* -1: stays in memory */
  int failed;       /* 0, or a negative errno: -EFBIG over the cap, -ENOMEM, what write said */
};

/* In memory only. */
void bursar_buffer_init(struct bursar_buffer *buffer, size_t cap);
/* Through to fd. */
void bursar_buffer_to(struct bursar_buffer *buffer, int fd, uint64_t cap);
void bursar_buffer_add(struct bursar_buffer *buffer, const void *bytes, size_t length);
void bursar_buffer_text(struct bursar_buffer *buffer, const char *text);
void bursar_buffer_char(struct bursar_buffer *buffer, char c);
void bursar_buffer_repeat(struct bursar_buffer *buffer, const char *text, size_t times);
void bursar_buffer_number(struct bursar_buffer *buffer, uint64_t value);
void bursar_buffer_format(struct bursar_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes out what is left (where there is a descriptor).  0, or the first error as a negative errno. */
int bursar_buffer_finish(struct bursar_buffer *buffer) __attribute__((warn_unused_result));
/* Releases the memory; a zeroed buffer is fine. */
void bursar_buffer_free(struct bursar_buffer *buffer);

#endif
