/* Text that somebody else chose, where it goes.  Buffers and the index are tried here too. */
#include "base/buffer.h"
#include "base/escape.h"
#include "base/index.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct bursar_text text_of(const char *bytes, size_t length) {
  return (struct bursar_text){bytes, (uint32_t)length};
}

enum kind { TERMINAL, HTML, JSON, CSV };

static void gives(enum kind kind, const char *bytes, size_t length, const char *want) {
  struct bursar_buffer out;
  struct bursar_text text = text_of(bytes, length);
  bursar_buffer_init(&out, 4096);
  bursar_buffer_text(&out, "");
  if (kind == TERMINAL)
    bursar_escape_terminal(&out, text);
  else if (kind == HTML)
    bursar_escape_html(&out, text);
  else if (kind == JSON)
    bursar_escape_json(&out, text);
  else
    bursar_escape_csv(&out, text);
  SAME(out.data, want);
  bursar_buffer_free(&out);
}
#define GIVES(kind, literal, want) gives(kind, literal, sizeof(literal) - 1, want)

static void cuts(const char *text, size_t columns, const char *want) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 4096);
  bursar_buffer_text(&out, "");
  size_t taken = bursar_escape_terminal_cut(&out, text_of(text, strlen(text)), columns);
  SAME(out.data, want);
  OK(taken <= columns, "%zu columns are at most %zu", taken, columns);
  bursar_buffer_free(&out);
}

static void test_terminal(void) {
  GIVES(TERMINAL, "plain", "plain");
  GIVES(TERMINAL, "\x1b[31mred", "\\x1b[31mred");
  GIVES(TERMINAL,
        "a\nb\rc\td\x00"
        "e\x7f",
        "a\\x0ab\\x0dc\\x09d\\x00e\\x7f");
  GIVES(TERMINAL, "caf\xc3\xa9 \xe6\xbc\xa2", "caf\xc3\xa9 \xe6\xbc\xa2");
  GIVES(TERMINAL,
        "\xc2\x9b"
        "31m",
        "\\u{9b}31m");
  GIVES(TERMINAL,
        "\xe2\x80\xae"
        "gnp.exe",
        "\\u{202e}gnp.exe");
  GIVES(TERMINAL, "\xff\xfe", "\\xff\\xfe");
  GIVES(TERMINAL, "\xc0\xaf\xed\xa0\x80", "\\xc0\\xaf\\xed\\xa0\\x80");
  GIVES(TERMINAL, "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
  GIVES(TERMINAL, "cut\xe2\x82", "cut\\xe2\\x82");
  EQ(bursar_escape_columns(text_of("\xe6\xbc\xa2\x1b", 4)), 6);
  cuts("short", 10, "short");
  cuts("0123456789abcdef", 10,
       "012\xe2\x80\xa6"
       "abcdef");
  cuts("0123456789", 0, "");
  cuts("0123456789", 1, "\xe2\x80\xa6");
  cuts("\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", 5, "\xe2\x80\xa6\xe6\xbc\xa2");
  cuts("\x1b\x1b\x1b\x1b", 7, "\xe2\x80\xa6\\x1b");
}

static void test_into(void) {
  char out[12];
  bursar_escape_terminal_into(out, sizeof out, "a\xc2\x9b\xff");
  SAME(out, "a\\u{9b}\\xff");
  bursar_escape_terminal_into(out, sizeof out - 1, "a\xc2\x9b\xff");
  SAME(out, "a\\u{9b}");
  bursar_escape_terminal_into(out, sizeof out, "caf\xc3\xa9 \xe2\x80\xa6\xe2\x80\xa6");
  SAME(out, "caf\xc3\xa9 \xe2\x80\xa6");
  bursar_escape_terminal_into(out, 1, "a");
  SAME(out, "");
}

static void test_markup(void) {
  GIVES(HTML, "<script>alert('x')&\"`", "&#60;script&#62;alert(&#39;x&#39;)&#38;&#34;&#96;");
  GIVES(HTML,
        "a\x1b\xff"
        "b",
        "a\xef\xbf\xbd\xef\xbf\xbd"
        "b");
  GIVES(JSON, "plain", "\"plain\"");
  GIVES(JSON, "", "\"\"");
  GIVES(JSON, "q\"b\\n\n\x1b\x00", "\"q\\\"b\\\\n\\u000a\\u001b\\u0000\"");
  GIVES(JSON, "</script>&", "\"\\u003c/script\\u003e\\u0026\"");
  GIVES(JSON, "\xff\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
  GIVES(JSON, "\xe2\x80\xa8", "\"\\u2028\"");
  GIVES(JSON, "\xf3\xa0\x80\x81\xf0\x9f\x98\x80", "\"\\udb40\\udc01\xf0\x9f\x98\x80\"");
  gives(JSON, NULL, 0, "null");
  GIVES(CSV, "a,b", "\"a,b\"");
  GIVES(CSV, "say \"x\"", "\"say \"\"x\"\"\"");
  GIVES(CSV, "=1+1", "\"'=1+1\"");
  GIVES(CSV, "@x", "\"'@x\"");
  gives(CSV, NULL, 0, "");
}

static void test_buffer(void) {
  struct bursar_buffer out;
  bursar_buffer_init(&out, 10);
  bursar_buffer_text(&out, "0123456789");
  EQ(out.failed, 0);
  bursar_buffer_char(&out, 'x');
  EQ(out.failed, -EFBIG);
  EQ(out.used, 10);
  EQ(bursar_buffer_finish(&out), -EFBIG);
  bursar_buffer_free(&out);

  int ends[2];
  OK(pipe2(ends, O_CLOEXEC) == 0, "a pipe");
  bursar_buffer_to(&out, ends[1], 1u << 20);
  bursar_buffer_number(&out, UINT64_MAX);
  bursar_buffer_format(&out, " %0600d", 7);
  bursar_buffer_repeat(&out, "ab", 3);
  EQ(bursar_buffer_finish(&out), 0);
  char back[1024] = "";
  ssize_t got = read(ends[0], back, sizeof back - 1);
  EQ(got, 20 + 601 + 6);
  OK(memcmp(back, "18446744073709551615 0000", 25) == 0 && memcmp(back + got - 6, "ababab", 6) == 0, "all of it");
  close(ends[0]);
  close(ends[1]);
  bursar_buffer_char(&out, 'x');
  EQ(bursar_buffer_finish(&out), -EBADF);
  bursar_buffer_char(&out, 'y');
  EQ(out.failed, -EBADF);
  bursar_buffer_free(&out);
}

static void test_index(void) {
  struct bursar_index index;
  EQ(bursar_index_init(&index, 1000), 0);
  bool good = true;
  for (uint32_t round = 0; round < 2; round++)
    for (uint32_t i = 0; i < 1000; i++)
      good = good && bursar_index_of(&index, i % 10, i / 10) == i;
  OK(good, "a thousand keys keep their numbers");
  EQ(bursar_index_of(&index, 11, 0), UINT32_MAX);
  EQ(bursar_index_of(&index, 9, 99), 999);
  bursar_index_free(&index);
  EQ(bursar_index_init_texts(&index, 4), 0);
  EQ(bursar_index_of_text(&index, text_of("one", 3)), 0);
  EQ(bursar_index_of_text(&index, text_of(NULL, 0)), 1);
  EQ(bursar_index_of_text(&index, text_of("", 0)), 2);
  EQ(bursar_index_of_text(&index, text_of("one and more", 12)), 3);
  EQ(bursar_index_of_text(&index, text_of("one!", 3)), 0);
  EQ(bursar_index_of_text(&index, text_of("five", 4)), UINT32_MAX);
  bursar_index_free(&index);
}

int main(void) {
  test_terminal();
  test_into();
  test_markup();
  test_buffer();
  test_index();
  return tap_done();
}
