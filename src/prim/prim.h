/* prim.h: the operating system, as the rest of bursar sees it.  The only place with OS #ifdefs.
 *
 * Shared by all: nothing here allocates from the heap, nothing takes a lock, errno is kept unless it is the result.
 * Results are 0 or a negative errno, unless said otherwise.  Any thread.  Safety class F (after fork and at exit too). */
#ifndef BURSAR_PRIM_PRIM_H
#define BURSAR_PRIM_PRIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Does this program have more rights than whoever started it (setuid and the like)? */
bool bursar_prim_secure(void);

/* No core file, of this process and all that come from it; and this process, until it executes another program, cannot be
 * traced, nor its memory read, by another process without root's rights.  Both or an error. */
int bursar_prim_no_core(void);

/* Who a process is: a pid alone is reused, this is not. */
struct bursar_identity {
  uint64_t process_start; /* field 22 of /proc/PID/stat, 0 where unknown */
  uint64_t pid_namespace;
  uint8_t boot_id[16];
};

/* Nanoseconds, CLOCK_MONOTONIC (vDSO: no system call). Class H. */
uint64_t bursar_prim_now(void);
/* The same clock, a few milliseconds late and several times cheaper.  Class H. */
uint64_t bursar_prim_now_coarse(void);
/* Nanoseconds since 1970. */
uint64_t bursar_prim_unix_now(void);

/* The identity of `pid` (0: this process).  -ESRCH where there is no such process. */
int bursar_prim_identity(pid_t pid, struct bursar_identity *out);
/* How many descriptors this process has open, and how many threads; below 0 where that cannot be known.  errno kept. */
int32_t bursar_prim_descriptors(void);
int32_t bursar_prim_threads(void);
/* Threads of ours that only wait: each says so when it begins (1) and when it ends (-1).  Where nobody is left but them, the first
 * thread having ended by itself, they are to end: a process ends with its last thread, as the child of a fork does whose only
 * thread was not the first one in its parent.  errno kept. */
void bursar_prim_waits(int by);
bool bursar_prim_waits_for_nobody(void);
/* Does `pid` map the file (device, inode)?  1 yes, 0 no, negative: cannot be known (another user's process). */
int bursar_prim_maps_file(pid_t pid, dev_t device, ino_t inode);
/* The path of a file that `pid` maps shared, after `skip` others: as the kernel tells it, so it may lead elsewhere by
 * now.  1 found, 0 there are no more, negative: cannot be known. */
int bursar_prim_shared_file(pid_t pid, unsigned skip, char *path, size_t room);

/* The system calls themselves, which no hook sees; results and errno are as the C library's. */
void *bursar_prim_mmap(void *at, size_t bytes, int access, int flags, int fd, off_t offset);
int bursar_prim_munmap(void *at, size_t bytes);

/* Address space without memory behind it; NULL where there is none.  Never dumped, never huge pages.
 * `writable`: zero pages on first touch; otherwise no access until something is mapped over it. */
void *bursar_prim_reserve(size_t bytes, bool writable);
void bursar_prim_release(void *at, size_t bytes);
#define BURSAR_PRIM_PAGE 4096u
/* For each page of a reservation a byte whose lowest bit says whether there is memory behind it; 1 where it cannot be known. */
void bursar_prim_resident(const void *at, size_t bytes, unsigned char *pages);
/* Gives the memory behind a writable reservation back; it reads as zero again.  The address space stays. */
void bursar_prim_discard(void *at, size_t bytes);
/* Maps [offset, offset + bytes) of the file shared and writable over a reservation. */
int bursar_prim_map_shared(void *at, size_t bytes, int fd, uint64_t offset);

/* This processor's relocations: a place that calls go through, one that holds a symbol's address, one of data that does. */
#if defined(__x86_64__)
  #define BURSAR_PRIM_RELOC_CALL 7u
  #define BURSAR_PRIM_RELOC_ADDRESS 6u
  #define BURSAR_PRIM_RELOC_DATA 1u
#elif defined(__aarch64__)
  #define BURSAR_PRIM_RELOC_CALL 1026u
  #define BURSAR_PRIM_RELOC_ADDRESS 1025u
  #define BURSAR_PRIM_RELOC_DATA 257u
#endif

/* Grows the file with real blocks behind [offset, offset + bytes); never a hole, SIGXFSZ held off. */
int bursar_prim_grow(int fd, uint64_t offset, uint64_t bytes);
/* Writes all of it, or as much as goes: for messages.  Never fails loudly. */
void bursar_prim_say(int fd, const char *text, size_t bytes);

#endif
