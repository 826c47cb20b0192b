/* peek.h: the memory of a process, read through the kernel: where there is none, or none any more, that is an answer and
 * no fault.  So it may be asked of addresses that other threads give back at that moment, and of another process.
 *
 * Another process's memory may be read by its user as the system allows (ptrace's rules).
 * Ownership: the caller's.  Errors: negative errno.  Nothing allocates; errno is kept.  Threads: any.  Safety class F. */
#ifndef BURSAR_PRIM_PEEK_H
#define BURSAR_PRIM_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bursar_peek {
  pid_t pid;    /* 0: this process */
  int pages_fd; /* of the page map; -1: none, which is so of this process where it is undumpable: then mincore tells */
  int mem_fd;   /* where the system call is forbidden; -1: not opened */
  /* Set by who knows that this is the process's only thread, and asks for nothing but what it maps: then memory is simply
   * read, which costs a tenth. */
  bool direct;
};

/* -EPERM where its memory may not be read; out is then closed.  End it by bursar_peek_close. */
int bursar_peek_open(pid_t pid, struct bursar_peek *out) __attribute__((warn_unused_result));
void bursar_peek_close(struct bursar_peek *peek);
/* Copies [at, at + bytes); the bytes that could be read from its beginning on, or a negative errno. */
ssize_t bursar_peek_read(const struct bursar_peek *peek, uint64_t at, void *out, size_t bytes);
/* Copies `bytes` at each of `count` (at most 256) places, `step` apart, one behind the other.  Places that cannot be read,
 * and all behind the first of them, are left as they are; the number of places that were read. */
#define BURSAR_PEEK_PLACES 256u
size_t bursar_peek_places(const struct bursar_peek *peek, uint64_t at, uint64_t step, size_t count, void *out,
                          size_t bytes);

/* For each page of [at, at + 4096 * count) a bit in `bits`, least significant first: it is resident (as Rss counts: pages
 * of zeros that were only read are not).  `all`: pages are present whether exclusively ours or not; else only those that
 * are surely no pages of zeros; a newer kernel knows, and `all` makes no difference.  Their number, or a negative errno. */
ssize_t bursar_peek_pages(const struct bursar_peek *peek, uint64_t at, uint64_t count, bool all, uint64_t *bits);

#endif
