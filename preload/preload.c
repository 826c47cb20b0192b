/* preload.c: libbursar_preload.so: the hooks, for programs of Python.
 *
 * It keeps no books: the extension, once Python has loaded it, says where events go (bursar_native_table).  Until then, and
 * in every program without it, each hook is one call more. */
#include "native/native.h"

__attribute__((constructor)) static void begin(void) { bursar_native_resolve(NULL); }
