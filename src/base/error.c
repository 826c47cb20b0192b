#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

int bursar_error_set(struct bursar_error *error, int status, const char *format, ...) {
  if (!error)
    return status;
  char raw[sizeof error->text];
  va_list args;
  va_start(args, format);
  vsnprintf(raw, sizeof raw, format, args);
  va_end(args);

  /* A file name may hold anything; a terminal must only ever see text. */
  size_t out = 0;
  for (const unsigned char *in = (const unsigned char *)raw; *in && out + 5 < sizeof error->text; in++) {
    if (*in < 0x20 || *in == 0x7f)
      out += (size_t)snprintf(error->text + out, sizeof error->text - out, "\\x%02x", *in);
    else
      error->text[out++] = (char)*in;
  }
  error->text[out] = 0;
  error->status = status;
  return status;
}
