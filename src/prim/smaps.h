/* smaps.h: what the kernel says of a process's memory: its mappings with what is resident of each, and its surroundings.
 *
 * Ownership: the caller's structs and buffers; a mapping's name is borrowed for the visit.
 * Errors: 0 or a negative errno: -ESRCH no such process, -EACCES or -EPERM another user's, -ENOENT no /proc.
 * Nothing here allocates; errno is kept.  Threads: any.  Safety class F. */
#ifndef BURSAR_PRIM_SMAPS_H
#define BURSAR_PRIM_SMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bursar_smaps_map {
  uint64_t from, to;
  uint64_t rss, pss, swap, dirty; /* bytes; dirty: private and written to */
  uint64_t inode;                 /* 0: no file */
  uint32_t major, minor;
  bool writable, executable, readable, shared;
  bool marked;      /* by bursar_prim_reserve: not dumped, no huge pages, nothing reserved */
  const char *name; /* path, [heap], [anon:…]; empty where there is none */
};
typedef void bursar_smaps_visit(const struct bursar_smaps_map *map, void *context);

/* Reads smaps' text, from the file or from a test.  `buffer` holds what is read at a time: at least 8 KiB. */
#define BURSAR_SMAPS_BUFFER 65536u
int bursar_smaps_read(pid_t pid, char *buffer, size_t room, bursar_smaps_visit *visit, void *context)
    __attribute__((warn_unused_result));
/* The same of a text in memory, which is spoilt.  -EINVAL: that is no smaps. */
int bursar_smaps_parse(char *text, size_t bytes, bursar_smaps_visit *visit, void *context)
    __attribute__((warn_unused_result));

/* What stands by.  BURSAR_SMAPS_UNKNOWN: not known, or there is none. */
#define BURSAR_SMAPS_UNKNOWN UINT64_MAX
struct bursar_smaps_status {
  uint64_t page_tables;
  uint64_t threads;
  uint64_t stack_limit; /* of new threads' stacks, as far as the limit says */
};
void bursar_smaps_status(pid_t pid, struct bursar_smaps_status *out);

struct bursar_smaps_cgroup {
  uint64_t limit, usage; /* of the nearest ancestor that has a limit; unknown where none has */
  int version;           /* 1 or 2; 0: none found */
};
void bursar_smaps_cgroup(pid_t pid, struct bursar_smaps_cgroup *out);
/* The same from a /proc/PID/cgroup text and where cgroups are mounted: for tests. */
void bursar_smaps_cgroup_at(const char *text, const char *mount, struct bursar_smaps_cgroup *out);

/* RSS alone, from /proc/PID/statm: no pass over the mappings. */
int bursar_smaps_resident(pid_t pid, uint64_t *out) __attribute__((warn_unused_result));

#endif
