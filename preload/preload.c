/* preload.c: libbursar_preload.so: the hooks, for programs of Python.
 *
 * It keeps no books: the extension, once Python has loaded it, says where events go (bursar_native_table).  Until then, and
 * in every program without it, each hook is one call more.  Where the settings say so it wipes from here on, before there is
 * an interpreter. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ledger/boot.h"
#include "native/native.h"
#include "native/wiping.h"
#include "prim/prim.h"

/* Of PEP 445, which may be called before Python is initialized. */
enum { MEM = 1, OBJ = 2 }; /* PyMemAllocatorDomain */
static struct {
  void (*get)(int domain, struct bursar_wiping_allocator *out);
  void (*set)(int domain, struct bursar_wiping_allocator *allocator);
  void (*get_arenas)(struct bursar_wiping_arenas *out);
  void (*set_arenas)(struct bursar_wiping_arenas *arenas);
  const char *(*name)(void);
} python;

static bool find_python(void) {
  *(void **)(void *)&python.get = dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
  *(void **)(void *)&python.set = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
  *(void **)(void *)&python.get_arenas = dlsym(RTLD_DEFAULT, "PyObject_GetArenaAllocator");
  *(void **)(void *)&python.set_arenas = dlsym(RTLD_DEFAULT, "PyObject_SetArenaAllocator");
  *(void **)(void *)&python.name = dlsym(RTLD_DEFAULT, "_PyMem_GetCurrentAllocatorName");
  return python.get && python.set && python.get_arenas && python.set_arenas && python.name;
}

/* 3.12 takes a lock for an answer that it makes later: there it is what Python is built with unless it is told not to. */
static const char *name_of_pools(void) {
  const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
  return version && *version >> 16 == 0x030c ? "pymalloc" : python.name();
}

/* Where the environment asks for other allocators than these, Python takes them later; the extension then sees that. */
static void wipe_pools(void) {
  struct bursar_wiping_arenas arenas;
  const char *name = name_of_pools();
  if (!name)
    return;
  snprintf(bursar_native_table.pools, sizeof bursar_native_table.pools, "%s", name);
  python.get_arenas(&arenas);
  bursar_wiping_over_arenas(&arenas, true);
  python.set_arenas(&arenas);
  for (unsigned domain = 0; domain < BURSAR_WIPING_DOMAINS; domain++) {
    struct bursar_wiping_allocator allocator;
    int theirs = domain == BURSAR_WIPING_OBJ ? OBJ : MEM;
    python.get(theirs, &allocator);
    bursar_wiping_over(domain, &allocator);
    python.set(theirs, &allocator);
  }
}

__attribute__((constructor)) static void begin(void) {
  struct bursar_boot boot;
  struct bursar_error error;
  const char *settings = getenv("BURSAR_RUN");
  bursar_native_resolve(NULL);
  if (!settings || bursar_prim_secure() || bursar_boot_parse(settings, &boot, &error) != 0 || !boot.wipe ||
      (boot.pid != getpid() && !boot.follow))
    return;
  (void)bursar_native_wipe(BURSAR_WIPES_ALL); /* the extension says so where it cannot be */
  if (find_python())
    wipe_pools();
}
