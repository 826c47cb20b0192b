#include "report/dwarf.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#ifdef BURSAR_HAVE_LIBDW

  #include <dwarf.h>
  #include <elfutils/libdw.h>
  #include <elfutils/libdwfl.h>

  /* Not linked: where a report is read need not be where bursar was built, and it is read without lines too. */
  #define FUNCTIONS(X)              \
    X(dwarf_attr)                   \
    X(dwarf_attr_integrate)         \
    X(dwarf_diename)                \
    X(dwarf_filesrc)                \
    X(dwarf_formstring)             \
    X(dwarf_formudata)              \
    X(dwarf_getscopes)              \
    X(dwarf_getscopes_die)          \
    X(dwarf_getsrcfiles)            \
    X(dwarf_tag)                    \
    X(dwfl_begin)                   \
    X(dwfl_build_id_find_elf)       \
    X(dwfl_end)                     \
    X(dwfl_line_comp_dir)           \
    X(dwfl_lineinfo)                \
    X(dwfl_module_addrdie)          \
    X(dwfl_module_addrinfo)         \
    X(dwfl_module_getelf)           \
    X(dwfl_module_getsrc)           \
    X(dwfl_offline_section_address) \
    X(dwfl_report_end)              \
    X(dwfl_report_offline)          \
    X(dwfl_standard_find_debuginfo)

  #define MEMBER(name) __typeof__(&name) name;
static struct {
  FUNCTIONS(MEMBER)
} lib;
  #undef MEMBER

static Dwfl_Callbacks callbacks;

struct bursar_dwarf {
  Dwfl *session;
  Dwfl_Module *module;
  Dwarf_Addr bias; /* libdwfl's addresses, less the file's */
};

static bool load(void) {
  static bool tried, found;
  if (tried)
    return found;
  tried = true;
  void *library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return false;
  #define FIND(name)                                            \
    if (!(*(void **)(void *)&lib.name = dlsym(library, #name))) \
      return false;
  FUNCTIONS(FIND)
  #undef FIND
  callbacks = (Dwfl_Callbacks){.find_elf = lib.dwfl_build_id_find_elf,
                               .find_debuginfo = lib.dwfl_standard_find_debuginfo,
                               .section_address = lib.dwfl_offline_section_address};
  return found = true;
}

const char *bursar_dwarf_missing(void) {
  return load() ? NULL : "native frames have no files and lines: install elfutils' libdw (Debian: libdw1)";
}

struct bursar_dwarf *bursar_dwarf_open(const char *path) {
  struct bursar_dwarf *dwarf = load() ? calloc(1, sizeof *dwarf) : NULL;
  if (!dwarf)
    return NULL;
  GElf_Addr bias = 0;
  dwarf->session = lib.dwfl_begin(&callbacks);
  dwarf->module = dwarf->session ? lib.dwfl_report_offline(dwarf->session, "", path, -1) : NULL;
  if (!dwarf->module || lib.dwfl_report_end(dwarf->session, NULL, NULL) != 0 ||
      !lib.dwfl_module_getelf(dwarf->module, &bias)) {
    bursar_dwarf_close(dwarf);
    return NULL;
  }
  dwarf->bias = bias;
  return dwarf;
}

/* --- one place ------------------------------------------------------------------------------------------------------------ */

static const char *name_of(Dwarf_Die *die) {
  Dwarf_Attribute memory, *linkage = lib.dwarf_attr_integrate(die, DW_AT_linkage_name, &memory);
  if (!linkage)
    linkage = lib.dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &memory);
  const char *name = linkage ? lib.dwarf_formstring(linkage) : NULL;
  return name ? name : lib.dwarf_diename(die);
}

static uint32_t number_of(Dwarf_Die *die, unsigned attribute) {
  Dwarf_Attribute memory, *found = lib.dwarf_attr(die, attribute, &memory);
  Dwarf_Word value = 0;
  return found && lib.dwarf_formudata(found, &value) == 0 && value <= UINT32_MAX ? (uint32_t)value : 0;
}

/* Where a function was inlined: the caller's file and line. */
static void find_call(Dwarf_Die *unit, Dwarf_Die *inlined, struct bursar_dwarf_frame *caller) {
  Dwarf_Files *files;
  size_t count;
  uint32_t file = number_of(inlined, DW_AT_call_file);
  caller->line = number_of(inlined, DW_AT_call_line);
  if (lib.dwarf_getsrcfiles(unit, &files, &count) == 0 && file && file < count)
    caller->file = lib.dwarf_filesrc(files, file, NULL, NULL);
}

/* Fills in functions, and the places of those that have inlined others; frames[0] has its place already. */
static unsigned find_functions(Dwarf_Die *unit, Dwarf_Addr address, struct bursar_dwarf_frame *frames, unsigned room) {
  Dwarf_Die *scopes = NULL, *around = NULL;
  int count = lib.dwarf_getscopes(unit, address, &scopes), at = 0;
  unsigned n = 0;
  while (at < count && lib.dwarf_tag(&scopes[at]) != DW_TAG_subprogram &&
         lib.dwarf_tag(&scopes[at]) != DW_TAG_inlined_subroutine)
    at++;
  count = at < count ? lib.dwarf_getscopes_die(&scopes[at], &around) : 0;
  for (int i = 0; i < count && n < room; i++) {
    int tag = lib.dwarf_tag(&around[i]);
    if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine)
      continue;
    if (n)
      frames[n].folder = frames[0].folder;
    frames[n++].function = name_of(&around[i]);
    if (tag == DW_TAG_subprogram)
      break;
    if (n < room)
      find_call(unit, &around[i], &frames[n]);
  }
  free(scopes);
  free(around);
  return n;
}

static void find_line(struct bursar_dwarf *dwarf, Dwarf_Addr address, struct bursar_dwarf_frame *frame) {
  Dwfl_Line *line = lib.dwfl_module_getsrc(dwarf->module, address);
  int number = 0;
  if (!line)
    return;
  frame->file = lib.dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
  frame->folder = lib.dwfl_line_comp_dir(line);
  frame->line = number > 0 ? (uint32_t)number : 0;
}

/* By the symbol tables, also that of separate debug information. */
static const char *find_symbol(struct bursar_dwarf *dwarf, Dwarf_Addr address) {
  GElf_Off offset = 0;
  GElf_Sym symbol;
  const char *name = lib.dwfl_module_addrinfo(dwarf->module, address, &offset, &symbol, NULL, NULL, NULL);
  return name && *name && offset < symbol.st_size ? name : NULL;
}

unsigned bursar_dwarf_find(struct bursar_dwarf *dwarf, uint64_t address, struct bursar_dwarf_frame *frames,
                           unsigned room) {
  Dwarf_Addr there = address + dwarf->bias, bias = 0;
  memset(frames, 0, room * sizeof *frames);
  find_line(dwarf, there, &frames[0]);
  Dwarf_Die *unit = lib.dwfl_module_addrdie(dwarf->module, there, &bias);
  unsigned count = unit ? find_functions(unit, there - bias, frames, room) : 0;
  if (count) { /* debug information has no full name for a static function of C++ */
    const char *name = frames[count - 1].function, *symbol = name && name[0] == '_' ? NULL : find_symbol(dwarf, there);
    if (symbol && symbol[0] == '_' && symbol[1] == 'Z')
      frames[count - 1].function = symbol;
    return count;
  }
  frames[0].function = find_symbol(dwarf, there);
  return frames[0].function ? 1 : 0;
}

void bursar_dwarf_close(struct bursar_dwarf *dwarf) {
  if (dwarf && dwarf->session)
    lib.dwfl_end(dwarf->session);
  free(dwarf);
}

#else

const char *bursar_dwarf_missing(void) {
  return "native frames have no files and lines: this bursar was built without elfutils' libdw-dev";
}
struct bursar_dwarf *bursar_dwarf_open(const char *path) { return NULL; }
unsigned bursar_dwarf_find(struct bursar_dwarf *dwarf, uint64_t address, struct bursar_dwarf_frame *frames,
                           unsigned room) {
  return 0;
}
void bursar_dwarf_close(struct bursar_dwarf *dwarf) {}

#endif
