/* descriptors.h: the calls that open and close descriptors, as hooks: which of them somebody watches, and where they were opened.
 *
 * Glossary
 *   watch   whoever wants to know what was opened meanwhile and not closed; 0 is none
 *   noted   a descriptor that a watch has, with its file's identity, so that another file under a reused number is not taken
 *           for it, and with the place that opened it
 *
 * A descriptor's owner is changed by who opens, closes or hands it on, which a program does one after another; a close takes
 * it out before the number may be handed out again.  What is closed behind the hooks (by a system call of somebody's own, by
 * the C library for itself) is found to be gone when the watch ends.  Forked children have no watches, and a child that
 * shares our memory until it executes (vfork) changes nothing here.
 * Hooks: any thread, class H but for one system call for each descriptor that is noted, errno as the original left it. */
#ifndef BURSAR_NATIVE_DESCRIPTORS_H
#define BURSAR_NATIVE_DESCRIPTORS_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

/* All hooks: name, result, parameters.  What C declares with "..." has the parameter that may follow: it is handed on as it came. */
#define BURSAR_DESCRIPTORS_HOOKS(X)                                                \
  X(open, int, (const char *path, int flags, mode_t mode))                         \
  X(open64, int, (const char *path, int flags, mode_t mode))                       \
  X(__open_2, int, (const char *path, int flags))                                  \
  X(__open64_2, int, (const char *path, int flags))                                \
  X(openat, int, (int folder, const char *path, int flags, mode_t mode))           \
  X(openat64, int, (int folder, const char *path, int flags, mode_t mode))         \
  X(__openat_2, int, (int folder, const char *path, int flags))                    \
  X(__openat64_2, int, (int folder, const char *path, int flags))                  \
  X(creat, int, (const char *path, mode_t mode))                                   \
  X(creat64, int, (const char *path, mode_t mode))                                 \
  X(shm_open, int, (const char *name, int flags, mode_t mode))                     \
  X(memfd_create, int, (const char *name, unsigned flags))                         \
  X(socket, int, (int family, int type, int protocol))                             \
  X(accept, int, (int fd, struct sockaddr *address, socklen_t *bytes))             \
  X(accept4, int, (int fd, struct sockaddr *address, socklen_t *bytes, int flags)) \
  X(dup, int, (int fd))                                                            \
  X(dup2, int, (int fd, int to))                                                   \
  X(dup3, int, (int fd, int to, int flags))                                        \
  X(fcntl, int, (int fd, int command, uintptr_t argument))                         \
  X(fcntl64, int, (int fd, int command, uintptr_t argument))                       \
  X(epoll_create, int, (int size))                                                 \
  X(epoll_create1, int, (int flags))                                               \
  X(eventfd, int, (unsigned value, int flags))                                     \
  X(timerfd_create, int, (int clock, int flags))                                   \
  X(inotify_init, int, (void))                                                     \
  X(inotify_init1, int, (int flags))                                               \
  X(signalfd, int, (int fd, const void *mask, int flags))                          \
  X(pipe, int, (int pair[2]))                                                      \
  X(pipe2, int, (int pair[2], int flags))                                          \
  X(socketpair, int, (int family, int type, int protocol, int pair[2]))            \
  X(fopen, FILE *, (const char *path, const char *mode))                           \
  X(fopen64, FILE *, (const char *path, const char *mode))                         \
  X(opendir, DIR *, (const char *path))                                            \
  X(close, int, (int fd))                                                          \
  X(close_range, int, (unsigned from, unsigned to, int flags))                     \
  X(closefrom, void, (int from))                                                   \
  X(fclose, int, (FILE * file))                                                    \
  X(closedir, int, (DIR * folder))

#define BURSAR_DESCRIPTORS_MEMBER(name, result, parameters) result(*name) parameters;
struct bursar_descriptors_originals {
  BURSAR_DESCRIPTORS_HOOKS(BURSAR_DESCRIPTORS_MEMBER)
};
#undef BURSAR_DESCRIPTORS_MEMBER

#define BURSAR_DESCRIPTORS_DECLARE(name, result, parameters) result bursar_descriptors_##name parameters;
BURSAR_DESCRIPTORS_HOOKS(BURSAR_DESCRIPTORS_DECLARE)
#undef BURSAR_DESCRIPTORS_DECLARE

/* Whose descriptors are looked after: those with lower numbers. */
#define BURSAR_DESCRIPTORS_MAX 65536

/* A line of the program, and the one that it led to in a library, which may be the same.  Long paths lose their beginning. */
struct bursar_descriptors_place {
  uint32_t line, inner_line; /* 0: not known */
  char file[232], inner[120];
};

struct bursar_descriptors_noted {
  uint64_t device, inode;
  const void *caller; /* the code that called */
  const char *kind;   /* "file", "socket" and so on; constant */
  struct bursar_descriptors_place place;
};

/* Whoever knows the program.  Both for any thread, class H. */
struct bursar_descriptors_asker {
  uint64_t (*here)(void); /* the watch that the calling thread is in, or 0 */
  void (*where)(struct bursar_descriptors_place *out);
};

/* The hooks have originals from here on: `find` says where a name leads, or NULL.  Also after bursar_descriptors_leave.  Class N.
 * -ENOMEM: there is no address space for it. */
int bursar_descriptors_start(void *(*find)(const char *name), const struct bursar_descriptors_asker *asker);

/* The asker is called no more, in any thread, when this returns: nothing more is noted.  Waits for those that call it. */
void bursar_descriptors_leave(void);

/* One caller at a time (the main GIL).  Class N. */

/* 0: there are too many. */
uint64_t bursar_descriptors_begin(void);
/* False: it has ended, or a fork has. */
bool bursar_descriptors_lasts(uint64_t watch);
/* How many it has.  None: no descriptor need be looked at. */
uint32_t bursar_descriptors_count(uint64_t watch);
/* Takes the next one from `fd` on that is open still out of the watch; -1: there is no other. */
int bursar_descriptors_next(uint64_t watch, int fd, struct bursar_descriptors_noted *out);
/* It is another watch's from here on, or nobody's (0).  False: it was not this one's. */
bool bursar_descriptors_hand(int fd, uint64_t watch, uint64_t to);
void bursar_descriptors_end(uint64_t watch);

/* While > 0, what this thread opens is not noted: another thing that is told stands for it.  Class H. */
extern __thread unsigned bursar_descriptors_quiet;

#endif
