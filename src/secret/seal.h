/* seal.h: memory that nobody can write to any more: a sealed memory file, mapped for reading alone.
 *
 * It is filled piece by piece while it is mapped already, so that what was copied can be used before the rest is there, and
 * then sealed: no process that has its descriptor can write, grow or shrink it, or take the seals off.  The mapping comes
 * from a descriptor that was opened for reading: mprotect cannot make it writable.  Forked children share its pages, and so
 * does who is handed the descriptor.
 * Ownership: the caller's struct, zeroed or begun; bursar_seal_end gives back what it has.  Errors: negative errno.
 * Threads: one at a time; what is mapped may be read by all.  Class N. */
#ifndef BURSAR_SECRET_SEAL_H
#define BURSAR_SECRET_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BURSAR_SEAL_ALIGN 64u

struct bursar_seal {
  const unsigned char *at; /* NULL: there is none */
  size_t bytes;            /* whole pages */
  size_t used;             /* what has been put there */
  int fd;                  /* for reading; close-on-exec */
  int writer;              /* -1 once it is sealed */
  dev_t device;
  ino_t inode;
};

/* Room for `bytes`, which counts no memory yet.  -EFBIG: the limit on file sizes (RLIMIT_FSIZE) is lower. */
int bursar_seal_begin(struct bursar_seal *seal, size_t bytes) __attribute__((warn_unused_result));
/* Copies `bytes` behind what is there, aligned; *offset is where.  -ENOSPC: there is no room; what could be copied of it
 * then takes no part in `used`. */
int bursar_seal_put(struct bursar_seal *seal, const void *from, size_t bytes, size_t *offset)
    __attribute__((warn_unused_result));
/* The same right behind what was put last. */
int bursar_seal_more(struct bursar_seal *seal, const void *from, size_t bytes) __attribute__((warn_unused_result));
int bursar_seal_close(struct bursar_seal *seal) __attribute__((warn_unused_result));
/* What another process sealed; the descriptor stays the caller's.  -EPERM: it is not sealed, -EINVAL: it is no such file. */
int bursar_seal_attach(struct bursar_seal *seal, int fd) __attribute__((warn_unused_result));
/* Does the descriptor still lead there?  A program may close what it does not know, and the number be another file's. */
bool bursar_seal_held(const struct bursar_seal *seal);
void bursar_seal_end(struct bursar_seal *seal);

#endif
