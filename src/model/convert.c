#include "model/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "model/describe.h"
#include "model/inflate.h"
#include "model/ndarray.h"
#include "model/zip.h"

#define WORDS 64u
#define MAGIC 64u /* bytes at the beginning that say what it is */

struct conversion {
  int fd; /* of the file */
  const char *out;
  struct bursar_allowed_more allow;
  bool record;
  struct bursar_converted *result;
  struct bursar_error *error;
  struct bursar_nodes nodes;
  struct bursar_source source; /* what nodes lie in: the file, or `scratch` */
  struct bursar_save scratch;  /* what was unpacked; fd -1: nothing */
  struct bursar_zip zip;
  struct bursar_text prefix; /* of a checkpoint's members */
};

static int too_much(const struct conversion *c) {
  return bursar_error_set(c->error, BURSAR_FAILED, "%.500s has more in it than a model does, or there is no memory",
                          c->source.path);
}

static int unknown(const struct conversion *c, const char *why) {
  return bursar_error_set(c->error, BURSAR_FAILED, "%.500s %s", c->source.path, why);
}

/* --- pickles ------------------------------------------------------------------------------------------------------------- */

static int read_pickle(struct conversion *c, uint64_t *at, uint64_t end, bool joblib, uint32_t *root);

/* joblib's arrays stand behind the objects that say what they are. */
static bool take_joblib(void *context, uint32_t node, uint64_t *at, struct bursar_error *error) {
  struct conversion *c = context;
  struct bursar_ndarray array;
  uint64_t bytes = 0;
  uint32_t content = 0;
  if (!bursar_nodes_is(&c->nodes, bursar_nodes_object(&c->nodes, node)->of, BURSAR_NDARRAY_JOBLIB))
    return true;
  c->result->format = "joblib";
  if (bursar_ndarray_of(&c->nodes, &c->source, node, &array, error) < 0)
    return false;
  bool objects = array.type.objects, fits = bursar_ndarray_bytes(&array, &bytes);
  bursar_ndarray_end(&array);
  uint32_t padded =
      bursar_nodes_value(&c->nodes, bursar_nodes_object(&c->nodes, node)->state, "numpy_array_alignment_bytes");
  unsigned char padding = 0;
  if (objects) {
    if (read_pickle(c, at, c->source.bytes, false, &content) < 0)
      return false;
  } else if (padded && c->nodes.nodes[padded].kind != BURSAR_NODE_NONE) {
    if (*at < c->source.bytes && bursar_source_read(&c->source, *at, &padding, 1, 1, error) < 0)
      return false;
    *at += 1 + (uint64_t)padding;
  }
  if (!objects && (!fits || *at > c->source.bytes || bytes > c->source.bytes - *at)) {
    (void)unknown(c, "is cut off, or an array in it is larger than the file");
    return false;
  }
  if (!bursar_ndarray_fill(&c->nodes, node, *at, bytes, content)) {
    (void)too_much(c);
    return false;
  }
  *at += objects ? 0 : bytes;
  return true;
}

static int read_pickle(struct conversion *c, uint64_t *at, uint64_t end, bool joblib, uint32_t *root) {
  struct bursar_pickle pickle = {.source = &c->source,
                                 .at = *at,
                                 .end = end,
                                 .nodes = &c->nodes,
                                 .allow = c->allow,
                                 .refusals = &c->result->refused,
                                 .persistent = c->prefix.bytes != NULL,
                                 .built = joblib ? take_joblib : NULL,
                                 .context = c};
  int status = bursar_pickle_read(&pickle, root, c->error);
  *at = pickle.at;
  return status;
}

/* All of a file. */
static int read_whole_pickle(struct conversion *c, uint32_t *root) {
  uint64_t at = 0;
  c->result->format = "pickle";
  int status = read_pickle(c, &at, c->source.bytes, true, root);
  if (status == 0 && at < c->source.bytes)
    status = bursar_error_set(c->error, BURSAR_FAILED, "%.500s: byte %llu: something follows the pickle",
                              c->source.path, (unsigned long long)at);
  return status;
}

/* --- npy and npz --------------------------------------------------------------------------------------------------------- */

/* An npy file that lies at [at, end). */
static int read_npy(struct conversion *c, uint64_t at, uint64_t end, uint32_t *out) {
  struct bursar_ndarray array;
  uint64_t bytes;
  uint32_t content = 0;
  int status = bursar_ndarray_npy(&c->nodes, &c->source, &at, end, out, c->error);
  if (status == 0)
    status = bursar_ndarray_of(&c->nodes, &c->source, *out, &array, c->error);
  if (status < 0)
    return status;
  bool fits = bursar_ndarray_bytes(&array, &bytes), objects = array.type.objects;
  bursar_ndarray_end(&array);
  if (objects)
    status = read_pickle(c, &at, end, false, &content);
  if (status == 0 && (objects ? at != end : !fits || bytes != end - at))
    status = unknown(c, "has an array of other bytes than its type and shape");
  if (status == 0 && !bursar_ndarray_fill(&c->nodes, *out, at, bytes, content))
    status = too_much(c);
  return status;
}

static bool ends(struct bursar_text text, const char *with) {
  size_t length = strlen(with);
  return text.length >= length && memcmp(text.bytes + text.length - length, with, length) == 0;
}

static bool is(struct bursar_text text, const char *word) { return text.length == strlen(word) && ends(text, word); }

static int read_npz(struct conversion *c, uint32_t *root) {
  c->result->format = "npz";
  *root = bursar_nodes_add(&c->nodes, BURSAR_NODE_DICT, 0);
  for (size_t i = 0; i < c->zip.count && *root; i++) {
    const struct bursar_zip_member *member = &c->zip.members[i];
    struct bursar_text name = {member->name.bytes, member->name.length - 4};
    uint32_t array;
    int status = read_npy(c, member->at, member->at + member->bytes, &array);
    if (status < 0)
      return status;
    uint32_t key = bursar_nodes_add_text(&c->nodes, BURSAR_NODE_TEXT, name.bytes, name.length, member->head);
    if (!key || !bursar_nodes_append(&c->nodes, *root, key) || !bursar_nodes_append(&c->nodes, *root, array))
      return too_much(c);
  }
  return *root ? 0 : too_much(c);
}

/* --- torch's checkpoints ------------------------------------------------------------------------------------------------- */

static const struct bursar_zip_member *member_of(struct conversion *c, const char *folder, struct bursar_text name) {
  char path[2048];
  size_t middle = strlen(folder), length = c->prefix.length + middle + name.length;
  if (length > sizeof path)
    return NULL;
  memcpy(path, c->prefix.bytes, c->prefix.length);
  memcpy(path + c->prefix.length, folder, middle);
  memcpy(path + c->prefix.length + middle, name.bytes, name.length);
  return bursar_zip_find(&c->zip, (struct bursar_text){path, (uint32_t)length});
}

static int find_storage(void *context, struct bursar_text key, uint64_t *at, uint64_t *bytes,
                        struct bursar_error *error) {
  struct conversion *c = context;
  const struct bursar_zip_member *member = member_of(c, "data/", key);
  if (!member)
    return bursar_error_set(error, BURSAR_FAILED, "%.500s has no storage %.*s", c->source.path,
                            (int)(key.length < 100 ? key.length : 100), key.bytes);
  *at = member->at;
  *bytes = member->bytes;
  return 0;
}

static int read_torch(struct conversion *c, const struct bursar_zip_member *pickle, uint32_t *root) {
  static const char own[] = "data.pkl";
  char order[6];
  c->result->format = "torch";
  c->prefix = (struct bursar_text){pickle->name.bytes, pickle->name.length - (uint32_t)strlen(own)};
  if (member_of(c, "", (struct bursar_text){"constants.pkl", 13}))
    return unknown(c, "is TorchScript, which is code: save the state dict of its module");
  const struct bursar_zip_member *byteorder = member_of(c, "", (struct bursar_text){"byteorder", 9});
  if (byteorder && byteorder->bytes == sizeof order - 0) {
    int status = bursar_source_read(&c->source, byteorder->at, order, sizeof order, 1, c->error);
    if (status < 0)
      return status;
  }
  if (byteorder && (byteorder->bytes != sizeof order || memcmp(order, "little", sizeof order) != 0))
    return unknown(c, "has its numbers the other way round (big-endian)");
  uint64_t at = pickle->at;
  return read_pickle(c, &at, pickle->at + pickle->bytes, false, root);
}

/* --- files in files ------------------------------------------------------------------------------------------------------ */

static int begin_scratch(struct conversion *c) {
  return c->scratch.fd >= 0 ? 0 : bursar_save_begin(c->out, &c->scratch, c->error);
}

static void use_scratch(struct conversion *c) {
  c->source.fd = c->scratch.fd;
  c->source.bytes = c->scratch.bytes;
}

/* Where any member is packed, all of them are unpacked into one file; else they stay where they are. */
static int unpack_members(struct conversion *c) {
  const struct bursar_source file = c->source;
  int status = c->zip.packed ? begin_scratch(c) : 0;
  c->zip.source = &file;
  for (size_t i = 0; i < c->zip.count && status == 0; i++) {
    struct bursar_zip_member *member = &c->zip.members[i];
    uint64_t at = c->scratch.bytes;
    status = c->zip.packed ? bursar_zip_extract(&c->zip, member, &c->scratch, c->error)
                           : bursar_zip_check(&file, member, c->error);
    if (c->zip.packed)
      member->at = at;
  }
  c->zip.source = &c->source;
  if (status == 0 && c->zip.packed)
    use_scratch(c);
  return status;
}

static int read_zip(struct conversion *c, uint32_t *root) {
  const struct bursar_zip_member *pickle = NULL;
  bool arrays = true;
  int status = bursar_zip_open(&c->source, &c->zip, c->error);
  if (status < 0)
    return status;
  for (size_t i = 0; i < c->zip.count; i++) {
    struct bursar_text name = c->zip.members[i].name;
    arrays = arrays && name.length > 4 && ends(name, ".npy");
    c->result->hdf5 = c->result->hdf5 || is(name, "model.weights.h5");
    if (is(name, "data.pkl") || (ends(name, "/data.pkl") && (!pickle || name.length < pickle->name.length)))
      pickle = &c->zip.members[i];
  }
  if (c->result->hdf5)
    return unknown(c, "is Keras's: h5py reads it");
  if (!pickle && !arrays)
    return unknown(c, "is a zip file, and neither of NumPy's (npz) nor of torch's");
  status = unpack_members(c);
  if (status < 0)
    return status;
  return pickle ? read_torch(c, pickle, root) : read_npz(c, root);
}

static int read_any(struct conversion *c, uint32_t *root);

static int read_packed(struct conversion *c, uint32_t *root) {
  uint64_t made;
  int status = begin_scratch(c);
  if (status == 0)
    status = bursar_inflate(&c->source, 0, c->source.bytes, BURSAR_INFLATE_ZLIB, &c->scratch, &made, c->error);
  if (status < 0)
    return status;
  use_scratch(c);
  return read_any(c, root);
}

/* --- any ----------------------------------------------------------------------------------------------------------------- */

struct magic {
  const char *bytes;
  size_t length;
  const char *why; /* it is refused */
};
#define BYTES(text) text, sizeof(text) - 1
static const struct magic refused[] = {{BYTES("BZh"), "is packed by bzip2: unpack it first (bzip2 -d)"},
                                       {BYTES("\xfd\67zXZ"), "is packed by xz: unpack it first (xz -d)"},
                                       {BYTES("]\0\0"), "is packed by lzma: unpack it first (xz --format=lzma -d)"},
                                       {BYTES("\x04\"M\x18"), "is packed by lz4: unpack it first (lz4 -d)"},
                                       {BYTES("\x28\xb5\x2f\xfd"), "is packed by zstd: unpack it first (zstd -d)"},
                                       {BYTES("ZF"), "is of joblib before 0.10: load it with joblib, and save it anew"},
                                       {BYTES("age-encryption.org"), "is sealed: open it first (bursar model open)"},
                                       {BYTES("\x80\x02\x8a\nl\xfc\x9c\106\xf9 j\xa8P\x19."),
                                        "is of torch before 1.6: load it with torch.load(…, weights_only=True), and "
                                        "save it anew"}};

static int read_any(struct conversion *c, uint32_t *root) {
  char magic[MAGIC] = "";
  size_t bytes = c->source.bytes < sizeof magic ? (size_t)c->source.bytes : sizeof magic;
  int status = bursar_source_read(&c->source, 0, magic, bytes, 1, c->error);
  if (status < 0)
    return status;
  if (!bytes)
    return unknown(c, "is empty");
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
    if (bytes >= refused[i].length && memcmp(magic, refused[i].bytes, refused[i].length) == 0)
      return unknown(c, refused[i].why);
  if (memcmp(magic, "\x89HDF\r\n\x1a\n", 8) == 0) {
    c->result->hdf5 = true;
    return unknown(c, "is HDF5: h5py reads it");
  }
  if (bytes > 9 && magic[8] == '{' && !magic[6] && !magic[7])
    return unknown(c, "is a safetensors file already");
  if (memcmp(magic, "PK\3\4", 4) == 0 || memcmp(magic, "PK\5\6", 4) == 0)
    return read_zip(c, root);
  bool zlib = magic[0] == 0x78 && (((unsigned)magic[0] << 8) + (unsigned char)magic[1]) % 31 == 0;
  if (c->scratch.fd < 0 && (zlib || memcmp(magic, "\x1f\x8b", 2) == 0))
    return read_packed(c, root);
  if (memcmp(magic, "\x93NUMPY", 6) != 0)
    return read_whole_pickle(c, root);
  c->result->format = "npy";
  return read_npy(c, 0, c->source.bytes, root);
}

/* --- out ----------------------------------------------------------------------------------------------------------------- */

static int refuse(const struct conversion *c) {
  const struct bursar_refusals *refusals = &c->result->refused;
  const struct bursar_refusal *first = refusals->list;
  if (!first)
    return too_much(c);
  return bursar_error_set(c->error, BURSAR_FAILED,
                          "%.400s: byte %llu: %s is on no list of what a model may have%s: --allow %s adds it, if you "
                          "trust it",
                          c->source.path, (unsigned long long)first->at, first->name,
                          refusals->count > 1 ? ", nor is what follows it" : "", first->name);
}

static struct bursar_safetensors_pair pair_of(const char *key, const char *value, size_t length) {
  return (struct bursar_safetensors_pair){{key, (uint32_t)strlen(key)}, {value, (uint32_t)length}};
}

/* When it was made; SOURCE_DATE_EPOCH sets it, for files that are the same each time. */
static void write_time(char out[WORDS]) {
  const char *given = getenv("SOURCE_DATE_EPOCH");
  time_t now = given && *given && !given[strspn(given, "0123456789")] ? (time_t)strtoll(given, NULL, 10) : time(NULL);
  struct tm parts;
  if (!gmtime_r(&now, &parts) || !strftime(out, WORDS, "%Y-%m-%dT%H:%M:%SZ", &parts))
    out[0] = 0;
}

static int write_out(struct conversion *c, uint32_t root) {
  struct bursar_described described;
  struct bursar_save save;
  int status = bursar_describe(&c->nodes, &c->source, root, c->allow, c->prefix.bytes ? find_storage : NULL, c,
                               &described, c->error);
  if (status == 0)
    status = bursar_save_begin(c->out, &save, c->error);
  if (status == 0) {
    struct bursar_safetensors_pair pairs[3];
    char made[WORDS], versions[WORDS];
    size_t count = 0;
    write_time(made);
    snprintf(versions, sizeof versions, "bursar " BURSAR_VERSION ", converted from %s", c->result->format);
    if (!described.plain)
      pairs[count++] = pair_of(BURSAR_DESCRIBE_KEY, described.text.data, described.text.used);
    if (c->record && *made)
      pairs[count++] = pair_of("bursar.made", made, strlen(made));
    if (c->record)
      pairs[count++] = pair_of("bursar.versions", versions, strlen(versions));
    status = bursar_plan_write(&described.plans, pairs, count, &save, c->error);
    if (status == 0)
      status = bursar_source_unchanged(c->fd, c->source.path, &c->source.state, c->error);
    if (status == 0)
      status = bursar_save_commit(&save, c->error);
    else
      bursar_save_abandon(&save);
  }
  c->result->tensors = described.plans.count;
  c->result->described = !described.plain;
  for (uint32_t i = 0; i < described.plans.count; i++) {
    uint64_t bytes = 0;
    (void)bursar_dtype_bytes(described.plans.list[i]->dtype, described.plans.list[i]->shape,
                             described.plans.list[i]->rank, &bytes);
    c->result->bytes += bytes;
  }
  bursar_describe_end(&described);
  return status;
}

static bool is_same_file(int fd, const char *path) {
  struct stat one, other;
  return fstat(fd, &one) == 0 && stat(path, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

static int convert(struct conversion *c, const char *in) {
  uint32_t root = 0;
  int status = bursar_source_of_file(c->fd, in, &c->source, c->error);
  if (status == 0 && is_same_file(c->fd, c->out))
    status = bursar_error_set(c->error, BURSAR_MISUSE, "%.500s would be written over: name another file with -o", in);
  if (status == 0)
    status = read_any(c, &root);
  /* What was refused says more than what came of it. */
  if (c->result->refused.count)
    status = refuse(c);
  return status < 0 ? status : write_out(c, root);
}

int bursar_convert(const char *in, const char *out, struct bursar_allowed_more allow, bool record,
                   struct bursar_converted *result, struct bursar_error *error) {
  struct conversion c = {
      .out = out, .allow = allow, .record = record, .result = result, .error = error, .scratch = {.fd = -1}};
  *result = (struct bursar_converted){.format = NULL};
  int fd = open(in, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot read %.800s: %s", in, strerror(errno));
  c.fd = fd;
  /* Numbers are written with a point, whatever the program's language is. */
  locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before = plain ? uselocale(plain) : (locale_t)0;
  bursar_nodes_init(&c.nodes);
  int status = convert(&c, in);
  bursar_nodes_free(&c.nodes);
  bursar_zip_close(&c.zip);
  bursar_save_abandon(&c.scratch);
  if (plain) {
    uselocale(before);
    freelocale(plain);
  }
  close(fd);
  return status;
}

void bursar_convert_end(struct bursar_converted *result) { bursar_refusals_end(&result->refused); }
