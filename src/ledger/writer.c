#include "ledger/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prim/prim.h"

/* Shares of the cap, in sixty-fourths: together, with the ticks of the smallest ledger, less than all of it, so that no
 * region can starve another.  Records of the past have room for one of each site: the journal always holds an interval. */
static const unsigned char shares[BURSAR_REGION_COUNT] = {
    [BURSAR_REGION_STRINGS] = 4, [BURSAR_REGION_CODES] = 3,       [BURSAR_REGION_NODES] = 10,
    [BURSAR_REGION_SITES] = 14,  [BURSAR_REGION_SITE_FACTS] = 11, [BURSAR_REGION_UNDO_A] = 4,
    [BURSAR_REGION_UNDO_B] = 4,  [BURSAR_REGION_SCOPE_NAMES] = 2, [BURSAR_REGION_SCOPES] = 3,
    [BURSAR_REGION_EVENTS] = 1,  [BURSAR_REGION_LEAKS] = 1,
};

/* Samples have few sites, and each has an estimate beside it: room for as many of one as of the other. */
static const unsigned char shares_sampling[BURSAR_REGION_COUNT] = {
    [BURSAR_REGION_STRINGS] = 4, [BURSAR_REGION_CODES] = 4,      [BURSAR_REGION_NODES] = 10,
    [BURSAR_REGION_SITES] = 8,   [BURSAR_REGION_SITE_FACTS] = 6, [BURSAR_REGION_UNDO_A] = 2,
    [BURSAR_REGION_UNDO_B] = 2,  [BURSAR_REGION_ESTIMATES] = 14, [BURSAR_REGION_SCOPE_NAMES] = 2,
    [BURSAR_REGION_SCOPES] = 3,  [BURSAR_REGION_EVENTS] = 1,     [BURSAR_REGION_LEAKS] = 1,
};

static uint64_t region_limit(unsigned region, uint64_t cap, uint32_t extent, const unsigned char *of) {
  if (region == BURSAR_REGION_TICKS_A || region == BURSAR_REGION_TICKS_B)
    return (BURSAR_TICKS_MAX * sizeof(struct bursar_tick) + extent - 1) / extent * extent;
  uint64_t limit = cap / 64 * of[region];
  if (!of[region])
    return 0;
  return limit < extent ? extent : limit / extent * extent;
}

static uint32_t extent_for(uint64_t cap) {
  uint32_t extent = BURSAR_EXTENT_MIN;
  while (cap / extent > BURSAR_EXTENTS_MAX / 2)
    extent *= 2;
  return extent;
}

static int reopen(const struct bursar_writer *writer) {
  int fd = open(writer->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
  struct stat now;
  if (fd < 0)
    return -1;
  if (fstat(fd, &now) == 0 && now.st_dev == writer->device && now.st_ino == writer->inode)
    return fd;
  close(fd);
  errno = ESTALE;
  return -1;
}

static void forget(struct bursar_writer *writer) {
  for (unsigned region = 1; region < BURSAR_REGION_COUNT; region++)
    if (writer->base[region])
      bursar_prim_release(writer->base[region], writer->limit[region]);
  bursar_writer_drop_lanes(writer);
  if (writer->head)
    bursar_prim_release(writer->head, BURSAR_EXTENT_MIN);
  if (writer->books_at)
    (void)!bursar_prim_mmap(writer->books_at, BURSAR_PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memset(writer, 0, sizeof *writer);
}

static int map_all(struct bursar_writer *writer, int fd, uint64_t cap, const unsigned char *of, void *books_at,
                   struct bursar_error *error) {
  uint32_t extent = extent_for(cap);
  writer->head = bursar_prim_reserve(BURSAR_EXTENT_MIN, false);
  int status = writer->head ? bursar_prim_map_shared(writer->head, BURSAR_EXTENT_MIN, fd, 0) : -ENOMEM;
  if (status != 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot map the ledger %s: %s", writer->path, strerror(-status));
  char *head = writer->head;
  writer->header = (struct bursar_header *)(head + BURSAR_AT_HEADER);
  writer->counts = (struct bursar_counts *)(head + BURSAR_AT_COUNTS);
  writer->directory = (uint8_t *)(head + BURSAR_AT_DIRECTORY);
  if (memcmp(writer->header->magic, BURSAR_LEDGER_MAGIC, 8) != 0 || writer->header->version != BURSAR_LEDGER_VERSION ||
      writer->counts->state != BURSAR_STATE_RESERVED)
    return bursar_error_set(error, BURSAR_MISUSE, "%s is not a ledger waiting to be written", writer->path);

  status = bursar_prim_map_shared(books_at, BURSAR_PAGE, fd, BURSAR_AT_BOOKS);
  if (status != 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot map the ledger %s: %s", writer->path, strerror(-status));
  writer->books_at = books_at;
  writer->header->extent_bytes = extent;
  writer->header->extents_max = (uint32_t)(cap / extent);
  writer->counts->extents = 1;
  for (unsigned region = 1; region < BURSAR_REGION_COUNT; region++) {
    writer->limit[region] = region_limit(region, cap, extent, of);
    if (!writer->limit[region])
      continue;
    writer->base[region] = bursar_prim_reserve(writer->limit[region], false);
    if (!writer->base[region])
      return bursar_error_set(error, BURSAR_FAILED,
                              "no address space for the ledger (ulimit -v is too low): raise it or run without bursar");
  }
  return 0;
}

static int open_with(struct bursar_writer *writer, const char *path, uint64_t cap, const unsigned char *of,
                     void *books_at, struct bursar_error *error) {
  memset(writer, 0, sizeof *writer);
  if (strlen(path) >= sizeof writer->path)
    return bursar_error_set(error, BURSAR_MISUSE, "the ledger's path is longer than %zu bytes",
                            sizeof writer->path - 1);
  memcpy(writer->path, path, strlen(path) + 1);
  if (!cap)
    cap = BURSAR_CAP_DEFAULT;
  cap = cap < BURSAR_CAP_MIN ? BURSAR_CAP_MIN : cap > BURSAR_CAP_MAX ? BURSAR_CAP_MAX : cap;

  int status = BURSAR_FAILED;
  int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot open the ledger %s: %s", path, strerror(errno));
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)BURSAR_EXTENT_MIN) {
    status = bursar_error_set(error, BURSAR_MISUSE, "%s is not a ledger waiting to be written", path);
    goto close_file;
  }
  writer->device = st.st_dev;
  writer->inode = st.st_ino;
  status = map_all(writer, fd, cap, of, books_at, error);
  if (status != 0)
    forget(writer);
close_file:
  close(fd);
  return status;
}

int bursar_writer_open(struct bursar_writer *writer, const char *path, uint64_t cap, void *books_at,
                       struct bursar_error *error) {
  return open_with(writer, path, cap, shares, books_at, error);
}

int bursar_writer_open_sampling(struct bursar_writer *writer, const char *path, uint64_t cap, void *books_at,
                                struct bursar_error *error) {
  return open_with(writer, path, cap, shares_sampling, books_at, error);
}

int bursar_writer_map_lanes(struct bursar_writer *writer, void *lanes_at, struct bursar_error *error) {
  int fd = reopen(writer), status = fd < 0 ? -errno : 0;
  if (status == 0)
    status = bursar_prim_map_shared(lanes_at, BURSAR_EXTENT_MIN - BURSAR_AT_LANES, fd, BURSAR_AT_LANES);
  if (fd >= 0)
    close(fd);
  if (status != 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot map the ledger %s: %s", writer->path, strerror(-status));
  writer->lanes_at = lanes_at;
  return 0;
}

void bursar_writer_drop_lanes(struct bursar_writer *writer) {
  if (writer->lanes_at)
    (void)!bursar_prim_mmap(writer->lanes_at, BURSAR_EXTENT_MIN - BURSAR_AT_LANES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  writer->lanes_at = NULL;
}

static int add_extent(struct bursar_writer *writer, int fd, enum bursar_region region) {
  uint32_t extent = writer->header->extent_bytes, index = writer->counts->extents;
  if (index >= writer->header->extents_max || writer->have[region] + extent > writer->limit[region]) {
    writer->full = true;
    return -1;
  }
  /* Extent 0 is always BURSAR_EXTENT_MIN long, so larger extents start right behind it. */
  uint64_t offset = BURSAR_EXTENT_MIN + (uint64_t)(index - 1) * extent;
  if (bursar_prim_grow(fd, offset, extent) != 0 ||
      bursar_prim_map_shared(writer->base[region] + writer->have[region], extent, fd, offset) != 0) {
    writer->failed = true;
    return -1;
  }
  writer->directory[index] = (uint8_t)region;
  __atomic_store_n(&writer->counts->extents, index + 1, __ATOMIC_RELEASE);
  writer->have[region] += extent;
  return 0;
}

int bursar_writer_room(struct bursar_writer *writer, enum bursar_region region, uint64_t bytes) {
  if (bytes <= writer->have[region])
    return 0;
  if (!writer->header || writer->failed || bytes > writer->limit[region])
    return -1;
  int kept = errno, status = 0;
  int fd = reopen(writer);
  if (fd < 0) {
    /* Out of descriptors is the program's own squeeze and passes; anything else means that the file is gone. */
    writer->failed = errno != EMFILE && errno != ENFILE;
    errno = kept;
    return -1;
  }
  while (status == 0 && writer->have[region] < bytes)
    status = add_extent(writer, fd, region);
  close(fd);
  errno = kept;
  return status;
}

void bursar_writer_close(struct bursar_writer *writer) {
  int kept = errno;
  forget(writer);
  errno = kept;
}
