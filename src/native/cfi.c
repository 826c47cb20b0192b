#include "native/cfi.h"

#include <stddef.h>
#include <string.h>

/* Registers as x86-64's ABI numbers them for DWARF. */
enum { RBP = 6, RSP = 7, RETURN = 16 };
/* How pointers are written: a format, what it counts from, and whether it leads to the value. */
enum { ABSOLUTE = 0x00, UDATA4 = 0x03, SDATA4 = 0x0b, UDATA8 = 0x04, SDATA8 = 0x0c, FROM_HERE = 0x10, OMITTED = 0xff };
#define SEARCH_TABLE 0x3b /* signed 4-byte offsets from the section: what every linker writes */

/* Bytes still to be read; `bad` once something was asked for beyond them. */
struct cursor {
  const unsigned char *at, *end;
  bool bad;
};

static uint64_t read_bytes(struct cursor *c, unsigned bytes) {
  uint64_t value = 0;
  if (c->bad || (size_t)(c->end - c->at) < bytes) {
    c->bad = true;
    return 0;
  }
  memcpy(&value, c->at, bytes);
  c->at += bytes;
  return value;
}

static uint8_t read_u8(struct cursor *c) { return (uint8_t)read_bytes(c, 1); }
static uint32_t read_u32(struct cursor *c) { return (uint32_t)read_bytes(c, 4); }

static uint64_t read_uleb(struct cursor *c) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    uint8_t byte = read_u8(c);
    value |= (uint64_t)(byte & 127) << shift;
    if (!(byte & 128))
      return value;
  }
  c->bad = true;
  return 0;
}

static int64_t read_sleb(struct cursor *c) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64;) {
    uint8_t byte = read_u8(c);
    value |= (uint64_t)(byte & 127) << shift;
    shift += 7;
    if (!(byte & 128))
      return (int64_t)(byte & 64 && shift < 64 ? value | ~(uint64_t)0 << shift : value);
  }
  c->bad = true;
  return 0;
}

static uintptr_t read_pointer(struct cursor *c, uint8_t how) {
  uintptr_t here = (uintptr_t)c->at, value;
  if (how == OMITTED)
    return 0;
  switch (how & 15) {
    case ABSOLUTE:
    case UDATA8:
    case SDATA8: value = read_bytes(c, 8); break;
    case UDATA4: value = read_u32(c); break;
    case SDATA4: value = (uintptr_t)(intptr_t)(int32_t)read_u32(c); break;
    default: c->bad = true; return 0;
  }
  if ((how & 0x70) == FROM_HERE)
    return value ? value + here : 0;
  c->bad = c->bad || (how & 0x70) != 0;
  return value;
}

static void skip(struct cursor *c, uint64_t bytes) {
  if (c->bad || (uint64_t)(c->end - c->at) < bytes)
    c->bad = true;
  else
    c->at += bytes;
}

/* --- entries ------------------------------------------------------------------------------------------------------------- */

struct entry {
  struct cursor common, own; /* instructions: those that all of a kind begin with, and the function's */
  uintptr_t from, to;        /* the function */
  uint64_t code_unit;
  int64_t data_unit;
  uint8_t how; /* its addresses are written */
  bool signal;
};

/* The bytes of the entry that begins at `at`, behind its length. */
static struct cursor open_entry(const struct bursar_module_found *module, uintptr_t at) {
  struct cursor c = {(const unsigned char *)at, (const unsigned char *)module->to, false};
  if (at < module->from || at >= module->to)
    return (struct cursor){NULL, NULL, true};
  uint32_t bytes = read_u32(&c);
  if (bytes == 0 || bytes == UINT32_MAX || (size_t)(c.end - c.at) < bytes)
    c.bad = true;
  else
    c.end = c.at + bytes;
  return c;
}

/* The entry (CIE) that a function's entry stands on. */
static bool read_common(const struct bursar_module_found *module, uintptr_t at, struct entry *out) {
  struct cursor c = open_entry(module, at);
  uint32_t id = read_u32(&c);
  uint8_t version = read_u8(&c);
  const char *letters = (const char *)c.at;
  while (!c.bad && read_u8(&c))
    ;
  out->code_unit = read_uleb(&c);
  out->data_unit = read_sleb(&c);
  uint64_t return_register = version == 1 ? read_u8(&c) : read_uleb(&c);
  if (c.bad || id != 0 || (version != 1 && version != 3) || return_register != RETURN)
    return false;
  out->how = ABSOLUTE;
  if (*letters == 0) {
    out->common = c;
    return true;
  }
  if (*letters++ != 'z')
    return false;
  struct cursor more = c;
  uint64_t bytes = read_uleb(&c);
  more = c;
  skip(&c, bytes);
  out->common = c;
  for (; *letters && !more.bad; letters++)
    switch (*letters) {
      case 'R': out->how = read_u8(&more); break;
      case 'L': (void)read_u8(&more); break;
      case 'P': {
        uint8_t how = read_u8(&more) & 0x7f; /* where it leads is not followed */
        (void)read_pointer(&more, how);
        break;
      }
      case 'S': out->signal = true; break;
      default: return false;
    }
  return !more.bad && !c.bad;
}

static bool read_entry(const struct bursar_module_found *module, uintptr_t at, struct entry *out) {
  struct cursor c = open_entry(module, at);
  uintptr_t here = (uintptr_t)c.at;
  uint32_t back = read_u32(&c);
  *out = (struct entry){.signal = false};
  if (c.bad || back == 0 || back > here || !read_common(module, here - back, out))
    return false;
  out->from = read_pointer(&c, out->how);
  out->to = out->from + read_pointer(&c, out->how & 15);
  if (out->common.bad)
    return false;
  /* What the letter z announced: of no use here. */
  skip(&c, read_uleb(&c));
  out->own = c;
  return !c.bad;
}

/* The entry of the function around pc, by the sorted table in front of the section; 0: there is none. */
static uintptr_t search(const struct bursar_module_found *module, uintptr_t pc) {
  uintptr_t base = (uintptr_t)module->eh;
  struct cursor c = {module->eh, (const unsigned char *)module->to, false};
  if (base < module->from || base >= module->to)
    return 0;
  uint8_t version = read_u8(&c), section = read_u8(&c), count_as = read_u8(&c), table_as = read_u8(&c);
  if (version != 1 || count_as != UDATA4 || table_as != SEARCH_TABLE)
    return 0;
  (void)read_pointer(&c, section);
  uint32_t low = 0, high = read_u32(&c);
  if (c.bad || (uint64_t)high * 8 > (uint64_t)(c.end - c.at))
    return 0;
  while (low < high) {
    int32_t from;
    uint32_t middle = low + (high - low) / 2;
    memcpy(&from, c.at + (size_t)middle * 8, sizeof from);
    if (base + (uintptr_t)(intptr_t)from <= pc)
      low = middle + 1;
    else
      high = middle;
  }
  if (!low)
    return 0;
  int32_t entry;
  memcpy(&entry, c.at + (size_t)(low - 1) * 8 + 4, sizeof entry);
  return base + (uintptr_t)(intptr_t)entry;
}

/* --- instructions -------------------------------------------------------------------------------------------------------- */

/* A register's rule, of the two that matter besides the frame's end. */
struct saved {
  enum { SAME, AT_END, AT_EXPRESSION, LOST } kind;
  int64_t offset;
};

struct row {
  enum { BY_REGISTER, BY_MEMORY, BY_UNKNOWN } kind; /* the frame's end: register + offset, or what is there, + add */
  uint64_t reg;
  int64_t offset, add;
  struct saved bp, ret;
};

#define STATES 8

struct machine {
  const struct entry *entry;
  struct row row, first; /* first: after the common instructions */
  struct row states[STATES];
  unsigned depth;
  uintptr_t at;
};

static struct saved *saved_of(struct machine *m, uint64_t reg) {
  return reg == RBP ? &m->row.bp : reg == RETURN ? &m->row.ret : NULL;
}

static void set(struct machine *m, uint64_t reg, struct saved saved) {
  struct saved *to = saved_of(m, reg);
  if (to)
    *to = saved;
}

static void restore(struct machine *m, uint64_t reg) {
  struct saved *to = saved_of(m, reg);
  if (to)
    *to = reg == RBP ? m->first.bp : m->first.ret;
}

/* An expression of the form `breg R offset`, then maybe a dereference, then maybe a constant to add. */
static bool read_expression(struct cursor *c, uint64_t *reg, int64_t *offset, bool *leads, int64_t *add) {
  enum { DEREFERENCE = 0x06, PLUS_CONSTANT = 0x23, BREG0 = 0x70, BREG31 = 0x8f };
  uint64_t bytes = read_uleb(c);
  struct cursor e = *c;
  skip(c, bytes);
  e.end = c->at;
  uint8_t code = read_u8(&e);
  *leads = false;
  *add = 0;
  if (c->bad || e.bad || code < BREG0 || code > BREG31)
    return false;
  *reg = code - BREG0;
  *offset = read_sleb(&e);
  while (!e.bad && e.at < e.end) {
    code = read_u8(&e);
    if (code == DEREFERENCE && !*leads)
      *leads = true;
    else if (code == PLUS_CONSTANT && *leads)
      *add += (int64_t)read_uleb(&e);
    else if (code == PLUS_CONSTANT)
      *offset += (int64_t)read_uleb(&e);
    else
      return false;
  }
  return !e.bad;
}

static void set_by_expression(struct machine *m, struct cursor *c) {
  bool leads;
  m->row.kind = BY_UNKNOWN;
  if (read_expression(c, &m->row.reg, &m->row.offset, &leads, &m->row.add))
    m->row.kind = leads ? BY_MEMORY : BY_REGISTER;
}

static void save_by_expression(struct machine *m, struct cursor *c, bool leads_there) {
  uint64_t reg = read_uleb(c), base = 0;
  int64_t offset = 0, add = 0;
  bool leads;
  bool known = read_expression(c, &base, &offset, &leads, &add) && !leads && base == RBP && leads_there;
  set(m, reg, (struct saved){known && reg == RBP ? AT_EXPRESSION : LOST, offset});
}

static void define_register(struct machine *m, uint64_t reg) {
  m->row.reg = reg;
  m->row.kind = BY_REGISTER;
}

/* The instructions whose number fills the byte. */
static bool step_plain(struct machine *m, struct cursor *c, uint8_t code) {
  const int64_t unit = m->entry->data_unit;
  uint64_t reg;
  switch (code) {
    case 0x00: break;
    case 0x01: m->at = read_pointer(c, m->entry->how); break;
    case 0x02: m->at += read_u8(c) * m->entry->code_unit; break;
    case 0x03: m->at += read_bytes(c, 2) * m->entry->code_unit; break;
    case 0x04: m->at += read_u32(c) * m->entry->code_unit; break;
    case 0x05: /* a register's place: far numbers */
      reg = read_uleb(c);
      set(m, reg, (struct saved){AT_END, (int64_t)read_uleb(c) * unit});
      break;
    case 0x06: restore(m, read_uleb(c)); break;
    case 0x07: set(m, read_uleb(c), (struct saved){LOST, 0}); break;
    case 0x08: set(m, read_uleb(c), (struct saved){SAME, 0}); break;
    case 0x09: /* in another register */
      set(m, read_uleb(c), (struct saved){LOST, 0});
      (void)read_uleb(c);
      break;
    case 0x0a:
      if (m->depth == STATES)
        return false;
      m->states[m->depth++] = m->row;
      break;
    case 0x0b:
      if (!m->depth)
        return false;
      m->row = m->states[--m->depth];
      break;
    case 0x0c:
      define_register(m, read_uleb(c));
      m->row.offset = (int64_t)read_uleb(c);
      break;
    case 0x0d: define_register(m, read_uleb(c)); break;
    case 0x0e: m->row.offset = (int64_t)read_uleb(c); break;
    case 0x0f: set_by_expression(m, c); break;
    case 0x10: save_by_expression(m, c, true); break;
    case 0x11:
      reg = read_uleb(c);
      set(m, reg, (struct saved){AT_END, read_sleb(c) * unit});
      break;
    case 0x12:
      define_register(m, read_uleb(c));
      m->row.offset = read_sleb(c) * unit;
      break;
    case 0x13: m->row.offset = read_sleb(c) * unit; break;
    case 0x14: /* what it was, less something: nobody writes this of these registers */
    case 0x15:
      set(m, read_uleb(c), (struct saved){LOST, 0});
      (void)read_uleb(c);
      break;
    case 0x16: save_by_expression(m, c, false); break;
    case 0x2e: (void)read_uleb(c); break; /* the size of arguments: GNU's */
    default: return false;
  }
  return !c->bad;
}

static bool step(struct machine *m, struct cursor *c) {
  uint8_t code = read_u8(c), low = code & 63;
  switch (code >> 6) {
    case 1: m->at += low * m->entry->code_unit; return true;
    case 2: set(m, low, (struct saved){AT_END, (int64_t)read_uleb(c) * m->entry->data_unit}); return !c->bad;
    case 3: restore(m, low); return true;
    default: return step_plain(m, c, code);
  }
}

/* Runs the instructions up to the place; the row is its then. */
static bool run(struct machine *m, struct cursor c, uintptr_t pc) {
  while (c.at < c.end) {
    if (!step(m, &c))
      return false;
    if (m->at > pc) /* it only went on: the row is still that of before */
      return true;
  }
  return true;
}

static bool fits(int64_t value, int64_t limit) { return value >= -limit && value < limit && value % 8 == 0; }

static struct bursar_cfi_rule rule_of(const struct row *row) {
  struct bursar_cfi_rule rule = {.kind = BURSAR_CFI_NONE}, none = rule;
  if (row->ret.kind != AT_END || row->ret.offset != -8 || !fits(row->offset, INT32_MAX))
    return none;
  rule.cfa = (int32_t)row->offset;
  if (row->kind == BY_REGISTER && (row->reg == RSP || row->reg == RBP))
    rule.kind = row->reg == RSP ? BURSAR_CFI_SP : BURSAR_CFI_BP;
  else if (row->kind == BY_MEMORY && row->reg == RBP && row->add == 0)
    rule.kind = BURSAR_CFI_AT_BP;
  else
    return none;
  bool near = fits(row->bp.offset, INT16_MAX);
  switch (row->bp.kind) {
    case SAME: rule.bp_kind = BURSAR_CFI_BP_SAME; break;
    case AT_END: rule.bp_kind = near ? BURSAR_CFI_BP_BELOW_END : BURSAR_CFI_BP_LOST; break;
    case AT_EXPRESSION: rule.bp_kind = near ? BURSAR_CFI_BP_AT_BP : BURSAR_CFI_BP_LOST; break;
    default: rule.bp_kind = BURSAR_CFI_BP_LOST;
  }
  rule.bp = near ? (int16_t)row->bp.offset : 0;
  return rule;
}

struct bursar_cfi_rule bursar_cfi_find(const struct bursar_module_found *module, uintptr_t pc) {
  struct bursar_cfi_rule none = {.kind = BURSAR_CFI_NONE};
  struct entry entry;
  uintptr_t at = module->eh ? search(module, pc) : 0;
  if (!at || !read_entry(module, at, &entry) || pc < entry.from || pc >= entry.to)
    return none;
  if (entry.signal)
    return (struct bursar_cfi_rule){.kind = BURSAR_CFI_SIGNAL};
  struct machine m = {.entry = &entry, .row = {.kind = BY_UNKNOWN}, .at = entry.from};
  if (!run(&m, entry.common, UINTPTR_MAX))
    return none;
  m.first = m.row;
  m.at = entry.from;
  return run(&m, entry.own, pc) ? rule_of(&m.row) : none;
}
