#include "cli/binary.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPTS_MAX 5 /* of scripts whose interpreters are scripts: as many as Linux follows */
#define SHEBANG_MAX 256
#define SEGMENTS_MAX 128

/* Whatever has the right to more than its user is loaded without LD_PRELOAD. */
static bool has_more_rights(const char *path) {
  struct stat is;
  if (stat(path, &is) != 0)
    return false;
  if ((is.st_mode & S_ISUID && is.st_uid != getuid()) ||
      ((is.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && is.st_gid != getgid()))
    return true;
  return getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

static bool read_at(int fd, void *out, size_t bytes, uint64_t at) {
  return at <= INT64_MAX && pread(fd, out, bytes, (off_t)at) == (ssize_t)bytes;
}

/* The path of the loader that an ELF file of our own class asks for; "" where it asks for none. */
static bool loader_of(int fd, char out[PATH_MAX]) {
  ElfW(Ehdr) head;
  out[0] = 0;
  if (!read_at(fd, &head, sizeof head, 0) || head.e_phentsize != sizeof(ElfW(Phdr)) || head.e_phnum > SEGMENTS_MAX)
    return false;
  for (unsigned i = 0; i < head.e_phnum; i++) {
    ElfW(Phdr) segment;
    if (!read_at(fd, &segment, sizeof segment, head.e_phoff + i * sizeof segment))
      return false;
    if (segment.p_type != PT_INTERP)
      continue;
    if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX || !read_at(fd, out, segment.p_filesz, segment.p_offset))
      return false;
    out[segment.p_filesz - 1] = 0;
    return true;
  }
  return true;
}

/* The same loader leads to the same C library, which is the one that ours was built for. */
static bool is_our_loader(const char *loader) {
  char own[PATH_MAX], real[PATH_MAX], own_real[PATH_MAX];
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  bool known = fd >= 0 && loader_of(fd, own) && own[0];
  if (fd >= 0)
    close(fd);
  return known &&
         (strcmp(own, loader) == 0 || (realpath(own, own_real) && realpath(loader, real) && !strcmp(own_real, real)));
}

static enum bursar_binary_kind look_at_elf(int fd, const unsigned char *head, const char *path, const char **why) {
  static const unsigned char own_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
  char loader[PATH_MAX];
  ElfW(Half) machine, own_machine;
  memcpy(&machine, head + offsetof(ElfW(Ehdr), e_machine), sizeof machine);
  int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  bool known = own >= 0 && read_at(own, &own_machine, sizeof own_machine, offsetof(ElfW(Ehdr), e_machine));
  if (own >= 0)
    close(own);
  *why = !known                                                  ? "/proc does not tell what this machine runs"
         : head[EI_CLASS] != own_class || machine != own_machine ? "it is for another processor than bursar"
         : !loader_of(fd, loader)                                ? "its ELF headers cannot be read"
         : !loader[0]                                            ? "it is statically linked"
         : !is_our_loader(loader)                                ? "its C library is another one than bursar's"
         : has_more_rights(path)                                 ? "it runs with more rights than yours (setuid)"
                                                                 : NULL;
  return *why ? BURSAR_BINARY_UNFIT : BURSAR_BINARY_FITS;
}

/* The interpreter in a script's first line. */
static bool interpreter_of(char *line, struct bursar_program_file *file) {
  line[strcspn(line, "\r\n")] = 0;
  char *word = line + 2 + strspn(line + 2, " \t");
  word[strcspn(word, " \t")] = 0;
  size_t bytes = strlen(word);
  memcpy(file->path, word, bytes + 1);
  return bytes != 0;
}

enum bursar_binary_kind bursar_binary_look(struct bursar_program_file *file, const char **why) {
  for (unsigned i = 0; i <= SCRIPTS_MAX; i++) {
    unsigned char head[SHEBANG_MAX + 1] = {0};
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
      *why = "it cannot be read";
      return errno == EACCES ? BURSAR_BINARY_UNFIT : BURSAR_BINARY_NONE;
    }
    ssize_t n = pread(fd, head, SHEBANG_MAX, 0);
    enum bursar_binary_kind kind = BURSAR_BINARY_NONE;
    bool elf = n >= (ssize_t)sizeof(ElfW(Ehdr)) && memcmp(head, ELFMAG, SELFMAG) == 0;
    if (elf)
      kind = look_at_elf(fd, head, file->path, why);
    close(fd);
    if (elf || n < 2 || memcmp(head, "#!", 2) != 0 || !interpreter_of((char *)head, file))
      return kind;
  }
  return BURSAR_BINARY_NONE;
}
