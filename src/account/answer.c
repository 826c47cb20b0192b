#include "account/answer.h"

#include <string.h>

#include "account/account.h"
#include "account/live.h"
#include "account/maps.h"
#include "ledger/inside.h"
#include "prim/prim.h"

#define UNTOUCHED_MIN (16u << 10) /* smaller blocks are taken for touched: whoever asks for them writes them */
#define MAPPED_MIN (64u << 10)
#define IDLE_SHARE 9u /* a look is followed by so many times its duration without another */

static bool many_gils;

void bursar_answer_expect_many_gils(void) { many_gils = true; }

/* --- what the books know --------------------------------------------------------------------------------------------- */

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

struct count {
  const struct bursar_look *look;
  uint64_t large[BURSAR_DOMAIN_COUNT], absent[BURSAR_DOMAIN_COUNT];
  uint64_t elsewhere;
};

static void count_large(const void *p, struct bursar_record record, void *context) {
  struct count *count = context;
  unsigned domain = bursar_account_domain(record.number);
  if (record.size >> 47) /* torn, by a thread without the GIL */
    return;
  count->large[domain] += record.size;
  if (record.size < UNTOUCHED_MIN)
    return;
  uint64_t resident = bursar_look_resident(count->look, (uintptr_t)p, record.size);
  count->absent[domain] += less(record.size, resident);
  if (bursar_look_is_nobodys(count->look, (uintptr_t)p))
    count->elsewhere += resident;
}

static uint64_t live_of(unsigned domain) {
  int64_t live = (int64_t)bursar_account_live_of(domain); /* others may be in the middle of an event */
  return live > 0 ? (uint64_t)live : 0;
}

static void count_blocks(const struct bursar_look *look, struct bursar_inside *out) {
  struct count count = {.look = look};
  bursar_live_large_each(BURSAR_SMALL_MAX, count_large, &count);
  out->known |= BURSAR_INSIDE_BLOCKS;
  out->elsewhere = count.elsewhere;
  for (unsigned domain = 0; domain < BURSAR_DOMAIN_COUNT; domain++) {
    out->live[domain] = live_of(domain);
    out->resident[domain] = less(out->live[domain], count.absent[domain]);
    if ((domain == BURSAR_DOMAIN_OBJ || domain == BURSAR_DOMAIN_MEM) && out->arena_used)
      out->in_arenas += less(out->live[domain], count.large[domain]);
  }
  if (bursar_account.writer.header->domains >> BURSAR_DOMAIN_MMAP & 1) {
    out->known |= BURSAR_INSIDE_MAPS;
    out->resident[BURSAR_DOMAIN_MMAP] = out->map_resident;
  }
}

/* A block that malloc mapped on its own lies 16 bytes behind the beginning of a page. */
static void tell_chunk(const void *p, struct bursar_record record, void *look) {
  (void)record;
  if ((uintptr_t)p % BURSAR_PAGE == 16)
    bursar_look_chunk(look, (uintptr_t)p - 16);
}

static void tell_mapping(uintptr_t from, uintptr_t to, void *look) { bursar_look_mapping(look, from, to); }

int bursar_answer_begin(struct bursar_look *look, unsigned how) {
  const struct bursar_writer *writer = &bursar_account.writer;
  return bursar_look_begin(0, writer->header ? (uint64_t)writer->inode : 0, how | BURSAR_LOOK_INSIDE, look);
}

void bursar_answer_finish(struct bursar_look *look, struct bursar_inside *out) {
  bool open = bursar_account.active;
  /* Where blocks are not listened to, pymalloc's arenas are booked as mappings: they are arenas all the same. */
  bool arenas_apart = open && (bursar_account.writer.header->domains >> BURSAR_DOMAIN_OBJ & 1);
  if (arenas_apart)
    bursar_maps_each(tell_mapping, look);
  if (open)
    bursar_live_large_each(MAPPED_MIN - 1, tell_chunk, look);
  /* The hooks see each interpreter that allocates: without them others may be there unseen. */
  look->arenas_stay = arenas_apart && !many_gils;
  bursar_look_scan(look);
  if (open && !arenas_apart)
    bursar_maps_each(tell_mapping, look);
  bursar_look_sum(look);
  bursar_inside_fill(look, out);
  if (open && look->inside)
    count_blocks(look, out);
}

/* --- through the ledger ---------------------------------------------------------------------------------------------- */

static struct bursar_answer *answer(void) {
  return (struct bursar_answer *)(void *)((char *)bursar_account.writer.head + BURSAR_AT_ANSWER);
}

static void write_answer(uint64_t request, const struct bursar_inside *inside) {
  struct bursar_answer *to = answer();
  __atomic_store_n(&to->begun, request, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  to->inside = *inside;
  to->time_ns = bursar_prim_now() - bursar_account.started_ns;
  __atomic_store_n(&to->done, request, __ATOMIC_RELEASE);
}

/* Apart, so that whoever only looks at the clock needs no room for it. */
static __attribute__((noinline)) void answer_now(uint64_t request) {
  struct bursar_look look;
  struct bursar_inside found;
  if (bursar_answer_begin(&look, BURSAR_LOOK_QUICK) != 0)
    return;
  bursar_answer_finish(&look, &found);
  write_answer(request, &found);
  bursar_look_end(&look);
}

static const struct bursar_control *control(void) {
  return (const struct bursar_control *)(void *)((char *)bursar_account.writer.head + BURSAR_AT_CONTROL);
}

static struct bursar_changed *changed(void) {
  return (struct bursar_changed *)(void *)((char *)bursar_account.writer.head + BURSAR_AT_CHANGED);
}

void bursar_answer_start(void) { changed()->takes = bursar_account.provider.asked != NULL; }

bool bursar_answer_asked(uint64_t *number, char text[BURSAR_CONTROL_TEXT + 1], size_t *bytes) {
  if (!bursar_account.writer.head)
    return false;
  *number = __atomic_load_n(&control()->change, __ATOMIC_ACQUIRE);
  uint32_t length = __atomic_load_n(&control()->bytes, __ATOMIC_RELAXED);
  if (*number == __atomic_load_n(&changed()->done, __ATOMIC_RELAXED))
    return false;
  *bytes = length < BURSAR_CONTROL_TEXT ? length : BURSAR_CONTROL_TEXT;
  memcpy(text, control()->text, *bytes);
  text[*bytes] = 0;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return __atomic_load_n(&control()->change, __ATOMIC_RELAXED) == *number;
}

void bursar_answer_change(uint64_t number, enum bursar_changed_result result, const char *text, size_t bytes,
                          size_t more) {
  struct bursar_changed *to = bursar_account.writer.head ? changed() : NULL;
  if (!to)
    return;
  __atomic_store_n(&to->begun, number, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  to->result = (uint32_t)result;
  to->bytes = (uint32_t)(bytes < sizeof to->text ? bytes : sizeof to->text);
  to->more = (uint32_t)more;
  memcpy(to->text, text, to->bytes);
  __atomic_store_n(&to->done, number, __ATOMIC_RELEASE);
}

void bursar_answer_if_asked(void) {
  static uint64_t quiet_until;
  if (!bursar_account.writer.head)
    return;
  if (__atomic_load_n(&control()->change, __ATOMIC_RELAXED) != __atomic_load_n(&changed()->done, __ATOMIC_RELAXED) &&
      bursar_account.provider.asked)
    bursar_account.provider.asked();
  uint64_t request = __atomic_load_n(&control()->request, __ATOMIC_ACQUIRE);
  if (request == __atomic_load_n(&answer()->done, __ATOMIC_RELAXED))
    return;
  uint64_t began = bursar_prim_now();
  if (began < quiet_until)
    return;
  answer_now(request);
  uint64_t ended = bursar_prim_now();
  quiet_until = ended + (ended - began) * IDLE_SHARE;
}

void bursar_answer_arena(int64_t bytes) {
  if (bursar_account.active && bursar_account.writer.head)
    __atomic_fetch_add(&answer()->arenas_since, (uint64_t)bytes, __ATOMIC_RELAXED);
}
