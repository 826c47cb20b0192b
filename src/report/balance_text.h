/* balance_text.h: a balance on its way out, for people and for programs.
 *
 * Ownership: borrowed; errors stick in the buffer.  Threads: one at a time.  Safety class N. */
#ifndef BURSAR_REPORT_BALANCE_TEXT_H
#define BURSAR_REPORT_BALANCE_TEXT_H

#include "report/balance.h"

void bursar_balance_text_print(const struct bursar_balance *balance, struct bursar_buffer *out);
void bursar_balance_text_json(const struct bursar_balance *balance, struct bursar_buffer *out);

#endif
