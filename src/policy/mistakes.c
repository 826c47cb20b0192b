#include "policy/mistakes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"

void bursar_mistakes_add(struct bursar_mistakes *mistakes, uint32_t line, uint32_t column, const char *format, ...) {
  char text[BURSAR_MISTAKES_TEXT];
  va_list args;
  if (mistakes->count == BURSAR_MISTAKES_MAX) {
    mistakes->more++;
    return;
  }
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  uint32_t to = mistakes->count++;
  while (to && (mistakes->at[to - 1].line > line ||
                (mistakes->at[to - 1].line == line && mistakes->at[to - 1].column > column))) {
    mistakes->at[to] = mistakes->at[to - 1];
    to--;
  }
  mistakes->at[to].line = line;
  mistakes->at[to].column = column;
  bursar_escape_terminal_into(mistakes->at[to].text, sizeof mistakes->at[to].text, text);
}
