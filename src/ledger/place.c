#include "ledger/place.h"

#include "ledger/layout.h"
#include "prim/prim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 65536u /* of a directory: more is somebody's accident */
#define NAME_TRIES 1000    /* ledgers of one program and one pid, reused */
#define SHARED_MAX 256     /* files that a process maps shared: looked at for its ledger */
#define PROGRAM_MAX 64     /* bytes of a program's name in a ledger's */
#define SUFFIX ".bursar"

/* In messages a path stops after 800 bytes (%.800s), so that the reason behind it is never cut off. */

/* A file's directory, held open, and its name in it: everything is done relative to the former. */
struct spot {
  int directory;
  char name[256];
  char path[BURSAR_PLACE_PATH_MAX]; /* absolute */
};

static void close_fd(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

void bursar_place_close(struct bursar_place *place) {
  if (place)
    close_fd(&place->fd);
}

/* ---- paths ---- */

/* "/a/b" from "b" in "/a".  0 or -ENAMETOOLONG, or why there is no working directory. */
static int absolute(const char *path, char out[BURSAR_PLACE_PATH_MAX]) {
  size_t at = 0;
  if (path[0] != '/') {
    if (!getcwd(out, BURSAR_PLACE_PATH_MAX))
      return errno == ERANGE ? -ENAMETOOLONG : -errno;
    at = strlen(out);
    if (at > 0 && out[at - 1] != '/')
      out[at++] = '/';
  }
  size_t length = strlen(path);
  if (at + length >= BURSAR_PLACE_PATH_MAX)
    return -ENAMETOOLONG;
  memcpy(out + at, path, length + 1);
  return 0;
}

/* Splits off the last component.  The directory part is written in place of the path's tail and put back. */
static int open_parent(struct spot *spot) {
  char *slash = strrchr(spot->path, '/'); /* the path is absolute: there is one */
  const char *name = slash + 1;
  if (strlen(name) >= sizeof spot->name)
    return -ENAMETOOLONG;
  memcpy(spot->name, name, strlen(name) + 1);
  char first = slash[1];
  slash[1] = 0;
  spot->directory = open(spot->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int result = spot->directory < 0 ? -errno : 0;
  slash[1] = first;
  return result;
}

static const char *environment(const char *name) {
  const char *value = getenv(name);
  return value && value[0] ? value : NULL;
}

/* Is it a directory of this user's?  A login's runtime directory in the environment of sudo is not. */
static bool is_our_directory(const char *path) {
  struct stat is;
  return path[0] == '/' && stat(path, &is) == 0 && S_ISDIR(is.st_mode) && is.st_uid == geteuid();
}

static int default_directory(char out[BURSAR_PLACE_PATH_MAX], struct bursar_error *error) {
  char path[BURSAR_PLACE_PATH_MAX];
  const char *directory = environment("BURSAR_DIR");
  const char *runtime = environment("XDG_RUNTIME_DIR");
  const char *temp = environment("TMPDIR");
  int length;
  if (directory)
    length = snprintf(path, sizeof path, "%s", directory);
  else if (runtime && is_our_directory(runtime))
    length = snprintf(path, sizeof path, "%s/bursar", runtime);
  else
    length = snprintf(path, sizeof path, "%s/bursar-%u", temp ? temp : "/tmp", (unsigned)geteuid());
  int result = length < 0 || (size_t)length >= sizeof path ? -ENAMETOOLONG : absolute(path, out);
  if (result < 0)
    return bursar_error_set(error, BURSAR_FAILED, "no directory for ledgers: %s: name one with -o or BURSAR_DIR",
                            strerror(-result));
  for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
    out[n - 1] = 0;
  return BURSAR_OK;
}

static int refuse_directory(const char *path, const char *why, struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED,
                          "the ledger directory %.800s %s: remove it, or name another one with BURSAR_DIR", path, why);
}

/* Opens the default directory, made where `make` says so; without that, *out is -1 where there is none.  *why: what the system
 * said, 0 or a negative errno. */
static int try_default(bool make, char path[BURSAR_PLACE_PATH_MAX], int *out, int *why, struct bursar_error *error) {
  struct spot spot = {.directory = -1};
  *out = -1;
  *why = 0;
  int status = default_directory(path, error);
  if (status < 0)
    return status;
  memcpy(spot.path, path, strlen(path) + 1);
  int result = open_parent(&spot);
  if (result == 0) {
    const char *name = spot.name[0] ? spot.name : ".";
    if (make && mkdirat(spot.directory, name, 0700) != 0 && errno != EEXIST)
      result = -errno;
    if (result == 0)
      *out = openat(spot.directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (result == 0 && *out < 0)
      result = -errno;
  }
  close_fd(&spot.directory);
  *why = result;
  if (result == -ENOENT && !make)
    return BURSAR_OK;
  if (result == -ELOOP || result == -ENOTDIR) /* a link answers either, by kernel */
    return refuse_directory(path, "is a link or no directory", error);
  if (result < 0)
    return bursar_error_set(error, BURSAR_FAILED,
                            "cannot use the ledger directory %.800s: %s: name another one with BURSAR_DIR", path,
                            strerror(-result));
  struct stat is;
  const char *refused = NULL;
  if (fstat(*out, &is) != 0 || is.st_uid != geteuid())
    refused = "belongs to another user";
  else if (is.st_mode & (S_IWGRP | S_IWOTH))
    refused = "is open for others to write";
  if (refused) {
    close_fd(out);
    return refuse_directory(path, refused, error);
  }
  return BURSAR_OK;
}

static int open_default(bool make, char path[BURSAR_PLACE_PATH_MAX], int *out, struct bursar_error *error) {
  int why;
  return try_default(make, path, out, &why, error);
}

/* ---- the first page ---- */

static void fill_header(struct bursar_header *header) {
  struct bursar_identity identity;
  memset(header, 0, sizeof *header);
  memcpy(header->magic, BURSAR_LEDGER_MAGIC, sizeof header->magic);
  header->version = BURSAR_LEDGER_VERSION;
  header->endian = BURSAR_LEDGER_ENDIAN;
  header->extent_bytes = BURSAR_EXTENT_MIN;
  header->extents_max = BURSAR_CAP_DEFAULT / BURSAR_EXTENT_MIN;
  header->pid = (uint32_t)getpid();
  header->uid = (uint32_t)geteuid();
  if (bursar_prim_identity(0, &identity) == 0) {
    header->process_start = identity.process_start;
    header->pid_namespace = identity.pid_namespace;
    memcpy(header->boot_id, identity.boot_id, sizeof header->boot_id);
  }
  header->started_unix_ns = bursar_prim_unix_now();
  header->started_mono_ns = bursar_prim_now();
  snprintf(header->bursar_version, sizeof header->bursar_version, "%s", BURSAR_VERSION);
}

static int write_at(int fd, const void *bytes, size_t length, uint64_t offset) {
  ssize_t n;
  do
    n = pwrite(fd, bytes, length, (off_t)offset);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)length ? 0 : n < 0 ? -errno : -ENOSPC;
}

/* One extent, allocated for real, with its header and one extent in use. */
static int write_first_extent(int fd) {
  struct bursar_header header;
  struct bursar_counts counts = {.state = BURSAR_STATE_RESERVED, .extents = 1};
  fill_header(&header);
  int result = bursar_prim_grow(fd, 0, BURSAR_EXTENT_MIN);
  if (result == 0)
    result = write_at(fd, &counts, sizeof counts, BURSAR_AT_COUNTS);
  if (result == 0)
    result = write_at(fd, &header, sizeof header, BURSAR_AT_HEADER);
  return result;
}

/* Makes NAME in the directory; -EEXIST where something is there already. */
static int make_file(int directory, const char *name) {
  int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return -errno;
  int result = fchmod(fd, 0600) == 0 ? 0 : -errno; /* whatever the umask took away: the program opens it again */
  if (result == 0)
    result = write_first_extent(fd);
  if (result == 0)
    return fd;
  unlinkat(directory, name, 0);
  close(fd);
  return result;
}

/* ---- reading heads ---- */

static bool read_at(int fd, void *out, size_t length, uint64_t offset) {
  ssize_t n;
  do
    n = pread(fd, out, length, (off_t)offset);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)length;
}

static bool is_ledger(int fd) {
  char magic[8];
  return read_at(fd, magic, sizeof magic, 0) && memcmp(magic, BURSAR_LEDGER_MAGIC, sizeof magic) == 0;
}

/* Copies a string of the ledger, as far as it is one.  Every number on the way is checked: the file proves nothing. */
static bool read_string(int fd, const struct bursar_header *header, uint32_t offset, char *out, size_t room) {
  uint8_t directory[BURSAR_EXTENTS_MAX];
  uint32_t length;
  if (offset == 0 || !read_at(fd, directory, sizeof directory, BURSAR_AT_DIRECTORY))
    return false;
  uint32_t extent = header->extent_bytes;
  uint32_t wanted = offset / extent;
  for (uint32_t i = 1; i < BURSAR_EXTENTS_MAX; i++) {
    if (directory[i] != BURSAR_REGION_STRINGS || wanted-- != 0)
      continue;
    uint64_t end = BURSAR_EXTENT_MIN + (uint64_t)i * extent; /* extent 0 is of that size whatever the others are */
    uint64_t at = end - extent + offset % extent;
    if (at + sizeof length > end || !read_at(fd, &length, sizeof length, at))
      return false;
    at += sizeof length;
    if (length == 0 || length >= room || at + length > end || !read_at(fd, out, length, at))
      return false;
    out[length] = 0;
    return true;
  }
  return false;
}

static uint64_t peak_of(const struct bursar_books *books) {
  int64_t live = 0;
  for (int i = 0; i < BURSAR_DOMAIN_COUNT; i++) {
    live += (int64_t)(books->gil[i].alloc_bytes - books->gil[i].free_bytes);
    live += (int64_t)(books->free_lane[i].alloc_bytes - books->free_lane[i].free_bytes);
    live -= (int64_t)books->remote[i].free_bytes;
  }
  return live > 0 && (uint64_t)live > books->peak ? (uint64_t)live : books->peak;
}

int bursar_place_lives(const struct bursar_header *header) {
  struct bursar_identity ours;
  struct bursar_identity theirs;
  static const uint8_t no_boot[16];
  if (bursar_prim_identity(0, &ours) != 0)
    return -1;
  if (memcmp(header->boot_id, no_boot, 16) != 0 && memcmp(ours.boot_id, no_boot, 16) != 0 &&
      memcmp(header->boot_id, ours.boot_id, 16) != 0)
    return 0;
  if (header->pid_namespace && ours.pid_namespace && header->pid_namespace != ours.pid_namespace)
    return -1;
  if (header->pid == 0 || header->pid > INT32_MAX)
    return 0;
  if (bursar_prim_identity((pid_t)header->pid, &theirs) != 0)
    return 0;
  return !header->process_start || !theirs.process_start || header->process_start == theirs.process_start;
}

static void judge(struct bursar_place_entry *entry, const struct bursar_header *header, uint32_t state) {
  int lives = bursar_place_lives(header);
  int maps = lives == 1 ? bursar_prim_maps_file((pid_t)header->pid, entry->device, entry->inode) : 0;
  bool writes = lives == 1 && (maps != 0 || state == BURSAR_STATE_RESERVED);
  entry->live = writes || lives < 0;
  if (state == BURSAR_STATE_ENDED)
    entry->state = BURSAR_PLACE_ENDED;
  else if (lives < 0)
    entry->state = BURSAR_PLACE_ELSEWHERE;
  else if (state == BURSAR_STATE_RESERVED)
    entry->state = writes ? BURSAR_PLACE_STARTING : BURSAR_PLACE_UNUSED;
  else if (state == BURSAR_STATE_OPEN)
    entry->state = writes ? BURSAR_PLACE_RUNNING : BURSAR_PLACE_KILLED;
  else
    entry->state = lives == 1 ? BURSAR_PLACE_STOPPED : BURSAR_PLACE_ENDED;
}

/* "train" from "train-123.bursar", "train-123.4.bursar" or a child's "train-123.bursar.456". */
static void program_of_name(const char *name, char *out, size_t room) {
  size_t length = strlen(name);
  for (const char *at = strstr(name, SUFFIX); at; at = strstr(at + 1, SUFFIX))
    length = (size_t)(at - name);
  size_t end = length;
  while (end > 0 && ((name[end - 1] >= '0' && name[end - 1] <= '9') || name[end - 1] == '.'))
    end--;
  if (end > 1 && name[end - 1] == '-')
    length = end - 1;
  snprintf(out, room, "%.*s", (int)length, name);
}

/* Fills the entry from an open file.  false: it is no ledger. */
static bool read_entry(int fd, const char *name, struct bursar_place_entry *entry) {
  struct bursar_header header;
  struct bursar_counts counts;
  struct bursar_books books;
  struct stat is;
  memset(entry, 0, sizeof *entry);
  if (fstat(fd, &is) != 0 || !S_ISREG(is.st_mode) || !is_ledger(fd))
    return false;
  snprintf(entry->name, sizeof entry->name, "%s", name);
  program_of_name(name, entry->program, sizeof entry->program);
  entry->device = is.st_dev;
  entry->inode = is.st_ino;
  entry->file_bytes = (uint64_t)is.st_blocks * 512;
  entry->state = BURSAR_PLACE_DAMAGED;
  if (!read_at(fd, &header, sizeof header, BURSAR_AT_HEADER) || header.endian != BURSAR_LEDGER_ENDIAN)
    return true;
  if (header.version > BURSAR_LEDGER_VERSION_NATIVE) {
    entry->state = BURSAR_PLACE_NEWER;
    entry->live = true; /* as far as this version can know */
    return true;
  }
  entry->pid = (pid_t)header.pid;
  entry->started_unix_ns = header.started_unix_ns;
  snprintf(entry->python_version, sizeof entry->python_version, "%.*s", (int)sizeof header.python_version - 1,
           header.python_version);
  if (!read_at(fd, &counts, sizeof counts, BURSAR_AT_COUNTS) || !read_at(fd, &books, sizeof books, BURSAR_AT_BOOKS) ||
      counts.state > BURSAR_STATE_BROKEN || header.extent_bytes < BURSAR_EXTENT_MIN) {
    /* Its head is gone, and nobody can be writing to it any more: unless its process is there after all. */
    entry->live = bursar_place_lives(&header) != 0;
    return true;
  }
  entry->peak_bytes = peak_of(&books);
  judge(entry, &header, counts.state);
  char file[sizeof entry->program];
  if (read_string(fd, &header, counts.main_file, file, sizeof file))
    memcpy(entry->program, file, strlen(file) + 1);
  return true;
}

/* The ledger NAME in the directory, if it is one; *fd is then open for reading. */
static int open_entry(int directory, const char *name, int *fd, struct bursar_place_entry *entry) {
  *fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (*fd < 0)
    return -errno;
  if (read_entry(*fd, name, entry))
    return 0;
  close_fd(fd);
  return -EINVAL;
}

/* ---- listing ---- */

static int by_start(const void *a, const void *b) {
  const struct bursar_place_entry *left = a;
  const struct bursar_place_entry *right = b;
  if (left->started_unix_ns != right->started_unix_ns)
    return left->started_unix_ns < right->started_unix_ns ? -1 : 1;
  return strcmp(left->name, right->name);
}

void bursar_place_list_free(struct bursar_place_list *list) {
  if (!list)
    return;
  free(list->entries);
  list->entries = NULL;
  list->count = 0;
}

static bool list_add(struct bursar_place_list *list, size_t *room, const struct bursar_place_entry *entry) {
  if (list->count == *room) {
    size_t more = *room ? *room * 2 : 32;
    void *grown = more <= ENTRIES_MAX ? realloc(list->entries, more * sizeof *entry) : NULL;
    if (!grown)
      return false;
    list->entries = grown;
    *room = more;
  }
  list->entries[list->count++] = *entry;
  return true;
}

/* Fills list->entries from an open directory, which stays the caller's. */
static int read_directory(int directory, struct bursar_place_list *list, struct bursar_error *error) {
  size_t room = 0;
  int status = BURSAR_OK;
  int own = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = own < 0 ? NULL : fdopendir(own);
  if (!stream) {
    status = bursar_error_set(error, BURSAR_FAILED, "cannot read the ledger directory %.800s: %s", list->directory,
                              strerror(errno));
    close_fd(&own);
    return status;
  }
  for (struct dirent *item; status == BURSAR_OK && (item = readdir(stream));) {
    struct bursar_place_entry entry;
    int fd;
    if (open_entry(directory, item->d_name, &fd, &entry) < 0)
      continue;
    close(fd);
    if (!list_add(list, &room, &entry))
      status = bursar_error_set(error, BURSAR_FAILED, "the ledger directory %.800s holds more than can be listed",
                                list->directory);
  }
  closedir(stream);
  if (status < 0)
    bursar_place_list_free(list);
  else if (list->count)
    qsort(list->entries, list->count, sizeof *list->entries, by_start);
  return status;
}

int bursar_place_list(struct bursar_place_list *out, struct bursar_error *error) {
  int directory;
  memset(out, 0, sizeof *out);
  int status = open_default(false, out->directory, &directory, error);
  if (status == BURSAR_OK && directory >= 0)
    status = read_directory(directory, out, error);
  close_fd(&directory);
  return status;
}

const char *bursar_place_state_name(enum bursar_place_state state) {
  static const char *const names[] = {
      [BURSAR_PLACE_STARTING] = "starting",   [BURSAR_PLACE_RUNNING] = "running", [BURSAR_PLACE_STOPPED] = "stopped",
      [BURSAR_PLACE_ENDED] = "ended",         [BURSAR_PLACE_KILLED] = "killed",   [BURSAR_PLACE_UNUSED] = "unused",
      [BURSAR_PLACE_ELSEWHERE] = "elsewhere", [BURSAR_PLACE_NEWER] = "newer",     [BURSAR_PLACE_DAMAGED] = "damaged"};
  return (size_t)state < sizeof names / sizeof *names ? names[state] : "damaged";
}

static int path_in(const char *directory, const char *name, char out[BURSAR_PLACE_PATH_MAX]) {
  int length = snprintf(out, BURSAR_PLACE_PATH_MAX, "%s%s%s", directory, strcmp(directory, "/") ? "/" : "", name);
  return length < 0 || length >= (int)BURSAR_PLACE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* The ledger that a running process maps, wherever it is: its path is the kernel's, its header names the process. */
static bool find_mapped(pid_t pid, struct bursar_place *place) {
  for (unsigned skip = 0; skip < SHARED_MAX; skip++) {
    struct bursar_place_entry entry;
    struct stat is;
    if (bursar_prim_shared_file(pid, skip, place->path, sizeof place->path) != 1)
      return false;
    if (lstat(place->path, &is) != 0 || !S_ISREG(is.st_mode)) /* opening a device may do things */
      continue;
    place->fd = open(place->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (place->fd >= 0 && read_entry(place->fd, "", &entry) && entry.pid == pid && entry.live)
      return true;
    close_fd(&place->fd);
  }
  return false;
}

int bursar_place_find(pid_t pid, struct bursar_place *place, struct bursar_error *error) {
  struct bursar_place_list list = {.count = 0};
  struct bursar_place_entry again;
  int directory;
  const struct bursar_place_entry *found = NULL;
  place->fd = -1;
  if (pid > 0 && find_mapped(pid, place))
    return BURSAR_OK;
  int status = open_default(false, list.directory, &directory, error);
  if (status == BURSAR_OK && directory >= 0)
    status = read_directory(directory, &list, error);
  for (size_t i = 0; status == BURSAR_OK && i < list.count; i++) {
    /* Unused ones say nothing; a live one is of the process that has the pid now. */
    const struct bursar_place_entry *entry = &list.entries[i];
    if (entry->pid == pid && entry->state != BURSAR_PLACE_UNUSED && (!found || entry->live || !found->live))
      found = entry;
  }
  if (found && path_in(list.directory, found->name, place->path) == 0)
    (void)open_entry(directory, found->name, &place->fd, &again);
  if (status == BURSAR_OK && place->fd < 0)
    status = bursar_error_set(error, BURSAR_FAILED,
                              "no ledger of process %d in %.800s: see bursar ls, or give the ledger's path", (int)pid,
                              list.directory);
  bursar_place_list_free(&list);
  close_fd(&directory);
  return status;
}

/* ---- removing ---- */

/* Unlinks the entry if its name still leads to the file that was looked at.  Only bursar itself makes names here. */
static bool remove_entry(int directory, const struct bursar_place_entry *entry) {
  struct stat is;
  return fstatat(directory, entry->name, &is, AT_SYMLINK_NOFOLLOW) == 0 && is.st_dev == entry->device &&
         is.st_ino == entry->inode && unlinkat(directory, entry->name, 0) == 0;
}

/* Drops what is beyond the limits from an open directory.  Reserved and never used ones go first. */
static int prune_directory(int directory, const char *path, struct bursar_error *error) {
  struct bursar_place_list list = {.count = 0};
  size_t kept = 0;
  uint64_t bytes = 0;
  /* One at a time: two that prune at once would each remove what the other keeps.  Somebody else at it is as good. */
  if (flock(directory, LOCK_EX | LOCK_NB) != 0)
    return BURSAR_OK;
  snprintf(list.directory, sizeof list.directory, "%s", path);
  int status = read_directory(directory, &list, error);
  for (size_t i = list.count; status == BURSAR_OK && i-- > 0;) {
    const struct bursar_place_entry *entry = &list.entries[i];
    if (entry->live)
      continue;
    bool keep = entry->state != BURSAR_PLACE_UNUSED && kept < BURSAR_PLACE_KEEP_COUNT &&
                bytes + entry->file_bytes <= BURSAR_PLACE_KEEP_BYTES;
    if (keep) {
      kept++;
      bytes += entry->file_bytes;
    } else {
      (void)remove_entry(directory, entry);
    }
  }
  bursar_place_list_free(&list);
  flock(directory, LOCK_UN);
  return status;
}

int bursar_place_prune(struct bursar_error *error) {
  char path[BURSAR_PLACE_PATH_MAX];
  int directory;
  int status = open_default(false, path, &directory, error);
  if (status == BURSAR_OK && directory >= 0)
    status = prune_directory(directory, path, error);
  close_fd(&directory);
  return status;
}

int bursar_place_clean(bool dry_run, struct bursar_place_list *removed, struct bursar_error *error) {
  int directory;
  memset(removed, 0, sizeof *removed);
  int status = open_default(false, removed->directory, &directory, error);
  if (status < 0 || directory < 0)
    return status;
  if (flock(directory, LOCK_EX) != 0)
    status = bursar_error_set(error, BURSAR_FAILED, "cannot lock the ledger directory %.800s: %s", removed->directory,
                              strerror(errno));
  if (status == BURSAR_OK)
    status = read_directory(directory, removed, error);
  size_t kept = 0;
  for (size_t i = 0; status == BURSAR_OK && i < removed->count; i++) {
    const struct bursar_place_entry *entry = &removed->entries[i];
    if (!entry->live && (dry_run || remove_entry(directory, entry)))
      removed->entries[kept++] = *entry;
  }
  removed->count = kept;
  close_fd(&directory); /* and with it the lock */
  return status;
}

/* ---- making ---- */

/* "train-123.bursar".  Of the program only its last component, in letters that no shell or terminal minds. */
static void ledger_name(const char *program, int attempt, char out[256]) {
  char word[PROGRAM_MAX + 1];
  size_t n = 0;
  const char *slash = program ? strrchr(program, '/') : NULL;
  const char *at = slash && slash[1] ? slash + 1 : program ? program : "";
  for (; *at && n < PROGRAM_MAX; at++) {
    bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '-' ||
                 *at == '_' || (*at == '.' && n > 0);
    word[n++] = plain ? *at : '_';
  }
  word[n] = 0;
  if (n > 3 && strcmp(word + n - 3, ".py") == 0)
    word[n - 3] = 0;
  if (attempt == 0)
    snprintf(out, 256, "%s-%d" SUFFIX, n ? word : "python", (int)getpid());
  else
    snprintf(out, 256, "%s-%d.%d" SUFFIX, n ? word : "python", (int)getpid(), attempt);
}

static bool is_no_room(int result) { return result == -ENOSPC || result == -EFBIG || result == -EDQUOT; }

static int create_default(const char *program, struct bursar_place *place, struct bursar_error *error) {
  char path[BURSAR_PLACE_PATH_MAX];
  char name[256];
  int directory, result;
  int status = try_default(true, path, &directory, &result, error);
  place->no_room = is_no_room(result) || result == -EROFS; /* nobody has asked for that place */
  if (status < 0)
    return status;
  (void)prune_directory(directory, path, NULL); /* a ledger too many is no reason to keep no books */
  result = -EEXIST;
  for (int attempt = 0; result == -EEXIST && attempt < NAME_TRIES; attempt++) {
    ledger_name(program, attempt, name);
    result = path_in(path, name, place->path);
    if (result == 0)
      result = make_file(directory, name);
  }
  close_fd(&directory);
  place->no_room = is_no_room(result);
  if (result < 0)
    return bursar_error_set(error, BURSAR_FAILED,
                            "cannot make a ledger in %.800s: %s: name another place with -o or BURSAR_DIR", path,
                            strerror(-result));
  place->fd = result;
  return BURSAR_OK;
}

/* May what is at the spot now be replaced?  BURSAR_OK: it is a ledger that no process writes to, and `was` says which. */
static int may_replace(const struct spot *spot, const char *out, bool force, struct bursar_place_entry *was,
                       struct bursar_error *error) {
  struct stat is;
  int fd;
  int result = open_entry(spot->directory, spot->name, &fd, was);
  if (result == 0)
    close(fd);
  if (result == -EINVAL || result == -ELOOP || result == -ENXIO || result == -EISDIR) {
    const char *what = "and is not a ledger";
    if (fstatat(spot->directory, spot->name, &is, AT_SYMLINK_NOFOLLOW) == 0) {
      if (S_ISLNK(is.st_mode))
        what = "and is a link, which ledgers do not follow";
      else if (S_ISDIR(is.st_mode))
        what = "and is a directory";
    }
    return bursar_error_set(error, BURSAR_FAILED, "%.800s exists %s: choose another name for the ledger", out, what);
  }
  if (result < 0)
    return bursar_error_set(error, BURSAR_FAILED,
                            "%.800s exists and cannot be read: %s: choose another name for the ledger", out,
                            strerror(-result));
  /* Books that were stopped are mapped until the next start, and nobody writes to them. */
  if (was->live && was->state != BURSAR_PLACE_NEWER && was->state != BURSAR_PLACE_STOPPED)
    return bursar_error_set(error, BURSAR_FAILED,
                            "%.800s is the ledger of process %d, which is running: choose another name", out,
                            (int)was->pid);
  if (!force)
    return bursar_error_set(
        error, BURSAR_FAILED,
        "%.800s exists: replace that ledger with -f (from Python: force=True), or choose another name", out);
  return BURSAR_OK;
}

/* Puts a new ledger in the place of the old one in one step, and makes sure that it was the one that was looked at:
 * the two change names, and change back where the old one is not what it was. */
static int replace(const struct spot *spot, const struct bursar_place_entry *was) {
  char name[sizeof spot->name];
  snprintf(name, sizeof name, ".bursar-%d-new", (int)getpid());
  int fd = make_file(spot->directory, name);
  if (fd < 0)
    return fd;
  int result = 0;
  struct stat is;
  bool exchanged = renameat2(spot->directory, name, spot->directory, spot->name, RENAME_EXCHANGE) == 0;
  if (exchanged) {
    if (fstatat(spot->directory, name, &is, AT_SYMLINK_NOFOLLOW) != 0 || is.st_dev != was->device ||
        is.st_ino != was->inode) {
      (void)renameat2(spot->directory, name, spot->directory, spot->name, RENAME_EXCHANGE);
      result = -EBUSY;
    }
    if (unlinkat(spot->directory, name, 0) != 0 && result == 0)
      result = -errno;
  } else if (errno != EINVAL && errno != ENOSYS) {
    result = -errno;
    unlinkat(spot->directory, name, 0);
  } else if (fstatat(spot->directory, spot->name, &is, AT_SYMLINK_NOFOLLOW) != 0 || is.st_dev != was->device ||
             is.st_ino != was->inode || renameat(spot->directory, name, spot->directory, spot->name) != 0) {
    /* A file system that cannot exchange names (NFS, some of FUSE): as near to it as it goes. */
    result = -EBUSY;
    unlinkat(spot->directory, name, 0);
  }
  if (result == 0)
    return fd;
  close(fd);
  return result;
}

static int create_named(const char *out, bool force, struct bursar_place *place, struct bursar_error *error) {
  struct spot spot = {.directory = -1};
  struct bursar_place_entry was;
  int status = BURSAR_OK;
  int result = out[0] ? absolute(out, spot.path) : -ENOENT;
  if (result == 0)
    result = open_parent(&spot);
  if (result == 0 && !spot.name[0])
    result = -EISDIR;
  if (result == 0)
    result = make_file(spot.directory, spot.name);
  if (result == -EEXIST) {
    status = may_replace(&spot, out, force, &was, error);
    if (status == BURSAR_OK)
      result = replace(&spot, &was);
  }
  close_fd(&spot.directory);
  place->no_room = status == BURSAR_OK && is_no_room(result);
  if (status == BURSAR_OK && result < 0)
    status = bursar_error_set(error, BURSAR_FAILED, "cannot write the ledger %.800s: %s", out[0] ? out : "''",
                              strerror(-result));
  if (status < 0)
    return status;
  place->fd = result;
  memcpy(place->path, spot.path, strlen(spot.path) + 1);
  return BURSAR_OK;
}

int bursar_place_create(const char *out, bool force, const char *program, struct bursar_place *place,
                        struct bursar_error *error) {
  place->fd = -1;
  place->no_room = false;
  place->path[0] = 0;
  return out ? create_named(out, force, place, error) : create_default(program, place, error);
}

void bursar_place_discard(struct bursar_place *place) {
  struct stat made;
  struct stat there;
  if (!place || place->fd < 0)
    return;
  if (fstat(place->fd, &made) == 0 && lstat(place->path, &there) == 0 && made.st_dev == there.st_dev &&
      made.st_ino == there.st_ino)
    unlink(place->path);
  bursar_place_close(place);
}
