/* html.h: the report as one HTML file that needs nothing else: the page of web/ with the books inside.
 *
 * How the books are packed (web/src/data.js unpacks them): one JSON object in a <script type="application/json">, with
 * `schema`, `facts`, `strings`, and columns by kind of thing.  A column is base64 over LEB128 numbers; `signed` ones are
 * zigzag-coded first, `delta` ones hold the difference to the one before.  An empty column of things is all zeros.
 *
 *   codes   count; name, file: indices in strings
 *   nodes   count; parent: how many indices back, 0 for a root; code: index + 1, 0 where there is none; line
 *   sites   count; node (signed delta), domain, type (string), peak, peak_blocks, last, last_blocks, end and end_blocks
 *           (signed, less `last`), alloc_bytes, allocs, temporaries
 *   ticks   count; time_us (delta); live: a column a domain; high
 *   scopes  the first ones of the model, no columns: rows of name, live, retained, calls, open, three quantiles of the
 *           peak (null where unknown), greatest peak, allocated bytes, seconds; all_scopes is how many there are
 *   undo    stops, ticks: which ticks can be gone back to (delta); steps: from the newest stop to the oldest, the number
 *           of sites that held something else there than one stop later (the newest: than in the last state), then for
 *           each, by index: site (delta), bytes and blocks there less those later (signed)
 *
 * Ticks whose totals alone are known are no stops.  Where the history would be larger than BURSAR_HTML_HISTORY_MAX, every
 * second stop is left out, until it is not. */
#ifndef BURSAR_REPORT_HTML_H
#define BURSAR_REPORT_HTML_H

#include "base/error.h"

struct bursar_model;

#define BURSAR_HTML_SCHEMA 1
#ifndef BURSAR_HTML_HISTORY_MAX              /* a test builds it with less */
  #define BURSAR_HTML_HISTORY_MAX (6u << 20) /* bytes before base64 */
#endif

/* Writes the page to fd, from where it stands.  The model and the descriptor stay the caller's; on failure the file
 * holds a part of the page.  Threads: any, the model is only read.  Errors: no memory, or what write() said.  Class N. */
int bursar_html_write(const struct bursar_model *model, int fd, struct bursar_error *error)
    __attribute__((warn_unused_result));

#endif
