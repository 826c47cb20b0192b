/* size.h: amounts as people read and type them.
 *
 * Binary units are printed (`1.5 MiB`); read are `512 MiB`, `1.5GB` (decimal), `64k` (binary), plain bytes.
 * Ownership: the caller's memory.  Threads: any.  Safety class F. */
#ifndef BURSAR_BASE_SIZE_H
#define BURSAR_BASE_SIZE_H

#include <stdint.h>

#define BURSAR_SIZE_TEXT 32

/* Reads a size.  Units, in any case: none or B; K, KiB, M, MiB, G, GiB, T, TiB (powers of 1024); kB, MB, GB, TB (powers
 * of 1000).  A fraction is cut to whole bytes.  0, or -EINVAL (no size) or -ERANGE (too large); *out is then as before. */
int bursar_size_parse(const char *text, uint64_t *out) __attribute__((warn_unused_result));
/* Prints into `out` at three digits or more (`999 B`, `1.50 KiB`, `38.1 MiB`), and returns it. */
char *bursar_size_print(uint64_t bytes, char out[BURSAR_SIZE_TEXT]);
/* The same for a count of things: `1234`, `12.3 k`, `27.0 M`. */
char *bursar_size_count(uint64_t count, char out[BURSAR_SIZE_TEXT]);

#endif
