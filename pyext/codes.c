#include "codes.h"

#include <string.h>

#include "account/stacks.h"
#include "base/pool.h"
#include "numpy.h"

#define NAME_MAX_BYTES 4096u

static struct bursar_code_memo **slots; /* open addressing by address; removal shifts back */
static uint32_t size, used;

static uint32_t home(const void *code) {
  return (uint32_t)((uintptr_t)code * 0x9E3779B97F4A7C15ull >> 32) & (size - 1);
}

static bool grow(void) {
  struct bursar_code_memo **old = slots;
  uint32_t old_size = size, bigger = size ? size * 2 : 1024;
  struct bursar_code_memo **table = bursar_pool_take(bigger * sizeof *table);
  if (!table)
    return false;
  slots = table;
  size = bigger;
  for (uint32_t i = 0; i < old_size; i++)
    if (old[i]) {
      uint32_t at = home(old[i]->code);
      while (slots[at])
        at = (at + 1) & (size - 1);
      slots[at] = old[i];
    }
  bursar_pool_give(old, old_size * sizeof *old);
  return true;
}

static uint32_t position_of(const void *code) {
  uint32_t at = home(code);
  while (slots[at] && slots[at]->code != code)
    at = (at + 1) & (size - 1);
  return at;
}

static size_t put_utf8(char *out, Py_UCS4 c) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
  }
  if (c < 0x10000) { /* lone surrogates too: readers show them as damaged bytes */
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 63));
    out[2] = (char)(0x80 | (c & 63));
    return 3;
  }
  out[0] = (char)(0xf0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 63));
  out[2] = (char)(0x80 | (c >> 6 & 63));
  out[3] = (char)(0x80 | (c & 63));
  return 4;
}

/* Interns a str by reading its memory: the C API's encoders allocate. */
static uint32_t text_of(PyObject *text) {
  static char buffer[NAME_MAX_BYTES + 4]; /* main GIL */
  if (!text || !PyUnicode_Check(text))
    return 0;
  if (PyUnicode_IS_COMPACT_ASCII(text))
    return bursar_stacks_string(PyUnicode_DATA(text), (size_t)PyUnicode_GET_LENGTH(text));
  size_t bytes = 0;
  Py_ssize_t length = PyUnicode_GET_LENGTH(text);
  for (Py_ssize_t i = 0; i < length && bytes < NAME_MAX_BYTES - 4; i++)
    bytes += put_utf8(buffer + bytes, PyUnicode_READ(PyUnicode_KIND(text), PyUnicode_DATA(text), i));
  return bursar_stacks_string(buffer, bytes);
}

static void drop_lines(struct bursar_code_memo *memo) {
  bursar_pool_give(memo->near, memo->units * sizeof *memo->near);
  bursar_pool_give(memo->far, memo->units * sizeof *memo->far);
  memo->near = NULL;
  memo->far = NULL;
}

static void describe(struct bursar_code_memo *memo, PyCodeObject *code) {
  memo->code = code;
  memo->table = code->co_linetable;
  memo->units = (uint32_t)bursar_code_units(code) + 1;
  memo->first_line = code->co_firstlineno;
  memo->id = bursar_stacks_code(text_of(code->co_name), text_of(code->co_filename), (uint32_t)code->co_firstlineno);
}

static struct bursar_code_memo *spare; /* chained by `table` */

static struct bursar_code_memo *add(PyCodeObject *code) {
  if (used * 4 >= size * 3 && !grow())
    return NULL;
  struct bursar_code_memo *memo = spare;
  if (memo)
    spare = (struct bursar_code_memo *)(uintptr_t)memo->table;
  else
    memo = bursar_pool_take(sizeof *memo);
  if (!memo)
    return NULL;
  memset(memo, 0, sizeof *memo);
  describe(memo, code);
  slots[position_of(code)] = memo;
  used++;
  bursar_numpy_met(code);
  return memo;
}

static struct bursar_code_memo *latest; /* a module's code asks for one line after another */

static bool fits(const struct bursar_code_memo *memo, const PyCodeObject *code) {
  return memo->code == code && memo->table == code->co_linetable && memo->first_line == code->co_firstlineno;
}

struct bursar_code_memo *bursar_codes_find(PyCodeObject *code) {
  if (latest && fits(latest, code))
    return latest;
  if (size) {
    struct bursar_code_memo *memo = slots[position_of(code)];
    if (memo && fits(memo, code))
      return latest = memo;
    if (memo) { /* another one at the same address, whose predecessor's end was not seen */
      drop_lines(memo);
      describe(memo, code);
      return memo;
    }
  }
  /* 3.11 clears a frame while it is still the current one: its code may be on its way out. */
  if (Py_TYPE(code) != &PyCode_Type || Py_REFCNT(code) <= 0)
    return NULL;
  return add(code);
}

bool bursar_codes_forget(const PyCodeObject *code) {
  if (!size)
    return false;
  uint32_t hole = position_of(code);
  struct bursar_code_memo *memo = slots[hole];
  if (!memo)
    return false;
  drop_lines(memo);
  memo->code = NULL;
  memo->table = spare;
  spare = memo;
  slots[hole] = NULL;
  used--;
  for (uint32_t at = (hole + 1) & (size - 1); slots[at]; at = (at + 1) & (size - 1)) {
    uint32_t from = home(slots[at]->code);
    if (((at - from) & (size - 1)) >= ((at - hole) & (size - 1))) {
      slots[hole] = slots[at];
      slots[at] = NULL;
      hole = at;
    }
  }
  return true;
}

void bursar_codes_clear(void) {
  for (uint32_t i = 0; i < size; i++)
    if (slots[i]) {
      drop_lines(slots[i]);
      slots[i]->code = NULL;
      slots[i]->table = spare;
      spare = slots[i];
      slots[i] = NULL;
    }
  used = 0;
}

/* --- line tables ----------------------------------------------------------------------------------------------------- */

/* Calls `range` for each run of units with one line; line 0 stands for none. */
typedef void (*range_fn)(struct bursar_code_memo *memo, uint32_t from, uint32_t to, int32_t line);

#if BURSAR_LINES_IN_PAIRS
static void each_range(struct bursar_code_memo *memo, const unsigned char *table, Py_ssize_t bytes, range_fn range) {
  int32_t line = memo->first_line;
  uint32_t at = 0;
  for (Py_ssize_t i = 0; i + 1 < bytes; i += 2) {
    uint32_t units = table[i] / 2u;
    int delta = (signed char)table[i + 1];
    if (delta != -128)
      line += delta;
    range(memo, at, at + units, delta == -128 ? 0 : line);
    at += units;
  }
}
#else
static const unsigned char *read_signed(const unsigned char *at, const unsigned char *end, int32_t *out) {
  uint32_t value = 0;
  unsigned shift = 0;
  while (at < end && shift < 32) {
    unsigned char byte = *at++;
    value |= (uint32_t)(byte & 63) << shift;
    shift += 6;
    if (!(byte & 64))
      break;
  }
  *out = value & 1 ? -(int32_t)(value >> 1) : (int32_t)(value >> 1);
  return at;
}

static void each_range(struct bursar_code_memo *memo, const unsigned char *table, Py_ssize_t bytes, range_fn range) {
  const unsigned char *at = table, *end = table + bytes;
  int32_t line = memo->first_line;
  uint32_t unit = 0;
  while (at < end) {
    unsigned head = *at++, kind = head >> 3 & 15, units = (head & 7) + 1;
    int32_t delta = 0;
    if (kind == 13 || kind == 14)
      at = read_signed(at, end, &delta);
    else if (kind >= 10 && kind <= 12)
      delta = (int32_t)kind - 10;
    line += delta;
    range(memo, unit, unit + units, kind == 15 ? 0 : line);
    unit += units;
    while (at < end && !(*at & 128)) /* columns */
      at++;
  }
}
#endif

static void fill_near(struct bursar_code_memo *memo, uint32_t from, uint32_t to, int32_t line) {
  for (uint32_t unit = from; unit < to && unit + 1 < memo->units; unit++)
    memo->near[unit + 1] = line ? (uint16_t)(line - memo->first_line + 1) : 0;
}

static void fill_far(struct bursar_code_memo *memo, uint32_t from, uint32_t to, int32_t line) {
  for (uint32_t unit = from; unit < to && unit + 1 < memo->units; unit++)
    memo->far[unit + 1] = line;
}

static bool too_far;
static void look_far(struct bursar_code_memo *memo, uint32_t from, uint32_t to, int32_t line) {
  if (line && (line < memo->first_line || line - memo->first_line >= UINT16_MAX))
    too_far = true;
}

static void read_lines(struct bursar_code_memo *memo) {
  PyObject *table = memo->code->co_linetable;
  if (!table || !PyBytes_Check(table))
    return;
  const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(table);
  Py_ssize_t length = PyBytes_GET_SIZE(table);
  too_far = false;
  each_range(memo, bytes, length, look_far);
  if (too_far) {
    memo->far = bursar_pool_take(memo->units * sizeof *memo->far);
    if (memo->far)
      each_range(memo, bytes, length, fill_far);
  } else {
    memo->near = bursar_pool_take(memo->units * sizeof *memo->near);
    if (memo->near)
      each_range(memo, bytes, length, fill_near);
  }
}

uint32_t bursar_codes_line(struct bursar_code_memo *memo, bursar_position position) {
  Py_ssize_t unit = bursar_code_unit(memo->code, position);
  if (unit < -1 || unit + 1 >= (Py_ssize_t)memo->units)
    return 0;
  if (unit < 0)
    return (uint32_t)memo->first_line;
  if (!memo->near && !memo->far)
    read_lines(memo);
  if (memo->near)
    return (uint32_t)(memo->near[unit + 1] ? memo->first_line + memo->near[unit + 1] - 1 : memo->first_line);
  if (memo->far)
    return (uint32_t)(memo->far[unit + 1] ? memo->far[unit + 1] : memo->first_line);
  return 0;
}
