/* base64.h: bytes as letters (RFC 4648), in its one canonical form: padding or none as asked, no blanks, no bits left over.
 *
 * Ownership: the caller's memory.  Threads: any.  Class F. */
#ifndef BURSAR_MODEL_BASE64_H
#define BURSAR_MODEL_BASE64_H

#include <stddef.h>
#include <sys/types.h>

/* Letters for so many bytes, padding not among them. */
#define BURSAR_BASE64_LETTERS(bytes) (((bytes) * 8 + 5) / 6)

/* Writes that many letters; returns how many. */
size_t bursar_base64_encode(const void *bytes, size_t count, char *out);
/* Without padding.  Returns the bytes, at most count * 3 / 4; -1: that is none. */
ssize_t bursar_base64_decode(const char *letters, size_t count, unsigned char *out);

#endif
