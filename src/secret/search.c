#include "secret/search.h"

#include <string.h>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

#define WORD BURSAR_SEARCH_WORD
#define BUCKETS (8 * BURSAR_SEARCH_GROUPS)

/* --- words ----------------------------------------------------------------------------------------------------------- */

/* How seldom such a byte is in memory, roughly. */
static unsigned rarity(unsigned char byte) {
  if (byte == 0)
    return 0;
  if (byte == 0xff || byte < 9)
    return 2;
  if (byte == ' ' || byte == '_' || (byte >= 'a' && byte <= 'z'))
    return 5;
  return (byte >= '0' && byte <= '9') || byte < 0x20 ? 6 : 8;
}

/* 0: all four are the same, so that a word says next to nothing. */
static unsigned score(const unsigned char *at) {
  unsigned sum = 1;
  if (at[0] == at[1] && at[1] == at[2] && at[2] == at[3])
    return 0;
  for (unsigned i = 0; i < WORD; i++)
    sum += rarity(at[i]);
  return sum;
}

static bool add_word(struct bursar_search *search, uint32_t form, size_t offset) {
  if (search->count == BURSAR_SEARCH_WORDS)
    return false;
  struct bursar_search_word *word = &search->words[search->count++];
  *word = (struct bursar_search_word){.form = form, .offset = offset};
  memcpy(&word->word, search->forms[form]->at + offset, WORD);
  return true;
}

/* A part begins at `start`, anywhere up to length - least; one of its words is in [start, start + reach].  Those in the second
 * half of that are tried first: they serve the most starts. */
static bool add_form(struct bursar_search *search, uint32_t number) {
  const struct bursar_forms_one *form = search->forms[number];
  size_t reach = form->least - WORD;
  for (size_t start = 0; start <= form->length - form->least;) {
    size_t best = 0;
    unsigned most = 0;
    for (size_t at = start + reach + 1; at-- > start + reach / 2;)
      if (score(form->at + at) > most)
        most = score(form->at + (best = at));
    for (size_t at = start + reach / 2; !most && at-- > start;)
      if (score(form->at + at) > most)
        most = score(form->at + (best = at));
    if (most) {
      if (!add_word(search, number, best))
        return false;
      start = best + 1;
      continue;
    }
    /* Such a part is one byte all along: none begins before the next word that says something comes into reach. */
    size_t at = start + reach + 1;
    while (at + WORD <= form->length && !score(form->at + at))
      at++;
    start = at - reach;
  }
  return true;
}

void bursar_search_init(struct bursar_search *search) { memset(search, 0, sizeof *search); }

bool bursar_search_add(struct bursar_search *search, const struct bursar_forms *forms) {
  if (search->form_count + forms->count > 2 * BURSAR_FORMS_COUNT)
    return false;
  for (size_t i = 0; i < forms->count; i++) {
    search->forms[search->form_count] = &forms->at[i];
    search->longest = forms->at[i].length > search->longest ? forms->at[i].length : search->longest;
    if (!add_form(search, search->form_count++))
      return false;
  }
  return true;
}

static unsigned hash(uint32_t word) { return word * 0x9e3779b1u >> 24; }

static uint32_t order_of(uint32_t word) { return __builtin_bswap32(word); } /* by its first byte */

/* Neighbours in order share a bucket, so that its masks stay narrow. */
static void sort(struct bursar_search *search) {
  for (uint32_t i = 1; i < search->count; i++) {
    struct bursar_search_word word = search->words[i];
    uint32_t at = i;
    for (; at && order_of(search->words[at - 1].word) > order_of(word.word); at--)
      search->words[at] = search->words[at - 1];
    search->words[at] = word;
  }
}

void bursar_search_ready(struct bursar_search *search) {
  sort(search);
  for (uint32_t i = 0; i < search->count; i++) {
    struct bursar_search_word *word = &search->words[i];
    unsigned char bytes[WORD];
    unsigned bucket = (unsigned)((uint64_t)i * BUCKETS / search->count), group = bucket / 8;
    unsigned char bit = (unsigned char)(1u << bucket % 8);
    memcpy(bytes, &word->word, WORD);
    for (unsigned k = 0; k < WORD; k++)
      for (unsigned lane = 0; lane < 32; lane += 16) {
        search->low[group][k][lane + (bytes[k] & 15)] |= bit;
        search->high[group][k][lane + (bytes[k] >> 4)] |= bit;
      }
    for (unsigned k = 0; k < 2; k++) {
      unsigned pair = bytes[2 * k] | (unsigned)bytes[2 * k + 1] << 8;
      search->pairs[k][pair / 64] |= 1ull << (pair % 64);
    }
    word->next = search->first[hash(word->word)];
    search->first[hash(word->word)] = i + 1;
    memset(bytes, 0, sizeof bytes);
  }
}

/* --- what a word stands in ------------------------------------------------------------------------------------------- */

static bool differ_enough(const unsigned char *at, size_t bytes) {
  uint64_t seen[4] = {0};
  unsigned different = 0;
  for (size_t i = 0; i < bytes && different < BURSAR_FORMS_DIFFERENT; i++) {
    different += !(seen[at[i] / 64] >> (at[i] % 64) & 1);
    seen[at[i] / 64] |= 1ull << (at[i] % 64);
  }
  return different >= BURSAR_FORMS_DIFFERENT;
}

struct data {
  const struct bursar_search *search;
  const unsigned char *at;
  size_t bytes;
  bursar_search_visit *visit;
  void *context;
};

static void lay_beside(const struct data *data, uint32_t number, size_t offset, size_t place) {
  const struct bursar_forms_one *form = data->search->forms[number];
  size_t before = 0, after = WORD;
  size_t before_most = offset < place ? offset : place;
  size_t after_most = form->length - offset < data->bytes - place ? form->length - offset : data->bytes - place;
  while (before < before_most && form->at[offset - before - 1] == data->at[place - before - 1])
    before++;
  while (after < after_most && form->at[offset + after] == data->at[place + after])
    after++;
  if (before + after < form->least)
    return;
  struct bursar_search_find find = {
      .form = number, .at = place - before, .length = before + after, .from = offset - before};
  if (find.length < form->length && !differ_enough(data->at + find.at, find.length))
    return;
  data->visit(&find, data->context);
}

static inline void look_at(const struct data *data, size_t place) {
  uint32_t word;
  memcpy(&word, data->at + place, WORD);
  for (uint32_t i = data->search->first[hash(word)]; i; i = data->search->words[i - 1].next) {
    const struct bursar_search_word *one = &data->search->words[i - 1];
    if (one->word == word)
      lay_beside(data, one->form, one->offset, place);
  }
}

/* --- the filter ------------------------------------------------------------------------------------------------------ */

static void run_plain(const struct data *data, size_t from, size_t to) {
  const struct bursar_search *search = data->search;
  for (size_t place = from; place < to; place++) {
    uint16_t pair[2];
    memcpy(pair, data->at + place, WORD);
    if (search->pairs[0][pair[0] / 64] >> (pair[0] % 64) & search->pairs[1][pair[1] / 64] >> (pair[1] % 64) & 1)
      look_at(data, place);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static inline __m256i buckets_of(const struct bursar_search *search, unsigned group,
                                                                 const __m256i low[WORD], const __m256i high[WORD]) {
  __m256i all = _mm256_set1_epi8(-1);
  for (unsigned k = 0; k < WORD; k++) {
    __m256i a = _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)(const void *)search->low[group][k]), low[k]);
    __m256i b = _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)(const void *)search->high[group][k]), high[k]);
    all = _mm256_and_si256(all, _mm256_and_si256(a, b));
  }
  return all;
}

/* 32 places at a time; reads up to three bytes more.  Returns where it stopped. */
__attribute__((target("avx2"))) static size_t run_avx2(const struct data *data, size_t from, size_t to) {
  const __m256i half = _mm256_set1_epi8(15);
  size_t place = from;
  for (; to - place >= 32 && data->bytes - place >= 35; place += 32) {
    __m256i low[WORD], high[WORD];
    for (unsigned k = 0; k < WORD; k++) {
      __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(data->at + place + k));
      low[k] = _mm256_and_si256(bytes, half);
      high[k] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half);
    }
    __m256i any = _mm256_or_si256(buckets_of(data->search, 0, low, high), buckets_of(data->search, 1, low, high));
    if (__builtin_expect(_mm256_testz_si256(any, any), 1))
      continue;
    uint32_t places = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(any, _mm256_setzero_si256()));
    for (; places; places &= places - 1)
      look_at(data, place + (size_t)__builtin_ctz(places));
  }
  return place;
}
#endif

void bursar_search_run(const struct bursar_search *search, const unsigned char *data, size_t bytes, size_t from,
                       size_t to, bursar_search_visit *visit, void *context) {
  struct data all = {search, data, bytes, visit, context};
  if (bytes < WORD)
    return;
  to = to < bytes - WORD + 1 ? to : bytes - WORD + 1;
  if (from >= to)
    return;
#if defined(__x86_64__)
  if (!search->plain && __builtin_cpu_supports("avx2"))
    from = run_avx2(&all, from, to);
#endif
  run_plain(&all, from, to);
}
