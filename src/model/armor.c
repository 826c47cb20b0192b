#include "model/armor.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "model/base64.h"

#define BEGIN "-----BEGIN AGE ENCRYPTED FILE-----"
#define END "-----END AGE ENCRYPTED FILE-----"
#define BLANKS 1024u /* before BEGIN, and behind END */

static int fail(const struct bursar_armor_input *in, struct bursar_error *error, const char *why) {
  return bursar_error_set(error, BURSAR_FAILED, "cannot open %.500s: %s", in->path, why);
}

/* --- raw bytes ------------------------------------------------------------------------------------------------------- */

/* More than there is in raw, if there is any more. */
static int fill(struct bursar_armor_input *in, struct bursar_error *error) {
  if (in->from) {
    memmove(in->raw, in->raw + in->from, in->to - in->from);
    in->to -= in->from;
    in->from = 0;
  }
  while (!in->ended && in->to < sizeof in->raw) {
    ssize_t got = read(in->fd, in->raw + in->to, sizeof in->raw - in->to);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return bursar_error_set(error, BURSAR_FAILED, "cannot read %.500s: %s", in->path, strerror(errno));
    in->ended = got == 0;
    in->to += (size_t)got;
    if (got > 0)
      break;
  }
  return 0;
}

static int fill_to(struct bursar_armor_input *in, size_t bytes, struct bursar_error *error) {
  int status = 0;
  while (status == 0 && in->to - in->from < bytes && !in->ended)
    status = fill(in, error);
  return status;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* --- armour ---------------------------------------------------------------------------------------------------------- */

/* The next line without its end; -1: there is none that is short enough.  It stays in raw until `next_line`. */
static ssize_t line_length(struct bursar_armor_input *in, size_t *with_end, struct bursar_error *error, int *status) {
  *status = fill_to(in, BURSAR_ARMOR_LINE + 2, error);
  size_t have = in->to - in->from;
  const char *line = in->raw + in->from, *end = memchr(line, '\n', have);
  if (*status < 0 || (!end && !in->ended))
    return -1;
  size_t length = end ? (size_t)(end - line) : have;
  *with_end = length + (end ? 1 : 0);
  if (length && line[length - 1] == '\r')
    length--;
  return (ssize_t)length;
}

int bursar_armor_begin(struct bursar_armor_input *in, int fd, const char *path, struct bursar_error *error) {
  *in = (struct bursar_armor_input){.fd = fd, .path = path};
  int status = fill_to(in, BLANKS + sizeof BEGIN + 1, error);
  size_t at = 0;
  while (at < in->to && at < BLANKS && is_blank(in->raw[at]))
    at++;
  if (status < 0 || in->to - at < sizeof BEGIN - 1 || memcmp(in->raw + at, BEGIN, sizeof BEGIN - 1) != 0)
    return status;
  in->armored = true;
  in->from = at;
  size_t with_end = 0;
  ssize_t length = line_length(in, &with_end, error, &status);
  if (status == 0 && length != (ssize_t)sizeof BEGIN - 1)
    return fail(in, error, "its armour begins with a line that is none");
  in->from += with_end;
  return status;
}

/* Nothing but blanks behind the end. */
static int finish(struct bursar_armor_input *in, struct bursar_error *error) {
  size_t blanks = 0;
  for (;;) {
    for (; in->from < in->to; in->from++)
      if (!is_blank(in->raw[in->from]) || ++blanks > BLANKS)
        return fail(in, error, "something follows its armour");
    if (in->ended)
      break;
    int status = fill(in, error);
    if (status < 0)
      return status;
  }
  in->finished = true;
  return 0;
}

static int next_line(struct bursar_armor_input *in, struct bursar_error *error) {
  size_t with_end = 0;
  int status;
  ssize_t length = line_length(in, &with_end, error, &status);
  const char *line = in->raw + in->from;
  if (status < 0)
    return status;
  if (length == (ssize_t)sizeof END - 1 && memcmp(line, END, sizeof END - 1) == 0) {
    in->from += with_end;
    return finish(in, error);
  }
  if (length <= 0 || length > (ssize_t)BURSAR_ARMOR_LINE || in->short_line || length % 4 || with_end == (size_t)length)
    return fail(in, error,
                in->ended && with_end == (size_t)(length > 0 ? length : 0) ? "its armour is cut off"
                                                                           : "its armour has a line that is none");
  size_t letters = (size_t)length;
  while (letters > (size_t)length - 2 && line[letters - 1] == '=')
    letters--;
  ssize_t bytes = bursar_base64_decode(line, letters, in->line);
  if (bytes < 0)
    return fail(in, error, "its armour has a line that is none");
  in->short_line = letters < BURSAR_ARMOR_LINE;
  in->line_from = 0;
  in->line_to = (size_t)bytes;
  in->from += with_end;
  return 0;
}

ssize_t bursar_armor_read(struct bursar_armor_input *in, void *out, size_t room, struct bursar_error *error) {
  char *to = out;
  size_t done = 0;
  while (done < room && !in->finished) {
    const char *from = in->armored ? (const char *)in->line + in->line_from : in->raw + in->from;
    size_t have = in->armored ? in->line_to - in->line_from : in->to - in->from, take = room - done;
    take = take < have ? take : have;
    memcpy(to + done, from, take);
    done += take;
    *(in->armored ? &in->line_from : &in->from) += take;
    if (done == room)
      break;
    if (!in->armored && in->ended)
      break;
    int status = in->armored ? next_line(in, error) : fill(in, error);
    if (status < 0)
      return status;
  }
  return (ssize_t)done;
}

/* --- going out ------------------------------------------------------------------------------------------------------- */

void bursar_armor_open(struct bursar_armor_output *armor, struct bursar_buffer *out) {
  armor->count = 0;
  bursar_buffer_text(out, BEGIN "\n");
}

static void flush(struct bursar_armor_output *armor, struct bursar_buffer *out) {
  char letters[BURSAR_ARMOR_LINE + 1];
  size_t count = bursar_base64_encode(armor->held, armor->count, letters);
  while (count % 4)
    letters[count++] = '=';
  letters[count++] = '\n';
  bursar_buffer_add(out, letters, count);
  armor->count = 0;
}

void bursar_armor_write(struct bursar_armor_output *armor, const void *bytes, size_t count, struct bursar_buffer *out) {
  const unsigned char *from = bytes;
  while (count) {
    size_t take = sizeof armor->held - armor->count;
    take = take < count ? take : count;
    memcpy(armor->held + armor->count, from, take);
    armor->count += take;
    from += take;
    count -= take;
    if (armor->count == sizeof armor->held)
      flush(armor, out);
  }
}

void bursar_armor_close(struct bursar_armor_output *armor, struct bursar_buffer *out) {
  if (armor->count)
    flush(armor, out);
  bursar_buffer_text(out, END "\n");
}
