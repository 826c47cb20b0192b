#include "numpy.h"

#include <stdint.h>
#include <string.h>

#include "anywhere.h"
#include "prim/prim.h"
#include "refusing.h"
#include "secret/wipe.h"
#include "wiping.h"

/* NEP 49's structures, version 1, as NumPy's public headers have them. */
struct allocator {
  void *ctx;
  struct bursar_numpy_hooks hooks;
};
struct handler {
  char name[127];
  uint8_t version;
  struct allocator allocator;
};
#define HANDLER_VERSION 1
#define DEFAULT_HANDLER 306 /* its place in the table of NumPy's C API: the address of a capsule */

static struct handler *hooked;                /* NumPy's own; NULL: not yet */
struct bursar_numpy_hooks bursar_numpy_under; /* what it held */
static struct bursar_numpy_hooks ours;
static bool wanted, wipes, expected, asked;
static uint64_t last_asked;

#define CACHED 1024           /* bytes: from here on NumPy frees what it does not need */
#define ASK_EVERY 10000000ull /* ns */

/* --- the hooks: NumPy calls them under the GIL ------------------------------------------------------------------------- */

static void *hook_malloc(void *ctx, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.malloc(ctx, size);
  bursar_anywhere_inside = was;
  return bursar_anywhere_book(p, size, BURSAR_DOMAIN_NUMPY);
}

static void *hook_calloc(void *ctx, size_t count, size_t size) {
  bool was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *p = bursar_numpy_under.calloc(ctx, count, size);
  bursar_anywhere_inside = was;
  return bursar_anywhere_book(p, count * size, BURSAR_DOMAIN_NUMPY);
}

static void *hook_realloc(void *ctx, void *p, size_t size) {
  struct bursar_record old;
  bool known = p && bursar_anywhere_lift(p, &old), was = bursar_anywhere_inside;
  bursar_anywhere_inside = true;
  void *q = bursar_numpy_under.realloc(ctx, p, size);
  bursar_anywhere_inside = was;
  if (known && !q)
    bursar_anywhere_put_back(p, old);
  else if (known)
    bursar_anywhere_drop(p, old);
  return bursar_anywhere_book(q, size, BURSAR_DOMAIN_NUMPY);
}

/* Small blocks go to a cache of NumPy's: their end is here all the same. */
static void hook_free(void *ctx, void *p, size_t size) {
  if (p)
    bursar_anywhere_end(p);
  bursar_numpy_under.free(ctx, p, size);
}

static void (*free_unwiped)(void *ctx, void *p, size_t size);
static void free_wiped(void *ctx, void *p, size_t size) {
  if (p && size < CACHED && bursar_wiping_wants(p))
    bursar_wipe(p, size);
  free_unwiped(ctx, p, size);
}

/* --- finding it --------------------------------------------------------------------------------------------------------- */

/* Not by PyImport_GetModule, which waits for a module's import by Python code of importlib's: that code may be what a pending call
 * has interrupted, and 3.11's does not bear it (`import datetime` failed once in 200 runs). */
static PyObject *loaded(const char *name) {
  PyObject *modules = PyImport_GetModuleDict(); /* borrowed, as what is in it */
  PyObject *module = modules && PyDict_CheckExact(modules) ? PyDict_GetItemString(modules, name) : NULL;
  return Py_XNewRef(module);
}

static struct handler *find(void) {
  PyObject *module = loaded("numpy._core._multiarray_umath");
  if (!module)
    module = loaded("numpy.core._multiarray_umath");
  PyObject *api = module ? PyObject_GetAttrString(module, "_ARRAY_API") : NULL;
  void **table = api ? PyCapsule_GetPointer(api, NULL) : NULL;
  PyObject *capsule = table ? *(PyObject **)table[DEFAULT_HANDLER] : NULL;
  struct handler *handler = capsule ? PyCapsule_GetPointer(capsule, "mem_handler") : NULL;
  Py_XDECREF(api);
  Py_XDECREF(module);
  return handler;
}

/* Another NumPy than those we know has other things there: then its data is malloc's. */
static bool fits(const struct handler *handler) {
  return handler->version == HANDLER_VERSION &&
         memcmp(handler->name, "default_allocator", sizeof "default_allocator") == 0;
}

/* Ours, once somebody wanted them; and below them the one that wipes. */
static void set(void) {
  if (wipes && bursar_numpy_under.free != free_wiped) {
    free_unwiped = bursar_numpy_under.free;
    bursar_numpy_under.free = free_wiped;
  }
  hooked->allocator.hooks = bursar_refusing_numpy(ours.malloc ? ours : bursar_numpy_under);
}

static void hook(void) {
  PyObject *type, *value, *traceback;
  if (hooked)
    return;
  PyErr_Fetch(&type, &value, &traceback);
  struct handler *handler = find();
  PyErr_Restore(type, value, traceback);
  if (!handler || !fits(handler))
    return;
  bursar_numpy_under = handler->allocator.hooks;
  hooked = handler;
  set();
}

static int look(void *unused) {
  asked = false;
  if (wanted || wipes)
    hook();
  return 0;
}

void bursar_numpy_open(const struct bursar_numpy_hooks *hooks) {
  ours = hooks ? *hooks : (struct bursar_numpy_hooks){hook_malloc, hook_calloc, hook_realloc, hook_free};
  wanted = true;
  if (hooked)
    set();
  else
    hook();
}

void bursar_numpy_refuse(void) {
  if (hooked)
    set();
}

void bursar_numpy_wipe(void) {
  wipes = true;
  if (hooked)
    set();
  else
    hook();
}

/* The functions stay: arrays are freed for as long as the process lives. */
void bursar_numpy_close(void) { wanted = false; }

/* NumPy's first modules in Python run before its extension is there: from the first of them on, each new code asks, between
 * two instructions of the interpreter. */
void bursar_numpy_met(const PyCodeObject *code) {
  static const char sign[] = "/numpy/__init__.py";
  const PyObject *file = code->co_filename;
  if (!(wanted || wipes) || hooked || asked)
    return;
  if (!expected && PyUnicode_IS_COMPACT_ASCII(file)) {
    Py_ssize_t bytes = PyUnicode_GET_LENGTH(file), tail = sizeof sign - 1;
    expected = bytes >= tail && memcmp((const char *)PyUnicode_DATA(file) + bytes - tail, sign, (size_t)tail) == 0;
  }
  if (expected)
    asked = Py_AddPendingCall(look, NULL) == 0;
}

void bursar_numpy_ask(void) {
  uint64_t now;
  if (!(wanted || wipes) || hooked || asked || (now = bursar_prim_now_coarse()) - last_asked < ASK_EVERY)
    return;
  last_asked = now;
  asked = Py_AddPendingCall(look, NULL) == 0;
}
