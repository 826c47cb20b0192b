/* native_books.h: what the hooks of src/native tell, booked.
 *
 * Main GIL, class N; what it hands to the hooks is for any thread, class H. */
#ifndef BURSAR_PYEXT_NATIVE_BOOKS_H
#define BURSAR_PYEXT_NATIVE_BOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "native/native.h"

/* Where another keeps books of the native domains in this process, for a program without Python as it seemed: those end. */
void bursar_native_books_claim(void);
/* Where there is no preload: writes the hooks into the modules that are loaded, and into those that will be. */
void bursar_native_books_reach(void);
/* A module may have come that has none yet.  Any thread, class H: it only asks for a moment later. */
void bursar_native_books_modules_came(void);
/* Are there hooks at all: a preload that fits, or our own? */
bool bursar_native_books_there(void);
/* Listens to the domains of the mask (bits by enum bursar_domain), which must be there.  `other`: another mode's functions, where
 * they are not NULL. */
void bursar_native_books_open(uint32_t domains, const struct bursar_native_books *other);
void bursar_native_books_close(void);

/* What is mapped there is not booked any more. */
void bursar_native_books_forget_map(void *at, size_t bytes);

#endif
