/* Stacks and sites: the same is found again, what differs is kept apart, and a full ledger charges the callers. */
#include "account/stacks.h"
#include "tap.h"

#include <stdlib.h>

#include "account_model.h"

static struct account_model model;

static struct bursar_counts *counts(void) { return bursar_account.writer.counts; }

/* With bytes in it that are no characters. */
static size_t some_text(char *text, unsigned i) {
  memset(text, 0, 64);
  return (size_t)snprintf(text, 64, "%u%c%c\xff name", i, 0, i % 7) + i % 3;
}

static void test_strings(void) {
  static char text[8000];
  uint32_t offsets[600];
  unsigned wrong = 0;
  for (unsigned i = 0; i < 600; i++) {
    size_t length = some_text(text, i);
    offsets[i] = bursar_stacks_string(text, length);
    wrong += offsets[i] == 0 || offsets[i] % 4 != 0;
  }
  uint32_t used = counts()->string_bytes;
  for (unsigned i = 0; i < 600; i++) {
    size_t length = some_text(text, i);
    wrong += bursar_stacks_string(text, length) != offsets[i];
    for (unsigned k = 0; k < i; k += 37)
      wrong += offsets[k] == offsets[i];
  }
  EQ(wrong, 0);
  EQ(counts()->string_bytes, used);
  memset(text, 'x', sizeof text);
  uint32_t whole = bursar_stacks_string(text, 4096), cut = bursar_stacks_string(text, sizeof text);
  OK(whole && whole == cut && bursar_stacks_string(text, 4095) != whole, "a text is cut at 4096 bytes");
  OK(bursar_stacks_string("", 0) != 0, "the empty text is a text");
}

/* By what they say: a path as (code, line) pairs is one node, whichever way it is met. */
static void test_nodes(void) {
  static uint32_t nodes[5000][4];
  uint64_t random = 5;
  unsigned wrong = 0;
  for (unsigned pass = 0; pass < 2; pass++) {
    random = 5;
    for (unsigned i = 0; i < 5000; i++) {
      uint32_t parent = (uint32_t)model_below(&random, BURSAR_NODE_FIRST);
      for (unsigned depth = 0; depth < 4; depth++) {
        uint32_t name = (uint32_t)model_below(&random, 40), line = (uint32_t)model_below(&random, 30);
        char text[16];
        uint32_t offset = bursar_stacks_string(text, (size_t)snprintf(text, sizeof text, "f%u", name));
        uint32_t node = bursar_stacks_node(parent, bursar_stacks_code(offset, offset, name), line);
        wrong += node <= parent || node >= counts()->nodes || (pass && node != nodes[i][depth]);
        nodes[i][depth] = parent = node;
      }
    }
  }
  EQ(wrong, 0);
  EQ(counts()->folded_sites, 0);
  uint32_t before = counts()->sites;
  uint32_t tags[BURSAR_DOMAIN_COUNT];
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++)
    tags[domain] = bursar_stacks_site(nodes[7][3], domain);
  EQ(counts()->sites, before + BURSAR_DOMAIN_COUNT);
  OK(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] == bursar_stacks_site(nodes[7][3], 0), "a site a domain");
  OK((tags[0] & BURSAR_CELL_LOW) == BURSAR_CELL_BIG, "a tag is as the live table writes it");
  EQ(bursar_stacks_site_index(&bursar_account.numbered[tags[1] >> BURSAR_CELL_SHIFT]),
     (tags[1] >> BURSAR_CELL_SHIFT) - 1);
  const struct bursar_site_facts *facts =
      (const struct bursar_site_facts *)(void *)bursar_account.writer.base[BURSAR_REGION_SITE_FACTS];
  for (unsigned i = 0; i < 2 * 5000 * BURSAR_DOMAIN_COUNT; i++) {
    uint32_t node = nodes[i / BURSAR_DOMAIN_COUNT % 5000][3], domain = i % BURSAR_DOMAIN_COUNT;
    uint32_t index = (bursar_stacks_site(node, domain) >> BURSAR_CELL_SHIFT) - 1;
    wrong += index < BURSAR_SITE_FIRST || facts[index].node != node || facts[index].domain != domain;
  }
  EQ(wrong, 0);
}

static void test_readable(void) {
  struct bursar_model *books;
  struct bursar_error error;
  if (!OK(bursar_model_open(model.path, &books, &error) == 0, "it reads"))
    return;
  EQ(books->reader->note_count, 0);
  EQ(books->node_count, counts()->nodes);
  unsigned wrong = 0;
  for (uint32_t i = BURSAR_NODE_FIRST; i < books->node_count; i++) {
    struct bursar_text name = bursar_model_function(books, i), file = bursar_model_file(books, i);
    char text[32];
    int length = snprintf(text, sizeof text, "f%u", books->codes[books->nodes[i].code].first_line);
    wrong += books->nodes[i].parent >= i || name.length != (uint32_t)length ||
             memcmp(name.bytes, text, name.length) != 0 || file.bytes != name.bytes;
  }
  EQ(wrong, 0);
  bursar_model_free(books);
}

/* A module and a function of the same texts are two codes, a line and an address of the same number two nodes. */
static void test_native(void) {
  uint32_t name = bursar_stacks_string("both", 4), file = bursar_stacks_string("/both.so", 8);
  uint32_t function = bursar_stacks_code(name, file, 0), module = bursar_stacks_module(name, file);
  OK(function != module && module == bursar_stacks_module(name, file), "a module is no function");
  uint32_t line = bursar_stacks_node(BURSAR_NODE_MAIN, module, 7);
  uint32_t address = bursar_stacks_native_node(BURSAR_NODE_MAIN, module, 7);
  OK(line != address && address == bursar_stacks_native_node(BURSAR_NODE_MAIN, module, 7) &&
         line == bursar_stacks_node(BURSAR_NODE_MAIN, module, 7),
     "an address is no line");
}

/* More stacks than there is room for, all of them held: each is charged to a caller's site, in its own domain. */
static void test_full(void) {
  account_model_open(&model, 1, 0);
  uint32_t code = bursar_stacks_code(bursar_stacks_string("f", 1), 0, 1);
  unsigned wrong = 0;
  uint64_t size = 100;
  static const struct bursar_site_facts *facts;
  facts = (const struct bursar_site_facts *)(void *)bursar_account.writer.base[BURSAR_REGION_SITE_FACTS];
  for (uint32_t i = 0; i < 60000; i++) {
    uint32_t node = bursar_stacks_node(bursar_stacks_node(BURSAR_NODE_MAIN, code, i / 500), code, i);
    unsigned domain = i % BURSAR_DOMAIN_COUNT;
    uint32_t tag = bursar_stacks_site(node, domain), index = (tag >> BURSAR_CELL_SHIFT) - 1;
    wrong += index < BURSAR_SITE_FIRST || index >= counts()->sites || facts[index].domain != domain ||
             facts[index].lane != 0;
    model_book((char *)0x100000000000 + (uint64_t)i * 128, size, tag, domain);
  }
  EQ(wrong, 0);
  OK(counts()->folded_sites > 0, "the ledger said that it is full");
  struct bursar_tally all = bursar_account_totals();
  EQ(all.allocs, 60000);
  bursar_account_stop(BURSAR_STATE_ENDED);
  struct bursar_model *books;
  struct bursar_error error;
  if (OK(bursar_model_open(model.path, &books, &error) == 0, "it reads")) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < books->site_count; i++)
      sum += books->sites[i].live.bytes;
    EQ(sum, 60000 * size);
    EQ(books->reader->unmatched_bytes, 0);
    EQ(books->reader->note_count, 0);
    OK(books->folded_sites > 0, "the reader passes it on");
    bursar_model_free(books);
  }
  account_model_remove(&model);
}

int main(void) {
  account_model_open(&model, 0, 0);
  test_nodes();
  test_readable();
  test_strings();
  test_native();
  account_model_stop(&model, BURSAR_STATE_ENDED);
  account_model_remove(&model);
  test_full();
  return tap_done();
}
