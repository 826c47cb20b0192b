#include "secret/vault.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/size.h"
#include "prim/locked.h"
#include "prim/prim.h"
#include "secret/wipe.h"

#define CLASSES 5u  /* of 1, 2, 4, 8, 16 pages; larger slots are mapped as they are asked for, and unmapped */
#define AT_ONCE 32u /* slots of one page that are mapped together */
#define CANARY 16u
#define NO_CELL UINT32_MAX

struct cell {
  char *slot; /* NULL: no pages */
  size_t pages;
  uint32_t next; /* in a list of free ones */
};

/* All of it reads as zero in a forked child: it has not begun there, and nobody holds its lock. */
struct pool {
  pthread_mutex_t lock; /* zero is PTHREAD_MUTEX_INITIALIZER */
  uint64_t number;      /* 0: not begun; no two are the same, in a process and those that it was forked off from */
  bool hidden;
  unsigned char canary[CANARY];
  uint64_t locked;               /* bytes */
  uint32_t free[CLASSES], empty; /* lists of cells, 1 + the first: with pages, without */
  uint32_t cells;                /* that were ever used */
  struct cell cell[BURSAR_VAULT_SLOTS];
};

static struct pool *the_pool; /* mapped once; the mapping is inherited, what is in it is not */
static uint64_t numbers;

static struct pool *find(void) {
  struct pool *pool = __atomic_load_n(&the_pool, __ATOMIC_ACQUIRE);
  if (pool)
    return pool;
  struct pool *made = bursar_locked_forgotten(sizeof *made);
  if (!made)
    return NULL;
  if (__atomic_compare_exchange_n(&the_pool, &pool, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return made;
  bursar_prim_release(made, sizeof *made);
  return pool;
}

static void release(struct pool *pool) { (void)pthread_mutex_unlock(&pool->lock); }

/* NULL: there is none, and *error says why. */
static struct pool *lock(struct bursar_error *error) {
  struct pool *pool = find();
  if (!pool)
    (void)!bursar_error_set(error, BURSAR_FAILED,
                            "no vault: the kernel cannot keep memory from forked children (that needs Linux 4.14)");
  else
    (void)pthread_mutex_lock(&pool->lock);
  return pool;
}

static int begin(struct pool *pool, bool hide, struct bursar_error *error) {
  if (bursar_locked_random(pool->canary, sizeof pool->canary) != 0)
    return bursar_error_set(error, BURSAR_FAILED, "no vault: the kernel gives no random bytes for its canaries");
  pool->hidden = hide && bursar_locked_can_hide();
  __atomic_store_n(&pool->number, __atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
  return 0;
}

int bursar_vault_start(bool hide, struct bursar_error *error) {
  struct pool *pool = lock(error);
  if (!pool)
    return BURSAR_FAILED;
  int status = pool->number ? bursar_error_set(error, BURSAR_MISUSE, "the vault has begun already") : 0;
  if (status == 0)
    status = begin(pool, hide, error);
  release(pool);
  return status;
}

/* A word of the pool's that is set once, in a process. */
static uint64_t number_now(void) {
  struct pool *pool = __atomic_load_n(&the_pool, __ATOMIC_ACQUIRE);
  return pool ? __atomic_load_n(&pool->number, __ATOMIC_ACQUIRE) : 0;
}

int bursar_vault_hidden(void) { return number_now() ? the_pool->hidden : -1; }

enum bursar_vault_whose bursar_vault_whose(const struct bursar_vault_slot *slot) {
  if (!slot->pool)
    return BURSAR_VAULT_NOBODYS;
  return slot->pool == number_now() ? BURSAR_VAULT_OURS : BURSAR_VAULT_LOST;
}

/* --- cells and pages ---------------------------------------------------------------------------------------------------- */

/* CLASSES: none, they are its own. */
static unsigned class_of(size_t pages) {
  unsigned class = 0;
  while (class < CLASSES && (size_t)1 << class < pages)
    class++;
  return class;
}

static void push(struct pool *pool, uint32_t *list, uint32_t cell) {
  pool->cell[cell].next = *list;
  *list = cell + 1;
}

static uint32_t pop(struct pool *pool, uint32_t *list) {
  if (!*list)
    return NO_CELL;
  uint32_t cell = *list - 1;
  *list = pool->cell[cell].next;
  return cell;
}

static uint32_t empty_cell(struct pool *pool) {
  uint32_t cell = pop(pool, &pool->empty);
  return cell == NO_CELL && pool->cells < BURSAR_VAULT_SLOTS ? pool->cells++ : cell;
}

static int no_room(const struct pool *pool, size_t bytes, int status, struct bursar_error *error) {
  char need[BURSAR_SIZE_TEXT], limit[BURSAR_SIZE_TEXT], has[BURSAR_SIZE_TEXT];
  bursar_size_print(bytes, need);
  bursar_size_print(pool->locked, has);
  if (bursar_locked_limit() == UINT64_MAX || (status != -EAGAIN && status != -ENOMEM))
    return bursar_error_set(error, BURSAR_FAILED, "no vault memory: %s more, beside %s: %s", need, has,
                            strerror(-status));
  bursar_size_print(bursar_locked_limit(), limit);
  return bursar_error_set(error, BURSAR_FAILED,
                          "no vault memory: %s more, beside %s, and RLIMIT_MEMLOCK lets this process lock %s: close "
                          "secrets, "
                          "or raise it (`ulimit -l`; LimitMEMLOCK= in a systemd unit; --ulimit memlock= of docker)",
                          need, has, limit);
}

/* Small slots come many at once, as far as the limit goes. */
static int grow(struct pool *pool, size_t pages, unsigned class, size_t bytes, uint32_t *out,
                struct bursar_error *error) {
  char *slots = NULL;
  size_t count = pages == 1 ? AT_ONCE : 1;
  int status;
  while ((status = bursar_locked_map(pages, count, pool->hidden, &slots)) != 0 && count > 1)
    count /= 2;
  if (status != 0)
    return no_room(pool, bytes, status, error);
  *out = NO_CELL;
  for (size_t i = 0; i < count; i++) {
    char *slot = slots + i * (pages + 1) * BURSAR_PRIM_PAGE;
    uint32_t cell = empty_cell(pool);
    if (cell == NO_CELL)
      break; /* the rest of what was mapped is never used: there are no more cells for it */
    pool->cell[cell] = (struct cell){.slot = slot, .pages = pages};
    pool->locked += pages * BURSAR_PRIM_PAGE;
    if (*out == NO_CELL)
      *out = cell;
    else
      push(pool, &pool->free[class], cell);
  }
  if (*out != NO_CELL)
    return 0;
  bursar_locked_unmap(slots, pages, count);
  return bursar_error_set(error, BURSAR_FAILED, "no vault memory: there are %u secrets already: close some",
                          BURSAR_VAULT_SLOTS);
}

static void put_back(struct pool *pool, uint32_t cell) {
  struct cell *own = &pool->cell[cell];
  unsigned class = class_of(own->pages);
  if (class < CLASSES) {
    push(pool, &pool->free[class], cell);
    return;
  }
  bursar_locked_unmap(own->slot, own->pages, 1);
  pool->locked -= own->pages * BURSAR_PRIM_PAGE;
  *own = (struct cell){0};
  push(pool, &pool->empty, cell);
}

/* --- slots -------------------------------------------------------------------------------------------------------------- */

int bursar_vault_take(size_t bytes, struct bursar_vault_slot *slot, struct bursar_error *error) {
  *slot = (struct bursar_vault_slot){0};
  if (bytes == 0 || bytes > BURSAR_VAULT_BYTES)
    return bursar_error_set(error, BURSAR_MISUSE, "a secret has at least one byte, and at most a tebibyte");
  struct pool *pool = lock(error);
  if (!pool)
    return BURSAR_FAILED;
  int status = pool->number ? 0 : begin(pool, true, error);
  if (status == 0) {
    size_t pages = (bytes + BURSAR_PRIM_PAGE - 1) / BURSAR_PRIM_PAGE;
    unsigned class = class_of(pages);
    if (class < CLASSES)
      pages = (size_t)1 << class;
    uint32_t cell = class < CLASSES ? pop(pool, &pool->free[class]) : NO_CELL;
    if (cell == NO_CELL)
      status = grow(pool, pages, class, bytes, &cell, error);
    if (status == 0)
      *slot = (struct bursar_vault_slot){.data = pool->cell[cell].slot + pages * BURSAR_PRIM_PAGE - bytes,
                                         .bytes = bytes,
                                         .pool = pool->number,
                                         .cell = cell};
  }
  release(pool);
  return status;
}

static bool is_ours(const struct pool *pool, const struct bursar_vault_slot *slot) {
  return slot->pool && slot->pool == pool->number;
}

static size_t canary_of(const struct cell *own, const struct bursar_vault_slot *slot) {
  size_t before = (size_t)(slot->data - own->slot);
  return before < CANARY ? before : CANARY;
}

static bool canary_lives(const struct pool *pool, const struct bursar_vault_slot *slot) {
  size_t n = canary_of(&pool->cell[slot->cell], slot);
  return memcmp(slot->data - n, pool->canary, n) == 0;
}

static int dead_canary(struct bursar_error *error) {
  return bursar_error_set(error, BURSAR_FAILED,
                          "something wrote before the first byte of a secret: look for it in the code that had its "
                          "view");
}

static enum bursar_locked_access access_of(const struct bursar_vault_slot *slot) {
  return slot->writers ? BURSAR_LOCKED_WRITE : slot->readers ? BURSAR_LOCKED_READ : BURSAR_LOCKED_NONE;
}

static int give_access(const struct cell *own, enum bursar_locked_access access, struct bursar_error *error) {
  int status = bursar_locked_protect(own->slot, own->pages, access);
  return status == 0 ? 0
                     : bursar_error_set(error, BURSAR_FAILED, "the access to a secret's pages does not change: %s",
                                        strerror(-status));
}

static int first_use(struct pool *pool, struct bursar_vault_slot *slot, struct bursar_error *error) {
  struct cell *own = &pool->cell[slot->cell];
  if (give_access(own, BURSAR_LOCKED_WRITE, error) != 0)
    return BURSAR_FAILED;
  size_t n = canary_of(own, slot);
  memcpy(slot->data - n, pool->canary, n);
  slot->used = true;
  return 0;
}

int bursar_vault_open(struct bursar_vault_slot *slot, bool write, struct bursar_error *error) {
  struct pool *pool = lock(error);
  if (!pool)
    return BURSAR_FAILED;
  int status = 0;
  enum bursar_locked_access before = access_of(slot);
  if (!is_ours(pool, slot)) {
    status = slot->pool ? bursar_error_set(error, BURSAR_MISUSE,
                                           "this secret is of another process, which forked this one, or of one that "
                                           "is ending: "
                                           "a child has no access; read the secret again here")
                        : bursar_error_set(error, BURSAR_MISUSE, "this secret is closed: it was wiped");
  } else if (!slot->used) {
    status = first_use(pool, slot, error);
    before = BURSAR_LOCKED_WRITE;
  }
  if (status == 0) {
    uint32_t *count = write ? &slot->writers : &slot->readers;
    ++*count;
    if (access_of(slot) != before)
      status = give_access(&pool->cell[slot->cell], access_of(slot), error);
    if (status != 0)
      --*count;
  }
  release(pool);
  return status;
}

int bursar_vault_close(struct bursar_vault_slot *slot, bool write, struct bursar_error *error) {
  struct pool *pool = lock(error);
  if (!pool)
    return BURSAR_FAILED;
  int status = 0;
  enum bursar_locked_access before = access_of(slot);
  if (write)
    slot->writers--;
  else
    slot->readers--;
  if (is_ours(pool, slot)) {
    bool lives = !write || canary_lives(pool, slot);
    if (access_of(slot) != before)
      status = give_access(&pool->cell[slot->cell], access_of(slot), error);
    if (!lives)
      status = dead_canary(error);
  }
  release(pool);
  return status;
}

/* Without access again: its pages are zero. */
static void wipe_cell(const struct cell *own) {
  if (bursar_locked_protect(own->slot, own->pages, BURSAR_LOCKED_WRITE) == 0)
    bursar_wipe(own->slot, own->pages * BURSAR_PRIM_PAGE);
}

/* A slot that cannot be wiped is never given out again. */
static int wipe_slot(struct pool *pool, const struct bursar_vault_slot *slot, struct bursar_error *error) {
  const struct cell *own = &pool->cell[slot->cell];
  int status = give_access(own, BURSAR_LOCKED_WRITE, error);
  if (status != 0)
    return status;
  bool lives = canary_lives(pool, slot);
  bursar_wipe(own->slot, own->pages * BURSAR_PRIM_PAGE);
  status = give_access(own, BURSAR_LOCKED_NONE, error);
  if (status == 0)
    put_back(pool, slot->cell);
  return lives ? status : dead_canary(error);
}

int bursar_vault_return(struct bursar_vault_slot *slot, struct bursar_error *error) {
  struct pool *pool = slot->pool ? lock(error) : NULL;
  int status = 0;
  if (pool) {
    if (is_ours(pool, slot) && slot->used)
      status = wipe_slot(pool, slot, error);
    else if (is_ours(pool, slot))
      put_back(pool, slot->cell);
    release(pool);
  }
  *slot = (struct bursar_vault_slot){0};
  return status;
}

void bursar_vault_wipe(void) {
  if (!number_now())
    return;
  struct pool *pool = lock(NULL);
  for (uint32_t i = 0; i < pool->cells; i++)
    if (pool->cell[i].slot)
      wipe_cell(&pool->cell[i]);
  /* Slots of this pool are nobody's from here on, and their cells are never given out again. */
  __atomic_store_n(&pool->number, 0, __ATOMIC_RELEASE);
  memset(pool->free, 0, sizeof pool->free);
  release(pool);
}

bool bursar_vault_equal(const void *a, const void *b, size_t bytes) {
  const volatile unsigned char *left = a, *right = b;
  unsigned char differs = 0;
  for (size_t i = 0; i < bytes; i++)
    differs |= left[i] ^ right[i];
  return differs == 0;
}
