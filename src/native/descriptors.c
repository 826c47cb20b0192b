#include "native/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prim/prim.h"

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define CALLER __builtin_return_address(0)
#define WATCHES 16384u

static struct bursar_descriptors_originals originals;
static const struct bursar_descriptors_asker *asker;
__thread unsigned bursar_descriptors_quiet __attribute__((tls_model("initial-exec")));

/* A watch is its place and how often that was taken before; what it has is counted beside that, in one word. */
static uint64_t watches[WATCHES]; /* generation << 32 | count; atomic */
static uint32_t unused[WATCHES], unused_count;
static uint32_t watching; /* how many there are; atomic */

static uint64_t *owners; /* by descriptor; 0: nobody's; atomic */
static struct bursar_descriptors_noted *notes;
static uint32_t high; /* above all that were ever noted; atomic */
static pid_t process;

static bool left;       /* the asker may not be called; atomic */
static uint32_t asking; /* threads that call it; atomic */

static uint32_t place_of(uint64_t watch) { return (uint32_t)watch - 1; }

/* Adds to what it has, where it has not ended. */
static bool counted(uint64_t watch, int more) {
  uint64_t *word = &watches[place_of(watch)], was = __atomic_load_n(word, __ATOMIC_RELAXED);
  do
    if (was >> 32 != watch >> 32)
      return false;
  while (!__atomic_compare_exchange_n(word, &was, was + (uint64_t)(int64_t)more, true, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED));
  return true;
}

/* --- noting -------------------------------------------------------------------------------------------------------------- */

static void forget_slowly(int fd) {
  if (getpid() != process) /* vfork's child closes descriptors of its own */
    return;
  uint64_t owner = __atomic_exchange_n(&owners[fd], 0, __ATOMIC_ACQ_REL);
  if (owner)
    (void)counted(owner, -1);
}

static inline void forget(int fd) {
  if ((uint32_t)fd < __atomic_load_n(&high, __ATOMIC_RELAXED) &&
      UNLIKELY(__atomic_load_n(&owners[fd], __ATOMIC_RELAXED)))
    forget_slowly(fd);
}

static const char *kind_of(const struct stat *st, const char *kind) {
  if (kind)
    return kind;
  switch (st->st_mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFSOCK: return "socket";
    case S_IFIFO: return "pipe";
    case S_IFCHR:
    case S_IFBLK: return "device";
    default: return "descriptor";
  }
}

static void raise_high(uint32_t to) {
  uint32_t was = __atomic_load_n(&high, __ATOMIC_RELAXED);
  while (was < to && !__atomic_compare_exchange_n(&high, &was, to, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
    ;
}

static void note_in(uint64_t watch, int fd, const char *kind, const void *caller) {
  struct stat st;
  if (!watch || getpid() != process || fstat(fd, &st) != 0)
    return;
  struct bursar_descriptors_noted *note = &notes[fd];
  note->device = st.st_dev;
  note->inode = st.st_ino;
  note->caller = caller;
  note->kind = kind_of(&st, kind);
  asker->where(&note->place);
  raise_high((uint32_t)fd + 1);
  if (counted(watch, 1))
    __atomic_store_n(&owners[fd], watch, __ATOMIC_RELEASE);
}

static __attribute__((noinline)) void note_slowly(int fd, const char *kind, const void *caller) {
  int kept = errno;
  if (fd >= BURSAR_DESCRIPTORS_MAX)
    return;
  /* It may have been closed behind the hooks, or by dup2.  Else whoever closed it has released what was noted of it. */
  if (__atomic_load_n(&owners[fd], __ATOMIC_ACQUIRE))
    forget_slowly(fd);
  __atomic_fetch_add(&asking, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&left, __ATOMIC_SEQ_CST) && !bursar_descriptors_quiet)
    note_in(asker->here(), fd, kind, caller);
  __atomic_fetch_sub(&asking, 1, __ATOMIC_RELEASE);
  errno = kept;
}

static inline int note(int fd, const char *kind, const void *caller) {
  if (UNLIKELY(__atomic_load_n(&watching, __ATOMIC_RELAXED)) && fd >= 0)
    note_slowly(fd, kind, caller);
  return fd;
}

static inline int note_pair(int status, const int pair[2], const void *caller) {
  if (status == 0) {
    note(pair[0], NULL, caller);
    note(pair[1], NULL, caller);
  }
  return status;
}

/* --- the hooks ----------------------------------------------------------------------------------------------------------- */

#define OPENS(name, kind, parameters, arguments) \
  int bursar_descriptors_##name parameters { return note(originals.name arguments, kind, CALLER); }
OPENS(open, NULL, (const char *path, int flags, mode_t mode), (path, flags, mode))
OPENS(open64, NULL, (const char *path, int flags, mode_t mode), (path, flags, mode))
OPENS(__open_2, NULL, (const char *path, int flags), (path, flags))
OPENS(__open64_2, NULL, (const char *path, int flags), (path, flags))
OPENS(openat, NULL, (int folder, const char *path, int flags, mode_t mode), (folder, path, flags, mode))
OPENS(openat64, NULL, (int folder, const char *path, int flags, mode_t mode), (folder, path, flags, mode))
OPENS(__openat_2, NULL, (int folder, const char *path, int flags), (folder, path, flags))
OPENS(__openat64_2, NULL, (int folder, const char *path, int flags), (folder, path, flags))
OPENS(creat, NULL, (const char *path, mode_t mode), (path, mode))
OPENS(creat64, NULL, (const char *path, mode_t mode), (path, mode))
OPENS(shm_open, "shared memory", (const char *name, int flags, mode_t mode), (name, flags, mode))
OPENS(memfd_create, "memory file", (const char *name, unsigned flags), (name, flags))
OPENS(socket, NULL, (int family, int type, int protocol), (family, type, protocol))
OPENS(accept, NULL, (int fd, struct sockaddr *address, socklen_t *bytes), (fd, address, bytes))
OPENS(accept4, NULL, (int fd, struct sockaddr *address, socklen_t *bytes, int flags), (fd, address, bytes, flags))
OPENS(dup, NULL, (int fd), (fd))
OPENS(epoll_create, "epoll", (int size), (size))
OPENS(epoll_create1, "epoll", (int flags), (flags))
OPENS(eventfd, "eventfd", (unsigned value, int flags), (value, flags))
OPENS(timerfd_create, "timerfd", (int clock, int flags), (clock, flags))
OPENS(inotify_init, "inotify", (void), ())
OPENS(inotify_init1, "inotify", (int flags), (flags))

/* With a descriptor it changes that one. */
int bursar_descriptors_signalfd(int fd, const void *mask, int flags) {
  int result = originals.signalfd(fd, mask, flags);
  return fd == -1 ? note(result, "signalfd", CALLER) : result;
}

/* What was open there is closed by it, and forgotten when the new one is noted; where it is the same, nothing happens. */
int bursar_descriptors_dup2(int fd, int to) {
  int result = originals.dup2(fd, to);
  return fd == to ? result : note(result, NULL, CALLER);
}
int bursar_descriptors_dup3(int fd, int to, int flags) { return note(originals.dup3(fd, to, flags), NULL, CALLER); }

static inline int copies(int result, int command, const void *caller) {
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? note(result, NULL, caller) : result;
}
int bursar_descriptors_fcntl(int fd, int command, uintptr_t argument) {
  return copies(originals.fcntl(fd, command, argument), command, CALLER);
}
int bursar_descriptors_fcntl64(int fd, int command, uintptr_t argument) {
  return copies(originals.fcntl64(fd, command, argument), command, CALLER);
}

int bursar_descriptors_pipe(int pair[2]) { return note_pair(originals.pipe(pair), pair, CALLER); }
int bursar_descriptors_pipe2(int pair[2], int flags) { return note_pair(originals.pipe2(pair, flags), pair, CALLER); }
int bursar_descriptors_socketpair(int family, int type, int protocol, int pair[2]) {
  return note_pair(originals.socketpair(family, type, protocol, pair), pair, CALLER);
}

static inline FILE *note_file(FILE *file, const void *caller) {
  if (file)
    note(fileno(file), NULL, caller);
  return file;
}
FILE *bursar_descriptors_fopen(const char *path, const char *mode) {
  return note_file(originals.fopen(path, mode), CALLER);
}
FILE *bursar_descriptors_fopen64(const char *path, const char *mode) {
  return note_file(originals.fopen64(path, mode), CALLER);
}

DIR *bursar_descriptors_opendir(const char *path) {
  DIR *folder = originals.opendir(path);
  if (folder)
    note(dirfd(folder), NULL, CALLER);
  return folder;
}

int bursar_descriptors_close(int fd) {
  forget(fd);
  return originals.close(fd);
}

static void forget_range(unsigned from, unsigned to) {
  for (unsigned fd = from; fd < __atomic_load_n(&high, __ATOMIC_RELAXED) && fd <= to; fd++)
    forget((int)fd);
}

#define ONLY_ON_EXECUTE 4u /* CLOSE_RANGE_CLOEXEC, which older headers do not have */
int bursar_descriptors_close_range(unsigned from, unsigned to, int flags) {
  if (!((unsigned)flags & ONLY_ON_EXECUTE))
    forget_range(from, to);
  return originals.close_range(from, to, flags);
}

void bursar_descriptors_closefrom(int from) {
  forget_range(from < 0 ? 0 : (unsigned)from, UINT32_MAX);
  originals.closefrom(from);
}

int bursar_descriptors_fclose(FILE *file) {
  forget(fileno(file));
  return originals.fclose(file);
}

int bursar_descriptors_closedir(DIR *folder) {
  if (folder)
    forget(dirfd(folder));
  return originals.closedir(folder);
}

/* --- watches ------------------------------------------------------------------------------------------------------------- */

static void make_unused(void) {
  unused_count = 0;
  for (uint32_t i = WATCHES; i-- > 0;)
    unused[unused_count++] = i;
}

/* Its parent's watches end, and with them what they had. */
static void in_child(void) {
  process = getpid();
  memset(owners, 0, high * sizeof *owners);
  high = watching = asking = 0;
  for (uint32_t i = 0; i < WATCHES; i++)
    if (watches[i])
      watches[i] = ((watches[i] >> 32) + 1) << 32;
  make_unused();
}

int bursar_descriptors_start(void *(*find)(const char *name), const struct bursar_descriptors_asker *who) {
  __atomic_store_n(&left, false, __ATOMIC_RELAXED);
  if (owners)
    return 0;
  uint64_t *words = bursar_prim_reserve(BURSAR_DESCRIPTORS_MAX * sizeof *owners, true);
  notes = bursar_prim_reserve(BURSAR_DESCRIPTORS_MAX * sizeof *notes, true);
  if (!words || !notes || pthread_atfork(NULL, NULL, in_child) != 0) {
    bursar_prim_release(words, BURSAR_DESCRIPTORS_MAX * sizeof *owners);
    bursar_prim_release(notes, BURSAR_DESCRIPTORS_MAX * sizeof *notes);
    return -ENOMEM;
  }
#define FIND(name, result, parameters) *(void **)(void *)&originals.name = find(#name);
  BURSAR_DESCRIPTORS_HOOKS(FIND)
#undef FIND
  asker = who;
  process = getpid();
  make_unused();
  owners = words;
  return 0;
}

void bursar_descriptors_leave(void) {
  __atomic_store_n(&left, true, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&asking, __ATOMIC_ACQUIRE))
    sched_yield();
}

uint64_t bursar_descriptors_begin(void) {
  if (!unused_count)
    return 0;
  uint32_t place = unused[--unused_count];
  __atomic_fetch_add(&watching, 1, __ATOMIC_RELAXED);
  uint64_t generation = __atomic_load_n(&watches[place], __ATOMIC_RELAXED) >> 32;
  return generation << 32 | (place + 1);
}

bool bursar_descriptors_lasts(uint64_t watch) {
  return watch && __atomic_load_n(&watches[place_of(watch)], __ATOMIC_RELAXED) >> 32 == watch >> 32;
}

uint32_t bursar_descriptors_count(uint64_t watch) {
  return bursar_descriptors_lasts(watch) ? (uint32_t)__atomic_load_n(&watches[place_of(watch)], __ATOMIC_ACQUIRE) : 0;
}

bool bursar_descriptors_hand(int fd, uint64_t watch, uint64_t to) {
  if (!watch || (uint32_t)fd >= high || !counted(watch, 0))
    return false;
  if (to && !counted(to, 1))
    to = 0;
  if (__atomic_compare_exchange_n(&owners[fd], &(uint64_t){watch}, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    (void)counted(watch, -1);
    return true;
  }
  if (to)
    (void)counted(to, -1);
  return false;
}

int bursar_descriptors_next(uint64_t watch, int fd, struct bursar_descriptors_noted *out) {
  struct stat st;
  for (; (uint32_t)fd < __atomic_load_n(&high, __ATOMIC_ACQUIRE) && bursar_descriptors_count(watch); fd++) {
    if (__atomic_load_n(&owners[fd], __ATOMIC_ACQUIRE) != watch)
      continue;
    *out = notes[fd];
    out->place.file[sizeof out->place.file - 1] = out->place.inner[sizeof out->place.inner - 1] = 0;
    if (bursar_descriptors_hand(fd, watch, 0) && fstat(fd, &st) == 0 && st.st_dev == out->device &&
        st.st_ino == out->inode)
      return fd;
  }
  return -1;
}

void bursar_descriptors_end(uint64_t watch) {
  struct bursar_descriptors_noted noted;
  if (!bursar_descriptors_lasts(watch))
    return;
  for (int fd = 0; (fd = bursar_descriptors_next(watch, fd, &noted)) >= 0; fd++)
    ;
  uint32_t place = place_of(watch);
  __atomic_store_n(&watches[place], ((watch >> 32) + 1) << 32, __ATOMIC_RELEASE);
  __atomic_fetch_sub(&watching, 1, __ATOMIC_RELAXED);
  unused[unused_count++] = place;
}
