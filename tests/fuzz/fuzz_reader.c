/* The reader, the model and every view over any bytes at all.
 *
 * An input is a ledger with its empty stretches left out, so that a corpus stays small and a mutation mostly hits
 * something: one byte of flags, then pieces of { u32 offset, u16 length, bytes }, laid over zeros.
 * Flags: 1 the ledger belongs to this process and is mapped (a running program), 2 a thread scribbles into the mapping
 * while the reader opens it. */
#include "ledger/layout.h"
#include "ledger/reader.h"
#include "prim/prim.h"
#include "report/diff.h"
#include "report/html.h"
#include "report/json.h"
#include "report/model.h"
#include "report/views.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_MAX (4u << 20)
#define OUT_MAX (1u << 18) /* of a view: a hostile ledger may ask for gigabytes */
#define RUNNING 1
#define SCRIBBLED 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ledger = -1, nowhere = -1;

static void write_ledger(const uint8_t *data, size_t size) {
  if (ledger < 0) {
    ledger = memfd_create("fuzz", MFD_CLOEXEC);
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  }
  if (ledger < 0 || nowhere < 0 || ftruncate(ledger, 0) != 0)
    abort();
  while (size >= 6) {
    uint32_t offset;
    uint16_t length;
    memcpy(&offset, data, sizeof offset);
    memcpy(&length, data + 4, sizeof length);
    data += 6;
    size -= 6;
    if (length > size)
      length = (uint16_t)size;
    offset %= FILE_MAX;
    if (pwrite(ledger, data, length, offset) != length)
      abort();
    data += length;
    size -= length;
  }
}

static void claim_ledger(unsigned char *map) {
  struct bursar_header *header = (struct bursar_header *)(void *)map;
  struct bursar_counts *counts = (struct bursar_counts *)(void *)(map + BURSAR_AT_COUNTS);
  struct bursar_identity me;
  if (bursar_prim_identity(0, &me) != 0)
    abort();
  counts->state = BURSAR_STATE_OPEN;
  header->pid = (uint32_t)getpid();
  header->process_start = me.process_start;
  header->pid_namespace = me.pid_namespace;
  memcpy(header->boot_id, me.boot_id, sizeof me.boot_id);
}

static struct {
  unsigned char *map;
  size_t bytes;
  atomic_int stop;
  uint64_t dice;
} scribbler;

/* Small numbers and large ones, anywhere but in the magic and the sizes that a head must have to be read at all. */
static void *scribble(void *unused) {
  (void)unused;
  uint64_t dice = scribbler.dice | 1;
  while (!atomic_load_explicit(&scribbler.stop, memory_order_relaxed)) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    size_t at = 64 + (size_t)(dice >> 8) % (scribbler.bytes - 64);
    if (dice & 1)
      at = BURSAR_AT_BOOKS + at % (3 * BURSAR_PAGE);
    ((volatile unsigned char *)scribbler.map)[at] = (unsigned char)(dice & 2 ? dice >> 40 : (dice >> 40) & 3);
  }
  return NULL;
}

static void use_views(struct bursar_model *model) {
  static const enum bursar_model_when instants[] = {BURSAR_MODEL_PEAK, BURSAR_MODEL_END, BURSAR_MODEL_TIME};
  struct bursar_error error;
  struct bursar_buffer out;
  for (int kind = 0; kind < BURSAR_VIEWS_COUNT; kind++) {
    enum bursar_model_when when = instants[kind % 3];
    if (bursar_model_choose(model, when, model->run_ns / 2, &error) != 0)
      continue;
    bursar_buffer_init(&out, OUT_MAX);
    struct bursar_view view = {
        .model = model, .out = &out, .width = 40 + 30 * (unsigned)kind, .colour = kind % 2, .when = when};
    (void)!bursar_views_print(model, (enum bursar_views_kind)kind, &view, &error);
    bursar_buffer_free(&out);
    bursar_buffer_init(&out, OUT_MAX);
    (void)!bursar_json_write(model, (enum bursar_views_kind)kind, when, &out, &error);
    bursar_buffer_free(&out);
  }
  (void)!bursar_html_write(model, nowhere, &error);
  struct bursar_diff diff;
  if (bursar_diff_make(model, model, &diff, &error) == 0) {
    bursar_buffer_init(&out, OUT_MAX);
    struct bursar_view view = {.model = model, .out = &out, .width = 100};
    bursar_diff_print(&diff, &view);
    bursar_diff_write_json(&diff, &out);
    bursar_buffer_free(&out);
    bursar_diff_free(&diff);
  }
}

static void open_once(void) {
  struct bursar_reader *reader;
  struct bursar_model *model;
  struct bursar_error error;
  if (bursar_reader_open_fd(ledger, "fuzz", &reader, &error) == 0 && bursar_model_load(reader, &model, &error) == 0) {
    use_views(model);
    bursar_model_free(model);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1)
    return 0;
  unsigned flags = data[0];
  write_ledger(data + 1, size - 1);
  off_t bytes = lseek(ledger, 0, SEEK_END);
  if (!(flags & (RUNNING | SCRIBBLED)) || bytes < (off_t)BURSAR_EXTENT_MIN) {
    open_once();
    return 0;
  }
  unsigned char *map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ledger, 0);
  if (map == MAP_FAILED)
    abort();
  claim_ledger(map);
  pthread_t thread;
  if (flags & SCRIBBLED) {
    scribbler.map = map;
    scribbler.bytes = (size_t)bytes;
    scribbler.dice = size * 0x9e3779b97f4a7c15u + flags;
    atomic_store(&scribbler.stop, 0);
    if (pthread_create(&thread, NULL, scribble, NULL) != 0)
      abort();
  }
  for (int i = 0; i < (flags & SCRIBBLED ? 4 : 1); i++)
    open_once();
  if (flags & SCRIBBLED) {
    atomic_store(&scribbler.stop, 1);
    pthread_join(thread, NULL);
  }
  munmap(map, (size_t)bytes);
  return 0;
}
