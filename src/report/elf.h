/* elf.h: a module's file: its build id, and the functions of its own symbol tables.
 *
 * The file may be anything: every offset in it is checked.  64-bit, of this machine's byte order; others are no modules.
 * Ownership: the caller's, from _open to _close; names are borrowed.  Threads: one at a time.  Class N. */
#ifndef BURSAR_REPORT_ELF_H
#define BURSAR_REPORT_ELF_H

#include <stdbool.h>
#include <stdint.h>

struct bursar_elf;

/* NULL where there is no such file, or it is none. */
struct bursar_elf *bursar_elf_open(const char *path);
/* In hexadecimal digits; "" where it has none. */
const char *bursar_elf_build_id(const struct bursar_elf *elf);
/* The function that holds the address; NULL where none does.  Read at the first call. */
const char *bursar_elf_function(struct bursar_elf *elf, uint64_t address);
void bursar_elf_close(struct bursar_elf *elf);

#endif
