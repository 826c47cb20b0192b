/* dtype.h: the types of a tensor's elements, as safetensors names them.
 *
 * Threads: any.  Safety class F. */
#ifndef BURSAR_MODEL_DTYPE_H
#define BURSAR_MODEL_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/escape.h"

/* In the order of their alignment, so that a file in the reverse order needs no padding. */
enum bursar_dtype {
  BURSAR_DTYPE_BOOL,
  BURSAR_DTYPE_F4,
  BURSAR_DTYPE_F6_E2M3,
  BURSAR_DTYPE_F6_E3M2,
  BURSAR_DTYPE_U8,
  BURSAR_DTYPE_I8,
  BURSAR_DTYPE_F8_E5M2,
  BURSAR_DTYPE_F8_E4M3,
  BURSAR_DTYPE_F8_E8M0,
  BURSAR_DTYPE_F8_E4M3FNUZ,
  BURSAR_DTYPE_F8_E5M2FNUZ,
  BURSAR_DTYPE_I16,
  BURSAR_DTYPE_U16,
  BURSAR_DTYPE_F16,
  BURSAR_DTYPE_BF16,
  BURSAR_DTYPE_I32,
  BURSAR_DTYPE_U32,
  BURSAR_DTYPE_F32,
  BURSAR_DTYPE_C64,
  BURSAR_DTYPE_F64,
  BURSAR_DTYPE_I64,
  BURSAR_DTYPE_U64,
  BURSAR_DTYPES
};

struct bursar_dtype_facts {
  const char *name;
  uint32_t bits; /* of one element */
};
extern const struct bursar_dtype_facts bursar_dtype_facts[BURSAR_DTYPES];
/* BURSAR_DTYPES where there is none of that name. */
enum bursar_dtype bursar_dtype_of(struct bursar_text name);
/* The bytes that a tensor of that type and shape has.  False: more than can be, or no whole bytes. */
bool bursar_dtype_bytes(uint32_t dtype, const uint64_t *shape, size_t rank, uint64_t *out);

#endif
