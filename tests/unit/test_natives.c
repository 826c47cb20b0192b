/* Native frames in a model: one becomes as many as were inlined, sums stay, and a ledger that lies about them does no harm. */
#include "report/natives.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger_build.h"
#include "report/elf.h"
#include "report/symbols.h"

static struct bursar_model *load(struct ledger_build *b) {
  struct bursar_reader *reader = NULL;
  struct bursar_model *model = NULL;
  struct bursar_error error = {0};
  int fd = ledger_build_file(b);
  if (bursar_reader_open_fd(fd, "test.bursar", &reader, &error) != 0 || bursar_model_load(reader, &model, &error) != 0)
    printf("# %s\n", error.text);
  close(fd);
  return model;
}

static bool resolve(struct bursar_model *model) {
  struct bursar_error error = {0};
  return OK(model && bursar_natives_resolve(model, &error) == 0, "it resolves (%s)", error.text);
}

static bool has_note(const struct bursar_model *model, const char *part) {
  for (uint32_t i = 0; i < model->reader->note_count; i++)
    if (strstr(model->reader->note[i], part))
      return true;
  return false;
}

static bool is(struct bursar_text text, const char *wanted) {
  return text.bytes && text.length == strlen(wanted) && memcmp(text.bytes, wanted, text.length) == 0;
}

static bool callers_come_first(const struct bursar_model *model) {
  for (uint32_t i = 0; i < model->node_count; i++)
    if (i < BURSAR_NODE_FIRST ? model->nodes[i].parent != i : model->nodes[i].parent >= i)
      return false;
  return true;
}

/* main -> the address in the library -> leaf */
struct stack {
  uint32_t outer, native, inner, site;
};

static struct stack add_stack(struct ledger_build *b, uint32_t module, uint32_t address) {
  struct stack s;
  s.outer = ledger_build_node(b, BURSAR_NODE_MAIN, ledger_build_code(b, "outer", "/p.py", 1), 5);
  s.native = ledger_build_node(b, s.outer, module, address);
  b->nodes[s.native].flags = BURSAR_NODE_NATIVE;
  s.inner = ledger_build_node(b, s.native, ledger_build_code(b, "inner", "/p.py", 8), 9);
  s.site = ledger_build_site(b, s.inner, BURSAR_DOMAIN_OBJ);
  ledger_build_alloc(b, s.site, 1000);
  return s;
}

static uint32_t add_module(struct ledger_build *b, const char *path, const char *build_id) {
  uint32_t code = ledger_build_code(b, build_id, path, 0);
  b->codes[code].flags = BURSAR_CODE_MODULE;
  return code;
}

/* The function in the sample where two were inlined, in its middle: where libdw tells three frames. */
static uint32_t inlined_address(const char *path) {
  struct bursar_symbols_frame frames[BURSAR_SYMBOLS_FRAMES];
  struct bursar_symbols *symbols = NULL;
  uint32_t found = 0;
  if (bursar_symbols_open(path, (struct bursar_text){NULL, 0}, &symbols) != BURSAR_SYMBOLS_FOUND)
    return 0;
  for (uint32_t at = 1; at < 65536 && !found; at++)
    if (bursar_symbols_find(symbols, at, frames) == 3 && is(frames[0].function, "innermost"))
      found = at;
  bursar_symbols_close(symbols);
  return found;
}

static void test_inlined(const char *path) {
  struct ledger_build *b = ledger_build_new();
  uint32_t address = bursar_symbols_missing() ? 0 : inlined_address(path);
  if (!address) {
    printf("# without libdw nothing is known of what was inlined\n");
    ledger_build_free(b);
    return;
  }
  struct bursar_elf *elf = bursar_elf_open(path);
  add_stack(b, add_module(b, path, elf ? bursar_elf_build_id(elf) : ""), address);
  bursar_elf_close(elf);
  struct bursar_model *model = load(b);
  uint32_t before = model ? model->node_count : 0;
  if (resolve(model)) {
    static const char *const names[] = {"inner", "innermost", "between", "sample_inlined", "outer"};
    EQ(model->node_count, before + 2);
    EQ(model->unresolved_frames, 0);
    EQ(model->site_count, 1);
    EQ(model->sites[0].live.bytes, 1000);
    uint32_t at = model->sites[0].node;
    for (unsigned i = 0; i < 5; i++, at = model->nodes[at].parent) {
      OK(is(bursar_model_function(model, at), names[i]), "frame %u is %s", i, names[i]);
      EQ(model->nodes[at].native, i > 0 && i < 4);
    }
    EQ(at, BURSAR_NODE_MAIN);
    OK(callers_come_first(model), "callers come first");
    for (uint32_t i = 0; i < model->code_count; i++)
      if (model->codes[i].function_id >= model->name_count || model->codes[i].file_id >= model->name_count)
        OK(false, "the texts of code %u have numbers", i);
  }
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_unknown(const char *path) {
  struct ledger_build *b = ledger_build_new();
  add_stack(b, add_module(b, path, "00ff"), 0x1234);
  add_stack(b, add_module(b, "/gone/lib.so", "00ff"), 0xabc);
  add_stack(b, add_module(b, "relative.so", ""), 1);
  struct bursar_model *model = load(b);
  if (resolve(model)) {
    unsigned found = 0;
    EQ(model->unresolved_frames, 3);
    OK(has_note(model, "is another build than the one that ran"), "a replaced file is told");
    OK(has_note(model, "lib.so cannot be read"), "a missing file is told");
    OK(has_note(model, "3 of 3 native frames have no name"), "and how many have no name");
    for (uint32_t i = 0; i < model->node_count; i++)
      found += is(bursar_model_function(model, i), "lib.so+0xabc") && is(bursar_model_file(model, i), "/gone/lib.so") &&
               model->nodes[i].line == 0;
    EQ(found, 1);
  }
  bursar_model_free(model);
  ledger_build_free(b);
}

/* Nodes that say they are native, and name any code. */
static void test_lies(void) {
  struct ledger_build *b = ledger_build_example();
  for (uint32_t i = 0; i < b->node_count; i++) {
    b->nodes[i].flags = ~0u;
    if (i % 3 == 2)
      b->nodes[i].code = 1u << 30;
  }
  for (uint32_t i = 0; i < b->code_count; i++)
    b->codes[i].flags = i % 2 ? ~0u : 0;
  struct bursar_model *model = load(b);
  if (resolve(model)) {
    uint64_t sum = 0;
    OK(callers_come_first(model), "callers come first");
    for (uint32_t i = 0; i < model->site_count; i++)
      sum += model->sites[i].node < model->node_count ? model->sites[i].live.bytes : 1u << 30;
    EQ(sum, model->live.bytes);
  }
  bursar_model_free(model);
  ledger_build_free(b);
}

static void test_none(void) {
  struct ledger_build *b = ledger_build_example();
  struct bursar_model *model = load(b);
  if (resolve(model)) {
    EQ(model->native_frames, 0);
    EQ(model->reader->note_count, 0);
    EQ(model->unresolved_frames, 0);
  }
  bursar_model_free(model);
  ledger_build_free(b);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    printf("1..0 # SKIP give the two builds of the sample\n");
    return 0;
  }
  char *sample = realpath(argv[1], NULL),
       *stripped = realpath(argv[2], NULL); /* a ledger names modules by whole paths */
  if (OK(sample && stripped, "the samples are there")) {
    test_inlined(sample);
    test_unknown(stripped);
  }
  free(sample);
  free(stripped);
  test_lies();
  test_none();
  return tap_done();
}
