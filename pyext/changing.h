/* changing.h: changes that are asked for through the ledger's control page.
 *
 * What C keeps is changed where the hooks find that it was asked for; the rest, which runs Python, in a thread that the main
 * thread begins when it gets to it.  Each becomes an event, and so does each that was refused. */
#ifndef BURSAR_PYEXT_CHANGING_H
#define BURSAR_PYEXT_CHANGING_H

#include "compat.h"

/* At the start of books.  Class F. */
void bursar_changing_start(void);
/* struct bursar_provider's.  Any thread; without the main GIL it waits for one that has it.  Class H. */
void bursar_changing_hear(void);

#endif
