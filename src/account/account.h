/* account.h: the books of one process: what is booked where, and the slow half of booking.  hot.h is the fast half.
 *
 * Glossary
 *   lane GIL    events of whoever holds the main interpreter's GIL: plain adds, exact
 *   lane FREE   all others (threads that released it, or never knew it): atomic adds
 *   tag         (site + 1) << 6 | BURSAR_CELL_BIG: a site as the live table writes it, and as an offset from
 *               bursar_account.numbered
 *   provider    who knows Python: handed in by the extension, so that nothing here includes Python.h
 *
 * There is one set of books a process, hence the globals: the hot path reads them at fixed addresses.
 * Threads: functions named *_gil need the main GIL; *_free none; the rest say.  errno is kept by all but start. */
#ifndef BURSAR_ACCOUNT_ACCOUNT_H
#define BURSAR_ACCOUNT_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/live.h"
#include "base/error.h"
#include "ledger/layout.h"
#include "ledger/writer.h"

/* The last blocks that a thread allocated, for temporaries.  Owned by the thread's record in the provider, zeroed at first. */
#define BURSAR_RECENT_MAX 1024u
struct bursar_recent {
  const void *last;  /* while the thread is not at hand; else bursar_account.last holds it */
  const void **ring; /* for --temporary-within above 1 */
  uint32_t at;
  uint32_t scope;       /* slot of the scope that the thread was last found in (scopes.h); 0: none */
  uint64_t context_ver; /* of its thread state, then */
  bool unwatched;       /* last's end will not be told */
  struct bursar_recent *next;
};

struct bursar_provider {
  /* Every cached stack must be looked up again: the phase or the books have changed (main GIL held). */
  void (*stacks_moved)(void);
  /* The books stopped by themselves: one line for the user.  Any thread. */
  void (*warn)(const char *line);
  /* A reader has asked for a change: bursar_answer_asked() tells which.  NULL: none is heard.  Not under the lock of the books. */
  void (*asked)(void);
};

struct bursar_account {
  struct bursar_site *numbered; /* sites - 1 */
  const void *last;             /* the block last allocated by the thread at hand; NULL once it is freed */
  int64_t trigger;       /* books.live above this is a new peak, of the run or of a mark; changed by atomic adds */
  int32_t countdown;     /* events until the clock is looked at */
  uint32_t within;       /* temporary: freed before so many more allocations of the thread */
  uint64_t plain_limit;  /* sizes from 17 to 17 + this are booked inline */
  uint64_t scoped_limit; /* the same inside a scope; there plain_limit is 0 */
  struct bursar_scope *scopes; /* base of the region */
  uint32_t scope;              /* of the thread at hand, as in its bursar_recent */
  bool active;                 /* the books are open */
  uint8_t mode;                /* enum bursar_mode */
  /* From here on cold. */
  struct bursar_site *sites; /* base of the region */
  bool remote_any;           /* some facts have remote frees; set by any thread, never taken back */
  bool fold_due;             /* a tick was made: see whether the ledger is full, once the event at hand is booked */
  uint32_t root;             /* enum: the root node of stacks found now */
  int64_t level;             /* the total that trigger stands for: trigger = level - what lane FREE holds */
  uint64_t started_ns;
  uint64_t free_events; /* of lane FREE, so that others see whether it moved */
  uint64_t context_ver;
  struct bursar_recent *recent; /* of the thread at hand */
  struct bursar_recent *recents;
  uint32_t parked;     /* last blocks of other threads that could not be watched */
  uint32_t peak_shift; /* lane FREE's peaks are 1/2^this above the last; atomic */
  struct bursar_provider provider;
  struct bursar_writer writer;
};

extern struct bursar_account bursar_account;
extern union bursar_account_page {
  struct bursar_books books;
  unsigned char page[BURSAR_PAGE];
} bursar_account_page;
#define BURSAR_BOOKS (&bursar_account_page.books)

/* A site of lane FREE: everybody changes it by atomic adds. */
static inline bool bursar_account_is_free(const struct bursar_site *site) {
  return __atomic_load_n(&site->epoch, __ATOMIC_RELAXED) >> 63;
}

struct bursar_settings {
  const char *path;    /* a ledger that bursar_place_create made */
  uint64_t cap;        /* 0: the default */
  uint32_t within;     /* 0: 1 */
  uint32_t phase;      /* enum bursar_phase at the start */
  uint32_t python_hex; /* for the header */
  const char *python_version;
  uint32_t parent_pid;
  uint32_t domains;  /* those that are listened to, a bit each */
  uint32_t mode;     /* enum bursar_mode; 0: exact */
  bool native;       /* stacks have native frames too */
  bool sizes;        /* modes sample, count: blocks' usable bytes are known, so that scopes can be charged for them */
  uint32_t interval; /* mode sample, for tests: see bursar_sample_start */
  uint64_t seed;
};

/* Opens the books.  The hooks are installed after a first success (the live table must be there).  Main GIL.  Class N. */
int bursar_account_start(const struct bursar_settings *settings, const struct bursar_provider *provider,
                         struct bursar_error *error) __attribute__((warn_unused_result));
/* Closes the books in this state; the ledger then never changes again.  Main GIL.  Class F. */
void bursar_account_stop(enum bursar_state state);
/* In a forked child that is not followed: lets go of the parent's ledger without a trace in it.  Class F. */
void bursar_account_abandon(void);
/* __main__ began or finished, or began again (a prompt): stacks found from now on have that root.  Main GIL. */
void bursar_account_phase(enum bursar_phase phase);

/* The slow half of hot.h, lane GIL. */
void bursar_account_alloc_gil(void *p, size_t size, uint32_t tag, unsigned domain);
void bursar_account_free_gil(void *p, unsigned domain);
/* Books the end of a block that was taken out of the live table. */
void bursar_account_retire_gil(const void *p, struct bursar_record record, unsigned domain);
/* Another thread is at hand. */
void bursar_account_switch_gil(struct bursar_recent *recent);
/* The thread at hand is in this scope now. */
void bursar_account_scope_gil(uint32_t slot, uint64_t context_ver);
/* The record will stand for another thread. */
void bursar_account_forget_gil(struct bursar_recent *recent);

/* Lane FREE, while folding is held off (fold.h).  `number`: of a site of that lane. */
void bursar_account_alloc_free(void *p, size_t size, uint32_t number, unsigned domain, uint32_t scope);
void bursar_account_retire_free(const void *p, struct bursar_record record, unsigned domain);

/* A block of lane FREE ends that its thread allocated last: it was a temporary one. */
void bursar_account_temporary_free(uint32_t number);
/* In a process where nobody has the main GIL: no other thread than the caller has allocated so far (lane FREE's peaks are then
 * exact, as lane GIL's are), or others have. */
void bursar_account_alone_free(bool alone);
/* There too, now and then, what lane GIL does between events: answers, breaks off, folds.  Not while folding is held off.  Any
 * thread; does nothing while another does it. */
void bursar_account_between_free(void);
/* The same for bursar_account_stop: nobody else is in the books any more when it returns.  False: somebody did not leave them
 * within a second; they stay as they are. */
bool bursar_account_stop_free(enum bursar_state state) __attribute__((warn_unused_result));

/* Mappings: as above, but that the caller keeps the table of them (maps.h).  The first two return the site's number, 0 where
 * nothing is booked. */
uint32_t bursar_account_map_gil(size_t size, uint32_t tag, unsigned domain);
uint32_t bursar_account_map_free(size_t size, uint32_t number, unsigned domain, uint32_t scope);
/* Bytes of it ended, and the block with them if `ends`. */
void bursar_account_unmap_gil(struct bursar_record piece, bool ends, unsigned domain);
void bursar_account_unmap_free(struct bursar_record piece, bool ends, unsigned domain);
/* The domain of the site of this number. */
unsigned bursar_account_domain(uint32_t number);

/* Blocks and bytes live over both lanes. */
int64_t bursar_account_live(void);
uint64_t bursar_account_live_of(unsigned domain);
struct bursar_tally bursar_account_totals(void);

/* A mark: the greatest live since it was set.  At most 32; -1 where none is left.  Main GIL. */
int bursar_account_mark(void);
/* Ends it and returns that maximum. */
int64_t bursar_account_unmark(int mark);

#endif
