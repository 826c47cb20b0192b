/* weave.h: stacks of Python's and native frames: each call of the interpreter's loop gives way to the frames that it runs.
 *
 * Glossary
 *   path     a number for a chain of frames, Python's or native ones (paths.h)
 *   segment  the native frames between two calls of the loop
 *
 * What runs is known by two paths, Python's and the native one, and a table says which site they stand for.  Only what is not
 * in it is woven.  Of the interpreter's own functions those of the innermost segment are kept, which say what was made; the
 * others are how Python calls Python.  Functions of extensions and libraries are kept everywhere.  A stack begins with its
 * outermost Python frame: what is outside of that is how the interpreter was started.  Where the native stack cannot be
 * followed to its end, the rest of Python's frames stand outside of what is known.
 * Threads that released the GIL have Python's frames alone (frames.c): this is for the main GIL's holder.  Class H. */
#ifndef BURSAR_PYEXT_WEAVE_H
#define BURSAR_PYEXT_WEAVE_H

#include <stdbool.h>
#include <stdint.h>

/* Before books are opened.  False: native stacks cannot be followed here.  Class N. */
bool bursar_weave_start(void);
/* The tag of what runs now; 0: this thread is not of the main GIL. */
uint32_t bursar_weave_tag(unsigned domain);
/* The path of a Python frame; its caller's where there is no room. */
uint32_t bursar_weave_python(uint32_t parent, uint32_t code, uint32_t line);
/* Sites have moved, or the books were closed or opened. */
void bursar_weave_moved(void);

#endif
