/* bech32.h: 32 bytes as a word that notices when it was mistyped (BIP 173): age's keys.
 *
 * Ownership: the caller's memory, which nothing else keeps a copy of.  Threads: any.  Class F. */
#ifndef BURSAR_MODEL_BECH32_H
#define BURSAR_MODEL_BECH32_H

#include <stdbool.h>
#include <stddef.h>

#define BURSAR_BECH32_BYTES 32u
#define BURSAR_BECH32_WORD 96u /* room for a word, and its end */

/* `kind` is what it begins with, in small letters; `upper`: all in capitals. */
void bursar_bech32_encode(const char *kind, bool upper, const unsigned char bytes[BURSAR_BECH32_BYTES],
                          char out[BURSAR_BECH32_WORD]);
/* False: it is not of that kind, or not right.  One case throughout. */
bool bursar_bech32_decode(const char *kind, const char *word, size_t length, unsigned char out[BURSAR_BECH32_BYTES]);

#endif
