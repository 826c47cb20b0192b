/* domains.h: the names of the domains, and lists of them as users write them.
 *
 * Ownership: texts are static.  Threads: any.  Class H. */
#ifndef BURSAR_LEDGER_DOMAINS_H
#define BURSAR_LEDGER_DOMAINS_H

#include <stdint.h>

/* "python.obj"; "unknown" above the last. */
const char *bursar_domains_name(uint32_t domain);
/* "python,malloc": a bit for each enum bursar_domain.  0 where a word is none of bursar_domains_words; it is then written
 * to `wrong`, cut to fit. */
#define BURSAR_DOMAINS_WORD 32
uint32_t bursar_domains_parse(const char *list, char wrong[BURSAR_DOMAINS_WORD]);
/* What may stand in a list: the domains, and "python", "native" and "all"; ended by NULL. */
extern const char *const bursar_domains_words[];
/* The modes, ended by NULL; the enum bursar_mode of one of them, 0 where it is none; and back ("none"). */
extern const char *const bursar_domains_modes[];
uint32_t bursar_domains_mode(const char *word);
const char *bursar_domains_mode_name(uint32_t mode);

#endif
