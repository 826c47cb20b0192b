/* Pickles read as nodes: what is on the stack, where bytes lie, how they are decoded over the borders of pieces. */
#include "model/extent.h"
#include "model/json.h"
#include "model/pickle.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"

static struct bursar_source source_of(const void *bytes, size_t length) {
  struct bursar_source source;
  int fd = memfd_create("test", MFD_CLOEXEC);
  if (fd < 0 || write(fd, bytes, length) != (ssize_t)length || bursar_source_of_file(fd, "test", &source, NULL) != 0)
    abort();
  return source;
}

/* Reads a pickle; the root, or 0 with an error. */
static uint32_t read_pickle(const struct bursar_source *source, struct bursar_nodes *nodes,
                            struct bursar_refusals *refusals, struct bursar_error *error) {
  struct bursar_pickle pickle = {.source = source, .end = source->bytes, .nodes = nodes, .refusals = refusals};
  uint32_t root;
  bursar_nodes_init(nodes);
  return bursar_pickle_read(&pickle, &root, error) == 0 ? root : 0;
}

static void test_what_a_pickle_says_is_nodes(void) {
  static const char text[] = "\x80\x02}q\0(X\1\0\0\0aK\5X\1\0\0\0bh\0X\1\0\0\0ccos\nsystem\nU\2hi\x85Ru.";
  struct bursar_source source = source_of(text, sizeof text - 1);
  struct bursar_refusals refusals = {NULL};
  struct bursar_nodes nodes;
  struct bursar_error error;
  uint32_t root = read_pickle(&source, &nodes, &refusals, &error), arguments[1];
  OK(root && nodes.nodes[root].kind == BURSAR_NODE_DICT && nodes.nodes[root].shared, "a dict that is met again");
  EQ(nodes.nodes[bursar_nodes_value(&nodes, root, "a")].number, 5);
  EQ(bursar_nodes_value(&nodes, root, "b"), root);
  uint32_t object = bursar_nodes_value(&nodes, root, "c");
  OK(bursar_nodes_is(&nodes, bursar_nodes_object(&nodes, object)->of, "os.system"), "an object made by os.system");
  EQ(bursar_nodes_links(&nodes, bursar_nodes_object(&nodes, object)->arguments, arguments, 1), 1);
  EQ(nodes.nodes[arguments[0]].extent.at, 41);
  EQ(refusals.count, 1);
  SAME(refusals.list[0].name, "os.system");
  EQ(refusals.list[0].at, 28);
  bursar_refusals_end(&refusals);
  bursar_nodes_free(&nodes);
  close(source.fd);
}

/* A limit is an error that says so, with no memory beyond it. */
static void test_limits(void) {
  size_t length = 2u * BURSAR_NODES_MOST;
  char *text = malloc(length);
  struct bursar_refusals refusals = {NULL};
  struct bursar_nodes nodes;
  struct bursar_error error;
  memset(text, ']', length);
  struct bursar_source source = source_of(text, length);
  EQ(read_pickle(&source, &nodes, &refusals, &error), 0);
  HAS(error.text, "more in it than a model");
  OK(nodes.room <= BURSAR_NODES_MOST, "no more than the limit is kept");
  bursar_nodes_free(&nodes);
  close(source.fd);
  free(text);
}

/* All bytes, each as each form writes it, over many pieces. */
static void check_form(uint8_t form, const char *written, size_t length, size_t bytes) {
  struct bursar_source source = source_of(written, length);
  struct bursar_extent extent = {0, length, 0, form};
  struct bursar_extent_reader reader;
  struct bursar_error error = {0};
  unsigned char piece[777];
  size_t at = 0, wrong = 0;
  int64_t got;
  EQ(bursar_extent_measure(&source, &extent, &error), 0);
  EQ(extent.bytes, bytes);
  bursar_extent_begin(&reader, &source, extent);
  while ((got = bursar_extent_read(&reader, piece, sizeof piece, &error)) > 0)
    for (int64_t i = 0; i < got; i++, at++)
      wrong += piece[i] != (unsigned char)(at * 7);
  EQ(wrong, 0);
  EQ(at, bytes);
  close(source.fd);
}

static void test_bytes_in_any_form(void) {
  enum { BYTES = 50000 };
  char *written = malloc(10 * BYTES);
  for (uint8_t form = BURSAR_FORM_RAW; form <= BURSAR_FORM_ESCAPED; form++) {
    size_t used = 0;
    for (size_t i = 0; i < BYTES; i++) {
      unsigned char c = (unsigned char)(i * 7);
      if (form == BURSAR_FORM_UTF8 && c >= 0x80) {
        written[used++] = (char)(0xc0 | c >> 6);
        written[used++] = (char)(0x80 | (c & 0x3f));
      } else if (form == BURSAR_FORM_UNICODE && (c == '\\' || c == '\n' || c % 3 == 0)) {
        used += (size_t)sprintf(written + used, i % 2 ? "\\u%04x" : "\\U%08x", c);
      } else if (form == BURSAR_FORM_ESCAPED && (c < 0x20 || c >= 0x7f || c == '\\')) {
        used += (size_t)sprintf(written + used, i % 2 ? "\\x%02x" : "\\%03o", c);
      } else {
        written[used++] = (char)c;
      }
    }
    check_form(form, written, used, BYTES);
  }
  free(written);
}

static void check_long(const char *bytes, size_t count, const char *wanted) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 5000);
  bursar_json_long(&out, (const unsigned char *)bytes, count);
  SAME(out.data, wanted);
  bursar_buffer_free(&out);
}

static void test_whole_numbers(void) {
  check_long("\0", 1, "0");
  check_long("\xff", 1, "-1");
  check_long("\0\0\0\0\0\0\0\0\1", 9, "18446744073709551616");
  check_long("\0\0\0\0\0\0\0\0\xff", 9, "-18446744073709551616");
  check_long("\0\0\0\0\0\0\0\x80", 8, "-9223372036854775808");
  check_long("\0\xca\x9a\x3b\0", 5, "1000000000");
}

int main(void) {
  test_what_a_pickle_says_is_nodes();
  test_limits();
  test_bytes_in_any_form();
  test_whole_numbers();
  return tap_done();
}
