/* Makes the corpus: make_corpus FOLDER [LEDGER…].  The ledgers given are packed as they are (real ones); some small ones,
 * whole and damaged, are built here.  How an input is packed is said in fuzz_reader.c. */
#include "../unit/ledger_build.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GAP 16 /* so many zero bytes end a piece */
#define INPUT_MAX (192u << 10)

static unsigned char packed[INPUT_MAX];
static size_t used;

static void put_piece(uint32_t offset, const unsigned char *bytes, size_t length) {
  if (used + 6 + length > sizeof packed)
    length = used + 6 < sizeof packed ? sizeof packed - used - 6 : 0;
  if (!length)
    return;
  uint16_t size = (uint16_t)length;
  memcpy(packed + used, &offset, 4);
  memcpy(packed + used + 4, &size, 2);
  memcpy(packed + used + 6, bytes, length);
  used += 6 + length;
}

static void pack(const unsigned char *bytes, size_t size) {
  packed[0] = 0;
  used = 1;
  for (size_t at = 0; at < size;) {
    if (!bytes[at]) {
      at++;
      continue;
    }
    size_t end = at, zeros = 0;
    while (end < size && end - at < 60000 && zeros < GAP)
      zeros = bytes[end++] ? 0 : zeros + 1;
    put_piece((uint32_t)at, bytes + at, end - at - zeros);
    at = end;
  }
  unsigned char last = 0;
  put_piece((uint32_t)size - 1, &last, 1);
}

static void write_file(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, packed, used) != (ssize_t)used) {
    perror(path);
    exit(1);
  }
  close(fd);
}

static void pack_file(int fd, const char *folder, const char *name) {
  struct stat st;
  unsigned char *bytes;
  if (fstat(fd, &st) != 0 || !(bytes = malloc((size_t)st.st_size + 1)) ||
      pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size) {
    perror(name);
    exit(1);
  }
  pack(bytes, (size_t)st.st_size);
  write_file(folder, name);
  free(bytes);
  close(fd);
}

static void build(const char *folder, const char *name, void (*damage)(struct ledger_build *)) {
  struct ledger_build *b = ledger_build_example();
  if (damage)
    damage(b);
  pack_file(ledger_build_file(b), folder, name);
  ledger_build_free(b);
}

static void as_killed(struct ledger_build *b) {
  b->counts.state = BURSAR_STATE_OPEN;
  b->sites[3].alloc_bytes += 64;
  b->books.intent = 64ull << 32 | 4 << 6 | 32;
}
static void as_newer(struct ledger_build *b) { b->header.version = 7; }
static void as_reserved(struct ledger_build *b) { b->counts.state = BURSAR_STATE_RESERVED; }
static void as_liar(struct ledger_build *b) {
  b->counts_fixed = 1;
  memset(&b->counts, 0xff, sizeof b->counts);
  b->counts.state = BURSAR_STATE_ENDED;
}
static void as_tangle(struct ledger_build *b) {
  for (uint32_t i = 4; i < b->node_count; i++)
    b->nodes[i].parent = b->node_count - i;
  b->facts[5].lane = BURSAR_LANE_VACANT;
  b->facts[6].created = 3;
  b->ticks[2].first_undo = 1000;
}
static void as_deep(struct ledger_build *b) {
  uint32_t node = BURSAR_NODE_MAIN;
  for (int i = 0; i < 3000; i++)
    node = ledger_build_node(b, node, 1 + (uint32_t)i % 3, (uint32_t)i);
  b->facts[6].node = node;
}
static void as_scopes(struct ledger_build *b) {
  ledger_build_scope_name(b, "(other scopes)");
  uint32_t name = ledger_build_scope_name(b, "GET /items/{id}"), parent = 0;
  for (uint32_t i = 0; i < 6; i++) {
    enum bursar_scope_state state = i == 5 ? BURSAR_SCOPE_OPEN : i == 3 ? BURSAR_SCOPE_POOL : BURSAR_SCOPE_ENDED;
    parent = ledger_build_scope(b, name, parent, state, 1000 * (i + 1), 100 * i);
    ledger_build_event(b, 1000 * i, BURSAR_EVENT_NOTE, name, 10 * i, "half done");
  }
  b->scope_names[name].calls = 5;
  b->scope_names[name].sketch[80] = 5;
}
static void as_scopes_tangle(struct ledger_build *b) {
  as_scopes(b);
  b->scopes[1].parent = 3;
  b->scopes[2].live_bytes = INT64_MIN;
  b->scopes[4].name = 99;
  b->events[2].text = 3;
  b->counts.events = 1ull << 40;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: make_corpus FOLDER [LEDGER...]\n");
    return 2;
  }
  build(argv[1], "whole", NULL);
  build(argv[1], "killed", as_killed);
  build(argv[1], "newer", as_newer);
  build(argv[1], "reserved", as_reserved);
  build(argv[1], "liar", as_liar);
  build(argv[1], "tangle", as_tangle);
  build(argv[1], "deep", as_deep);
  build(argv[1], "scopes", as_scopes);
  build(argv[1], "scopes-tangle", as_scopes_tangle);
  for (int i = 2; i < argc; i++) {
    char name[32];
    int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
    snprintf(name, sizeof name, "real-%d", i - 1);
    pack_file(fd, argv[1], name);
  }
  return 0;
}
