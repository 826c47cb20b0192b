#include "ledger/domains.h"

#include <stdio.h>
#include <string.h>

#include "ledger/layout.h"

const char *const bursar_domains_words[] = {"python.obj", "python.mem", "python.raw", "numpy", "malloc",
                                            "mmap",       "python",     "native",     "all",   NULL};
static const uint32_t masks[] = {1u << BURSAR_DOMAIN_OBJ,   1u << BURSAR_DOMAIN_MEM,    1u << BURSAR_DOMAIN_RAW,
                                 1u << BURSAR_DOMAIN_NUMPY, 1u << BURSAR_DOMAIN_MALLOC, 1u << BURSAR_DOMAIN_MMAP,
                                 BURSAR_DOMAINS_OF_PYTHON,  BURSAR_DOMAINS_NATIVE,      BURSAR_DOMAINS_ALL};

const char *bursar_domains_name(uint32_t domain) {
  return domain < BURSAR_DOMAIN_COUNT ? bursar_domains_words[domain] : "unknown";
}

uint32_t bursar_domains_parse(const char *list, char wrong[BURSAR_DOMAINS_WORD]) {
  uint32_t domains = 0;
  for (const char *at = list;; at++) {
    size_t bytes = strcspn(at, ","), i = 0;
    while (bursar_domains_words[i] &&
           (strlen(bursar_domains_words[i]) != bytes || memcmp(bursar_domains_words[i], at, bytes) != 0))
      i++;
    if (!bursar_domains_words[i]) {
      snprintf(wrong, BURSAR_DOMAINS_WORD, "%.*s", (int)(bytes < BURSAR_DOMAINS_WORD ? bytes : BURSAR_DOMAINS_WORD),
               at);
      return 0;
    }
    domains |= masks[i];
    at += bytes;
    if (!*at)
      return domains;
  }
}

const char *const bursar_domains_modes[] = {"exact", "sample", "count",
                                            NULL}; /* in enum bursar_mode's order, from 1 on */

uint32_t bursar_domains_mode(const char *word) {
  for (uint32_t i = 0; bursar_domains_modes[i]; i++)
    if (strcmp(word, bursar_domains_modes[i]) == 0)
      return i + 1;
  return BURSAR_MODE_NONE;
}

const char *bursar_domains_mode_name(uint32_t mode) {
  return mode > BURSAR_MODE_NONE && mode <= BURSAR_MODE_COUNT ? bursar_domains_modes[mode - 1] : "none";
}
