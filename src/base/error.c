#include "base/error.h"

#include "base/escape.h"

#include <stdarg.h>
#include <stdio.h>

void bursar_error_write(struct bursar_error *error, int status, const char *format, ...) {
  if (!error)
    return;
  char raw[sizeof error->text];
  va_list args;
  va_start(args, format);
  vsnprintf(raw, sizeof raw, format, args);
  va_end(args);

  /* A file name may hold anything; a terminal must only ever see text. */
  bursar_escape_terminal_into(error->text, sizeof error->text, raw);
  error->status = status;
}
