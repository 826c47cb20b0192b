/* smaps_linux.c: Linux behind smaps.h: /proc/PID/smaps, status, limits, cgroup. */
#include "prim/smaps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_ROOM 4096u

/* --- files ----------------------------------------------------------------------------------------------------------- */

static int open_proc(pid_t pid, const char *name) {
  char path[64];
  int fd;
  if (pid)
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
  else
    snprintf(path, sizeof path, "/proc/self/%s", name);
  do
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  if (fd >= 0)
    return fd;
  int result = -errno;
  return result == -ENOENT && access("/proc/self/stat", R_OK) == 0 ? -ESRCH : result;
}

static ssize_t read_some(int fd, char *out, size_t room) {
  ssize_t n;
  do
    n = read(fd, out, room);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

/* A small file, terminated; its length or a negative errno.  Closes fd. */
static ssize_t slurp(int fd, char *out, size_t room) {
  size_t got = 0;
  ssize_t n = fd;
  if (fd < 0)
    return fd;
  while (got < room - 1 && (n = read_some(fd, out + got, room - 1 - got)) > 0)
    got += (size_t)n;
  close(fd);
  out[got] = 0;
  return n < 0 ? n : (ssize_t)got;
}

/* --- lines ----------------------------------------------------------------------------------------------------------- */

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static uint64_t take_hex(const char **at) {
  uint64_t value = 0;
  for (int digit; (digit = hex_digit(**at)) >= 0; ++*at)
    value = value << 4 | (uint64_t)digit;
  return value;
}

static uint64_t take_decimal(const char *at) {
  uint64_t value = 0;
  at += strspn(at, " \t");
  for (; *at >= '0' && *at <= '9'; at++)
    value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

struct parser {
  struct bursar_smaps_map map;
  bool have; /* map holds one that was not visited yet */
  bool bad;
  char name[PATH_ROOM];
  bursar_smaps_visit *visit;
  void *context;
};

static void flush(struct parser *parser) {
  if (parser->have)
    parser->visit(&parser->map, parser->context);
  parser->have = false;
}

/* "7f00-7f01 rw-p 00000000 08:01 1234     /path" */
static bool parse_head(struct parser *parser, const char *line) {
  struct bursar_smaps_map map = {.name = parser->name};
  const char *at = line;
  map.from = take_hex(&at);
  if (at == line || *at != '-')
    return false;
  at++;
  map.to = take_hex(&at);
  if (*at != ' ' || strlen(at) < 6 || map.to < map.from)
    return false;
  at++;
  map.readable = at[0] == 'r';
  map.writable = at[1] == 'w';
  map.executable = at[2] == 'x';
  map.shared = at[3] == 's';
  at += 5;
  (void)take_hex(&at); /* the offset */
  at += *at == ' ';
  map.major = (uint32_t)take_hex(&at);
  at += *at == ':';
  map.minor = (uint32_t)take_hex(&at);
  at += *at == ' ';
  map.inode = take_decimal(at);
  at += strspn(at, "0123456789");
  at += strspn(at, " ");
  snprintf(parser->name, sizeof parser->name, "%s", at);
  parser->map = map;
  parser->have = true;
  return true;
}

static void parse_field(struct bursar_smaps_map *map, const char *line) {
  static const struct {
    const char *name;
    size_t at;
  } fields[] = {{"Rss:", offsetof(struct bursar_smaps_map, rss)},
                {"Pss:", offsetof(struct bursar_smaps_map, pss)},
                {"Swap:", offsetof(struct bursar_smaps_map, swap)},
                {"Private_Dirty:", offsetof(struct bursar_smaps_map, dirty)}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    size_t length = strlen(fields[i].name);
    if (strncmp(line, fields[i].name, length) == 0) {
      uint64_t kilobytes = take_decimal(line + length);
      memcpy((char *)map + fields[i].at, &(uint64_t){kilobytes < UINT64_MAX >> 10 ? kilobytes << 10 : 0}, 8);
      return;
    }
  }
  if (strncmp(line, "VmFlags:", 8) == 0)
    map->marked = strstr(line, " dd") && strstr(line, " nh") && strstr(line, " nr");
}

static void parse_line(struct parser *parser, const char *line) {
  if (hex_digit(line[0]) >= 0) {
    flush(parser);
    parser->bad |= !parse_head(parser, line);
  } else if (parser->have) {
    parse_field(&parser->map, line);
  } else {
    parser->bad = true;
  }
}

/* Whole lines of [text, text + bytes); returns how much of it they took. */
static size_t parse_lines(struct parser *parser, char *text, size_t bytes) {
  size_t done = 0;
  for (char *end; (end = memchr(text + done, '\n', bytes - done)); done = (size_t)(end - text) + 1) {
    *end = 0;
    parse_line(parser, text + done);
  }
  return done;
}

int bursar_smaps_parse(char *text, size_t bytes, bursar_smaps_visit *visit, void *context) {
  struct parser parser = {.visit = visit, .context = context};
  size_t done = parse_lines(&parser, text, bytes);
  flush(&parser);
  return parser.bad || done != bytes ? -EINVAL : 0;
}

int bursar_smaps_read(pid_t pid, char *buffer, size_t room, bursar_smaps_visit *visit, void *context) {
  struct parser parser = {.visit = visit, .context = context};
  int kept = errno, fd = open_proc(pid, "smaps");
  size_t have = 0, visited = 0;
  ssize_t n = fd;
  while (fd >= 0 && have < room && (n = read_some(fd, buffer + have, room - have)) > 0) {
    have += (size_t)n;
    visited += (size_t)n;
    size_t done = parse_lines(&parser, buffer, have);
    memmove(buffer, buffer + done, have - done);
    have -= done;
  }
  flush(&parser);
  if (fd >= 0)
    close(fd);
  errno = kept;
  if (n < 0)
    return (int)n;
  return !visited ? -ESRCH : parser.bad || have ? -EINVAL : 0; /* a zombie has no mappings */
}

/* --- what stands by -------------------------------------------------------------------------------------------------- */

/* The number behind a name at a line's beginning. */
static uint64_t field(const char *text, const char *name) {
  size_t length = strlen(name);
  for (const char *at = text; at; at = strchr(at, '\n'), at += at != NULL)
    if (strncmp(at, name, length) == 0)
      return take_decimal(at + length);
  return BURSAR_SMAPS_UNKNOWN;
}

void bursar_smaps_status(pid_t pid, struct bursar_smaps_status *out) {
  char text[8192];
  int kept = errno;
  *out = (struct bursar_smaps_status){BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN};
  if (slurp(open_proc(pid, "status"), text, sizeof text) > 0) {
    uint64_t kilobytes = field(text, "VmPTE:");
    out->page_tables = kilobytes == BURSAR_SMAPS_UNKNOWN ? kilobytes : kilobytes << 10;
    out->threads = field(text, "Threads:");
  }
  if (slurp(open_proc(pid, "limits"), text, sizeof text) > 0) {
    uint64_t bytes = field(text, "Max stack size"); /* "unlimited" reads as 0: then the C library takes its default */
    out->stack_limit = bytes ? bytes : BURSAR_SMAPS_UNKNOWN;
  }
  errno = kept;
}

int bursar_smaps_resident(pid_t pid, uint64_t *out) {
  char text[256];
  int kept = errno;
  ssize_t got = slurp(open_proc(pid, "statm"), text, sizeof text);
  const char *second = got > 0 ? strchr(text, ' ') : NULL;
  if (second)
    *out = take_decimal(second) * (uint64_t)sysconf(_SC_PAGESIZE);
  errno = kept;
  return got < 0 ? (int)got : second ? 0 : -EINVAL;
}

/* --- cgroups --------------------------------------------------------------------------------------------------------- */

static uint64_t number_in(const char *folder, const char *name) {
  char path[PATH_ROOM + 64], text[64];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0 || slurp(fd, text, sizeof text) <= 0 || text[0] < '0' || text[0] > '9') /* "max" */
    return BURSAR_SMAPS_UNKNOWN;
  uint64_t value = take_decimal(text);
  return value >= 1ull << 60 ? BURSAR_SMAPS_UNKNOWN : value; /* version 1 writes no limit as a very large one */
}

/* Up from the group to the root of the mount, which is the container's own group where it has one. */
static bool climb(const char *mount, const char *group, int version, struct bursar_smaps_cgroup *out) {
  static const char *const names[][2] = {{"memory.limit_in_bytes", "memory.usage_in_bytes"},
                                         {"memory.max", "memory.current"}};
  const char *const *name = names[version - 1];
  char path[PATH_ROOM];
  size_t root = strlen(mount);
  int length = snprintf(path, sizeof path, "%s%s", mount, strcmp(group, "/") == 0 ? "" : group);
  if (length < 0 || (size_t)length >= sizeof path)
    return false;
  for (;;) {
    uint64_t limit = number_in(path, name[0]);
    if (limit != BURSAR_SMAPS_UNKNOWN) {
      *out = (struct bursar_smaps_cgroup){limit, number_in(path, name[1]), version};
      return true;
    }
    char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) < root)
      return false;
    *slash = 0;
  }
}

/* The path in a line "4:memory:/group", or "0::/group"; false where it is another controller's. */
static bool group_of(char *line, int *version, char **group) {
  char *controllers = strchr(line, ':');
  char *path = controllers ? strchr(controllers + 1, ':') : NULL;
  if (!path)
    return false;
  *path++ = 0;
  *group = path;
  *version = strcmp(controllers, ":") == 0 ? 2 : 1;
  char list[256];
  snprintf(list, sizeof list, ",%s,", controllers + 1);
  return *version == 2 || strstr(list, ",memory,") != NULL;
}

void bursar_smaps_cgroup_at(const char *text, const char *mount, struct bursar_smaps_cgroup *out) {
  *out = (struct bursar_smaps_cgroup){BURSAR_SMAPS_UNKNOWN, BURSAR_SMAPS_UNKNOWN, 0};
  for (const char *at = text; *at;) {
    char line[PATH_ROOM], place[PATH_ROOM], *group;
    int version;
    size_t length = strcspn(at, "\n");
    snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : sizeof line - 1), at);
    at += length + (at[length] == '\n');
    if (!group_of(line, &version, &group))
      continue;
    snprintf(place, sizeof place, "%s%s", mount, version == 1 ? "/memory" : "");
    if (climb(place, group, version, out))
      return;
  }
}

void bursar_smaps_cgroup(pid_t pid, struct bursar_smaps_cgroup *out) {
  char text[8192];
  int kept = errno;
  if (slurp(open_proc(pid, "cgroup"), text, sizeof text) > 0) {
    bursar_smaps_cgroup_at(text, "/sys/fs/cgroup", out);
    if (!out->version) /* both versions at once */
      bursar_smaps_cgroup_at(text, "/sys/fs/cgroup/unified", out);
  } else {
    bursar_smaps_cgroup_at("", "", out);
  }
  errno = kept;
}
