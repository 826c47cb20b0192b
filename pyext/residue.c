/* residue.c: the scan from within, in a copy of the process.
 *
 * In a copy, since nothing moves there while it is read, memory may be read where it lies, no rights are needed that an
 * undumpable process lacks, and all that the scan itself makes of the secret ends with it.  Here the secret is copied once,
 * byte by byte, into a mapping that is wiped as soon as the copy has begun. */
#include "residue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "account/account.h"
#include "account/fold.h"
#include "account/live.h"
#include "owners.h"
#include "prim/apart.h"
#include "prim/prim.h"
#include "secret/scan_text.h"
#include "secret/wipe.h"

#define HITS 16384u
#define STACK (1u << 20)
#define FRAMES 64u

/* What the copy answers with: shared, and nothing of the secret in it. */
struct answer {
  int status;
  uint64_t ns;
  struct bursar_scan scan;
  struct bursar_scan_hit hits[HITS];
};

struct work {
  struct bursar_scan_vessel *vessel;
  size_t bytes;
  struct answer *answer;
  struct bursar_forms_secret secret;
  struct bursar_peek files;
  struct bursar_scan_place places[5];
};

static size_t up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* --- in the copy ----------------------------------------------------------------------------------------------------- */

/* The copy's stack is at the vessel's end. */
static int prepare(const struct work *work) {
  struct bursar_scan *scan = &work->answer->scan;
  size_t room = work->bytes - sizeof *work->vessel - STACK;
  int status = bursar_scan_prepare(scan, work->vessel, room, &work->secret);
  return status < 0 ? status : bursar_scan_plant(scan, &work->vessel->canary, scan->secret_forms, work->places, 5);
}

/* A freed float keeps its value: it stands in a list, with no references, or (3.14) with the next one's address in their
 * place. */
static bool is_free_float(const struct bursar_scan_hit *hit) {
  uint64_t references;
  if (hit->where != BURSAR_SCAN_LIVE || hit->address != hit->block + offsetof(PyFloatObject, ob_fval) ||
      hit->length != sizeof(double) || hit->block_bytes != (sizeof(PyFloatObject) + 15) / 16 * 16)
    return false;
  memcpy(&references, (const void *)(uintptr_t)hit->block, sizeof references);
  return references == 0 || (references >> 32 & 0xffff);
}

/* The table of live blocks is the copy's own here, so that a block may be taken out of it. */
static void ask_books(struct bursar_scan *scan) {
  for (uint32_t i = 0; i < scan->hit_count; i++) {
    struct bursar_scan_hit *hit = &scan->hits[i];
    struct bursar_record record;
    if (is_free_float(hit))
      hit->where = BURSAR_SCAN_FREE_LIST;
    if (hit->block && bursar_account.active && bursar_live_top &&
        bursar_live_holds((const void *)(uintptr_t)hit->block) &&
        bursar_live_take((const void *)(uintptr_t)hit->block, &record))
      hit->site = record.number;
  }
}

static int copy_main(void *argument) {
  struct work *work = argument;
  struct answer *answer = work->answer;
  uint64_t began = bursar_prim_now();
  answer->status = prepare(work);
  if (answer->status == 0)
    answer->status = bursar_scan_run(&answer->scan);
  if (answer->status == 0)
    ask_books(&answer->scan);
  answer->ns = bursar_prim_now() - began;
  return 0;
}

/* --- the secret ------------------------------------------------------------------------------------------------------ */

static void hold(struct bursar_scan *scan, const void *from, size_t bytes) {
  if (from && bytes && scan->held_count < BURSAR_SCAN_RANGES)
    scan->held[scan->held_count++] = (struct bursar_scan_range){(uintptr_t)from, (uintptr_t)from + bytes};
}

/* As UTF-8, without the copy that PyUnicode_AsUTF8 would leave at the string. */
static size_t encode(PyObject *text, unsigned char *out) {
  Py_ssize_t length = PyUnicode_GET_LENGTH(text);
  int kind = PyUnicode_KIND(text);
  const void *data = PyUnicode_DATA(text);
  size_t used = 0;
  for (Py_ssize_t i = 0; i < length; i++) {
    uint32_t c = PyUnicode_READ(kind, data, i);
    unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    if (out)
      out[used] = (unsigned char)(more ? (0xff00u >> (more + 1) & 0xff) | c >> 6 * more : c);
    used++;
    for (; more; more--, used++)
      if (out)
        out[used] = (unsigned char)(0x80 | (c >> 6 * (more - 1) & 0x3f));
  }
  return used;
}

/* The bytes of an int's magnitude; into `out` where that is given. */
static size_t int_bytes(PyObject *number, unsigned char *out) {
  Py_ssize_t digits;
  const digit *digit_at = bursar_int_digits(number, &digits);
  size_t used = 0, whole;
  uint64_t bits = 0;
  unsigned have = 0;
  for (Py_ssize_t i = 0; i < digits || bits; i++) {
    bits |= i < digits ? (uint64_t)digit_at[i] << have : 0;
    have += PyLong_SHIFT;
    for (; have >= 8 && (i < digits || bits); have -= 8, bits >>= 8, used++)
      if (out)
        out[used] = (unsigned char)bits;
  }
  for (whole = used; out && whole && !out[whole - 1]; whole--) {}
  return out ? whole : used;
}

static bool is_plain(const Py_buffer *view) { return !view->format || !strpbrk(view->format, "OP&"); }

/* Sizes the vessel for a secret, or puts it in: `room` NULL or the vessel's.  `view` is held open in between. */
static int take_secret(PyObject *object, Py_buffer *view, struct work *work, unsigned char *room) {
  struct bursar_forms_secret *secret = &work->secret;
  secret->at = room;
  if (PyUnicode_Check(object)) {
    secret->kind = BURSAR_FORMS_TEXT;
    secret->length = encode(object, room);
  } else if (PyLong_Check(object) && !PyBool_Check(object)) {
    secret->kind = BURSAR_FORMS_INT;
    secret->length = int_bytes(object, room);
  } else if (PyFloat_Check(object)) {
    secret->kind = BURSAR_FORMS_FLOAT;
    secret->length = sizeof(double);
    if (room)
      bursar_forms_copy(room, &((PyFloatObject *)object)->ob_fval, sizeof(double));
  } else {
    secret->kind = BURSAR_FORMS_BYTES;
    if (!room && PyObject_GetBuffer(object, view, PyBUF_ANY_CONTIGUOUS | PyBUF_FORMAT) != 0) {
      if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "a secret is bytes, str, int, float, a vault's or an array, not %.100s",
                     Py_TYPE(object)->tp_name);
      }
      return -1;
    }
    if (!room && !is_plain(view)) {
      PyErr_SetString(PyExc_TypeError, "a secret is no array of objects: give one of them");
      return -1;
    }
    secret->length = (size_t)view->len;
    secret->element = view->itemsize > 1 && view->itemsize <= 16 ? (uint32_t)view->itemsize : 0;
    if (room)
      bursar_forms_copy(room, view->buf, secret->length);
  }
  return 0;
}

static void hold_secret(PyObject *object, const Py_buffer *view, struct bursar_scan *scan) {
  if (PyUnicode_Check(object)) {
    const PyCompactUnicodeObject *compact = (const PyCompactUnicodeObject *)object;
    hold(scan, PyUnicode_DATA(object), (size_t)(PyUnicode_GET_LENGTH(object) * PyUnicode_KIND(object)));
    if (!PyUnicode_IS_ASCII(object))
      hold(scan, compact->utf8, (size_t)compact->utf8_length);
  } else if (PyLong_Check(object)) {
    Py_ssize_t digits;
    const digit *at = bursar_int_digits(object, &digits);
    hold(scan, at, (size_t)digits * sizeof(digit));
  } else if (PyFloat_Check(object)) {
    hold(scan, &((PyFloatObject *)object)->ob_fval, sizeof(double));
  } else {
    hold(scan, view->buf, (size_t)view->len);
  }
}

/* --- the answer ------------------------------------------------------------------------------------------------------ */

static PyObject *text_of(const char *text, size_t bytes) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)bytes, "backslashreplace");
}

static PyObject *string_at(uint32_t offset) {
  const unsigned char *base = bursar_account.writer.base[BURSAR_REGION_STRINGS];
  uint32_t length;
  if (!offset)
    return text_of("?", 1);
  memcpy(&length, base + offset, sizeof length);
  return text_of((const char *)base + offset + sizeof length, length);
}

PyObject *bursar_residue_stack(uint32_t number) {
  const struct bursar_writer *writer = &bursar_account.writer;
  const struct bursar_site_facts *facts = (const void *)writer->base[BURSAR_REGION_SITE_FACTS];
  const struct bursar_node *nodes = (const void *)writer->base[BURSAR_REGION_NODES];
  const struct bursar_code *codes = (const void *)writer->base[BURSAR_REGION_CODES];
  PyObject *list = PyList_New(0);
  uint32_t node = facts[number - 1].node;
  for (unsigned n = 0; list && n < FRAMES && nodes[node].parent != node; n++, node = nodes[node].parent) {
    const struct bursar_code *code = &codes[nodes[node].code];
    if (nodes[node].flags & BURSAR_NODE_NATIVE)
      continue;
    PyObject *frame = Py_BuildValue("(NNI)", string_at(code->name), string_at(code->file), (unsigned)nodes[node].line);
    if (!frame || PyList_Append(list, frame) != 0)
      Py_CLEAR(list);
    Py_XDECREF(frame);
  }
  return list;
}

static PyObject *hit_of(const struct bursar_scan_hit *hit, bool sites_stay) {
  bool known = hit->site && sites_stay && bursar_account.active;
  PyObject *site = known ? bursar_residue_stack(hit->site) : Py_NewRef(Py_None);
  return Py_BuildValue("{s:s,s:O,s:K,s:s,s:K,s:N,s:K,s:K,s:O,s:N}", "form", bursar_forms_names[hit->form], "whole",
                       hit->whole ? Py_True : Py_False, "length", (unsigned long long)hit->length, "where",
                       bursar_scan_wheres[hit->where], "address", (unsigned long long)hit->address, "mapping",
                       text_of(hit->name, strlen(hit->name)), "block", (unsigned long long)hit->block, "block_bytes",
                       (unsigned long long)hit->block_bytes, "held", hit->held ? Py_True : Py_False, "site", site);
}

/* Takes `one`; the list is gone where that failed. */
static void add_to(PyObject **list, PyObject *one) {
  if (!one || PyList_Append(*list, one) != 0)
    Py_CLEAR(*list);
  Py_XDECREF(one);
}

static PyObject *facts_of(const struct answer *answer, bool sites_stay) {
  const struct bursar_scan *scan = &answer->scan;
  PyObject *hits = PyList_New(0), *blind = PyList_New(0);
  char line[BURSAR_SCAN_TEXT];
  for (uint32_t i = 0; hits && i < scan->hit_count; i++)
    add_to(&hits, hit_of(&answer->hits[i], sites_stay));
  for (unsigned i = 0; blind && bursar_scan_text_blind(scan, i, line); i++)
    add_to(&blind, text_of(line, strlen(line)));
  if (hits && blind)
    return Py_BuildValue("{s:O,s:I,s:K,s:d,s:I,s:O,s:N,s:N}", "canary_found", Py_True, "canaries",
                         (unsigned)scan->canary_count, "scanned_bytes", (unsigned long long)scan->scanned, "seconds",
                         (double)answer->ns / 1e9, "copies", (unsigned)bursar_scan_copies(scan), "cut",
                         scan->cut ? Py_True : Py_False, "hits", hits, "not_scanned", blind); /* takes the lists */
  Py_XDECREF(hits);
  Py_XDECREF(blind);
  return NULL;
}

static PyObject *refuse(const struct work *work, int result) {
  const struct answer *answer = work->answer;
  int status = answer->status;
  if (result >= 256)
    return PyErr_Format(PyExc_RuntimeError, "the scan was ended by signal %d: nothing is known", result - 256);
  if (status == -ERANGE || status == -EINVAL)
    return PyErr_Format(PyExc_ValueError, "%s", bursar_scan_text_refused(status));
  if (result != 0 || status < 0)
    return PyErr_Format(PyExc_OSError, "cannot scan this process: %s", strerror(status < 0 ? -status : ECHILD));
  const struct bursar_scan_canary *missed = bursar_scan_missed(&answer->scan);
  return PyErr_Format(PyExc_RuntimeError,
                      "the scan did not find its canary in the %s: no copy found would prove nothing, so it says "
                      "nothing",
                      work->places[missed->place].kind);
}

/* --- in and out ------------------------------------------------------------------------------------------------------ */

static int run_apart(struct work *work) {
  struct bursar_scan_vessel *vessel = work->vessel;
  pid_t pid = bursar_apart_start(copy_main, work, (char *)vessel + work->bytes);
  bursar_wipe(vessel->room, work->secret.length);
  if (pid < 0) {
    errno = -pid;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
  }
  for (;;) {
    int result;
    Py_BEGIN_ALLOW_THREADS result = bursar_apart_wait(pid);
    Py_END_ALLOW_THREADS if (result != -EINTR) return result < 0 ? 255 : result;
    if (PyErr_CheckSignals() != 0) {
      bursar_apart_kill(pid);
      return -1;
    }
  }
}

static bool make_places(struct work *work, unsigned char *stack) {
  static unsigned char data[BURSAR_SCAN_PLACE_BYTES] = {1}; /* not with the zeros behind the data */
  void *map = bursar_prim_mmap(NULL, BURSAR_PRIM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const struct bursar_scan_place places[] = {
      {"pymalloc pool", PyObject_Malloc(BURSAR_SCAN_PLACE_BYTES), BURSAR_SCAN_PLACE_BYTES},
      {"heap", malloc(BURSAR_SCAN_PLACE_BYTES), BURSAR_SCAN_PLACE_BYTES},
      {"anonymous mapping", map == MAP_FAILED ? NULL : map, BURSAR_SCAN_PLACE_BYTES},
      {"stack", stack, BURSAR_SCAN_PLACE_BYTES},
      {"writable data of a library", data, BURSAR_SCAN_PLACE_BYTES}};
  memcpy(work->places, places, sizeof places);
  return places[0].at && places[1].at && places[2].at;
}

static void free_places(struct work *work) {
  PyObject_Free(work->places[0].at);
  free(work->places[1].at);
  if (work->places[2].at)
    (void)bursar_prim_munmap(work->places[2].at, BURSAR_PRIM_PAGE);
}

static PyObject *scan_for(PyObject *object, Py_buffer *view, struct work *work) {
  unsigned char stack[BURSAR_SCAN_PLACE_BYTES];
  PyObject *facts = NULL;
  if (!make_places(work, stack)) {
    PyErr_NoMemory();
    goto places;
  }
  size_t length = work->secret.length, pages = BURSAR_PRIM_PAGE;
  size_t longest = length > BURSAR_FORMS_TEXTS ? length : 8 * length; /* generously */
  work->bytes = sizeof *work->vessel + up(length) + up(bursar_forms_room(&work->secret)) + 4096 + 4 * longest +
                (1u << 20) + STACK;
  work->bytes = (work->bytes + pages - 1) / pages * pages;
  work->vessel = bursar_prim_reserve(work->bytes, true);
  work->answer =
      bursar_prim_mmap(NULL, sizeof *work->answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!work->vessel || work->answer == MAP_FAILED) {
    PyErr_NoMemory();
    goto maps;
  }
  struct bursar_scan *scan = &work->answer->scan;
  *scan = (struct bursar_scan){.hits = work->answer->hits, .hits_room = HITS, .left_out_count = 1};
  scan->left_out[0] = (struct bursar_scan_range){(uintptr_t)work->vessel, (uintptr_t)work->vessel + work->bytes};
  work->answer->status = -ECHILD;
  hold_secret(object, view, scan);
  (void)mlock(work->vessel, sizeof *work->vessel + length);
  (void)take_secret(object, view, work, work->vessel->room);
  uint32_t generation = bursar_fold_generation;
  int maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  scan->maps_fd = maps_fd > 0 ? maps_fd : 0; /* where stdin is closed it may be 0: not asked then */
  if (bursar_peek_open(0, &work->files) == 0 && work->files.pages_fd >= 0)
    scan->files = &work->files;
  int result = run_apart(work);
  bursar_peek_close(&work->files);
  if (maps_fd >= 0)
    close(maps_fd);
  if (result < 0)
    goto maps;
  if (result == 0 && work->answer->status == 0 && !bursar_scan_missed(scan))
    facts = facts_of(work->answer, generation == bursar_fold_generation);
  else
    refuse(work, result);
maps:
  if (work->vessel)
    bursar_prim_release(work->vessel, work->bytes);
  if (work->answer && work->answer != MAP_FAILED)
    (void)bursar_prim_munmap(work->answer, sizeof *work->answer);
places:
  free_places(work);
  return facts;
}

static PyObject *residue(PyObject *module, PyObject *object) {
  struct work work = {.files = {.pages_fd = -1, .mem_fd = -1}};
  Py_buffer view = {.obj = NULL};
  PyObject *facts = NULL;
  if (take_secret(object, &view, &work, NULL) == 0) {
    if (work.secret.length < BURSAR_FORMS_LEAST || work.secret.length > BURSAR_FORMS_MOST)
      PyErr_SetString(PyExc_ValueError, bursar_scan_text_refused(-ERANGE));
    else
      facts = scan_for(object, &view, &work);
  }
  PyBuffer_Release(&view);
  return facts;
}

static PyMethodDef functions[] = {
    {"residue", residue, METH_O, "Looks for copies of a secret in this process."},
    {"residue_owners", bursar_owners_of, METH_O, "Which objects' memory some addresses lie in."},
    {"holders", bursar_owners_referrers, METH_O, "What refers to an object."},
    {"malloc_bytes", bursar_owners_malloc, METH_NOARGS, "What malloc has handed out."},
    {"holders_locals", bursar_owners_locals, METH_O, "Which running frames have an object in a local variable."},
    {NULL, NULL, 0, NULL},
};

int bursar_residue_add(PyObject *module) { return PyModule_AddFunctions(module, functions); }
