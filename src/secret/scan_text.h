/* scan_text.h: what a scan says in words, the same for the command and for Python.
 *
 * Ownership: the caller's buffers.  Threads: any.  Safety class F. */
#ifndef BURSAR_SECRET_SCAN_TEXT_H
#define BURSAR_SECRET_SCAN_TEXT_H

#include "secret/scan.h"

#define BURSAR_SCAN_TEXT 160u

/* Line `number` of what the scan could not see, into `out`; false: there are no more. */
bool bursar_scan_text_blind(const struct bursar_scan *scan, unsigned number, char out[BURSAR_SCAN_TEXT]);
/* Why a secret of such a status (forms.h) is refused, and what to do. */
const char *bursar_scan_text_refused(int status);

#endif
