#include "native/patch.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "native/descriptors.h"
#include "native/native.h"
#include "prim/prim.h"

static bool dirty; /* atomic: any thread may load a module */
static void (*tell)(void);

/* In tail position, so that the loader still sees who called: it looks for libraries where that module says. */
static void *(*original_dlopen)(const char *, int);
static void *hook_dlopen(const char *file, int flags) {
  __atomic_store_n(&dirty, true, __ATOMIC_RELAXED);
  if (tell)
    tell();
  return original_dlopen(file, flags);
}

static struct bursar_native_originals *originals(void) { return &bursar_native_table.originals; }

/* What a name means and what it shall mean.  A program that is not position-independent and takes the address of a function
 * makes a stub of its own that address, for everybody; calls lead to the function all the same. */
struct name {
  const char *text;
  void *original, *stub, *hook;
  enum { ALL, WHO_LOOK_UP, NONE } where; /* whose places are changed */
};
#define NAMES_MAX 64
static struct name names[NAMES_MAX];
static unsigned name_count;
static bool begins[256]; /* letters that some name begins with: most symbols of a module need no comparison */

static void add_name(const char *text, void *original, void *hook, unsigned where) {
  if (!original || original == hook || name_count == NAMES_MAX)
    return;
  begins[(unsigned char)text[0]] = true;
  names[name_count++] = (struct name){text, original, dlsym(RTLD_DEFAULT, text), hook, where};
}

static const struct name *named(const char *text) {
  for (unsigned i = begins[(unsigned char)text[0]] ? 0 : name_count; i < name_count; i++)
    if (strcmp(names[i].text, text) == 0)
      return &names[i];
  return NULL;
}

/* Who calls functions by their names (ctypes, cffi) keeps their addresses where nobody finds them.  In tail position as above, where
 * it depends on who asks. */
static void *(*original_dlsym)(void *, const char *);
static void *hook_dlsym(void *module, const char *text) {
  if (module == RTLD_DEFAULT || module == RTLD_NEXT)
    return original_dlsym(module, text);
  void *found = original_dlsym(module, text);
  const struct name *name = found ? named(text) : NULL;
  return name && (found == name->original || found == name->stub) ? name->hook : found;
}

/* The function itself: the first one in the process, but for the stub of a program that has none. */
static void *definition(const char *name) {
  const ElfW(Sym) *symbol = NULL;
  Dl_info info;
  void *found = dlsym(RTLD_DEFAULT, name);
  bool stub = found && dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol &&
              symbol->st_shndx == SHN_UNDEF;
  return stub ? dlsym(RTLD_NEXT, name) : found;
}

static void find_loader(void) {
  if (original_dlopen)
    return;
  original_dlopen = (void *(*)(const char *, int))definition("dlopen");
  original_dlsym = (void *(*)(void *, const char *))definition("dlsym");
  add_name("dlopen", (void *)original_dlopen, (void *)hook_dlopen, ALL);
  add_name("dlsym", (void *)original_dlsym, (void *)hook_dlsym, WHO_LOOK_UP);
}

/* `preloaded`: the hooks are what the names mean already, but for who looks into the C library itself. */
static void find_names(bool preloaded) {
  static bool found;
  if (found)
    return;
  found = true;
  bursar_native_resolve(definition);
#define ADD(name, result, parameters)                                                                               \
  add_name(#name, (void *)originals()->name, preloaded ? dlsym(RTLD_DEFAULT, #name) : (void *)bursar_native_##name, \
           preloaded ? NONE : ALL);
  BURSAR_NATIVE_HOOKS(ADD)
#undef ADD
  if (!preloaded)
    add_name("mmap64", (void *)originals()->mmap, (void *)bursar_native_mmap, ALL);
  find_loader();
}

/* --- a module ------------------------------------------------------------------------------------------------------------ */

struct module {
  uintptr_t base, from, to; /* from, to: all of its segments */
  uintptr_t sealed_from, sealed_to;
  const ElfW(Sym) * symbols;
  const char *strings;
  const ElfW(Rela) * tables[2];
  size_t counts[2];
  bool looks_up;
};

/* The loader has made addresses of these, but for modules whose dynamic section is read-only. */
static uintptr_t address(const struct module *m, uintptr_t value) { return value < m->base ? value + m->base : value; }

static bool read_module(const struct dl_phdr_info *info, struct module *m) {
  const ElfW(Dyn) *dynamic = NULL;
  size_t bytes[2] = {0, 0};
  *m = (struct module){.base = info->dlpi_addr, .from = UINTPTR_MAX};
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &info->dlpi_phdr[i];
    uintptr_t from = m->base + part->p_vaddr, to = from + part->p_memsz;
    if (part->p_type == PT_DYNAMIC) {
      dynamic = (const void *)from;
    } else if (part->p_type == PT_GNU_RELRO) {
      m->sealed_from = from & ~(uintptr_t)(BURSAR_PRIM_PAGE - 1);
      m->sealed_to = to & ~(uintptr_t)(BURSAR_PRIM_PAGE - 1);
    } else if (part->p_type == PT_LOAD) {
      m->from = from < m->from ? from : m->from;
      m->to = to > m->to ? to : m->to;
    }
  }
  for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
    uintptr_t value = dynamic->d_un.d_val;
    switch (dynamic->d_tag) {
      case DT_SYMTAB: m->symbols = (const void *)address(m, value); break;
      case DT_STRTAB: m->strings = (const void *)address(m, value); break;
      case DT_JMPREL: m->tables[0] = (const void *)address(m, value); break;
      case DT_PLTRELSZ: bytes[0] = value; break;
      case DT_RELA: m->tables[1] = (const void *)address(m, value); break;
      case DT_RELASZ: bytes[1] = value; break;
      case DT_PLTREL:
        if (value != DT_RELA)
          return false;
        break;
      default: break;
    }
  }
  for (unsigned i = 0; i < 2; i++)
    m->counts[i] = m->tables[i] ? bytes[i] / sizeof(ElfW(Rela)) : 0;
  return m->symbols && m->strings;
}

static bool holds(const struct module *m, uintptr_t at) { return at >= m->from && at < m->to; }

/* ctypes and cffi; or whoever has them built in: Python's library, or the program. */
static bool looks_up(const char *path) {
  return !path[0] || strstr(path, "/_ctypes.") || strstr(path, "/_cffi_backend.") || strstr(path, "/libpython");
}

/* A place that calls go through, and that still leads to the module's own stub: nobody has called.  The loader would look
 * for the name in the whole process first, unless the module has it itself. */
static bool unbound(const struct module *m, const ElfW(Sym) * symbol, unsigned type, uintptr_t value) {
  return type == BURSAR_PRIM_RELOC_CALL && symbol->st_shndx == SHN_UNDEF && holds(m, value);
}

static bool change(const struct module *m, const ElfW(Rela) * entry) {
  unsigned type = (unsigned)ELF64_R_TYPE(entry->r_info);
  const ElfW(Sym) *symbol = &m->symbols[ELF64_R_SYM(entry->r_info)];
  if (type != BURSAR_PRIM_RELOC_CALL && type != BURSAR_PRIM_RELOC_ADDRESS && type != BURSAR_PRIM_RELOC_DATA)
    return false;
  const struct name *name = symbol->st_name ? named(m->strings + symbol->st_name) : NULL;
  if (!name || name->where == NONE || (name->where == WHO_LOOK_UP && !m->looks_up))
    return false;
  uintptr_t *place = (uintptr_t *)(m->base + entry->r_offset);
  uintptr_t value = __atomic_load_n(place, __ATOMIC_RELAXED),
            page = (uintptr_t)place & ~(uintptr_t)(BURSAR_PRIM_PAGE - 1);
  if (value != (uintptr_t)name->original && value != (uintptr_t)name->stub && !unbound(m, symbol, type, value))
    return false;
  bool sealed = page >= m->sealed_from && page < m->sealed_to;
  if (sealed && mprotect((void *)page, BURSAR_PRIM_PAGE, PROT_READ | PROT_WRITE) != 0)
    return false;
  __atomic_store_n(place, (uintptr_t)name->hook, __ATOMIC_RELEASE);
  if (sealed)
    (void)mprotect((void *)page, BURSAR_PRIM_PAGE, PROT_READ);
  return true;
}

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
  struct module m;
  unsigned *changed = context;
  if (!read_module(info, &m) || holds(&m, (uintptr_t)visit) || holds(&m, (uintptr_t)_r_debug.r_brk) ||
      strstr(info->dlpi_name, "linux-vdso"))
    return 0;
  m.looks_up = looks_up(info->dlpi_name);
  for (unsigned i = 0; i < 2; i++)
    for (size_t k = 0; k < m.counts[i]; k++)
      *changed += change(&m, &m.tables[i][k]);
  return 0;
}

static unsigned visit_all(void (*told)(void)) {
  unsigned changed = 0;
  tell = told;
  __atomic_store_n(&dirty, false, __ATOMIC_RELAXED);
  (void)dl_iterate_phdr(visit, &changed);
  return changed;
}

unsigned bursar_patch_all(void (*told)(void), bool preloaded) {
  find_names(preloaded);
  return visit_all(told);
}

int bursar_patch_descriptors(void (*told)(void), const struct bursar_descriptors_asker *asker) {
  static bool found;
  int status = bursar_descriptors_start(definition, asker);
  if (found || status != 0)
    return status;
  found = true;
#define ADD(name, result, parameters) add_name(#name, definition(#name), (void *)bursar_descriptors_##name, ALL);
  BURSAR_DESCRIPTORS_HOOKS(ADD)
#undef ADD
  find_loader();
  (void)visit_all(told);
  return 0;
}

void bursar_patch_again(void) { (void)visit_all(tell); }

bool bursar_patch_due(void) { return __atomic_load_n(&dirty, __ATOMIC_RELAXED); }
