#include "model/dtype.h"

#include <string.h>

const struct bursar_dtype_facts bursar_dtype_facts[BURSAR_DTYPES] = {
    [BURSAR_DTYPE_BOOL] = {"BOOL", 8},
    [BURSAR_DTYPE_F4] = {"F4", 4},
    [BURSAR_DTYPE_F6_E2M3] = {"F6_E2M3", 6},
    [BURSAR_DTYPE_F6_E3M2] = {"F6_E3M2", 6},
    [BURSAR_DTYPE_U8] = {"U8", 8},
    [BURSAR_DTYPE_I8] = {"I8", 8},
    [BURSAR_DTYPE_F8_E5M2] = {"F8_E5M2", 8},
    [BURSAR_DTYPE_F8_E4M3] = {"F8_E4M3", 8},
    [BURSAR_DTYPE_F8_E8M0] = {"F8_E8M0", 8},
    [BURSAR_DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [BURSAR_DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [BURSAR_DTYPE_I16] = {"I16", 16},
    [BURSAR_DTYPE_U16] = {"U16", 16},
    [BURSAR_DTYPE_F16] = {"F16", 16},
    [BURSAR_DTYPE_BF16] = {"BF16", 16},
    [BURSAR_DTYPE_I32] = {"I32", 32},
    [BURSAR_DTYPE_U32] = {"U32", 32},
    [BURSAR_DTYPE_F32] = {"F32", 32},
    [BURSAR_DTYPE_C64] = {"C64", 64},
    [BURSAR_DTYPE_F64] = {"F64", 64},
    [BURSAR_DTYPE_I64] = {"I64", 64},
    [BURSAR_DTYPE_U64] = {"U64", 64},
};

enum bursar_dtype bursar_dtype_of(struct bursar_text name) {
  unsigned found = 0;
  while (found < BURSAR_DTYPES && (strlen(bursar_dtype_facts[found].name) != name.length ||
                                   memcmp(bursar_dtype_facts[found].name, name.bytes, name.length) != 0))
    found++;
  return found;
}

bool bursar_dtype_bytes(uint32_t dtype, const uint64_t *shape, size_t rank, uint64_t *out) {
  uint64_t elements = 1, bits;
  for (size_t i = 0; i < rank; i++)
    if (__builtin_mul_overflow(elements, shape[i], &elements))
      return false;
  if (__builtin_mul_overflow(elements, bursar_dtype_facts[dtype].bits, &bits) || bits % 8)
    return false;
  *out = bits / 8;
  return true;
}
