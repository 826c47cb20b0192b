/* place.h: where ledgers live: making one, finding one, listing them, and removing those of ended processes.
 *
 * The default directory is $BURSAR_DIR, else $XDG_RUNTIME_DIR/bursar, else bursar-UID in $TMPDIR or /tmp: made 0700,
 * and refused where it is a link, another user's, or open for others to write.  Ledgers are 0600 and never follow a
 * link.  Nothing that is not a ledger is ever replaced or removed.
 *
 * Ownership: results are the caller's structs; a place's fd is closed by bursar_place_close(), a list freed by
 * bursar_place_list_free().  Errors: a negative enum bursar_status, and one line in `error` (may be NULL).
 * Threads: any, none of them shared.  Safety class N; bursar_place_create() with a path of its own takes no heap and no
 * lock, and so may be called in a forked child. */
#ifndef BURSAR_LEDGER_PLACE_H
#define BURSAR_LEDGER_PLACE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BURSAR_PLACE_PATH_MAX 4096u
#define BURSAR_PLACE_KEEP_COUNT 20u
#define BURSAR_PLACE_KEEP_BYTES (512ull << 20)

struct bursar_header;
struct bursar_place {
  int fd;
  bool no_room;                     /* why it could not be made: no room, or a limit, or nobody may write there */
  char path[BURSAR_PLACE_PATH_MAX]; /* absolute */
};

/* What became of the process, as the file and /proc tell it. */
enum bursar_place_state {
  BURSAR_PLACE_STARTING, /* reserved, and the process that reserved it is there */
  BURSAR_PLACE_RUNNING,
  BURSAR_PLACE_STOPPED, /* the books were closed (or broke off), the process goes on */
  BURSAR_PLACE_ENDED,
  BURSAR_PLACE_KILLED,    /* ended without closing its books */
  BURSAR_PLACE_UNUSED,    /* reserved for a program that never began to write */
  BURSAR_PLACE_ELSEWHERE, /* of another pid namespace: nothing can be known */
  BURSAR_PLACE_NEWER,     /* a format that this version does not know */
  BURSAR_PLACE_DAMAGED    /* begins like a ledger and is none */
};

struct bursar_place_entry {
  char name[256]; /* in the list's directory */
  enum bursar_place_state state;
  bool live; /* a process may still write to it: not to be removed */
  pid_t pid;
  char program[1024];      /* the file of __main__, else what the ledger's name says */
  char python_version[32]; /* empty where no Python has written yet */
  uint64_t started_unix_ns;
  uint64_t file_bytes; /* on the disk */
  uint64_t peak_bytes; /* of the tracked domains, so far */
  dev_t device;
  ino_t inode;
};

struct bursar_place_list {
  char directory[BURSAR_PLACE_PATH_MAX];
  struct bursar_place_entry *entries; /* by start, oldest first */
  size_t count;
};

/* Makes a ledger file with one extent, state RESERVED, for this process, and opens it for reading and writing.
 *
 * `out`: its path, or NULL for one in the default directory, named after `program` (only its last component is used,
 * may be NULL) and this process's pid; ledgers of ended processes beyond what is kept are then removed first.
 * `force`: a ledger of an ended process at `out` is replaced.
 * On failure nothing is left behind. */
int bursar_place_create(const char *out, bool force, const char *program, struct bursar_place *place,
                        struct bursar_error *error) __attribute__((warn_unused_result));

/* Is the process that the header names still there?  1 yes, 0 no, -1 cannot be known (another pid namespace).  Where there is no
 * /proc a number that is in use is taken for yes. */
int bursar_place_lives(const struct bursar_header *header);

/* Opens, for reading, the ledger of process `pid`: the one that it maps now, wherever that is, else the last one begun
 * in the default directory. */
int bursar_place_find(pid_t pid, struct bursar_place *place, struct bursar_error *error)
    __attribute__((warn_unused_result));

/* Closes the fd.  NULL and a closed place are allowed. */
void bursar_place_close(struct bursar_place *place);
/* Closes it and removes the file, if it is still the same file: for a ledger that was made in vain. */
void bursar_place_discard(struct bursar_place *place);

/* The ledgers in the default directory.  No such directory: an empty list. */
int bursar_place_list(struct bursar_place_list *out, struct bursar_error *error) __attribute__((warn_unused_result));
/* Frees the entries.  NULL is allowed. */
void bursar_place_list_free(struct bursar_place_list *list);

/* Removes ledgers of ended processes from the default directory, oldest first, until at most
 * BURSAR_PLACE_KEEP_COUNT with BURSAR_PLACE_KEEP_BYTES together are left.  Done already by bursar_place_create(). */
int bursar_place_prune(struct bursar_error *error) __attribute__((warn_unused_result));

/* Removes all ledgers of ended processes from the default directory, and lists them.  `dry_run`: only lists them. */
int bursar_place_clean(bool dry_run, struct bursar_place_list *removed, struct bursar_error *error)
    __attribute__((warn_unused_result));

/* "running", "ended" …: static text. */
const char *bursar_place_state_name(enum bursar_place_state state);

#endif
