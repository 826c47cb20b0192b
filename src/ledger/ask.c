#include "ledger/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "prim/prim.h"

#define SANE_BYTES (1ull << 56)
#define LOOK_EVERY_NS 1000000
#define RESTS_NS 25000000
#define RESTS_FROM_CHANGES_NS 1000000000 /* a change is worth a wait: on a busy machine nobody works all the time */

static bool read_at(int fd, void *out, size_t bytes, uint64_t at) {
  ssize_t n;
  do
    n = pread(fd, out, bytes, (off_t)at);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)bytes;
}

/* --- who it is ------------------------------------------------------------------------------------------------------- */

static uint64_t live_of(const struct bursar_books *books, unsigned domain) {
  uint64_t live = books->gil[domain].alloc_bytes - books->gil[domain].free_bytes - books->remote[domain].free_bytes +
                  books->free_lane[domain].alloc_bytes - books->free_lane[domain].free_bytes;
  return live < SANE_BYTES ? live : 0;
}

static bool is_known(uint32_t version) {
  return version == BURSAR_LEDGER_VERSION || version == BURSAR_LEDGER_VERSION_NATIVE;
}

static bool read_head(struct bursar_ask *ask) {
  struct bursar_counts counts;
  struct bursar_books books;
  struct stat is;
  int fd = ask->place.fd;
  if (!read_at(fd, &ask->header, sizeof ask->header, BURSAR_AT_HEADER) ||
      !read_at(fd, &counts, sizeof counts, BURSAR_AT_COUNTS) || !read_at(fd, &books, sizeof books, BURSAR_AT_BOOKS) ||
      fstat(fd, &is) != 0 || !is_known(ask->header.version))
    return false;
  ask->inode = is.st_ino;
  ask->open = counts.state == BURSAR_STATE_OPEN;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    ask->live[domain] = live_of(&books, domain);
  return true;
}

static bool is_of(const struct bursar_header *header, const struct bursar_identity *now) {
  /* An undumpable process does not say its namespace. */
  return header->process_start == now->process_start &&
         (!now->pid_namespace || header->pid_namespace == now->pid_namespace) &&
         memcmp(header->boot_id, now->boot_id, sizeof now->boot_id) == 0;
}

int bursar_ask_open(pid_t pid, struct bursar_ask *out, struct bursar_error *error) {
  struct bursar_identity now;
  struct stat is;
  memset(out, 0, sizeof *out);
  out->place.fd = -1;
  out->pid = pid;
  if (bursar_prim_identity(pid, &now) != 0 || bursar_place_find(pid, &out->place, NULL) != 0)
    return 0;
  if (!read_head(out)) {
    bursar_ask_close(out);
    return 0;
  }
  if (!is_of(&out->header, &now)) {
    int status = bursar_error_set(error, BURSAR_FAILED,
                                  "process %ld is not the one that wrote its ledger, whose number it has got: for what "
                                  "that "
                                  "held, bursar balance %s",
                                  (long)pid, out->place.path);
    bursar_ask_close(out);
    return status;
  }
  /* Books that were given up (exec, os._exit in a child) are nobody's. */
  if (fstat(out->place.fd, &is) != 0 || bursar_prim_maps_file(pid, is.st_dev, is.st_ino) == 0)
    bursar_ask_close(out);
  return 0;
}

void bursar_ask_close(struct bursar_ask *ask) { bursar_place_close(&ask->place); }

/* --- the answer ------------------------------------------------------------------------------------------------------ */

static bool sane(const struct bursar_inside *inside) {
  const uint64_t figures[] = {
      inside->stack_resident, inside->bss_resident,   inside->arena_bytes,  inside->arena_resident, inside->arena_used,
      inside->chunk_bytes,    inside->chunk_resident, inside->map_resident, inside->elsewhere,      inside->in_arenas};
  if (inside->heaps > BURSAR_INSIDE_HEAPS_MAX)
    return false;
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
    if (figures[i] >= SANE_BYTES)
      return false;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    if (inside->live[domain] >= SANE_BYTES || inside->resident[domain] > inside->live[domain] + SANE_BYTES / 2)
      return false;
  for (uint32_t i = 0; i < inside->heaps; i++)
    if (inside->heap[i].resident >= SANE_BYTES || inside->heap[i].free_resident > inside->heap[i].resident ||
        inside->heap[i].returnable > inside->heap[i].resident)
      return false;
  return true;
}

/* An answer given since then, whoever asked for it. */
static bool answered(const struct bursar_ask *ask, uint64_t since, struct bursar_inside *out) {
  struct bursar_answer answer;
  uint64_t done;
  if (!read_at(ask->place.fd, &answer, sizeof answer, BURSAR_AT_ANSWER) || !answer.done ||
      answer.begun != answer.done || answer.time_ns >= INT64_MAX ||
      ask->header.started_mono_ns + answer.time_ns < since)
    return false;
  /* Was it whole while it was copied? */
  if (!read_at(ask->place.fd, &done, sizeof done, BURSAR_AT_ANSWER) || done != answer.done || !sane(&answer.inside))
    return false;
  *out = answer.inside;
  return true;
}

/* 0: not known. */
static uint64_t cpu_time(pid_t pid) {
  clockid_t clock;
  struct timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
    return 0;
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

bool bursar_ask_inside(struct bursar_ask *ask, uint64_t wait_ns, struct bursar_inside *out) {
  if (ask->place.fd < 0 || !ask->open)
    return false;
  uint64_t asked = bursar_prim_now(), request = asked | 1, worked = cpu_time(ask->pid);
  int fd = open(ask->place.path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat is;
  bool put = fd >= 0 && fstat(fd, &is) == 0 && is.st_ino == ask->inode &&
             pwrite(fd, &request, sizeof request, BURSAR_AT_CONTROL) == (ssize_t)sizeof request;
  if (fd >= 0)
    close(fd);
  while (put) {
    const struct timespec soon = {0, LOOK_EVERY_NS};
    if (answered(ask, asked, out))
      return true;
    uint64_t waited = bursar_prim_now() - asked;
    if (waited >= wait_ns || (waited >= RESTS_NS && worked && cpu_time(ask->pid) == worked))
      break;
    nanosleep(&soon, NULL);
  }
  return false;
}

/* --- changes --------------------------------------------------------------------------------------------------------- */

int bursar_ask_open_file(const char *path, struct bursar_ask *out, struct bursar_error *error) {
  struct bursar_header header;
  struct stat is;
  memset(out, 0, sizeof *out);
  out->place.fd = -1;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", path, strerror(errno));
  bool good = fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && read_at(fd, &header, sizeof header, BURSAR_AT_HEADER) &&
              memcmp(header.magic, BURSAR_LEDGER_MAGIC, sizeof header.magic) == 0;
  close(fd);
  if (!good)
    return bursar_error_set(error, BURSAR_FAILED, "%.800s is no ledger: bursar ls lists them", path);
  int status = bursar_ask_open((pid_t)header.pid, out, error);
  if (status == 0 && (out->place.fd < 0 || out->inode != is.st_ino)) {
    bursar_ask_close(out);
    out->place.fd = -1;
    return bursar_error_set(error, BURSAR_FAILED,
                            "the program of %.800s has ended, or keeps other books: give one that runs", path);
  }
  return status;
}

static bool was_changed(const struct bursar_ask *ask, uint64_t number, struct bursar_changed *out) {
  uint64_t done;
  return read_at(ask->place.fd, out, sizeof *out, BURSAR_AT_CHANGED) && out->done == number && out->begun == number &&
         read_at(ask->place.fd, &done, sizeof done, BURSAR_AT_CHANGED) && done == number && /* begun, still */
         out->bytes <= sizeof out->text;
}

static bool put_change(int fd, const char *text, uint64_t number) {
  struct bursar_control control = {.change = number, .bytes = (uint32_t)strlen(text)};
  const size_t head = offsetof(struct bursar_control, bytes), body = sizeof control - head;
  if (control.bytes > sizeof control.text)
    return false;
  memcpy(control.text, text, control.bytes);
  return pwrite(fd, (const char *)&control + head, body, (off_t)(BURSAR_AT_CONTROL + head)) == (ssize_t)body &&
         pwrite(fd, &control.change, sizeof control.change,
                (off_t)(BURSAR_AT_CONTROL + offsetof(struct bursar_control, change))) == (ssize_t)sizeof control.change;
}

enum bursar_ask_outcome bursar_ask_change(struct bursar_ask *ask, const char *text, uint64_t wait_ns,
                                          struct bursar_changed *out, bool *replaced) {
  enum bursar_ask_outcome outcome = BURSAR_ASK_DENIED;
  struct bursar_control before;
  struct stat is;
  *replaced = false;
  if (!ask->open || !read_at(ask->place.fd, out, sizeof *out, BURSAR_AT_CHANGED) || !out->takes)
    return BURSAR_ASK_DEAF;
  int fd = open(ask->place.path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0)
    return outcome;
  /* One at a time: nobody else's change is overwritten while its process looks. */
  if (fstat(fd, &is) == 0 && is.st_ino == ask->inode && flock(fd, LOCK_EX) == 0) {
    uint64_t asked = bursar_prim_now(), number = asked | 1, worked = cpu_time(ask->pid);
    if (read_at(ask->place.fd, &before, sizeof before, BURSAR_AT_CONTROL) &&
        read_at(ask->place.fd, out, sizeof *out, BURSAR_AT_CHANGED))
      *replaced = before.change != out->done;
    if (put_change(fd, text, number))
      outcome = BURSAR_ASK_WAITS;
    while (outcome == BURSAR_ASK_WAITS) {
      const struct timespec soon = {0, LOOK_EVERY_NS};
      uint64_t waited = bursar_prim_now() - asked;
      if (was_changed(ask, number, out))
        outcome = BURSAR_ASK_ANSWERED;
      else if (waited >= wait_ns || (waited >= RESTS_FROM_CHANGES_NS && worked && cpu_time(ask->pid) == worked))
        break;
      else
        nanosleep(&soon, NULL);
    }
  }
  close(fd);
  return outcome;
}

/* --- counters -------------------------------------------------------------------------------------------------------- */

int bursar_ask_map(const struct bursar_ask *ask, struct bursar_ask_counters *out) {
  void *page = mmap(NULL, BURSAR_PAGE, PROT_READ, MAP_SHARED, ask->place.fd, BURSAR_AT_BOOKS);
  *out = (struct bursar_ask_counters){page == MAP_FAILED ? NULL : page, page};
  return out->books ? 0 : -errno;
}

uint64_t bursar_ask_live(const struct bursar_ask_counters *counters) {
  uint64_t live = 0;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    live += live_of(counters->books, domain);
  return live;
}

void bursar_ask_unmap(struct bursar_ask_counters *counters) {
  if (counters->books)
    munmap(counters->page, BURSAR_PAGE);
  counters->books = NULL;
}
