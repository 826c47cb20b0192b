#include "model/zstd.h"

#include <dlfcn.h>
#include <pthread.h>

/* zstd's parameters, by number. */
#define LEVEL 100
#define LITERALS 1002 /* how literals are coded; experimental, but the same since 1.4 */
#define HUFFMAN 1
#define FASTEST (-131072) /* no repetition is looked for */
#define PROPER_LEVEL 3

#define FUNCTIONS(X)                                                             \
  X(void *, ZSTD_createCCtx, (void))                                             \
  X(size_t, ZSTD_freeCCtx, (void *))                                             \
  X(size_t, ZSTD_CCtx_setParameter, (void *, int, int))                          \
  X(size_t, ZSTD_compress2, (void *, void *, size_t, const void *, size_t))      \
  X(size_t, ZSTD_compressBound, (size_t))                                        \
  X(void *, ZSTD_createDCtx, (void))                                             \
  X(size_t, ZSTD_freeDCtx, (void *))                                             \
  X(size_t, ZSTD_decompressDCtx, (void *, void *, size_t, const void *, size_t)) \
  X(unsigned, ZSTD_isError, (size_t))

#define DECLARE(type, name, arguments) static type(*name) arguments;
FUNCTIONS(DECLARE)
#undef DECLARE

static bool loaded;

static void load(void) {
  void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
  bool all = library != NULL;
#define FIND(type, name, arguments) all = all && (*(void **)(void *)&name = dlsym(library, #name)) != NULL;
  FUNCTIONS(FIND)
#undef FIND
  loaded = all;
}

int bursar_zstd_load(struct bursar_error *error) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, load);
  return loaded ? 0
                : bursar_error_set(error, BURSAR_FAILED,
                                   "packed files need zstd's library, which was not found: install libzstd1");
}

void bursar_zstd_begin(struct bursar_zstd *zstd) { *zstd = (struct bursar_zstd){.how = -1}; }

void bursar_zstd_end(struct bursar_zstd *zstd) {
  if (zstd->pack)
    (void)ZSTD_freeCCtx(zstd->pack);
  if (zstd->unpack)
    (void)ZSTD_freeDCtx(zstd->unpack);
  bursar_zstd_begin(zstd);
}

size_t bursar_zstd_room(size_t bytes) { return ZSTD_compressBound(bytes); }

static bool set(struct bursar_zstd *zstd, enum bursar_zstd_how how) {
  if (!zstd->pack)
    zstd->pack = ZSTD_createCCtx();
  if (!zstd->pack || zstd->how == (int)how)
    return zstd->pack != NULL;
  bool letters = how == BURSAR_ZSTD_LETTERS;
  bool done = !ZSTD_isError(ZSTD_CCtx_setParameter(zstd->pack, LEVEL, letters ? FASTEST : PROPER_LEVEL)) &&
              !ZSTD_isError(ZSTD_CCtx_setParameter(zstd->pack, LITERALS, letters ? HUFFMAN : 0));
  zstd->how = done ? (int)how : -1;
  return done;
}

size_t bursar_zstd_pack(struct bursar_zstd *zstd, enum bursar_zstd_how how, const void *in, size_t bytes, void *out,
                        size_t room) {
  size_t packed = set(zstd, how) ? ZSTD_compress2(zstd->pack, out, room, in, bytes) : 0;
  return !packed || ZSTD_isError(packed) ? 0 : packed;
}

bool bursar_zstd_unpack(struct bursar_zstd *zstd, const void *in, size_t packed, void *out, size_t bytes) {
  if (!zstd->unpack)
    zstd->unpack = ZSTD_createDCtx();
  size_t got = zstd->unpack ? ZSTD_decompressDCtx(zstd->unpack, out, bytes, in, packed) : 0;
  return zstd->unpack && !ZSTD_isError(got) && got == bytes;
}
