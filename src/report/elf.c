#include "report/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUILD_ID_MAX 64 /* bytes; linkers make 20 */

struct function {
  uint64_t from, to;
  const char *name;
  bool local;
};

struct bursar_elf {
  const unsigned char *bytes;
  uint64_t length;
  const Elf64_Ehdr *head;
  char build_id[2 * BUILD_ID_MAX + 1];
  bool loaded;
  struct function *functions; /* sorted */
  uint32_t count;
};

static bool within(const struct bursar_elf *elf, uint64_t offset, uint64_t bytes) {
  return offset <= elf->length && bytes <= elf->length - offset;
}

/* The table of `count` items of `size` at `offset`; NULL where it is not all there, or cannot be read in place. */
static const void *table(const struct bursar_elf *elf, uint64_t offset, uint64_t count, uint64_t size) {
  return count <= elf->length / size && offset % 8 == 0 && within(elf, offset, count * size) ? elf->bytes + offset
                                                                                             : NULL;
}

static bool is_module(const struct bursar_elf *elf) {
  const Elf64_Ehdr *head = elf->head;
  return elf->length >= sizeof *head && memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 &&
         head->e_ident[EI_CLASS] == ELFCLASS64 && head->e_ident[EI_DATA] == ELFDATA2LSB;
}

/* --- the build id -------------------------------------------------------------------------------------------------------- */

static bool find_in_notes(struct bursar_elf *elf, uint64_t at, uint64_t bytes, uint64_t alignment) {
  static const char digits[] = "0123456789abcdef";
  Elf64_Nhdr note;
  for (uint64_t end = at + bytes; end - at >= sizeof note;) {
    memcpy(&note, elf->bytes + at, sizeof note);
    at += sizeof note;
    uint64_t name = (note.n_namesz + alignment - 1) & ~(alignment - 1);
    uint64_t text = (note.n_descsz + alignment - 1) & ~(alignment - 1);
    if (name > end - at || text > end - at - name)
      return false;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(elf->bytes + at, "GNU", 4) == 0) {
      for (uint32_t i = 0; i < note.n_descsz && i < BUILD_ID_MAX; i++) {
        elf->build_id[2 * i] = digits[elf->bytes[at + name + i] >> 4];
        elf->build_id[2 * i + 1] = digits[elf->bytes[at + name + i] & 15];
      }
      return true;
    }
    at += name + text;
  }
  return false;
}

static void find_build_id(struct bursar_elf *elf) {
  const Elf64_Phdr *part =
      elf->head->e_phentsize == sizeof *part ? table(elf, elf->head->e_phoff, elf->head->e_phnum, sizeof *part) : NULL;
  for (unsigned i = 0; part && i < elf->head->e_phnum; i++)
    if (part[i].p_type == PT_NOTE && within(elf, part[i].p_offset, part[i].p_filesz) &&
        find_in_notes(elf, part[i].p_offset, part[i].p_filesz, part[i].p_align == 8 ? 8 : 4))
      return;
}

/* --- functions ------------------------------------------------------------------------------------------------------------ */

static int by_address(const void *left, const void *right) {
  const struct function *a = left, *b = right;
  if (a->from != b->from)
    return a->from < b->from ? -1 : 1;
  if (a->to != b->to) /* a size is better than none */
    return a->to > b->to ? -1 : 1;
  if (a->local != b->local)
    return a->local ? 1 : -1;
  return strcmp(a->name, b->name);
}

static bool is_function(const Elf64_Sym *symbol) {
  unsigned type = ELF64_ST_TYPE(symbol->st_info);
  return (type == STT_FUNC || type == STT_GNU_IFUNC) && symbol->st_shndx != SHN_UNDEF && symbol->st_value;
}

static void add_functions(struct bursar_elf *elf, const Elf64_Shdr *sections, const Elf64_Shdr *section) {
  const Elf64_Sym *symbols = table(elf, section->sh_offset, section->sh_size / sizeof *symbols, sizeof *symbols);
  uint64_t count = section->sh_size / sizeof *symbols;
  if (!symbols || section->sh_link >= elf->head->e_shnum)
    return;
  const Elf64_Shdr *names = &sections[section->sh_link];
  if (!within(elf, names->sh_offset, names->sh_size) || !names->sh_size ||
      elf->bytes[names->sh_offset + names->sh_size - 1])
    return; /* names end within the table */
  struct function *grown =
      count < UINT32_MAX / 2 ? realloc(elf->functions, (elf->count + count + 1) * sizeof *elf->functions) : NULL;
  if (!grown)
    return;
  elf->functions = grown;
  for (uint64_t i = 0; i < count; i++)
    if (is_function(&symbols[i]) && symbols[i].st_name < names->sh_size)
      elf->functions[elf->count++] = (struct function){symbols[i].st_value, symbols[i].st_value + symbols[i].st_size,
                                                       (const char *)elf->bytes + names->sh_offset + symbols[i].st_name,
                                                       ELF64_ST_BIND(symbols[i].st_info) == STB_LOCAL};
}

/* Several names of one place: the first. */
static void load_functions(struct bursar_elf *elf) {
  elf->loaded = true;
  const Elf64_Shdr *sections = elf->head->e_shentsize == sizeof *sections
                                   ? table(elf, elf->head->e_shoff, elf->head->e_shnum, sizeof *sections)
                                   : NULL;
  for (unsigned i = 0; sections && i < elf->head->e_shnum; i++)
    if (sections[i].sh_type == SHT_SYMTAB || sections[i].sh_type == SHT_DYNSYM)
      add_functions(elf, sections, &sections[i]);
  if (!elf->count)
    return;
  qsort(elf->functions, elf->count, sizeof *elf->functions, by_address);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < elf->count; i++)
    if (!kept || elf->functions[i].from != elf->functions[kept - 1].from)
      elf->functions[kept++] = elf->functions[i];
  elf->count = kept;
}

const char *bursar_elf_function(struct bursar_elf *elf, uint64_t address) {
  if (!elf->loaded)
    load_functions(elf);
  uint32_t low = 0, high = elf->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (elf->functions[middle].from <= address)
      low = middle + 1;
    else
      high = middle;
  }
  if (!low)
    return NULL;
  const struct function *found = &elf->functions[low - 1];
  return address < found->to ? found->name : NULL;
}

/* --- the file --------------------------------------------------------------------------------------------------------------- */

struct bursar_elf *bursar_elf_open(const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  struct bursar_elf *elf = fd >= 0 ? calloc(1, sizeof *elf) : NULL;
  if (elf && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    elf->bytes = bytes == MAP_FAILED ? NULL : bytes;
    elf->length = elf->bytes ? (uint64_t)st.st_size : 0;
    elf->head = (const void *)elf->bytes;
  }
  if (fd >= 0)
    close(fd);
  if (elf && !is_module(elf)) {
    bursar_elf_close(elf);
    return NULL;
  }
  if (elf)
    find_build_id(elf);
  return elf;
}

const char *bursar_elf_build_id(const struct bursar_elf *elf) { return elf->build_id; }

void bursar_elf_close(struct bursar_elf *elf) {
  if (!elf)
    return;
  free(elf->functions);
  if (elf->bytes)
    munmap((void *)elf->bytes, elf->length);
  free(elf);
}
