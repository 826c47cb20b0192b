/* binary.h: can our library be loaded into a program, before that is run?
 *
 * Reads the program's ELF headers, following the interpreters of scripts.  Ownership: static texts.  Threads: one.  Class N. */
#ifndef BURSAR_CLI_BINARY_H
#define BURSAR_CLI_BINARY_H

#include "cli/program.h"

enum bursar_binary_kind {
  BURSAR_BINARY_NONE, /* no program that this system knows, or none that may be read: whoever executes it says so */
  BURSAR_BINARY_FITS,
  BURSAR_BINARY_UNFIT /* and *why says why not: "it is statically linked" */
};

/* `file` becomes the ELF file in the end. */
enum bursar_binary_kind bursar_binary_look(struct bursar_program_file *file, const char **why);

#endif
