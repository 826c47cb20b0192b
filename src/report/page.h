/* page.h: the report page as the build made it from web/, cut where the data goes.
 *
 * Ownership, threads: constants.  The bytes are not terminated.  Safety class N. */
#ifndef BURSAR_REPORT_PAGE_H
#define BURSAR_REPORT_PAGE_H

#include <stddef.h>

extern const unsigned char bursar_page_before[];
extern const size_t bursar_page_before_length;
extern const unsigned char bursar_page_after[];
extern const size_t bursar_page_after_length;

#endif
