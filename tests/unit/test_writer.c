/* The writer: where the disk, a limit or somebody else says no, the books stop with one warning and the program goes on. */
#include "ledger/writer.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/journal.h"
#include "account/stacks.h"
#include "account_model.h"
#include "ledger/place.h"

static struct account_model model;
static unsigned wrong_errno;

/* A program with ever more stacks, so that the ledger must grow; goes on whatever the books do.  Returns its allocations. */
static unsigned work(unsigned from, unsigned count) {
  uint32_t code = bursar_account.active ? bursar_stacks_code(bursar_stacks_string("f", 1), 0, 1) : 0;
  for (unsigned i = from; i < from + count; i++) {
    char *p = (char *)0x100000000000 + (uint64_t)i * 256;
    errno = 12345;
    /* As the extension does: no tag is made and none is used once the books are closed. */
    if (bursar_account.active)
      model_book(p, 100, bursar_stacks_site(bursar_stacks_node(BURSAR_NODE_MAIN, code, i), i % 3), i % 3);
    if (i % 4)
      model_unbook(p, i % 3);
    if (bursar_account.active && i % 100 == 0)
      (void)bursar_journal_tick(0);
    wrong_errno += errno != 12345;
  }
  return count;
}

/* What was booked reads, sound; `least`: so many allocations at least. */
static void reads(const char *path, uint64_t least) {
  struct bursar_model *books;
  struct bursar_error error;
  if (!OK(bursar_model_open(path, &books, &error) == 0, "what was booked reads"))
    return;
  uint64_t allocs = 0;
  EQ(books->reader->note_count, 0);
  for (uint32_t i = 0; i < books->reader->note_count; i++)
    printf("# %s\n", books->reader->note[i]);
  EQ(books->reader->unmatched_bytes, 0);
  for (uint32_t i = 0; i < books->site_count; i++)
    allocs += books->sites[i].allocations;
  EQ(allocs, books->allocations);
  OK(books->allocations >= least, "%llu allocations", (unsigned long long)books->allocations);
  EQ(books->complete, books->reader->life != BURSAR_LIFE_BROKEN);
  bursar_model_free(books);
}

static void broke(void) {
  OK(!bursar_account.active, "the books stopped");
  EQ(model_calls.warned, 1);
  EQ(bursar_account.writer.counts->state, BURSAR_STATE_BROKEN);
  EQ(wrong_errno, 0);
}

static void test_plain(void) {
  account_model_open(&model, 0, 0);
  work(0, 20000);
  EQ(wrong_errno, 0);
  EQ(model_calls.warned, 0);
  uint32_t extents = bursar_account.writer.counts->extents;
  account_model_stop(&model, BURSAR_STATE_ENDED);
  struct stat st;
  OK(stat(model.path, &st) == 0 && st.st_size == (off_t)extents * BURSAR_EXTENT_MIN && st.st_blocks * 512 >= st.st_size,
     "the file has real blocks behind all its extents");
  reads(model.path, 20000);
  account_model_remove(&model);
}

/* A signal, by default deadly, that growing beyond the limit would raise. */
static void test_size_limit(void) {
  struct rlimit old, small;
  account_model_open(&model, 0, 0);
  unsigned extents = bursar_account.writer.counts->extents;
  getrlimit(RLIMIT_FSIZE, &old);
  small = old;
  small.rlim_cur = (extents + 2) * BURSAR_EXTENT_MIN + 5000;
  if (setrlimit(RLIMIT_FSIZE, &small) != 0)
    abort();
  work(0, 30000);
  broke();
  setrlimit(RLIMIT_FSIZE, &old);
  sigset_t pending;
  sigpending(&pending);
  OK(!sigismember(&pending, SIGXFSZ), "no signal is left behind");
  account_model_stop(&model, BURSAR_STATE_ENDED);
  reads(model.path, 1000);
  account_model_remove(&model);
}

static void test_full_disk(void) {
  char folder[] = "/tmp/bursar-disk-XXXXXX";
  if (!mkdtemp(folder))
    abort();
  if (mount("bursar", folder, "tmpfs", 0, "size=1m") != 0) {
    OK(true, "a full disk # SKIP may not mount a file system: %s", strerror(errno));
    rmdir(folder);
    return;
  }
  struct bursar_error error;
  int status = account_model_start(&model, folder, 0, 0, &error);
  if (OK(status == 0, "the books open on a small disk: %s", status ? error.text : "")) {
    work(0, 30000);
    broke();
    account_model_stop(&model, BURSAR_STATE_ENDED);
    reads(model.path, 1000);
  }
  bursar_writer_close(&bursar_account.writer);
  unlink(model.path);
  /* No room for the first regions: the start says so, and nothing is open. */
  char filler[200];
  snprintf(filler, sizeof filler, "%s/filler", folder);
  int fd = open(filler, O_CREAT | O_WRONLY, 0600);
  if (fd < 0 || posix_fallocate(fd, 0, 900 << 10) != 0)
    abort();
  close(fd);
  status = account_model_start(&model, folder, 0, 0, &error);
  EQ(status, BURSAR_FAILED);
  HAS(error.text, "disk");
  OK(!bursar_account.active, "and no books are open");
  bursar_account_free_gil((void *)0x100000000000, 0);
  unlink(model.path);
  unlink(filler);
  OK(umount(folder) == 0, "no mapping is left behind");
  rmdir(folder);
}

static void test_removed(void) {
  account_model_open(&model, 0, 0);
  work(0, 1000);
  char kept[200];
  snprintf(kept, sizeof kept, "%s/kept", model.folder);
  OK(rename(model.path, kept) == 0, "the file is moved away");
  work(1000, 30000);
  broke();
  account_model_stop(&model, BURSAR_STATE_ENDED);
  reads(kept, 1000);
  unlink(kept);
  account_model_remove(&model);
}

static void test_replaced(bool by_link) {
  account_model_open(&model, 0, 0);
  work(0, 1000);
  char kept[200];
  snprintf(kept, sizeof kept, "%s/kept", model.folder);
  OK(rename(model.path, kept) == 0, "another file takes the ledger's name");
  if (by_link) {
    OK(symlink(kept, model.path) == 0, "a link to it even");
  } else {
    int fd = open(model.path, O_CREAT | O_WRONLY | O_EXCL, 0600);
    if (fd < 0 || write(fd, "mine", 4) != 4)
      abort();
    close(fd);
  }
  work(1000, 30000);
  broke();
  account_model_stop(&model, BURSAR_STATE_ENDED);
  reads(kept, 1000);
  struct stat st;
  OK(by_link || (stat(model.path, &st) == 0 && st.st_size == 4), "the other file is as it was");
  unlink(kept);
  account_model_remove(&model);
}

/* No descriptor left: that passes, so the books wait, and charge callers meanwhile. */
static void test_descriptors(void) {
  struct rlimit old, small;
  account_model_open(&model, 0, 0);
  getrlimit(RLIMIT_NOFILE, &old);
  small = old;
  small.rlim_cur = 3;
  if (setrlimit(RLIMIT_NOFILE, &small) != 0)
    abort();
  work(0, 10000);
  EQ(wrong_errno, 0);
  EQ(bursar_account.active, true);
  EQ(bursar_account.writer.failed, false);
  uint32_t sites = bursar_account.writer.counts->sites, folded = (uint32_t)bursar_account.writer.counts->folded_sites;
  OK(folded > 0, "stacks were charged to callers");
  setrlimit(RLIMIT_NOFILE, &old);
  work(10000, 10000);
  OK(bursar_account.writer.counts->sites > sites + 5000, "with descriptors again, the ledger grows again");
  EQ(model_calls.warned, 0);
  account_model_stop(&model, BURSAR_STATE_ENDED);
  reads(model.path, 20000);
  account_model_remove(&model);
}

static void test_cap(void) {
  static const uint64_t caps[] = {1, 4u << 20, 5u << 20};
  for (unsigned i = 0; i < 3; i++) {
    account_model_open(&model, caps[i], 0);
    work(0, 100000);
    EQ(bursar_account.active, true);
    EQ(model_calls.warned, 0);
    EQ(wrong_errno, 0);
    EQ(bursar_account_totals().allocs, 100000);
    account_model_stop(&model, BURSAR_STATE_ENDED);
    uint64_t cap = caps[i] < 4u << 20 ? 4u << 20 : caps[i];
    struct stat st;
    st.st_size = 0;
    OK(stat(model.path, &st) == 0 && (uint64_t)st.st_size <= cap, "%llu bytes are within the cap of %llu",
       (unsigned long long)st.st_size, (unsigned long long)cap);
    reads(model.path, 100000);
    account_model_remove(&model);
  }
}

/* Large caps have larger extents; the directory has room for all of them. */
static void test_large_caps(void) {
  static const uint64_t caps[] = {64u << 20, 128u << 20, 200u << 20, (uint64_t)1 << 30, (uint64_t)3 << 32, UINT64_MAX};
  for (unsigned i = 0; i < sizeof caps / sizeof *caps; i++) {
    account_model_open(&model, caps[i], 0);
    const struct bursar_header *header = bursar_account.writer.header;
    uint32_t extent = header->extent_bytes;
    OK(extent >= BURSAR_EXTENT_MIN && (extent & (extent - 1)) == 0 && header->extents_max <= BURSAR_EXTENTS_MAX &&
           (uint64_t)extent * header->extents_max <= caps[i],
       "a cap of %llu MiB: extents of %u", (unsigned long long)(caps[i] >> 20), extent);
    work(0, 3000);
    account_model_stop(&model, BURSAR_STATE_ENDED);
    reads(model.path, 3000);
    account_model_remove(&model);
  }
}

static int opens(const char *path, struct bursar_error *error) {
  static char page[BURSAR_PAGE] __attribute__((aligned(BURSAR_PAGE)));
  static struct bursar_writer writer;
  int status = bursar_writer_open(&writer, path, 0, page, error);
  if (status == 0)
    bursar_writer_close(&writer);
  return status;
}

/* Only a ledger that is waiting to be written is opened. */
static void test_what_is_opened(void) {
  struct bursar_error error;
  char folder[] = "/tmp/bursar-test-XXXXXX", path[100], other[100];
  static char longer[5000];
  static struct bursar_place place;
  if (!mkdtemp(folder))
    abort();
  snprintf(path, sizeof path, "%s/a", folder);
  snprintf(other, sizeof other, "%s/b", folder);
  EQ(opens(path, &error), BURSAR_FAILED);
  HAS(error.text, path);
  EQ(opens(folder, &error), BURSAR_FAILED);
  memset(longer, 'x', sizeof longer - 1);
  EQ(opens(longer, &error), BURSAR_MISUSE);
  if (bursar_place_create(path, false, NULL, &place, &error) != 0)
    abort();
  bursar_place_close(&place);
  EQ(opens(path, &error), 0);
  if (symlink(path, other) != 0)
    abort();
  EQ(opens(other, &error), BURSAR_FAILED);
  unlink(other);
  int fd = open(path, O_RDWR);
  if (fd < 0 || pwrite(fd, "x", 1, BURSAR_AT_HEADER) != 1)
    abort();
  EQ(opens(path, &error), BURSAR_MISUSE);
  HAS(error.text, "not a ledger");
  uint32_t state = BURSAR_STATE_ENDED;
  if (pwrite(fd, BURSAR_LEDGER_MAGIC, 8, BURSAR_AT_HEADER) != 8 ||
      pwrite(fd, &state, sizeof state, BURSAR_AT_COUNTS) != sizeof state)
    abort();
  EQ(opens(path, &error), BURSAR_MISUSE);
  if (ftruncate(fd, 1000) != 0)
    abort();
  EQ(opens(path, &error), BURSAR_MISUSE);
  close(fd);
  unlink(path);
  rmdir(folder);
}

int main(void) {
  test_plain();
  test_size_limit();
  test_full_disk();
  test_removed();
  test_replaced(false);
  test_replaced(true);
  test_descriptors();
  test_cap();
  test_large_caps();
  test_what_is_opened();
  return tap_done();
}
