/* inspect.c: `bursar model inspect` and `verify`: what a model's file says of itself, and whether it is as it was saved. */
#include "base/escape.h"
#include "base/size.h"
#include "cli/opened.h"
#include "model/hashes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA 1
#define NAME_COLUMNS 48
#define THREADS 4u /* that bursar.load uses */

static const struct bursar_cli_option identity = {
    .name = "identity", .letter = 'i', .value = "FILE", .help = "a file of secret keys, for a sealed file"};
static const struct bursar_cli_option passphrase = {.name = "passphrase-file",
                                                    .value = "FILE",
                                                    .help =
                                                        "the first line of this file is the passphrase of a sealed "
                                                        "file;\nelse it is asked for"};

static struct bursar_cli_option with_list(struct bursar_cli_option option, struct bursar_cli_list *list) {
  option.list = list;
  return option;
}

static struct bursar_cli_option with_text(struct bursar_cli_option option, const char **text) {
  option.text = text;
  return option;
}

/* ---- what a file says ---- */

struct shown {
  const struct bursar_archive *archive;
  const char *hashes;    /* 65 bytes for each tensor; NULL: not asked for */
  const char *file_hash; /* of all bytes */
};

static uint64_t elements_of(const struct bursar_tensor *tensor) {
  return (tensor->to - tensor->from) * 8 / bursar_dtype_facts[tensor->dtype].bits;
}

static void print_shape(struct bursar_buffer *out, const struct bursar_tensor *tensor) {
  bursar_buffer_char(out, '[');
  for (uint32_t i = 0; i < tensor->rank; i++) {
    bursar_buffer_text(out, i ? ", " : "");
    bursar_buffer_number(out, tensor->shape[i]);
  }
  bursar_buffer_char(out, ']');
}

static uint64_t stored_bytes(const struct bursar_archive *archive, const struct bursar_tensor *tensor) {
  bool packed;
  const struct bursar_tensor *stored = bursar_archive_stored(archive, tensor, &packed);
  return stored->to - stored->from;
}

/* ---- as text ---- */

static uint64_t print_tensors(struct bursar_buffer *out, const struct shown *shown, bool packed) {
  const struct bursar_safetensors *model = shown->archive->shown;
  char size[BURSAR_SIZE_TEXT];
  uint64_t elements = 0;
  if (model->count)
    bursar_buffer_format(out, "      SIZE  %sTYPE         TENSOR\n", packed ? "   PACKED  " : "");
  for (size_t i = 0; i < model->count; i++) {
    const struct bursar_tensor *tensor = &model->tensors[i];
    elements += elements_of(tensor);
    bursar_buffer_format(out, "%10s  ", bursar_size_print(tensor->to - tensor->from, size));
    if (packed)
      bursar_buffer_format(out, "%9s  ", bursar_size_print(stored_bytes(shown->archive, tensor), size));
    bursar_buffer_format(out, "%-11s  ", bursar_dtype_facts[tensor->dtype].name);
    bursar_escape_terminal_cut(out, tensor->name, NAME_COLUMNS);
    bursar_buffer_text(out, "  ");
    print_shape(out, tensor);
    if (shown->hashes)
      bursar_buffer_format(out, "  %s", shown->hashes + i * (BURSAR_HASHES_DIGITS + 1));
    bursar_buffer_char(out, '\n');
  }
  return elements;
}

/* What bursar says of the file, in its metadata; the rest of that is the user's. */
static const struct {
  const char *key, *title;
} records[] = {{"bursar.made", "made"}, {"bursar.versions", "with"}, {"bursar.left_out", "left out"}};

static void print_metadata(struct bursar_buffer *out, const struct bursar_archive *archive) {
  const struct bursar_safetensors *model = archive->shown;
  const struct bursar_text *description = bursar_archive_said(archive, BURSAR_ARCHIVE_MODEL);
  char size[BURSAR_SIZE_TEXT];
  for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
    const struct bursar_text *text = bursar_archive_said(archive, records[i].key);
    if (!text)
      continue;
    bursar_buffer_format(out, "%-12s", records[i].title);
    bursar_escape_terminal(out, *text);
    bursar_buffer_char(out, '\n');
  }
  if (description)
    bursar_buffer_format(out, "model       a description of %s: bursar.load gives the object\n",
                         bursar_size_print(description->length, size));
  if (bursar_hashes_are_there(archive))
    bursar_buffer_text(out, "hashes      SHA-256, of each tensor and of the file: bursar model verify checks them\n");
  bool first = true;
  for (size_t i = 0; i < model->metadata_count; i++) {
    const struct bursar_text *key = &model->metadata[i].key;
    if (key->length >= 7 && memcmp(key->bytes, "bursar.", 7) == 0)
      continue;
    bursar_buffer_text(out, first ? "metadata    " : "            ");
    bursar_escape_terminal(out, *key);
    bursar_buffer_text(out, ": ");
    bursar_escape_terminal(out, model->metadata[i].value);
    bursar_buffer_char(out, '\n');
    first = false;
  }
}

static void print_text(struct bursar_buffer *out, const struct shown *shown) {
  const struct bursar_safetensors *model = shown->archive->shown;
  bool packed = shown->archive->stored != model;
  char size[BURSAR_SIZE_TEXT], count[BURSAR_SIZE_TEXT], peak[BURSAR_SIZE_TEXT];
  uint64_t elements = print_tensors(out, shown, packed);
  bursar_buffer_format(out, "%zu tensors, %s numbers, %s", model->count, bursar_size_count(elements, count),
                       bursar_size_print(model->data_bytes, size));
  if (packed)
    bursar_buffer_format(out, ", packed into %s", bursar_size_print(shown->archive->stored->data_bytes, size));
  bursar_buffer_format(out, "; a load takes %s at its peak%s\n",
                       bursar_size_print(bursar_archive_load_bytes(shown->archive, THREADS), peak),
                       packed || shown->archive->source.unsealed ? "" : ", a mapped one nothing");
  print_metadata(out, shown->archive);
  if (shown->file_hash)
    bursar_buffer_format(out, "sha256      %s\n", shown->file_hash);
}

/* ---- as JSON ---- */

static void print_json(struct bursar_buffer *out, const struct shown *shown) {
  const struct bursar_archive *archive = shown->archive;
  const struct bursar_safetensors *model = archive->shown;
  bool packed = archive->stored != model;
  bursar_buffer_format(out, "{\"schema\": %d, \"format\": \"safetensors\", \"bytes\": %llu, \"header_bytes\": %llu,\n",
                       SCHEMA, (unsigned long long)model->data_bytes,
                       (unsigned long long)(model->data_at - BURSAR_SAFETENSORS_LENGTH));
  bursar_buffer_format(out, " \"load_bytes\": %llu, \"packed\": %s, \"sealed\": %s, \"stored_bytes\": %llu, ",
                       (unsigned long long)bursar_archive_load_bytes(archive, THREADS), packed ? "true" : "false",
                       archive->source.unsealed ? "true" : "false", (unsigned long long)archive->stored->data_bytes);
  if (shown->file_hash)
    bursar_buffer_format(out, "\"sha256\": \"%s\", ", shown->file_hash);
  bursar_buffer_text(out, "\"metadata\": {");
  for (size_t i = 0; i < model->metadata_count; i++) {
    bursar_buffer_text(out, i ? ", " : "");
    bursar_escape_json(out, model->metadata[i].key);
    bursar_buffer_text(out, ": ");
    bursar_escape_json(out, model->metadata[i].value);
  }
  bursar_buffer_text(out, "},\n \"tensors\": [");
  for (size_t i = 0; i < model->count; i++) {
    const struct bursar_tensor *tensor = &model->tensors[i];
    bursar_buffer_text(out, i ? ",\n  {\"name\": " : "\n  {\"name\": ");
    bursar_escape_json(out, tensor->name);
    bool is_packed;
    const struct bursar_tensor *stored = bursar_archive_stored(archive, tensor, &is_packed);
    bursar_buffer_format(out, ", \"dtype\": \"%s\", \"bytes\": %llu, \"packed\": %s, \"stored_bytes\": %llu, ",
                         bursar_dtype_facts[tensor->dtype].name, (unsigned long long)(tensor->to - tensor->from),
                         is_packed ? "true" : "false", (unsigned long long)(stored->to - stored->from));
    unsigned long long offset = archive->stored->data_at + stored->from;
    bursar_buffer_format(out, "\"offset\": %llu, \"shape\": ", offset);
    print_shape(out, tensor);
    if (shown->hashes)
      bursar_buffer_format(out, ", \"sha256\": \"%s\"", shown->hashes + i * (BURSAR_HASHES_DIGITS + 1));
    bursar_buffer_char(out, '}');
  }
  bursar_buffer_text(out, "]}\n");
}

/* ---- inspect ---- */

/* *out: 65 bytes for each tensor, malloc; `file`: of all bytes. */
static int hash(const struct bursar_archive *archive, char **out, char file[BURSAR_HASHES_DIGITS + 1],
                struct bursar_error *error) {
  unsigned char is[BURSAR_CRYPTO_HASH];
  int status = bursar_hashes_of_source(&archive->source, is, error);
  if (status < 0)
    return status;
  bursar_hashes_print(is, file);
  *out = malloc(archive->shown->count * (BURSAR_HASHES_DIGITS + 1) + 1);
  if (!*out)
    return bursar_error_set(error, BURSAR_FAILED, "not enough memory");
  for (size_t i = 0; status == 0 && i < archive->shown->count; i++) {
    status = bursar_hashes_of_tensor(archive, &archive->shown->tensors[i], is, error);
    bursar_hashes_print(is, *out + i * (BURSAR_HASHES_DIGITS + 1));
  }
  return status;
}

int bursar_cli_model_inspect(int argc, char **argv) {
  static const char *const formats[] = {"text", "json", NULL};
  const char *format = formats[0];
  bool hashes = false;
  struct bursar_cli_keys keys = {.passphrase_file = NULL};
  const struct bursar_cli_option options[] = {
      {.name = "format", .value = "FORMAT", .text = &format, .help = "text (the default) or json"},
      {.name = "hashes", .flag = &hashes, .help = "SHA-256 of each tensor and of the file, which is read for it"},
      with_list(identity, &keys.identities),
      with_text(passphrase, &keys.passphrase_file),
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {.verb = "model inspect",
                                           .usage = "FILE [--format text|json] [--hashes] [--identity FILE]",
                                           .about =
                                               "Shows what a safetensors file holds: tensors, types, sizes, what a "
                                               "load takes, when and with what it "
                                               "was made,\nmetadata. Reads its header alone.",
                                           .options = options};
  struct bursar_cli_opened opened;
  struct bursar_error error;
  struct bursar_buffer out;
  char file_hash[BURSAR_HASHES_DIGITS + 1], *each = NULL;
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  if (status >= 0)
    return status;
  if (count != 1)
    return bursar_cli_complain(2, "model inspect: give one file");
  if (bursar_cli_choice(format, formats) < 0)
    return bursar_cli_unknown("model inspect", "format", format, formats);
  status = bursar_cli_open_model(argv[1], &keys, &opened, &error);
  if (status == 0 && hashes)
    status = hash(&opened.archive, &each, file_hash, &error);
  if (status == 0) {
    const struct shown shown = {.archive = &opened.archive, .hashes = each, .file_hash = hashes ? file_hash : NULL};
    bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
    if (strcmp(format, "json") == 0)
      print_json(&out, &shown);
    else
      print_text(&out, &shown);
  }
  free(each);
  bursar_cli_close_model(&opened);
  return status < 0 ? bursar_cli_fail(&error) : bursar_cli_finish(&out);
}

/* ---- verify ---- */

/* As sha256sum has it, in digits of either case. */
static int verify_whole(const struct bursar_cli_opened *opened, const char *digits, struct bursar_error *error) {
  unsigned char is[BURSAR_CRYPTO_HASH];
  char text[BURSAR_HASHES_DIGITS + 1];
  int status = bursar_hashes_of_source(&opened->source, is, error);
  if (status < 0)
    return status;
  bursar_hashes_print(is, text);
  return strcasecmp(text, digits) == 0
             ? 0
             : bursar_error_set(error, BURSAR_FAILED, "%.500s is another file: its SHA-256 is %s", opened->source.path,
                                text);
}

static int verify(const char *path, const struct bursar_cli_keys *keys, const char *digits, unsigned threads) {
  struct bursar_cli_opened opened;
  struct bursar_error error;
  struct bursar_buffer out;
  int status = bursar_cli_open_model(path, keys, &opened, &error);
  bool own = status == 0 && bursar_hashes_are_there(&opened.archive);
  if (status == 0 && digits)
    status = verify_whole(&opened, digits, &error);
  if (status == 0 && (own || !digits))
    status = bursar_hashes_verify(&opened.archive, threads, &error);
  if (status == 0) {
    bursar_buffer_to(&out, STDOUT_FILENO, UINT64_MAX);
    if (own)
      bursar_buffer_format(&out, "%zu tensors and the header are as they were saved (SHA-256)\n",
                           opened.archive.shown->count);
    if (digits)
      bursar_buffer_text(&out, "the file is the one that has this SHA-256\n");
  }
  bursar_cli_close_model(&opened);
  return status < 0 ? bursar_cli_fail(&error) : bursar_cli_finish(&out);
}

int bursar_cli_model_verify(int argc, char **argv) {
  const char *digits = NULL, *threads_text = NULL;
  struct bursar_cli_keys keys = {.passphrase_file = NULL};
  const struct bursar_cli_option options[] = {
      {.name = "sha256", .value = "HEX", .text = &digits, .help = "of the whole file, as sha256sum prints it"},
      {.name = "threads", .value = "N", .text = &threads_text, .help = "at most (1)"},
      with_list(identity, &keys.identities),
      with_text(passphrase, &keys.passphrase_file),
      {.name = NULL}};
  const struct bursar_cli_syntax syntax = {
      .verb = "model verify",
      .usage = "FILE [--sha256 HEX] [--threads N] [--identity FILE]",
      .about =
          "Checks that a model is as it was saved: each tensor and the header against the SHA-256 that the file\n"
          "has (bursar.save with hashes=True), or the file against one that you have. Exit status 1: it is not.",
      .options = options};
  int count, status = bursar_cli_options(&syntax, argc, argv, &count);
  char *end = NULL;
  if (status >= 0)
    return status;
  unsigned long threads = threads_text ? strtoul(threads_text, &end, 10) : 1;
  if (count != 1)
    return bursar_cli_complain(2, "model verify: give one file");
  if (digits && (strlen(digits) != BURSAR_HASHES_DIGITS || strspn(digits, "0123456789abcdefABCDEF") != strlen(digits)))
    return bursar_cli_complain(2, "model verify: --sha256 takes 64 digits, as sha256sum prints them");
  if (threads_text && (*end || !threads || threads > 1024))
    return bursar_cli_complain(2, "model verify: --threads takes a number, such as 4");
  return verify(argv[1], &keys, digits, (unsigned)threads);
}
