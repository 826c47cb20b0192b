#include "prim/modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As glibc's dlfcn.h has it from 2.35 on; written out, so that what is built elsewhere works here and the other way. */
struct object {
  unsigned long long flags;
  void *from, *to;
  struct link_map *map;
  void *eh;
  unsigned long long reserved[8];
};
static int (*find_object)(void *address, struct object *out);

bool bursar_modules_start(void) {
  if (!find_object)
    *(void **)(void *)&find_object = dlsym(RTLD_DEFAULT, "_dl_find_object");
  return find_object != NULL;
}

bool bursar_modules_find(uintptr_t address, struct bursar_module_found *out) {
  struct object found;
  if (find_object((void *)address, &found) != 0)
    return false;
  *out = (struct bursar_module_found){.from = (uintptr_t)found.from,
                                      .to = (uintptr_t)found.to,
                                      .bias = found.map->l_addr,
                                      .name = found.map->l_name,
                                      .eh = found.eh};
  return true;
}

/* The kernel copies the set before it looks at what to do with it, and there is no such thing to do: EFAULT or EINVAL. */
bool bursar_modules_readable(uintptr_t address) {
  int kept = errno;
  bool readable = syscall(SYS_rt_sigprocmask, ~0, address & ~(uintptr_t)7, NULL, 8) == -1 && errno == EINVAL;
  errno = kept;
  return readable;
}

bool bursar_modules_program(char *out, unsigned room) {
  int kept = errno;
  ssize_t length = room ? readlink("/proc/self/exe", out, room - 1) : -1;
  errno = kept;
  if (length <= 0)
    return false;
  out[length] = 0;
  return true;
}

static unsigned write_hex(const unsigned char *bytes, uint32_t count, char *out, unsigned room) {
  static const char digits[] = "0123456789abcdef";
  if (count == 0 || (uint64_t)count * 2 + 1 > room)
    return 0;
  for (uint32_t i = 0; i < count; i++) {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[2 * count] = 0;
  return 2 * count;
}

static unsigned find_in_notes(const unsigned char *at, const unsigned char *end, size_t alignment, char *out,
                              unsigned room) {
  ElfW(Nhdr) note;
  while ((size_t)(end - at) >= sizeof note) {
    memcpy(&note, at, sizeof note);
    size_t name = ((size_t)note.n_namesz + alignment - 1) & ~(alignment - 1);
    size_t bytes = ((size_t)note.n_descsz + alignment - 1) & ~(alignment - 1);
    if (name + bytes > (size_t)(end - at) - sizeof note)
      return 0;
    at += sizeof note;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(at, "GNU", 4) == 0)
      return write_hex(at + name, note.n_descsz, out, room);
    at += name + bytes;
  }
  return 0;
}

/* Its headers are at its beginning, where the linker puts them unless it is told not to. */
unsigned bursar_modules_build_id(const struct bursar_module_found *module, char *out, unsigned room) {
  const ElfW(Ehdr) *head = (const void *)module->from;
  uintptr_t bytes = module->to - module->from;
  if (bytes < sizeof *head || !bursar_modules_readable(module->from) || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
      head->e_phentsize != sizeof(ElfW(Phdr)) || head->e_phoff > 4096 - sizeof *head ||
      head->e_phoff + head->e_phnum * sizeof(ElfW(Phdr)) > 4096)
    return 0;
  const ElfW(Phdr) *part = (const void *)(module->from + head->e_phoff);
  for (unsigned i = 0; i < head->e_phnum; i++, part++) {
    uintptr_t from = module->bias + part->p_vaddr;
    if (part->p_type != PT_NOTE || from < module->from || from >= module->to || part->p_filesz > module->to - from)
      continue;
    unsigned found = find_in_notes((const void *)from, (const unsigned char *)from + part->p_filesz,
                                   part->p_align == 8 ? 8 : 4, out, room);
    if (found)
      return found;
  }
  return 0;
}
