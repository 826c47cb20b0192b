/* lanes.h: what each thread counts by itself, exactly and without atomics: for the modes sample and count.
 *
 * A thread takes a lane at its first event and gives it back at its end; what it counted stays there, and the next thread
 * adds to it.  Where all are taken, threads share lane 0, under a lock.  The lanes are pages of the process that the ledger's
 * are mapped over while books are open, so that a thread's lane is at the same place for ever.
 * Threads: any, unless said otherwise.  errno kept. */
#ifndef BURSAR_ACCOUNT_LANES_H
#define BURSAR_ACCOUNT_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger/layout.h"
#include "ledger/writer.h"

#define BURSAR_LANES_BYTES (BURSAR_EXTENT_MIN - BURSAR_AT_LANES)

extern union bursar_lanes_pages {
  struct bursar_thread_lane lane[BURSAR_LANES];
  unsigned char bytes[BURSAR_LANES_BYTES];
} bursar_lanes_pages;

/* A thread's own; initial-exec: no call to find it. */
struct bursar_lanes_thread {
  struct bursar_thread_lane *lane; /* NULL: none yet, or none any more */
  int64_t countdown;               /* mode sample: bytes until the next point; below 0 where there is no lane */
  int64_t step;                    /* mode count: bytes until the peaks are looked at; below 0 likewise */
  const void *last;                /* mode count: the block that RAW's hook gave last, inside others or not */
  uint64_t random;                 /* state of its generator */
  int64_t shared_countdown;        /* of a thread without a lane of its own, in both modes */
  uint32_t serial;                 /* of the books that it has a lane of */
  uint8_t looks;                   /* mode count: how often it has looked at the peaks */
  bool gone;                       /* its end has begun */
};
extern __thread struct bursar_lanes_thread bursar_lanes_mine __attribute__((tls_model("initial-exec")));

/* Maps the lanes into the open ledger, all zero.  Main GIL.  Class N. */
int bursar_lanes_open(struct bursar_writer *writer, struct bursar_error *error) __attribute__((warn_unused_result));
/* In a forked child: of all threads only this one is left.  Class F. */
void bursar_lanes_after_fork(void);

/* This thread's lane, taken now if need be; NULL where it has to share lane 0.  Class H. */
struct bursar_thread_lane *bursar_lanes_take(void);
/* Lane 0, for a moment: nothing else may be called in between. */
struct bursar_thread_lane *bursar_lanes_share(void);
void bursar_lanes_unshare(void);

/* The sums over all lanes. */
struct bursar_tally bursar_lanes_sum(unsigned domain);
/* What is live by domain, in mode count, which may be below 0; their sum. */
int64_t bursar_lanes_held(int64_t out[BURSAR_DOMAIN_COUNT]);

#endif
