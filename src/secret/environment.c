#include "secret/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "secret/wipe.h"

#define ARGUMENTS 48 /* fields of /proc/self/stat: this and the next are the ends of a block */
#define ENVIRONMENT 50

static int start_block(int which, char **begin, char **end) {
  char text[2048], *at;
  int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0)
    close(fd);
  if (got <= 0)
    return -1;
  text[got] = 0;
  at = strrchr(text, ')'); /* a name may hold anything */
  for (int field = 2; at && field < which; field++)
    at = strchr(at + 1, ' ');
  unsigned long from, until;
  if (!at || sscanf(at, " %lu %lu", &from, &until) != 2 || from == 0 || until < from)
    return -1;
  *begin = (char *)from;
  *end = (char *)until;
  return 0;
}

static int wipe_value(char *variable, size_t room, const char *name, size_t length) {
  if (room <= length || strncmp(variable, name, length) != 0 || variable[length] != '=')
    return 0;
  char *value = variable + length + 1;
  bursar_wipe(value, strnlen(value, room - length - 1));
  return 1;
}

int bursar_environment_wipe(const char *name) {
  int kept = errno, places = 0;
  size_t length = strlen(name);
  char *begin, *end;
  for (char **variable = environ; variable && *variable; variable++)
    places += wipe_value(*variable, strlen(*variable) + 1, name, length);
  if (start_block(ENVIRONMENT, &begin, &end) == 0)
    for (char *at = begin; at < end; at += strnlen(at, (size_t)(end - at)) + 1)
      places += wipe_value(at, (size_t)(end - at), name, length);
  errno = kept;
  return places;
}

int bursar_environment_wipe_argument(unsigned count, unsigned number) {
  int kept = errno;
  char *begin, *end, *wanted = NULL;
  unsigned found = 0;
  if (start_block(ARGUMENTS, &begin, &end) == 0)
    for (char *at = begin; at < end; at += strnlen(at, (size_t)(end - at)) + 1)
      if (found++ == number)
        wanted = at;
  errno = kept;
  if (!wanted || found != count)
    return -1;
  bursar_wipe(wanted, strnlen(wanted, (size_t)(end - wanted)));
  return 0;
}
