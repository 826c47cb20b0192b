#include "secret/search.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define ROOM 65536u

static uint64_t seed = 20260117;
static uint32_t dice(uint32_t sides) {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(seed >> 33) % sides;
}

static struct bursar_search search __attribute__((aligned(32)));
static struct bursar_forms forms;
static unsigned char room[1 << 22];

static void make(const void *secret, size_t length, enum bursar_forms_kind kind, bool whole) {
  struct bursar_forms_secret one = {.at = secret, .length = length, .kind = kind, .whole = whole};
  if (bursar_forms_room(&one) > sizeof room || bursar_forms_make(&one, room, bursar_forms_room(&one), &forms) != 0)
    abort();
  bursar_search_init(&search);
  if (!bursar_search_add(&search, &forms))
    abort();
  bursar_search_ready(&search);
}

static bool has(enum bursar_forms_name name, const void *bytes, size_t length) {
  for (size_t i = 0; i < forms.count; i++)
    if (forms.at[i].name == name && forms.at[i].length == length && memcmp(forms.at[i].at, bytes, length) == 0)
      return true;
  return false;
}
#define HAS_FORM(name, text) OK(has(name, text, sizeof(text) - 1), "%s", #name)

static void test_forms_of_text(void) {
  make("Grün 7+?", 9, BURSAR_FORMS_TEXT, false);
  HAS_FORM(BURSAR_FORMS_UTF8, "Gr\xc3\xbcn 7+?");
  HAS_FORM(BURSAR_FORMS_LATIN1, "Gr\xfcn 7+?");
  HAS_FORM(BURSAR_FORMS_UTF16LE, "G\0r\0\xfc\0n\0 \0007\0+\0?\0");
  HAS_FORM(BURSAR_FORMS_UTF16BE, "\0G\0r\0\xfc\0n\0 \0007\0+\0?");
  HAS_FORM(BURSAR_FORMS_UTF32LE, "G\0\0\0r\0\0\0\xfc\0\0\0n\0\0\0 \0\0\0007\0\0\0+\0\0\0?\0\0\0");
  HAS_FORM(BURSAR_FORMS_REVERSED, "?+7 n\xbc\xc3rG");
  HAS_FORM(BURSAR_FORMS_HEX, "4772c3bc6e20372b3f");
  HAS_FORM(BURSAR_FORMS_HEX_UPPER, "4772C3BC6E20372B3F");
  HAS_FORM(BURSAR_FORMS_BASE64, "R3LDvG4gNys/");     /* base64.b64encode */
  HAS_FORM(BURSAR_FORMS_BASE64_URL, "R3LDvG4gNys_"); /* urlsafe */
  HAS_FORM(BURSAR_FORMS_BASE64,
           "dyw7xuIDcrP"); /* of b"x" + it: eEdyw7xuIDcrPw==, without what depends on x and the end */
  HAS_FORM(BURSAR_FORMS_BASE64, "HcsO8biA3Kz"); /* of b"xy" + it: eHlHcsO8biA3Kz8= */
}

static void test_forms_of_numbers(void) {
  /* 0x0123456789abcdef0011 */
  make("\x11\x00\xef\xcd\xab\x89\x67\x45\x23\x01", 10, BURSAR_FORMS_INT, false);
  HAS_FORM(BURSAR_FORMS_INT_LE, "\x11\x00\xef\xcd\xab\x89\x67\x45\x23\x01");
  HAS_FORM(BURSAR_FORMS_INT_BE, "\x01\x23\x45\x67\x89\xab\xcd\xef\x00\x11");
  HAS_FORM(BURSAR_FORMS_HEX, "123456789abcdef0011");
  HAS_FORM(BURSAR_FORMS_DECIMAL, "5373003642731685150737");
  HAS_FORM(BURSAR_FORMS_DIGITS, "\x11\x00\xef\x0d\xaf\x26\x9e\x15\x34\x12\x00\x00");
  double tenth = 1234.56789;
  make(&tenth, 8, BURSAR_FORMS_FLOAT, false);
  HAS_FORM(BURSAR_FORMS_REPR, "1234.56789");
  HAS_FORM(BURSAR_FORMS_FLOAT_BE, "\x40\x93\x4a\x45\x84\xf4\xc6\xe7");
  tenth = -1.2345678e-7;
  make(&tenth, 8, BURSAR_FORMS_FLOAT, false);
  HAS_FORM(BURSAR_FORMS_REPR, "1.2345678e-07");
  tenth = 0.00012345678;
  make(&tenth, 8, BURSAR_FORMS_FLOAT, false);
  HAS_FORM(BURSAR_FORMS_REPR, "0.00012345678");
}

static int status_of(const void *secret, size_t length) {
  struct bursar_forms_secret one = {.at = secret, .length = length, .kind = BURSAR_FORMS_BYTES};
  return bursar_forms_make(&one, room, bursar_forms_room(&one), &forms);
}

static void test_what_proves_nothing_is_refused(void) {
  EQ(status_of("", 0), -ERANGE);
  EQ(status_of("1234567", 7), -ERANGE);
  EQ(status_of("12345678", 8), 0);
  EQ(status_of("aaaabbbbccccaaaabbbb", 20), -EINVAL);
}

/* Half of it, but never what stands for less than eight bytes. */
static void test_how_much_is_a_find(void) {
  make("0123456789abcdefghijABCDEFGHIJKL", 32, BURSAR_FORMS_BYTES, false);
  EQ(forms.at[0].least, 16);
  make("0123456789ab", 12, BURSAR_FORMS_BYTES, false);
  EQ(forms.at[0].least, 8);
  for (size_t i = 0; i < forms.count; i++)
    if (forms.at[i].name == BURSAR_FORMS_HEX || forms.at[i].name == BURSAR_FORMS_UTF16LE)
      EQ(forms.at[i].least, 16);
  make("0123456789ab", 12, BURSAR_FORMS_BYTES, true);
  EQ(forms.at[0].least, 12);
}

/* --- the search, beside one that compares at each place ---------------------------------------------------------------- */

struct found {
  unsigned char form[ROOM]; /* at each place: form + 1 of a find that begins there */
  uint32_t length[ROOM];
  size_t count;
};
static struct found got, want;

static void note(const struct bursar_search_find *find, void *context) {
  struct found *found = context;
  if (find->length <= found->length[find->at])
    return;
  found->count += !found->length[find->at];
  found->form[find->at] = (unsigned char)(find->form + 1);
  found->length[find->at] = (uint32_t)find->length;
}

static bool various(const unsigned char *at, size_t length) {
  bool seen[256] = {false};
  int different = 0;
  for (size_t i = 0; i < length; i++)
    different += !seen[at[i]], seen[at[i]] = true;
  return different >= (int)BURSAR_FORMS_DIFFERENT;
}

/* Each place beside each place of each form: where they begin to agree, and for how long. */
static void slowly(const unsigned char *data, size_t bytes) {
  memset(&want, 0, sizeof want);
  for (uint32_t i = 0; i < forms.count; i++)
    for (size_t place = 0; place < bytes; place++)
      for (size_t from = 0; from + forms.at[i].least <= forms.at[i].length; from++) {
        size_t n = 0;
        if (from && place && forms.at[i].at[from - 1] == data[place - 1])
          continue;
        while (place + n < bytes && from + n < forms.at[i].length && forms.at[i].at[from + n] == data[place + n])
          n++;
        struct bursar_search_find find = {i, place, n, from};
        if (n >= forms.at[i].least && (n == forms.at[i].length || various(data + place, n)))
          note(&find, &want);
      }
}

static size_t differences(const unsigned char *data, size_t bytes, bool plain, size_t piece) {
  size_t wrong = 0;
  memset(&got, 0, sizeof got);
  search.plain = plain;
  for (size_t from = 0; from < bytes; from += piece)
    bursar_search_run(&search, data, bytes, from, from + piece < bytes ? from + piece : bytes, note, &got);
  for (size_t i = 0; i < bytes; i++)
    wrong += got.length[i] != want.length[i];
  return wrong;
}

static void test_against_slow(void) {
  static unsigned char data[4096];
  unsigned char secret[48];
  size_t wrong[3] = {0}, finds = 0;
  for (int round = 0; round < 120; round++) {
    size_t length = 8 + dice(41), bytes = 64 + dice(sizeof data - 64);
    bool text = round % 3 == 0, zeros = round % 3 == 1;
    for (size_t i = 0; i < length; i++)
      secret[i] = (unsigned char)(text ? 'a' + dice(26) : zeros && dice(3) ? 0 : dice(256));
    memcpy(secret + dice(2), "a\x01zQ", 4); /* enough different ones */
    make(secret, length, BURSAR_FORMS_BYTES, round % 5 == 4);
    for (size_t i = 0; i < bytes; i++)
      data[i] = (unsigned char)(round % 4 == 0 ? dice(256) : round % 4 == 1 ? 0 : 'a' + dice(26));
    for (int plants = 0; plants < 8; plants++) {
      const struct bursar_forms_one *form = &forms.at[dice((uint32_t)forms.count)];
      size_t from = dice((uint32_t)(form->length - form->least + 1) + 4), n = form->least + dice(6) - 3;
      from = from < form->length ? from : 0;
      n = n < form->length - from ? n : form->length - from;
      size_t at = plants == 0 ? 0 : plants == 1 && bytes > n ? bytes - n : dice((uint32_t)bytes);
      memcpy(data + at, form->at + from, n < bytes - at ? n : bytes - at);
    }
    slowly(data, bytes);
    finds += want.count;
    wrong[0] += differences(data, bytes, true, bytes);
    wrong[1] += differences(data, bytes, false, bytes);
    wrong[2] += differences(data, bytes, false, 33);
  }
  OK(finds > 250, "%zu planted finds", finds);
  EQ(wrong[0], 0);
  EQ(wrong[1], 0);
  EQ(wrong[2], 0);
}

/* A large array, most of which is zeros. */
static void test_long_secrets(void) {
  static unsigned char secret[40000], data[ROOM];
  for (size_t i = 30000; i < sizeof secret; i++)
    secret[i] = (unsigned char)dice(256);
  make(secret, sizeof secret, BURSAR_FORMS_BYTES, false);
  memset(&got, 0, sizeof got);
  memcpy(data + 777, secret + 15000, 25000);
  bursar_search_run(&search, data, sizeof data, 0, sizeof data, note, &got);
  EQ(got.count, 1);
  EQ(got.length[0], 777 + 25000); /* zeros before it are the secret's too */
}

int main(void) {
  test_forms_of_text();
  test_forms_of_numbers();
  test_what_proves_nothing_is_refused();
  test_how_much_is_a_find();
  test_against_slow();
  test_long_secrets();
  return tap_done();
}
