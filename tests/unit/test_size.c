/* Sizes as people read and type them. */
#include "base/size.h"
#include "tap.h"

#include <errno.h>

static void parses(const char *text, uint64_t want) {
  uint64_t got = 0;
  int status = bursar_size_parse(text, &got);
  OK(status == 0 && got == want, "'%s' is %llu", text, (unsigned long long)want);
}

static void refuses(const char *text, int want) {
  uint64_t got = 77;
  int status = bursar_size_parse(text, &got);
  OK(status == want && got == 77, "'%s' is refused (%d)", text, want);
}

static void prints(uint64_t bytes, const char *want) {
  char text[BURSAR_SIZE_TEXT];
  SAME(bursar_size_print(bytes, text), want);
}

static void counts(uint64_t count, const char *want) {
  char text[BURSAR_SIZE_TEXT];
  SAME(bursar_size_count(count, text), want);
}

int main(void) {
  parses("0", 0);
  parses("4096", 4096);
  parses("512 MiB", 536870912);
  parses("512MiB", 536870912);
  parses("1.5GB", 1500000000);
  parses("1.5 GiB", 1610612736);
  parses("64k", 65536);
  parses("64K", 65536);
  parses("64kB", 64000);
  parses("2 tib", 2199023255552);
  parses(" 7 b ", 7);
  parses("0.5", 0);
  parses("0.001KiB", 1);
  parses("18446744073709551615", UINT64_MAX);
  refuses("", -EINVAL);
  refuses("MiB", -EINVAL);
  refuses("-1", -EINVAL);
  refuses("+1", -EINVAL);
  refuses("1.", -EINVAL);
  refuses(".5", -EINVAL);
  refuses("1 Mi B", -EINVAL);
  refuses("1 parsec", -EINVAL);
  refuses("1e9", -EINVAL);
  refuses("0x10", -EINVAL);
  refuses("18446744073709551616", -ERANGE);
  refuses("99999999999 GiB", -ERANGE);
  refuses("16777216 TiB", -ERANGE);

  prints(0, "0 B");
  prints(1023, "1023 B");
  prints(1024, "1 KiB");
  prints(1536, "1.50 KiB");
  prints(536870912, "512 MiB");
  prints(40000001, "38.1 MiB");
  prints(1048575, "1.00 MiB");
  prints(1048576, "1 MiB");
  prints(1073741824ull * 1023, "1023 GiB");
  prints(UINT64_MAX, "16.0 EiB");
  counts(0, "0");
  counts(9999, "9999");
  counts(10000, "10.0 k");
  counts(999999, "1.00 M");
  counts(27000000, "27.0 M");
  counts(UINT64_MAX, "18.4 E");
  return tap_done();
}
