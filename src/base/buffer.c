#include "base/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void bursar_buffer_init(struct bursar_buffer *buffer, size_t cap) {
  *buffer = (struct bursar_buffer){.fd = -1, .cap = cap};
}

void bursar_buffer_to(struct bursar_buffer *buffer, int fd, uint64_t cap) {
  *buffer = (struct bursar_buffer){.fd = fd, .cap = cap};
}

static void drain(struct bursar_buffer *buffer) {
  size_t done = 0;
  while (done < buffer->used) {
    ssize_t wrote = write(buffer->fd, buffer->data + done, buffer->used - done);
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0) {
      buffer->failed = wrote < 0 ? -errno : -EIO;
      break;
    }
    done += (size_t)wrote;
  }
  buffer->drained += buffer->used;
  buffer->used = 0;
}

/* Makes room for `more` bytes and a zero byte. */
static int make_room(struct bursar_buffer *buffer, size_t more) {
  uint64_t total;
  if (__builtin_add_overflow(buffer->drained + buffer->used, more, &total) || total > buffer->cap) {
    buffer->failed = -EFBIG;
    return buffer->failed;
  }
  size_t need = buffer->used + more + 1;
  if (need <= buffer->room)
    return 0;
  size_t room = buffer->room ? buffer->room : 512;
  while (room < need)
    room *= 2;
  char *data = realloc(buffer->data, room);
  if (!data) {
    buffer->failed = -ENOMEM;
    return buffer->failed;
  }
  buffer->data = data;
  buffer->room = room;
  return 0;
}

void bursar_buffer_add(struct bursar_buffer *buffer, const void *bytes, size_t length) {
  if (buffer->failed)
    return;
  if (buffer->fd >= 0 && buffer->used >= BURSAR_BUFFER_DRAIN) {
    drain(buffer);
    if (buffer->failed)
      return;
  }
  if (make_room(buffer, length) < 0)
    return;
  if (length)
    memcpy(buffer->data + buffer->used, bytes, length);
  buffer->used += length;
  buffer->data[buffer->used] = 0;
}

void bursar_buffer_text(struct bursar_buffer *buffer, const char *text) {
  bursar_buffer_add(buffer, text, strlen(text));
}

void bursar_buffer_char(struct bursar_buffer *buffer, char c) { bursar_buffer_add(buffer, &c, 1); }

void bursar_buffer_repeat(struct bursar_buffer *buffer, const char *text, size_t times) {
  size_t length = strlen(text);
  while (times-- && !buffer->failed)
    bursar_buffer_add(buffer, text, length);
}

void bursar_buffer_number(struct bursar_buffer *buffer, uint64_t value) {
  char digits[24];
  char *at = digits + sizeof digits;
  do {
    *--at = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  bursar_buffer_add(buffer, at, (size_t)(digits + sizeof digits - at));
}

void bursar_buffer_format(struct bursar_buffer *buffer, const char *format, ...) {
  char small[512];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(small, sizeof small, format, args);
  va_end(args);
  if (length < 0) {
    if (!buffer->failed)
      buffer->failed = -EINVAL;
    return;
  }
  if ((size_t)length < sizeof small) {
    bursar_buffer_add(buffer, small, (size_t)length);
    return;
  }
  char *large = malloc((size_t)length + 1);
  if (!large) {
    buffer->failed = -ENOMEM;
    return;
  }
  va_start(args, format);
  vsnprintf(large, (size_t)length + 1, format, args);
  va_end(args);
  bursar_buffer_add(buffer, large, (size_t)length);
  free(large);
}

int bursar_buffer_finish(struct bursar_buffer *buffer) {
  if (!buffer->failed && buffer->fd >= 0)
    drain(buffer);
  return buffer->failed;
}

void bursar_buffer_free(struct bursar_buffer *buffer) {
  free(buffer->data);
  buffer->data = NULL;
  buffer->used = buffer->room = 0;
}
