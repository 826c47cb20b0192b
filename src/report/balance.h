/* balance.h: resident memory, explained line by line.
 *
 * The lines and 'unexplained' add up to RSS exactly, RSS being the sum over one pass of smaps; what nothing explains is never
 * put to a neighbour's account, and what is not known is BURSAR_BALANCE_UNKNOWN, never 0.
 *
 * Ownership: facts are borrowed for the call; the balance is the caller's struct, no memory behind it.  Threads: any.
 * Safety class N. */
#ifndef BURSAR_REPORT_BALANCE_H
#define BURSAR_REPORT_BALANCE_H

#include "base/buffer.h"
#include "ledger/layout.h"
#include "memory/regions.h"
#include "prim/smaps.h"

#define BURSAR_BALANCE_UNKNOWN UINT64_MAX
#define BURSAR_BALANCE_LINES 96u
#define BURSAR_BALANCE_NAME 64u
#define BURSAR_BALANCE_DETAIL 256u
#define BURSAR_BALANCE_NOTES 6u
#define BURSAR_BALANCE_SCHEMA 1

struct bursar_balance_line {
  char name[BURSAR_BALANCE_NAME];
  uint64_t bytes;                     /* resident; or unknown */
  uint64_t live;                      /* of a domain: live bytes, as booked, resident or not; else unknown */
  char detail[BURSAR_BALANCE_DETAIL]; /* any bytes: escaped when printed */
};

struct bursar_balance_facts {
  const struct bursar_regions *regions; /* NULL: the process has ended */
  const struct bursar_inside *inside;   /* never NULL */
  uint32_t domains;                     /* heard by the books; 0: no books */
  uint64_t live[BURSAR_DOMAIN_COUNT];   /* booked live bytes, where domains is not 0 */
  struct bursar_smaps_status status;
  struct bursar_smaps_cgroup cgroup;
};

struct bursar_balance {
  uint64_t rss, pss, swap, page_tables, threads;
  uint64_t cgroup_limit, cgroup_usage;
  uint64_t unexplained, returnable, live_not_resident;
  uint32_t line_count;
  struct bursar_balance_line lines[BURSAR_BALANCE_LINES];
  uint32_t note_count;
  char notes[BURSAR_BALANCE_NOTES][BURSAR_BALANCE_DETAIL];
  /* For the head, by whoever asks. */
  long pid;
  const char *ledger; /* path; NULL: none */
  const char *state;  /* as the reader's */
};

void bursar_balance_make(const struct bursar_balance_facts *facts, struct bursar_balance *out);
void bursar_balance_note(struct bursar_balance *balance, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
