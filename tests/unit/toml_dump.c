/* Prints documents as JSON, for tests/python/test_policy_toml.py: each comes as its length (4 bytes, little-endian) and its text,
 * and goes as a line {"tree": [kind, value], "mistakes": [[line, column, text]]}. */
#include "base/buffer.h"
#include "policy/toml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print(struct bursar_buffer *out, const struct bursar_toml *toml, const struct bursar_toml_node *node) {
  static const char *const kinds[] = {"table", "array", "string", "integer", "real", "boolean", "time"};
  bursar_buffer_format(out, "[\"%s\",", kinds[node->kind]);
  switch (node->kind) {
    case BURSAR_TOML_TABLE:
    case BURSAR_TOML_ARRAY:
      bursar_buffer_char(out, '[');
      for (uint32_t at = node->first; at; at = toml->nodes[at].next) {
        if (at != node->first)
          bursar_buffer_char(out, ',');
        if (node->kind == BURSAR_TOML_TABLE) {
          bursar_buffer_char(out, '[');
          bursar_escape_json(out, toml->nodes[at].key);
          bursar_buffer_format(out, ",%u,%u,", toml->nodes[at].line, toml->nodes[at].column);
        }
        print(out, toml, &toml->nodes[at]);
        if (node->kind == BURSAR_TOML_TABLE)
          bursar_buffer_char(out, ']');
      }
      bursar_buffer_char(out, ']');
      break;
    case BURSAR_TOML_INTEGER: bursar_buffer_format(out, "\"%lld\"", (long long)node->integer); break;
    case BURSAR_TOML_REAL: bursar_buffer_format(out, "\"%a\"", node->real); break;
    case BURSAR_TOML_BOOLEAN: bursar_buffer_text(out, node->boolean ? "true" : "false"); break;
    default: bursar_escape_json(out, node->text);
  }
  bursar_buffer_char(out, ']');
}

int main(void) {
  static struct bursar_mistakes mistakes;
  unsigned char length[4];
  while (fread(length, 1, 4, stdin) == 4) {
    size_t bytes = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
    char *text = malloc(bytes + 1);
    struct bursar_toml toml;
    struct bursar_buffer out;
    if (!text || fread(text, 1, bytes, stdin) != bytes)
      return 1;
    mistakes.count = mistakes.more = 0;
    int status = bursar_toml_parse(text, bytes, &toml, &mistakes);
    free(text);
    bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
    bursar_buffer_text(&out, "{\"tree\":");
    if (toml.nodes)
      print(&out, &toml, toml.nodes);
    else
      bursar_buffer_text(&out, "null");
    bursar_buffer_format(&out, ",\"status\":%d,\"mistakes\":[", status);
    for (uint32_t i = 0; i < mistakes.count; i++) {
      const struct bursar_mistake *mistake = &mistakes.at[i];
      bursar_buffer_format(&out, "%s[%u,%u,", i ? "," : "", mistake->line, mistake->column);
      bursar_escape_json(&out, (struct bursar_text){mistake->text, (uint32_t)strlen(mistake->text)});
      bursar_buffer_char(&out, ']');
    }
    bursar_buffer_text(&out, "]}\n");
    bursar_toml_free(&toml);
    if (bursar_buffer_finish(&out) != 0)
      return 1;
    bursar_buffer_free(&out);
  }
  return 0;
}
