/* TOML as a tree with places, what is said of what is none, and its bounds.  tests/python/test_policy_toml.py compares with Python's
 * own reader. */
#include "policy/toml.h"
#include "tap.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>

static struct bursar_mistakes mistakes;
static struct bursar_toml toml;

static int parse(const char *text) {
  bursar_toml_free(&toml);
  memset(&mistakes, 0, sizeof mistakes);
  return bursar_toml_parse(text, strlen(text), &toml, &mistakes);
}

/* The node at a path of plain keys. */
static const struct bursar_toml_node *at(const char *path) {
  const struct bursar_toml_node *node = toml.nodes;
  while (*path) {
    size_t bytes = strcspn(path, ".");
    uint32_t child = node->first;
    while (child && !(toml.nodes[child].key.length == bytes && memcmp(toml.nodes[child].key.bytes, path, bytes) == 0))
      child = toml.nodes[child].next;
    if (!child)
      return NULL;
    node = &toml.nodes[child];
    path += bytes + (path[bytes] == '.');
  }
  return node;
}

static void test_tree(void) {
  EQ(parse("a = 1 # one\n\n[b.c]\n  d = \"x\\u00e9\\ty\"\ne = '''\ntwo\nlines'''\n[[f]]\n[[f]]\ng.h = [0x1F, -2.5e1, "
           "{i = true}]\n"),
     0);
  EQ(at("a")->integer, 1);
  EQ(at("a")->line, 1);
  EQ(at("a")->value_column, 5);
  EQ(at("b.c.d")->line, 4);
  EQ(at("b.c.d")->column, 3);
  EQ(at("b.c.d")->value_column, 7);
  SAME(at("b.c.d")->text.bytes, "x\xc3\xa9\ty");
  SAME(at("b.c.e")->text.bytes, "two\nlines");
  EQ(at("f")->kind, BURSAR_TOML_ARRAY);
  const struct bursar_toml_node *second = &toml.nodes[at("f")->last];
  EQ(second->kind, BURSAR_TOML_TABLE);
  const struct bursar_toml_node *list = &toml.nodes[toml.nodes[second->first].first];
  EQ(list->line, 10);
  const struct bursar_toml_node *item = &toml.nodes[list->first];
  EQ(item->integer, 31);
  item = &toml.nodes[item->next];
  OK(item->real == -25.0, "a real number");
  item = &toml.nodes[item->next];
  OK(toml.nodes[item->first].boolean, "a table in braces");
}

static void says(const char *text, uint32_t line, uint32_t column, const char *what) {
  EQ(parse(text), -EINVAL);
  EQ(mistakes.at[0].line, line);
  EQ(mistakes.at[0].column, column);
  HAS(mistakes.at[0].text, what);
}

static void test_mistakes(void) {
  says("a = 1\na = 2", 2, 1, "'a' is a number already, in line 1; leave one of the two");
  says("hard = 300 MiB\n", 1, 12, "put texts in quotes");
  says("[a]\nb = 1\n[a]\n", 3, 2, "'a' has its table in line 1; add to it there");
  says("a = \"x\nb = 1", 1, 5, "a text that does not end in its line");
  says("a = [1,\n2", 1, 5, "an array that does not end; add ]");
  says("a = 9223372036854775808", 1, 5, "too large a number");
  says("a = 2023-02-29", 1, 5, "no such date");
  says("\xff = 1", 1, 1, "no UTF-8");
  says("a = \x01", 1, 5, "no value stands here");
  EQ(parse("= 1\nb = x\nc = 1\n[d e]\nc = 2\n[f]\n"), -EINVAL);
  EQ(mistakes.count, 3);
  OK(at("c") && at("c")->integer == 1 && at("f"), "what is right is read all the same");
}

static void test_bounds(void) {
  char *text = malloc(BURSAR_TOML_BYTES + 2);
  memset(text, '[', BURSAR_TOML_BYTES + 1);
  text[BURSAR_TOML_BYTES + 1] = 0;
  EQ(parse(text), -E2BIG);
  OK(!toml.nodes, "no tree of what is too large");
  text[0] = 'a', text[1] = '=', text[BURSAR_TOML_BYTES] = 0;
  EQ(parse(text), -EINVAL);
  HAS(mistakes.at[0].text, "more than 64 brackets");
  EQ(parse(""), 0);
  EQ(toml.nodes->first, 0);
  free(text);
}

/* The program may have another decimal point. */
static void test_locale(void) {
  static const char *const others[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "C"};
  for (size_t i = 0; i < sizeof others / sizeof *others && !setlocale(LC_NUMERIC, others[i]);)
    i++;
  EQ(parse("a = 1.5"), 0);
  OK(at("a")->real == 1.5, "1.5 is what it is");
  setlocale(LC_NUMERIC, "C");
}

int main(void) {
  test_tree();
  test_mistakes();
  test_bounds();
  test_locale();
  bursar_toml_free(&toml);
  bursar_toml_free(NULL);
  return tap_done();
}
