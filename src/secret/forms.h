/* forms.h: one secret in all the forms that programs keep it in: as it is, hexadecimal, base64, wide text, reversed, as digits.
 *
 * Glossary
 *   form    one such shape: bytes to look for
 *   least   so many bytes of a form in a row are a find: half of it, but never what stands for less than 8 bytes of the secret
 *
 * Ownership: the caller's struct; the bytes lie in room that the caller gives and wipes, since each form is the secret.
 * Nothing of it is copied elsewhere: bytes are moved one by one, and no library sees them but for floats, as text.
 * Errors: as told.  Nothing allocates, no lock.  Threads: any, none shares a struct.  Safety class F. */
#ifndef BURSAR_SECRET_FORMS_H
#define BURSAR_SECRET_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BURSAR_FORMS_LEAST 8u          /* bytes of a secret: a scan for less proves nothing */
#define BURSAR_FORMS_MOST (64u << 20)  /* bytes of a secret */
#define BURSAR_FORMS_TEXTS (64u << 10) /* of a larger one only its bytes, reversed and swapped ones are looked for */
#define BURSAR_FORMS_DIFFERENT 4u      /* different bytes: fewer occur everywhere */

enum bursar_forms_kind {
  BURSAR_FORMS_BYTES,
  BURSAR_FORMS_TEXT,  /* UTF-8, lone surrogates allowed */
  BURSAR_FORMS_INT,   /* magnitude, least byte first, its highest byte not 0 */
  BURSAR_FORMS_FLOAT, /* one double */
  BURSAR_FORMS_KINDS
};

enum bursar_forms_name {
  BURSAR_FORMS_RAW,
  BURSAR_FORMS_UTF8,
  BURSAR_FORMS_LATIN1,
  BURSAR_FORMS_UTF16LE,
  BURSAR_FORMS_UTF16BE,
  BURSAR_FORMS_UTF32LE,
  BURSAR_FORMS_UTF32BE,
  BURSAR_FORMS_REVERSED,
  BURSAR_FORMS_SWAPPED, /* the bytes of each element */
  BURSAR_FORMS_HEX,
  BURSAR_FORMS_HEX_UPPER,
  BURSAR_FORMS_BASE64,
  BURSAR_FORMS_BASE64_URL,
  BURSAR_FORMS_DIGITS,    /* of a Python int, 30 bits in 32 */
  BURSAR_FORMS_DIGITS_BE, /* of the int that bytes are, read from the highest */
  BURSAR_FORMS_INT_LE,
  BURSAR_FORMS_INT_BE,
  BURSAR_FORMS_DECIMAL,
  BURSAR_FORMS_FLOAT_LE,
  BURSAR_FORMS_FLOAT_BE,
  BURSAR_FORMS_REPR,
  BURSAR_FORMS_NAMES
};
/* As users read them. */
extern const char *const bursar_forms_names[BURSAR_FORMS_NAMES];

struct bursar_forms_one {
  const unsigned char *at;
  size_t length;
  size_t least;
  uint8_t name;
};

#define BURSAR_FORMS_COUNT 24u
struct bursar_forms {
  struct bursar_forms_one at[BURSAR_FORMS_COUNT];
  size_t count;
};

struct bursar_forms_secret {
  const unsigned char *at;
  size_t length;
  enum bursar_forms_kind kind;
  uint32_t element; /* bytes of an array's elements; 0 or 1: none */
  bool whole;       /* parts are no finds */
};

/* The room that its forms take, at most. */
size_t bursar_forms_room(const struct bursar_forms_secret *secret);
/* 0; -ERANGE: too short or too long; -EINVAL: too few different bytes. */
int bursar_forms_check(const struct bursar_forms_secret *secret) __attribute__((warn_unused_result));
/* Writes them.  Equal ones are one.  The same errors, and -ENOSPC where the room is too small. */
int bursar_forms_make(const struct bursar_forms_secret *secret, unsigned char *room, size_t bytes,
                      struct bursar_forms *out) __attribute__((warn_unused_result));
/* Copies without leaving the bytes in a vector register, where a later call may spill them from. */
void bursar_forms_copy(void *to, const void *from, size_t bytes);

#endif
