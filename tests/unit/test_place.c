/* Where ledgers live: what is made, what is refused, what is kept; and that only ledgers are ever replaced or removed. */
#include "ledger/layout.h"
#include "ledger/place.h"
#include "prim/prim.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT(field) (BURSAR_AT_HEADER + offsetof(struct bursar_header, field))

static char root[] = "/tmp/bursar-test-XXXXXX"; /* the working directory of all tests */
static struct bursar_place place;
static struct bursar_error error;

static void write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  OK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s is written", path);
  close(fd);
}

static bool holds(const char *path, const char *text) {
  char found[64] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, found, sizeof found - 1);
  if (fd >= 0)
    close(fd);
  return n >= 0 && strcmp(found, text) == 0;
}

static int files_in(const char *path) {
  int count = 0;
  DIR *stream = opendir(path);
  for (struct dirent *item; stream && (item = readdir(stream));)
    count += item->d_name[0] != '.' || strncmp(item->d_name, ".bursar", 7) == 0;
  if (stream)
    closedir(stream);
  return count;
}

/* Overwrites a field of the header. */
static void poke(const char *path, size_t at, const void *bytes, size_t length) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  OK(fd >= 0 && pwrite(fd, bytes, length, (off_t)at) == (ssize_t)length, "%s is changed", path);
  close(fd);
}

static void poke32(const char *path, size_t at, uint32_t value) { poke(path, at, &value, sizeof value); }

/* Makes it a ledger of a process that is gone. */
static void end(const char *path) {
  uint64_t start = 1;
  poke(path, AT(process_start), &start, sizeof start);
  poke32(path, BURSAR_AT_COUNTS, BURSAR_STATE_OPEN);
}

static int create(const char *out, bool force, const char *program) {
  int status = bursar_place_create(out, force, program, &place, &error);
  bursar_place_close(&place);
  return status;
}

static void refused(const char *out, bool force, const char *why) {
  int status = create(out, force, NULL);
  OK(status == BURSAR_FAILED && place.fd == -1, "%s is refused", out);
  HAS(error.text, why);
}

static void a_new_one(void) {
  struct bursar_header header;
  struct bursar_counts counts;
  struct bursar_identity self;
  struct stat is;
  umask(0);
  EQ(bursar_place_create("new.bursar", false, NULL, &place, &error), 0);
  OK(place.path[0] == '/' && strstr(place.path, "/new.bursar"), "the path is absolute");
  EQ(fstat(place.fd, &is), 0);
  EQ(is.st_mode & 07777, 0600);
  EQ(is.st_size, BURSAR_EXTENT_MIN);
  OK(is.st_blocks * 512 >= BURSAR_EXTENT_MIN, "no hole");
  EQ(fcntl(place.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EQ(pread(place.fd, &header, sizeof header, BURSAR_AT_HEADER), sizeof header);
  EQ(pread(place.fd, &counts, sizeof counts, BURSAR_AT_COUNTS), sizeof counts);
  OK(memcmp(header.magic, BURSAR_LEDGER_MAGIC, 8) == 0, "the magic");
  EQ(header.version, BURSAR_LEDGER_VERSION);
  EQ(header.endian, BURSAR_LEDGER_ENDIAN);
  EQ(header.extent_bytes, BURSAR_EXTENT_MIN);
  EQ(header.pid, getpid());
  EQ(header.uid, geteuid());
  EQ(bursar_prim_identity(0, &self), 0);
  EQ(header.process_start, self.process_start);
  EQ(header.pid_namespace, self.pid_namespace);
  OK(memcmp(header.boot_id, self.boot_id, 16) == 0, "the boot");
  OK(header.started_unix_ns > 0 && header.started_mono_ns > 0, "the times");
  SAME(header.bursar_version, BURSAR_VERSION);
  EQ(counts.state, BURSAR_STATE_RESERVED);
  EQ(counts.extents, 1);
  bursar_place_close(&place);
  bursar_place_close(&place);
  bursar_place_close(NULL);
  EQ(place.fd, -1);
}

static void what_is_never_replaced(void) {
  for (int force = 0; force < 2; force++) {
    write_text("text", "important");
    refused("text", force, "text exists and is not a ledger");
    OK(holds("text", "important"), "and stays");
    write_text("short", "BURSARL");
    refused("short", force, "is not a ledger");
    write_text("empty", "");
    refused("empty", force, "is not a ledger");
    EQ(symlink("nowhere", "link") == 0 || errno == EEXIST, 1);
    refused("link", force, "is a link");
    EQ(symlink("new.bursar", "link2") == 0 || errno == EEXIST, 1);
    refused("link2", force, "is a link");
    EQ(mkfifo("pipe", 0600) == 0 || errno == EEXIST, 1);
    refused("pipe", force, "is not a ledger");
    EQ(mkdir("folder", 0700) == 0 || errno == EEXIST, 1);
    refused("folder", force, "is a directory");
    refused("folder/", force, "Is a directory");
    refused("missing/x", force, "No such file or directory");
    refused("text/x", force, "Not a directory");
    refused("", force, "No such file or directory");
    refused("/dev/null", force, "is not a ledger");
  }
  OK(access("nowhere", F_OK) != 0, "no link was followed");
  char longest[5000];
  memset(longest, 'x', sizeof longest - 1);
  longest[sizeof longest - 1] = 0;
  refused(longest, true, "File name too long");
  longest[300] = 0;
  refused(longest, true, "File name too long");
}

static void what_force_replaces(void) {
  struct stat before;
  struct stat after;
  refused("new.bursar", true, "which is running");
  uint32_t stopped = BURSAR_STATE_STOPPED;
  poke("new.bursar", BURSAR_AT_COUNTS + offsetof(struct bursar_counts, state), &stopped, sizeof stopped);
  refused("new.bursar", false, "replace that ledger with -f");
  end("new.bursar");
  refused("new.bursar", false, "replace that ledger with -f");
  EQ(stat("new.bursar", &before), 0);
  int files = files_in(".");
  EQ(create("new.bursar", true, NULL), 0);
  EQ(stat("new.bursar", &after), 0);
  OK(before.st_ino != after.st_ino, "a new file: a reader of the old one keeps what it reads");
  EQ(files_in("."), files);
  /* A newer format is a ledger too, and a truncated one. */
  end("new.bursar");
  poke32("new.bursar", AT(version), BURSAR_LEDGER_VERSION_NATIVE + 1);
  EQ(create("new.bursar", true, NULL), 0);
  end("new.bursar");
  EQ(truncate("new.bursar", 100), 0);
  EQ(create("new.bursar", true, NULL), 0);
  EQ(stat("new.bursar", &after), 0);
  EQ(after.st_size, BURSAR_EXTENT_MIN);
}

static void discarding(void) {
  struct stat is;
  EQ(bursar_place_create("vain.bursar", false, NULL, &place, &error), 0);
  bursar_place_discard(&place);
  OK(stat("vain.bursar", &is) != 0, "gone");
  bursar_place_discard(&place);
  EQ(bursar_place_create("vain.bursar", false, NULL, &place, &error), 0);
  EQ(unlink("vain.bursar"), 0);
  write_text("vain.bursar", "somebody else's");
  bursar_place_discard(&place);
  OK(holds("vain.bursar", "somebody else's"), "what took its name stays");
}

static void default_refused(const char *why) {
  int status = bursar_place_create(NULL, false, "x", &place, &error);
  OK(status == BURSAR_FAILED && place.fd == -1, "no ledger is made");
  HAS(error.text, why);
  struct bursar_place_list list;
  status = bursar_place_list(&list, &error);
  OK(status == BURSAR_FAILED && list.count == 0, "nothing is listed");
  status = bursar_place_clean(false, &list, &error);
  OK(status == BURSAR_FAILED && list.count == 0, "nothing is cleaned");
}

static void the_directory(void) {
  struct stat is;
  setenv("BURSAR_DIR", "ledgers", 1);
  EQ(symlink("folder", "ledgers"), 0);
  default_refused("is a link or no directory");
  EQ(unlink("ledgers"), 0);
  write_text("ledgers", "");
  default_refused("is a link or no directory");
  EQ(unlink("ledgers"), 0);
  EQ(mkdir("ledgers", 0770), 0);
  default_refused("is open for others to write");
  if (geteuid() == 0) {
    OK(chmod("ledgers", 0700) == 0 && chown("ledgers", 65534, 65534) == 0, "it is given away");
    default_refused("belongs to another user");
  }
  EQ(rmdir("ledgers"), 0);
  setenv("BURSAR_DIR", "no/ledgers", 1);
  EQ(bursar_place_create(NULL, false, "x", &place, &error), BURSAR_FAILED);
  HAS(error.text, "No such file or directory");

  setenv("BURSAR_DIR", "ledgers", 1);
  EQ(create(NULL, false, "/some/where/train.py"), 0);
  EQ(stat("ledgers", &is), 0);
  EQ(is.st_mode & 07777, 0700);
  char name[64];
  snprintf(name, sizeof name, "%s/ledgers/train-%d.bursar", root, (int)getpid());
  SAME(place.path, name);
  EQ(create(NULL, false, "/some/where/train.py"), 0);
  snprintf(name, sizeof name, "%s/ledgers/train-%d.1.bursar", root, (int)getpid());
  SAME(place.path, name);
}

static struct bursar_place_list listed(void) {
  struct bursar_place_list list;
  EQ(bursar_place_list(&list, &error), 0);
  return list;
}

static enum bursar_place_state state_of(const char *path) {
  const char *name = strrchr(path, '/') + 1;
  struct bursar_place_list list = listed();
  enum bursar_place_state state = BURSAR_PLACE_DAMAGED;
  for (size_t i = 0; i < list.count; i++)
    if (strcmp(list.entries[i].name, name) == 0)
      state = list.entries[i].state;
  bursar_place_list_free(&list);
  return state;
}

static void states(void) {
  char path[BURSAR_PLACE_PATH_MAX];
  uint8_t other_boot[16] = "another boot";
  uint64_t namespace = 1;
  struct bursar_identity self;
  EQ(bursar_prim_identity(0, &self), 0);
  EQ(bursar_place_create(NULL, false, "states", &place, &error), 0);
  memcpy(path, place.path, sizeof path);
  EQ(state_of(path), BURSAR_PLACE_STARTING);
  poke32(path, BURSAR_AT_COUNTS, BURSAR_STATE_OPEN);
  EQ(state_of(path), BURSAR_PLACE_KILLED); /* its process is there and does not map it: it became another program */
  void *mapped = mmap(NULL, BURSAR_PAGE, PROT_READ, MAP_SHARED, place.fd, 0);
  EQ(state_of(path), BURSAR_PLACE_RUNNING);

  struct bursar_place found;
  EQ(bursar_place_find(getpid(), &found, &error), 0);
  SAME(found.path, path);
  bursar_place_close(&found);

  poke(path, AT(pid_namespace), &namespace, sizeof namespace);
  EQ(state_of(path), BURSAR_PLACE_ELSEWHERE);
  poke(path, AT(pid_namespace), &self.pid_namespace, sizeof self.pid_namespace);
  poke(path, AT(boot_id), other_boot, sizeof other_boot);
  EQ(state_of(path), BURSAR_PLACE_KILLED);
  poke(path, AT(boot_id), self.boot_id, sizeof self.boot_id);
  EQ(state_of(path), BURSAR_PLACE_RUNNING);
  munmap(mapped, BURSAR_PAGE);
  poke32(path, BURSAR_AT_COUNTS, BURSAR_STATE_STOPPED);
  EQ(state_of(path), BURSAR_PLACE_STOPPED);
  poke32(path, BURSAR_AT_COUNTS, BURSAR_STATE_ENDED);
  EQ(state_of(path), BURSAR_PLACE_ENDED);
  end(path);
  EQ(state_of(path), BURSAR_PLACE_KILLED);
  poke32(path, BURSAR_AT_COUNTS, BURSAR_STATE_RESERVED);
  EQ(state_of(path), BURSAR_PLACE_UNUSED);
  poke32(path, BURSAR_AT_COUNTS, 77);
  EQ(state_of(path), BURSAR_PLACE_DAMAGED);
  poke32(path, AT(version), BURSAR_LEDGER_VERSION_NATIVE + 1);
  EQ(state_of(path), BURSAR_PLACE_NEWER);
  bursar_place_close(&place);
  EQ(unlink(path), 0);
  EQ(bursar_place_find(1, &found, &error), BURSAR_FAILED);
  HAS(error.text, "no ledger of process 1 in ");
}

/* A name in a ledger, over extents of both sizes, and numbers that lead astray. */
static void programs(void) {
  char path[BURSAR_PLACE_PATH_MAX];
  EQ(bursar_place_create(NULL, false, "named", &place, &error), 0);
  memcpy(path, place.path, sizeof path);
  struct bursar_place_list list = listed();
  SAME(list.entries[list.count - 1].program, "named");
  bursar_place_list_free(&list);
  const uint32_t sizes[] = {BURSAR_EXTENT_MIN, 4 * BURSAR_EXTENT_MIN};
  for (size_t i = 0; i < 2; i++) {
    uint32_t extent = sizes[i];
    uint8_t directory[4] = {0, BURSAR_REGION_STRINGS, BURSAR_REGION_NODES, BURSAR_REGION_STRINGS};
    uint32_t length = 11;
    size_t at = BURSAR_EXTENT_MIN + 2 * (size_t)extent + 8;
    poke(path, BURSAR_AT_DIRECTORY, directory, sizeof directory);
    poke32(path, AT(extent_bytes), extent);
    poke32(path, BURSAR_AT_COUNTS + offsetof(struct bursar_counts, main_file), extent + 8);
    poke(path, at, &length, sizeof length);
    poke(path, at + 4, "/a/train.py", length);
    list = listed();
    SAME(list.entries[list.count - 1].program, "/a/train.py");
    bursar_place_list_free(&list);
    /* Lengths: none, longer than a name may be, out of the extent; then one that starts too near to the extent's end. */
    EQ(truncate(path, BURSAR_EXTENT_MIN + 8 * (long)extent), 0);
    const uint32_t wrong[] = {0, 2000, extent, 1u << 30, UINT32_MAX};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
      poke32(path, at, wrong[k]);
      list = listed();
      SAME(list.entries[list.count - 1].program, "named");
      bursar_place_list_free(&list);
    }
    const uint32_t tails[] = {2, 4, 8};
    for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
      at = BURSAR_EXTENT_MIN + 3 * (size_t)extent - tails[k];
      poke(path, at, &length, sizeof length);
      poke(path, at + 4, "/a/train.py", length);
      poke32(path, BURSAR_AT_COUNTS + offsetof(struct bursar_counts, main_file), 2 * extent - tails[k]);
      list = listed();
      SAME(list.entries[list.count - 1].program, "named");
      bursar_place_list_free(&list);
    }
  }
  bursar_place_discard(&place);
}

static void keeping(void) {
  char path[64];
  struct bursar_place_list removed;
  EQ(bursar_place_clean(false, &removed, &error), 0);
  bursar_place_list_free(&removed);
  write_text("ledgers/mine.txt", "mine");
  int others = files_in("ledgers");
  for (uint64_t i = 0; i < BURSAR_PLACE_KEEP_COUNT + 3; i++) {
    uint64_t started = 1000 + i;
    snprintf(path, sizeof path, "ledgers/old-%d.bursar", (int)i);
    EQ(create(path, false, NULL), 0);
    poke(path, AT(started_unix_ns), &started, sizeof started);
    end(path);
  }
  EQ(create("ledgers/live.bursar", false, NULL), 0);
  EQ(bursar_place_prune(&error), 0);
  EQ(files_in("ledgers"), others + (int)BURSAR_PLACE_KEEP_COUNT + 1);
  OK(access("ledgers/old-2.bursar", F_OK) != 0 && access("ledgers/old-3.bursar", F_OK) == 0, "the oldest went");

  EQ(bursar_place_clean(true, &removed, &error), 0);
  EQ(removed.count, BURSAR_PLACE_KEEP_COUNT);
  SAME(removed.entries[0].name, "old-3.bursar");
  bursar_place_list_free(&removed);
  EQ(files_in("ledgers"), others + (int)BURSAR_PLACE_KEEP_COUNT + 1);
  EQ(bursar_place_clean(false, &removed, &error), 0);
  EQ(removed.count, BURSAR_PLACE_KEEP_COUNT);
  bursar_place_list_free(&removed);
  bursar_place_list_free(NULL);
  EQ(files_in("ledgers"), others + 1);
  OK(holds("ledgers/mine.txt", "mine"), "what is no ledger stays");
}

/* A ledger without a name in it is called after its file. */
static void names(void) {
  const char *const files[][2] = {{"a-b.c-12.bursar", "a-b.c"},
                                  {"a-12.3.bursar", "a"},
                                  {"a-12.bursar.34", "a"},
                                  {"a-12.bursar.34.2", "a"},
                                  {"mine", "mine"},
                                  {"7.bursar", "7"},
                                  {".bursar", ""},
                                  {"-1.bursar", "-1"}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[64];
    snprintf(path, sizeof path, "ledgers/%s", files[i][0]);
    EQ(create(path, false, NULL), 0);
    struct bursar_place_list list = listed();
    bool found = false;
    for (size_t k = 0; k < list.count; k++)
      found = found ||
              (strcmp(list.entries[k].name, files[i][0]) == 0 && strcmp(list.entries[k].program, files[i][1]) == 0);
    OK(found, "%s is of %s", files[i][0], files[i][1]);
    bursar_place_list_free(&list);
    EQ(unlink(path), 0);
  }
}

/* Several at once, each removing what it takes for the oldest: each must get a ledger of its own. */
static void at_once(void) {
  enum { PROCESSES = 8, ROUNDS = 20 };
  for (int i = 0; i < PROCESSES; i++)
    fflush(stdout);
  if (fork() == 0) {
    int failures = 0;
    for (int round = 0; round < ROUNDS; round++) {
      struct stat is;
      failures += bursar_place_create(NULL, false, "crowd", &place, &error) != 0 || stat(place.path, &is) != 0;
      bursar_place_close(&place);
    }
    _exit(failures);
  }
  int failures = 0;
  for (int status; wait(&status) > 0;)
    failures += status != 0;
  EQ(failures, 0);
}

static int remove_one(const char *path, const struct stat *is, int kind, struct FTW *where) { return remove(path); }

int main(void) {
  OK(mkdtemp(root) && chdir(root) == 0, "a place for tests");
  a_new_one();
  what_is_never_replaced();
  what_force_replaces();
  discarding();
  the_directory();
  states();
  programs();
  names();
  keeping();
  at_once();
  EQ(chdir("/"), 0);
  EQ(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
  return tap_done();
}
