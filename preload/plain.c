/* plain.c: libbursar_plain.so: the hooks and the books, for programs that have no Python.
 *
 * The settings are in BURSAR_RUN, which is taken out of the environment with the library itself, so that no child finds them;
 * unless children are followed, or the program embeds Python.  Where Python turns up in the process, and its extension keeps
 * books, these end (bursar_native_table.leave).  Whatever goes wrong is one line on stderr, and the program goes on. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/account.h"
#include "base/tell.h"
#include "ledger/boot.h"
#include "ledger/place.h"
#include "native/native.h"
#include "native/plain.h"
#include "prim/prim.h"
#include "report/summary.h"

static struct {
  pid_t pid;  /* whose books are open; 0: none are */
  bool child; /* of the program that was run: ends without a summary, and its ledger is its own to remove */
  struct bursar_boot boot;
  char path[4096 + 64];
} process;

/* --- words to the user ---------------------------------------------------------------------------------------------------- */

static void refuse(const struct bursar_error *error) {
  char text[1024];
  snprintf(text, sizeof text, "no books are kept: %.990s", error->text);
  bursar_tell(text);
}

/* --- opening and closing -------------------------------------------------------------------------------------------------- */

static int open_books(const char *path, pid_t parent, struct bursar_error *error) {
  const struct bursar_boot *boot = &process.boot;
  const struct bursar_settings settings = {.path = path,
                                           .cap = boot->cap,
                                           .within = boot->within,
                                           .domains = boot->domains & BURSAR_DOMAINS_NATIVE,
                                           .native = boot->native,
                                           .parent_pid = (uint32_t)parent};
  bool native;
  int status = bursar_plain_open(&settings, bursar_tell, &native, error);
  if (status != 0)
    return status;
  process.pid = getpid();
  snprintf(process.path, sizeof process.path, "%s", path);
  if (boot->native && !native)
    bursar_tell("stacks are left out: native ones need x86-64 and glibc 2.35 or later");
  return 0;
}

static int open_child(pid_t parent, struct bursar_error *error) {
  char path[sizeof process.path];
  process.child = true;
  int status = bursar_boot_child(process.boot.path, path, sizeof path, error);
  return status == 0 ? open_books(path, parent, error) : status;
}

/* Another's books begin, under the same name: what there was before Python is not kept. */
static void leave(void) {
  struct bursar_place place;
  struct bursar_error error;
  struct stat st;
  bursar_native_table.leave = NULL;
  if (process.pid != getpid())
    return;
  process.pid = 0;
  if (!bursar_plain_close(BURSAR_STATE_STOPPED) || stat(process.path, &st) != 0 ||
      st.st_dev != bursar_account.writer.device || st.st_ino != bursar_account.writer.inode ||
      unlink(process.path) != 0 || process.child)
    return;
  if (bursar_place_create(process.path, false, NULL, &place, &error) == 0)
    bursar_place_close(&place);
}

static void before_fork(void) { bursar_plain_before_fork(); }
static void after_fork_in_parent(void) { bursar_plain_after_fork(); }

/* A forked child: its parent's ledger is none of its business. */
static void after_fork_in_child(void) {
  pid_t parent = process.pid;
  struct bursar_error error = {0};
  if (!parent) {
    bursar_plain_after_fork();
    return;
  }
  int kept = errno;
  bool was = bursar_account.active;
  process.pid = 0;
  bursar_plain_in_child();
  if (was && process.boot.follow && open_child(parent, &error) != 0)
    refuse(&error);
  errno = kept;
}

/* --- the program's beginning and end ---------------------------------------------------------------------------------------- */

/* malloc has read its settings: they are this program's, not its children's. */
static void take_tunables_out(void) {
  char *all = getenv("GLIBC_TUNABLES");
  size_t bytes = all ? strlen(all) : 0, ours = strlen(process.boot.tune);
  if (!ours || ours > bytes || strcmp(all + bytes - ours, process.boot.tune) != 0)
    return;
  char *rest = strndup(all, bytes - ours);
  if (rest)
    (void)(rest[0] ? setenv("GLIBC_TUNABLES", rest, 1) : unsetenv("GLIBC_TUNABLES"));
  free(rest);
}

/* Takes our library out; the program's own, and what others put in front, stay. */
static void clean_environment(void) {
  const char *ours = process.boot.preload;
  size_t bytes = strlen(ours);
  (void)unsetenv("BURSAR_RUN");
  take_tunables_out();
  const char *all = getenv("LD_PRELOAD");
  for (const char *at = all; at && *at && bytes; at += strcspn(at, ": "), at += *at != 0) {
    if (strncmp(at, ours, bytes) != 0 || (at[bytes] && !strchr(": ", at[bytes])))
      continue;
    size_t before = (size_t)(at - all);
    char *rest = strdup(all);
    if (!rest)
      return;
    size_t behind = before + bytes + (at[bytes] != 0);
    memmove(rest + before, rest + behind, strlen(rest + behind) + 1);
    while (before && !rest[before] && strchr(": ", rest[before - 1]))
      rest[--before] = 0;
    (void)(rest[0] ? setenv("LD_PRELOAD", rest, 1) : unsetenv("LD_PRELOAD"));
    free(rest);
    return;
  }
}

/* A program that embeds Python: its start-up file looks for the settings. */
static bool may_start_python(void) { return dlsym(RTLD_DEFAULT, "Py_InitializeFromConfig") != NULL; }

/* A malloc that is linked into the program is what everybody calls, and not ours.  But where a program of fixed addresses takes
 * the address of malloc, that is for everybody a stub in the program, which leads to ours: a symbol that it does not define. */
static bool has_own_malloc(void) {
  Dl_info used, ours;
  const ElfW(Sym) *symbol = NULL;
  void *malloc_used = dlsym(RTLD_DEFAULT, "malloc");
  return malloc_used && dladdr1(malloc_used, &used, (void **)(void *)&symbol, RTLD_DL_SYMENT) &&
         dladdr(&bursar_native_table, &ours) && used.dli_fbase != ours.dli_fbase &&
         !(symbol && symbol->st_shndx == SHN_UNDEF);
}

/* Not the first program of this process, or not its first process: a ledger of its own. */
static int open_first_or_child(bool first, struct bursar_error *error) {
  struct bursar_boot *boot = &process.boot;
  if (boot->domains >> BURSAR_DOMAIN_MALLOC & 1 && has_own_malloc()) {
    boot->domains &= ~(1u << BURSAR_DOMAIN_MALLOC);
    if (!(boot->domains & BURSAR_DOMAINS_NATIVE))
      return bursar_error_set(error, BURSAR_FAILED, "the program has a malloc of its own: try --domains mmap");
    if (first)
      bursar_tell("the program has a malloc of its own: its blocks are not seen, what it maps is");
  }
  if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "no memory for what is done at a fork");
  int status = first ? open_books(boot->path, 0, error) : BURSAR_MISUSE;
  return status == BURSAR_MISUSE && boot->follow ? open_child(0, error) : status;
}

__attribute__((constructor)) static void begin(void) {
  struct bursar_error error = {0};
  const char *settings = getenv("BURSAR_RUN");
  bursar_native_resolve(NULL);
  if (!settings || bursar_prim_secure())
    return;
  int kept = errno, status = bursar_boot_parse(settings, &process.boot, &error);
  bool first = process.boot.pid == getpid(), follow = process.boot.follow;
  bursar_tell_remember();
  if (status == 0 && process.boot.wipe && (first || follow) && !bursar_native_wipe(BURSAR_WIPES_ALL))
    bursar_tell("nothing is wiped: this malloc does not tell how large its blocks are");
  if (status == 0 && process.boot.no_core && (first || follow) && (status = bursar_prim_no_core()) != 0)
    status = bursar_error_set(&error, BURSAR_FAILED, "core files cannot be refused: %s", strerror(-status));
  if (status == 0 && !follow && !may_start_python())
    clean_environment();
  if (status == 0 && (first || follow))
    status = open_first_or_child(first, &error);
  if (status != 0)
    refuse(&error);
  else if (process.pid)
    bursar_native_table.leave = leave;
  errno = kept;
}

/* In the process that was run alone; numbers are written as everywhere, whatever the program's language. */
static void summarize(void) {
  struct bursar_error error = {0};
  locale_t own = newlocale(LC_ALL_MASK, "C", (locale_t)0), was = own ? uselocale(own) : (locale_t)0;
  if (bursar_summary_print(process.path, 2, &error) != 0)
    bursar_tell(error.text);
  if (own) {
    (void)uselocale(was);
    freelocale(own);
  }
}

__attribute__((destructor)) static void end(void) {
  bool open = process.pid == getpid() && bursar_account.active;
  if (open && bursar_plain_close(BURSAR_STATE_ENDED) && !process.child && !process.boot.quiet && bursar_tell_may())
    summarize();
}
