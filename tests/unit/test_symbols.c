/* Names, files and lines of a library's code, with debug information and without, and of another build of it. */
#include "report/symbols.h"
#include "tap.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prim/modules.h"
#include "report/elf.h"

struct place {
  const char *path;
  uint64_t offset;
  char build_id[130];
};

/* A return address in the library, as it is linked, less one: the call. */
static struct place find(const char *path, const char *function) {
  struct place place = {.path = path};
  void *library = dlopen(path, RTLD_NOW);
  void *(*where)(void) = NULL;
  struct bursar_module_found module;
  if (library)
    *(void **)(void *)&where = dlsym(library, function);
  uintptr_t at = where ? (uintptr_t)where() - 1 : 0;
  if (OK(at && bursar_modules_find(at, &module), "%s of %s is called", function, strrchr(path, '/') + 1)) {
    place.offset = at - module.bias;
    bursar_modules_build_id(&module, place.build_id, sizeof place.build_id);
  }
  return place;
}

static struct bursar_text text_of(const char *text) { return (struct bursar_text){text, (uint32_t)strlen(text)}; }

static struct bursar_symbols *opened(const struct place *place) {
  struct bursar_symbols *symbols = NULL;
  enum bursar_symbols_status status = bursar_symbols_open(place->path, text_of(place->build_id), &symbols);
  OK(status == BURSAR_SYMBOLS_FOUND, "it is the build that ran, %s", place->build_id);
  return symbols;
}

static void is_at(const struct bursar_symbols_frame *frame, const char *function, uint32_t line) {
  static const char file[] = "symbols_sample.c";
  OK(frame->function.length == strlen(function) && memcmp(frame->function.bytes, function, strlen(function)) == 0,
     "it is %s: %.*s", function, (int)frame->function.length, frame->function.bytes);
  if (!line) {
    OK(!frame->file.bytes && !frame->line, "no line is known");
    return;
  }
  EQ(frame->line, line);
  OK(frame->file.length >= sizeof file - 1 && frame->file.bytes[0] == '/' &&
         memcmp(frame->file.bytes + frame->file.length - (sizeof file - 1), file, sizeof file - 1) == 0,
     "and the file: %.*s", (int)frame->file.length, frame->file.bytes);
}

static void test_with_lines(const char *path) {
  struct bursar_symbols_frame frames[BURSAR_SYMBOLS_FRAMES];
  struct place place = find(path, "sample_here");
  struct bursar_symbols *symbols = opened(&place);
  if (!symbols)
    return;
  EQ(bursar_symbols_find(symbols, place.offset, frames), 1);
  is_at(&frames[0], "sample_here", 8);
  place = find(path, "sample_inlined");
  EQ(bursar_symbols_find(symbols, place.offset, frames), 3);
  is_at(&frames[0], "innermost", 14);
  is_at(&frames[1], "between", 20);
  is_at(&frames[2], "sample_inlined", 26);
  EQ(bursar_symbols_find(symbols, 1ull << 40, frames), 0);
  bursar_symbols_close(symbols);
}

static void test_without(const char *path) {
  struct bursar_symbols_frame frames[BURSAR_SYMBOLS_FRAMES];
  struct place place = find(path, "sample_inlined");
  struct bursar_symbols *symbols = opened(&place);
  if (!symbols)
    return;
  EQ(bursar_symbols_find(symbols, place.offset, frames), 1);
  is_at(&frames[0], "sample_inlined", 0);
  bursar_symbols_close(symbols);
}

/* The module's own symbol tables, where there is no libdw. */
static void test_own_tables(const char *path) {
  struct place here = find(path, "sample_here");
  struct bursar_elf *elf = bursar_elf_open(path);
  if (!OK(elf != NULL, "it is a module"))
    return;
  SAME(bursar_elf_build_id(elf), here.build_id);
  SAME(bursar_elf_function(elf, here.offset), "sample_here");
  OK(!bursar_elf_function(elf, 1), "nothing is at 1");
  OK(!bursar_elf_function(elf, UINT64_MAX), "nothing is at the end");
  bursar_elf_close(elf);
}

static void test_others(const char *path, const char *other) {
  struct bursar_symbols *symbols = NULL;
  struct place place = find(path, "sample_here");
  OK(bursar_symbols_open(other, text_of(place.build_id), &symbols) == BURSAR_SYMBOLS_REPLACED,
     "another build is "
     "known");
  OK(bursar_symbols_open("/nowhere/at/all.so", text_of(""), &symbols) == BURSAR_SYMBOLS_ABSENT, "so is no file");
  OK(bursar_symbols_open("/dev/null", text_of(""), &symbols) == BURSAR_SYMBOLS_ABSENT, "and a device");
  OK(bursar_symbols_open(__FILE__, text_of(""), &symbols) == BURSAR_SYMBOLS_ABSENT, "and a text");
  OK(!symbols, "nothing was opened");
}

/* Every byte of the head, each changed in turn, and every length: an answer or none, but no harm. */
static void test_damaged(const char *path) {
  static char bytes[1 << 20];
  FILE *from = fopen(path, "rb");
  size_t length = from ? fread(bytes, 1, sizeof bytes, from) : 0;
  unsigned opened_ones = 0;
  char copy[64] = "/tmp/bursar-symbols-XXXXXX";
  int fd = mkstemp(copy);
  if (from)
    fclose(from);
  if (fd >= 0)
    close(fd);
  for (size_t at = 0; at < 4096 && at < length; at += at < 128 ? 1 : 17) {
    FILE *to = fopen(copy, "wb");
    char kept = bytes[at];
    bytes[at] = (char)(at % 3 ? ~kept : 0);
    if (to && fwrite(bytes, 1, at % 2 ? length : at * 16 < length ? at * 16 : length, to) > 0)
      opened_ones++;
    bytes[at] = kept;
    if (to)
      fclose(to);
    struct bursar_elf *elf = bursar_elf_open(copy);
    if (elf)
      (void)bursar_elf_function(elf, at * 16);
    bursar_elf_close(elf);
  }
  remove(copy);
  OK(opened_ones > 200, "%u damaged modules were looked at", opened_ones);
}

int main(int argc, char **argv) {
  if (argc != 3 || !bursar_modules_start()) {
    printf("1..0 # SKIP give the two builds of the sample\n");
    return 0;
  }
  if (bursar_symbols_missing())
    printf("# %s\n", bursar_symbols_missing());
  else
    test_with_lines(argv[1]);
  test_without(argv[2]);
  test_own_tables(argv[1]);
  test_own_tables(argv[2]);
  test_others(argv[1], argv[2]);
  test_damaged(argv[2]);
  return tap_done();
}
