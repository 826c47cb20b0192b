#include "report/symbols.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/dwarf.h"
#include "report/elf.h"

#define TEXT_MAX 4096u /* of one name: templates make longer ones than anybody reads */

/* Texts that were made, in pieces that never move. */
struct piece {
  struct piece *next;
  char text[];
};

struct bursar_symbols {
  struct bursar_elf *elf;
  struct bursar_dwarf *dwarf;
  struct piece *pieces;
};

enum bursar_symbols_status bursar_symbols_open(const char *path, struct bursar_text build_id,
                                               struct bursar_symbols **out) {
  struct bursar_elf *elf = bursar_elf_open(path);
  if (!elf)
    return BURSAR_SYMBOLS_ABSENT;
  const char *id = bursar_elf_build_id(elf);
  struct bursar_symbols *symbols = NULL;
  enum bursar_symbols_status status = BURSAR_SYMBOLS_ABSENT;
  if (build_id.length && (strlen(id) != build_id.length || memcmp(id, build_id.bytes, build_id.length) != 0))
    status = BURSAR_SYMBOLS_REPLACED;
  else
    symbols = calloc(1, sizeof *symbols);
  if (!symbols) {
    bursar_elf_close(elf);
    return status;
  }
  symbols->elf = elf;
  symbols->dwarf = bursar_dwarf_open(path);
  *out = symbols;
  return BURSAR_SYMBOLS_FOUND;
}

static struct bursar_text keep(struct bursar_symbols *symbols, const char *before, const char *between,
                               const char *text) {
  size_t parts[] = {strlen(before), strlen(between), strlen(text)}, length = parts[0] + parts[1] + parts[2];
  struct piece *piece = malloc(sizeof *piece + length + 1);
  if (!piece)
    return (struct bursar_text){NULL, 0};
  piece->next = symbols->pieces;
  symbols->pieces = piece;
  snprintf(piece->text, length + 1, "%s%s%s", before, between, text);
  return (struct bursar_text){piece->text, (uint32_t)(length < TEXT_MAX ? length : TEXT_MAX)};
}

/* Itanium's C++ ABI, which GCC's and Clang's libraries have under the same name. */
typedef char *demangler(const char *name, char *into, size_t *room, int *status);
static demangler *find_demangler(void) {
  static const char *const libraries[] = {"libstdc++.so.6", "libc++abi.so.1"};
  static bool tried;
  static demangler *found;
  for (unsigned i = 0; !tried && !found && i < 2; i++) {
    void *library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    if (library)
      *(void **)(void *)&found = dlsym(library, "__cxa_demangle");
  }
  tried = true;
  return found;
}

/* Compilers make several of one function (`f.constprop.0`, `f.cold`): it is called by its own name.  Where it ends. */
static size_t own_length(const char *name) {
  static const char *const kinds[] = {".cold", ".constprop.", ".isra.", ".lto_priv.", ".part."};
  size_t length = strlen(name);
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    const char *kind = strstr(name, kinds[i]);
    if (kind && kind != name && (size_t)(kind - name) < length)
      length = (size_t)(kind - name);
  }
  return length;
}

static struct bursar_text demangled(struct bursar_symbols *symbols, const char *given) {
  int status = -1;
  struct bursar_text whole = keep(symbols, "", "", given);
  char *name = whole.bytes ? symbols->pieces->text : NULL;
  if (!name)
    return whole;
  name[own_length(name)] = 0;
  demangler *demangle = name[0] == '_' && name[1] == 'Z' ? find_demangler() : NULL;
  char *text = demangle ? demangle(name, NULL, NULL, &status) : NULL;
  struct bursar_text kept = {name, (uint32_t)(strlen(name) < TEXT_MAX ? strlen(name) : TEXT_MAX)};
  if (status == 0 && text)
    kept = keep(symbols, "", "", text);
  free(text);
  return kept;
}

static struct bursar_text file_of(struct bursar_symbols *symbols, const struct bursar_dwarf_frame *from) {
  if (!from->file)
    return (struct bursar_text){NULL, 0};
  bool whole = from->file[0] == '/' || !from->folder;
  return whole ? keep(symbols, "", "", from->file) : keep(symbols, from->folder, "/", from->file);
}

unsigned bursar_symbols_find(struct bursar_symbols *symbols, uint64_t offset,
                             struct bursar_symbols_frame frames[BURSAR_SYMBOLS_FRAMES]) {
  struct bursar_dwarf_frame found[BURSAR_SYMBOLS_FRAMES];
  unsigned count = symbols->dwarf ? bursar_dwarf_find(symbols->dwarf, offset, found, BURSAR_SYMBOLS_FRAMES) : 0;
  for (unsigned i = 0; i < count; i++)
    frames[i] = (struct bursar_symbols_frame){
        .function = found[i].function ? demangled(symbols, found[i].function) : (struct bursar_text){NULL, 0},
        .file = file_of(symbols, &found[i]),
        .line = found[i].line};
  const char *name = count ? NULL : bursar_elf_function(symbols->elf, offset);
  if (!name)
    return count;
  frames[0] = (struct bursar_symbols_frame){.function = demangled(symbols, name)};
  return 1;
}

void bursar_symbols_close(struct bursar_symbols *symbols) {
  if (!symbols)
    return;
  bursar_dwarf_close(symbols->dwarf);
  bursar_elf_close(symbols->elf);
  while (symbols->pieces) {
    struct piece *next = symbols->pieces->next;
    free(symbols->pieces);
    symbols->pieces = next;
  }
  free(symbols);
}

const char *bursar_symbols_missing(void) { return bursar_dwarf_missing(); }
