/* native.c: memory as native code takes it: records of nodes and texts, kept in slots for a while, by calls some frames deep.
 * Compiled by bench/peers.py; native_threads.py and bench/balance.py call it without the GIL. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 4096u
#define KEEP __attribute__((noinline))

struct record {
  size_t length;
  unsigned char *text;
};

static uint64_t next(uint64_t *random) {
  *random = *random * 6364136223846793005u + 1442695040888963407u;
  return *random >> 33;
}

static KEEP unsigned char *make_text(size_t length, unsigned char letter) {
  unsigned char *text = malloc(length);
  if (!text)
    abort();
  memset(text, letter, length);
  return text;
}

static KEEP struct record *make_record(uint64_t *random) {
  struct record *record = calloc(1, sizeof *record);
  if (!record)
    abort();
  uint64_t dice = next(random);
  record->length = dice % 1000 == 0 ? 100000 + dice % 50000 : 16 + dice % 400;
  record->text = make_text(record->length, (unsigned char)dice);
  return record;
}

static KEEP void grow(struct record *record) {
  unsigned char *text = realloc(record->text, record->length * 2);
  if (!text)
    abort();
  memset(text + record->length, 1, record->length);
  record->text = text;
  record->length *= 2;
}

static KEEP uint64_t drop(struct record *record) {
  uint64_t sum = 0;
  for (size_t i = 0; i < record->length; i++)
    sum += record->text[i];
  free(record->text);
  free(record);
  return sum;
}

/* What the records that were dropped held: the same for the same arguments. */
uint64_t native_work(uint64_t seed, uint64_t rounds) {
  struct record **slots = calloc(SLOTS, sizeof *slots);
  uint64_t random = seed, sum = 0;
  if (!slots)
    abort();
  for (uint64_t i = 0; i < rounds; i++) {
    struct record **slot = &slots[next(&random) % SLOTS];
    if (*slot)
      sum += drop(*slot);
    *slot = make_record(&random);
    if (next(&random) % 8 == 0)
      grow(*slot);
  }
  for (unsigned i = 0; i < SLOTS; i++)
    if (slots[i])
      sum += drop(slots[i]);
  free(slots);
  return sum;
}

/* Takes so many blocks of that size, and keeps them. */
uint64_t native_fill(uint64_t count, uint64_t size) {
  uint64_t taken = 0;
  for (; taken < count; taken++) {
    void *block = malloc(size);
    if (!block)
      break;
    memset(block, 1, size);
  }
  return taken;
}
