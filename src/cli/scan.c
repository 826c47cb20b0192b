/* scan.c: `bursar scan`: copies of a secret in a running process. */
#include "secret/scan.h"
#include "base/escape.h"
#include "base/size.h"
#include "cli/cli.h"
#include "prim/prim.h"
#include "secret/scan_text.h"
#include "secret/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define HITS 16384u
#define SHOWN 40u
#define OUT_MAX (16u << 20)
#define SCHEMA 1

/* ---- the secret ---- */

/* Up to the end of the descriptor; `room` bytes at most.  The newline that editors end a file with is none of it. */
static ssize_t read_secret(int fd, unsigned char *at, size_t room) {
  size_t used = 0;
  for (;;) {
    ssize_t got = read(fd, at + used, room - used);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return -errno;
    used += (size_t)got;
    if (got == 0)
      break;
    if (used == room)
      return -EFBIG;
  }
  if (used && at[used - 1] == '\n')
    at[--used] = 0;
  return (ssize_t)used;
}

static int open_secret(const char *path, const char *number) {
  char *end;
  if (path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
      bursar_cli_complain(1, "scan: cannot read %s: %s", path, strerror(errno));
    return fd;
  }
  errno = 0;
  long fd = strtol(number, &end, 10);
  if (errno || *end || end == number || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0) {
    bursar_cli_complain(2, "scan: --secret-fd takes the number of an open descriptor, such as 3 with 3<secret.txt");
    return -1;
  }
  return (int)fd;
}

/* ---- printing ---- */

static void print_text(const struct bursar_scan *scan, uint64_t ns, struct bursar_buffer *out) {
  char size[BURSAR_SIZE_TEXT], line[BURSAR_SCAN_TEXT];
  uint32_t copies = bursar_scan_copies(scan);
  if (copies)
    bursar_buffer_format(out, "process %ld: %s%u cop%s found\n", (long)scan->pid, scan->cut ? "at least " : "", copies,
                         copies == 1 ? "y" : "ies");
  else
    bursar_buffer_format(out, "process %ld: no copy found in what was scanned\n", (long)scan->pid);
  for (uint32_t i = 0; i < scan->hit_count && i < SHOWN; i++) {
    const struct bursar_scan_hit *hit = &scan->hits[i];
    bursar_buffer_format(out, "  %-10s %-6s 0x%llx  %s%llu bytes", bursar_forms_names[hit->form],
                         bursar_scan_wheres[hit->where], (unsigned long long)hit->address, hit->whole ? "" : "part, ",
                         (unsigned long long)hit->length);
    if (hit->name[0]) {
      bursar_buffer_text(out, "  ");
      (void)bursar_escape_terminal(out, (struct bursar_text){hit->name, (uint32_t)strlen(hit->name)});
    }
    if (hit->block_bytes)
      bursar_buffer_format(out, ", block of %llu bytes", (unsigned long long)hit->block_bytes);
    bursar_buffer_char(out, '\n');
  }
  if (scan->hit_count > SHOWN)
    bursar_buffer_format(out, "  and %u more: --format json has them\n", scan->hit_count - SHOWN);
  bursar_buffer_format(
      out, "scanned %s in %.3f s; all %u canaries, in the scanner's own memory and read in the same way, were found\n",
      bursar_size_print(scan->scanned, size), (double)ns / 1e9, scan->canary_count);
  bursar_buffer_text(out, "not scanned:\n");
  for (unsigned i = 0; bursar_scan_text_blind(scan, i, line); i++)
    bursar_buffer_format(out, "  %s\n", line);
}

static void json_text(struct bursar_buffer *out, const char *text) {
  bursar_escape_json(out, (struct bursar_text){text, (uint32_t)strlen(text)});
}

static void print_json(const struct bursar_scan *scan, uint64_t ns, struct bursar_buffer *out) {
  char line[BURSAR_SCAN_TEXT];
  bursar_buffer_format(out,
                       "{\"schema\": %d, \"pid\": %ld, \"canary_found\": true, \"canaries\": %u, \"scanned_bytes\": "
                       "%llu, "
                       "\"seconds\": %.3f, \"copies\": %u, \"cut\": %s, \"hits\": [",
                       SCHEMA, (long)scan->pid, scan->canary_count, (unsigned long long)scan->scanned, (double)ns / 1e9,
                       bursar_scan_copies(scan), scan->cut ? "true" : "false");
  for (uint32_t i = 0; i < scan->hit_count; i++) {
    const struct bursar_scan_hit *hit = &scan->hits[i];
    bursar_buffer_format(
        out, "%s\n  {\"form\": \"%s\", \"whole\": %s, \"length\": %llu, \"where\": \"%s\", \"address\": %llu, ",
        i ? "," : "", bursar_forms_names[hit->form], hit->whole ? "true" : "false", (unsigned long long)hit->length,
        bursar_scan_wheres[hit->where], (unsigned long long)hit->address);
    bursar_buffer_text(out, "\"mapping\": ");
    json_text(out, hit->name);
    if (hit->block_bytes)
      bursar_buffer_format(out, ", \"block\": %llu, \"block_bytes\": %llu", (unsigned long long)hit->block,
                           (unsigned long long)hit->block_bytes);
    else
      bursar_buffer_text(out, ", \"block\": null, \"block_bytes\": null");
    bursar_buffer_text(
        out, ", \"owner\": null, \"site\": null, \"holders\": null}"); /* only the process itself knows them */
  }
  bursar_buffer_text(out, "],\n \"not_scanned\": [");
  for (unsigned i = 0; bursar_scan_text_blind(scan, i, line); i++) {
    bursar_buffer_text(out, i ? ", " : "");
    json_text(out, line);
  }
  bursar_buffer_text(out, "]}\n");
}

/* ---- the scan ---- */

static int cannot_scan(pid_t pid, int why) {
  switch (-why) {
    case ESRCH: return bursar_cli_complain(1, "scan: there is no process %ld (any more): see bursar ls", (long)pid);
    case EACCES:
    case EPERM:
      return bursar_cli_complain(1, "scan: the memory of process %ld may not be read: run this as its user, or as root",
                                 (long)pid);
    case ENOENT: return bursar_cli_complain(1, "scan: there is no /proc here: mount it");
    default: return bursar_cli_complain(1, "scan: cannot read process %ld: %s", (long)pid, strerror(-why));
  }
}

/* Canaries go into memory of each kind that this program has; nothing can be planted in another. */
static int find_canaries(struct bursar_scan *scan, const struct bursar_scan_vessel *vessel, uint32_t first) {
  static unsigned char data[BURSAR_SCAN_PLACE_BYTES] = {1}; /* not with the zeros behind the data */
  unsigned char stack[BURSAR_SCAN_PLACE_BYTES], *heap = malloc(BURSAR_SCAN_PLACE_BYTES);
  unsigned char *map = bursar_prim_reserve(BURSAR_PRIM_PAGE, true);
  const struct bursar_scan_place places[] = {{"heap", heap, BURSAR_SCAN_PLACE_BYTES},
                                             {"anonymous mapping", map, BURSAR_SCAN_PLACE_BYTES},
                                             {"stack", stack, sizeof stack},
                                             {"writable data", data, sizeof data}};
  int status = heap && map ? bursar_scan_plant(scan, &vessel->canary, first, places, 4) : -ENOMEM;
  scan->pid = getpid();
  if (status == 0)
    status = bursar_scan_run(scan);
  const struct bursar_scan_canary *missed = status == 0 ? bursar_scan_missed(scan) : NULL;
  if (missed)
    bursar_cli_complain(1, "scan: its canary in the %s (%s) was not found, so that no copy found would prove nothing",
                        places[missed->place].kind, bursar_forms_names[scan->search->forms[missed->form]->name]);
  else if (status < 0)
    bursar_cli_complain(1, "scan: cannot look for canaries: %s", strerror(-status));
  bursar_wipe(stack, sizeof stack);
  bursar_wipe(data, sizeof data);
  if (heap)
    bursar_wipe(heap, BURSAR_SCAN_PLACE_BYTES);
  free(heap);
  bursar_prim_release(map, BURSAR_PRIM_PAGE);
  return missed || status < 0 ? -1 : 0;
}

static int scan_process(pid_t pid, int fd, bool json) {
  /* For the largest secret: address space, of which a small one touches little. */
  size_t room = (size_t)BURSAR_FORMS_MOST * 9, bytes = sizeof(struct bursar_scan_vessel) + room;
  struct bursar_scan *scan = calloc(1, sizeof *scan);
  struct bursar_scan_hit *hits = calloc(HITS, sizeof *hits);
  struct bursar_scan_vessel *vessel = bursar_prim_reserve(bytes, true);
  int result = 1;
  if (!scan || !hits || !vessel) {
    bursar_cli_complain(1, "scan: not enough memory");
    goto out;
  }
  ssize_t length = read_secret(fd, vessel->room, BURSAR_FORMS_MOST + 2);
  if (length == -EFBIG)
    length = BURSAR_FORMS_MOST + 1;
  if (length < 0) {
    bursar_cli_complain(1, "scan: cannot read the secret: %s", strerror((int)-length));
    goto out;
  }
  (void)mlock(vessel, sizeof *vessel + (size_t)length); /* not to swap; where the limit allows it */
  const struct bursar_forms_secret secret = {.at = vessel->room, .length = (size_t)length, .kind = BURSAR_FORMS_BYTES};
  int status = bursar_scan_prepare(scan, vessel, room, &secret);
  if (status == -ERANGE || status == -EINVAL) {
    result = bursar_cli_complain(2, "scan: %s", bursar_scan_text_refused(status));
    goto out;
  }
  if (status < 0) {
    bursar_cli_complain(1, "scan: cannot prepare: %s", strerror(-status));
    goto out;
  }
  scan->left_out[0] = (struct bursar_scan_range){(uintptr_t)vessel, (uintptr_t)vessel + bytes};
  scan->left_out_count = 1;
  if (find_canaries(scan, vessel, scan->secret_forms) < 0)
    goto out;
  uint64_t began = bursar_prim_now();
  scan->pid = pid;
  scan->left_out_count = 0;
  scan->hits = hits;
  scan->hits_room = HITS;
  status = bursar_scan_run(scan);
  if (status < 0) {
    cannot_scan(pid, status);
    goto out;
  }
  struct bursar_buffer out;
  bursar_buffer_to(&out, STDOUT_FILENO, OUT_MAX);
  (json ? print_json : print_text)(scan, bursar_prim_now() - began, &out);
  result = bursar_cli_finish(&out);
out:
  if (vessel) {
    bursar_wipe(vessel, sizeof *vessel);
    bursar_prim_release(vessel, bytes); /* the kernel clears what goes back */
  }
  free(hits);
  free(scan);
  return result;
}

int bursar_cli_scan(int argc, char **argv) {
  const char *format = "text", *path = NULL, *number = NULL;
  static const char *const formats[] = {"text", "json", NULL};
  const struct bursar_cli_option options[] = {
      {.name = "secret-file",
       .value = "FILE",
       .text = &path,
       .help = "the secret is what this file holds, but for a newline at its end"},
      {.name = "secret-fd", .value = "N", .text = &number, .help = "the same of an open descriptor: 3 with 3<FILE"},
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"},
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "scan",
                                           .usage = "PID (--secret-file FILE | --secret-fd N) [--format text|json]",
                                           .about =
                                               "Looks for copies of a secret in a process's resident memory, without "
                                               "stopping it: as it is, in hexadecimal,\n"
                                               "base64, UTF-16, UTF-32, reversed, as an int's digits, and for any half "
                                               "of each.  Says where each copy lies,\n"
                                               "and what it could not look at.  bursar.residue() does it from within, "
                                               "and names who holds them.",
                                           .options = options};
  int count;
  int status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  char *end = NULL;
  errno = 0;
  long pid = count == 1 ? strtol(argv[1], &end, 10) : 0;
  if (count != 1 || *end || errno || pid <= 0 || pid > INT32_MAX)
    return bursar_cli_complain(2, "scan: give one process id: see bursar scan --help");
  if (!path == !number)
    return bursar_cli_complain(
        2, "scan: give the secret by --secret-file or --secret-fd; never as an argument, which others can read");
  if (bursar_cli_choice(format, formats) < 0)
    return bursar_cli_unknown("scan", "format", format, formats);
  int fd = open_secret(path, number);
  if (fd < 0)
    return path ? 1 : 2;
  const struct rlimit none = {0, 0};
  (void)setrlimit(RLIMIT_CORE, &none);
  status = scan_process((pid_t)pid, fd, strcmp(format, "json") == 0);
  if (path)
    close(fd);
  return status;
}
