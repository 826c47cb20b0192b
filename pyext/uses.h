/* uses.h: what `bursar imports` asks of the interpreter: when an import begins and ends, and whether a module was used
 * after it: an attribute of it read, or code of it run.
 *
 * Modules' attributes are read through one slot of their type, which is replaced; names that a `from` import reads count
 * only where the value tells nothing of its use itself.  Since 3.11 the interpreter reads attributes of modules without
 * the slot once it knows where they are: not where the module's dict once had a key that is no string, which is seen to.
 * Code is met at the beginning of frames: by the interpreter's hook (PEP 523) until 3.11, by sys.monitoring since.
 * Main interpreter alone, under its GIL.  Class N. */
#ifndef BURSAR_PYEXT_USES_H
#define BURSAR_PYEXT_USES_H

#include "compat.h"

/* Adds the functions.  0, or -1 with an exception. */
int bursar_uses_add(PyObject *module);

#endif
