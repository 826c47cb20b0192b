#include "report/view_verdict.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "ledger/domains.h"

static struct bursar_leaks_found judge(const struct bursar_leaks *leak, enum bursar_leaks_what what, bool bounds) {
  struct bursar_leaks_found found;
  bool bytes = what == BURSAR_LEAKS_OF_BYTES || what == BURSAR_LEAKS_OF_CAPPED;
  double threshold = bytes ? leak->threshold : BURSAR_LEAKS_COUNTED;
  bursar_leaks_judge(leak->point, leak->points, what, threshold, leak->warmup, bounds, &found);
  return found;
}

/* The process alone knows what a collection took away, and how long it went on: an alarm is its. */
static enum bursar_view_verdict_says say(const struct bursar_view_verdict *verdict) {
  if (!verdict->leak)
    return BURSAR_VIEW_VERDICT_UNDECIDED;
  switch ((enum bursar_leaks_state)verdict->leak->state) {
    case BURSAR_LEAKS_ALARM: return BURSAR_VIEW_VERDICT_LEAKS;
    case BURSAR_LEAKS_CYCLES: return BURSAR_VIEW_VERDICT_CLEAN;
    case BURSAR_LEAKS_SUSPECTED: return BURSAR_VIEW_VERDICT_UNDECIDED;
    default: break;
  }
  bool others = (!verdict->descriptors.known || verdict->descriptors.stands) &&
                (!verdict->threads.known || verdict->threads.stands);
  return verdict->bytes.known && verdict->bytes.stands && others ? BURSAR_VIEW_VERDICT_CLEAN
                                                                 : BURSAR_VIEW_VERDICT_UNDECIDED;
}

/* Where garbage of a few calls hides in the sum what all leave, the calls are capped: that is less than what is left, never more. */
static struct bursar_leaks_found judge_bytes(const struct bursar_leaks *leak) {
  struct bursar_leaks_found all = judge(leak, BURSAR_LEAKS_OF_BYTES, true), capped;
  if (!(leak->flags & BURSAR_LEAKS_CAPPED))
    return all;
  capped = judge(leak, BURSAR_LEAKS_OF_CAPPED, true);
  all.lower = fmax(all.lower, capped.lower);
  if (!(leak->flags & BURSAR_LEAKS_BYTES))
    all.rate = capped.rate;
  if (all.upper < all.rate)
    all.upper = INFINITY;
  return all;
}

struct bursar_view_verdict bursar_view_verdict_of(const struct bursar_reader *reader, uint32_t name) {
  struct bursar_view_verdict verdict = {.scope = bursar_reader_string(reader, reader->scope_name[name].name),
                                        .calls = reader->scope_name[name].calls,
                                        .bytes = {.lower = -INFINITY, .upper = INFINITY}};
  for (uint32_t i = 0; i < reader->leaks && !verdict.leak; i++)
    if (reader->leak[i].name == name)
      verdict.leak = &reader->leak[i];
  if (verdict.leak) {
    verdict.bytes = judge_bytes(verdict.leak);
    verdict.descriptors = judge(verdict.leak, BURSAR_LEAKS_OF_DESCRIPTORS, false);
    verdict.threads = judge(verdict.leak, BURSAR_LEAKS_OF_THREADS, false);
  }
  verdict.says = say(&verdict);
  return verdict;
}

uint32_t bursar_view_verdict_find(const struct bursar_reader *reader, const char *scope) {
  size_t length = strlen(scope);
  for (uint32_t i = 1; i < reader->scope_names; i++) {
    struct bursar_text text = bursar_reader_string(reader, reader->scope_name[i].name);
    if (text.bytes && text.length == length && memcmp(text.bytes, scope, length) == 0)
      return i;
  }
  return 0;
}

/* --- as text --------------------------------------------------------------------------------------------------------------- */

static bool shown(const struct bursar_view_verdict *verdict, unsigned flag) {
  return verdict->leak && verdict->leak->flags & flag;
}

/* The file's name without its folders: the list has all of it. */
static void place(const struct bursar_leaks_site *site, const struct bursar_reader *reader, bool whole,
                  struct bursar_buffer *out) {
  static const char unknown[] = "(unknown)";
  struct bursar_text file = {unknown, sizeof unknown - 1};
  uint32_t line = 0;
  bool native = false;
  /* The innermost line of Python's; where there is none, the place in native code. */
  for (uint32_t i = 0; i < site->depth && (native || !line); i++) {
    const struct bursar_leaks_frame *frame = &site->frame[i];
    struct bursar_text found = bursar_reader_string(reader, frame->file);
    bool is_native = frame->flags & BURSAR_NODE_NATIVE;
    if (!found.bytes || (native && is_native))
      continue;
    file = found;
    line = frame->line;
    native = is_native;
  }
  for (uint32_t i = file.length; !whole && i-- > 0;)
    if (file.bytes[i] == '/') {
      file = (struct bursar_text){file.bytes + i + 1, file.length - i - 1};
      break;
    }
  (void)bursar_escape_terminal(out, file);
  if (line)
    bursar_buffer_format(out, native ? "+0x%x" : ":%u", line);
}

static void says_leaks(const struct bursar_view_verdict *verdict, struct bursar_buffer *out) {
  const struct bursar_leaks_found *bytes = &verdict->bytes;
  const char *and = "";
  bursar_buffer_text(out, " leaks ");
  if (shown(verdict, BURSAR_LEAKS_BYTES | BURSAR_LEAKS_CAPPED)) {
    bool capped = !shown(verdict, BURSAR_LEAKS_BYTES);
    bursar_buffer_format(out, "%s%.0f bytes a call", capped ? "at least " : "",
                         capped && isfinite(bytes->lower) ? fmax(bytes->lower, 0) : bytes->rate);
    if (capped && isfinite(bytes->upper))
      bursar_buffer_format(out, " (at most %.0f)", bytes->upper);
    else if (!capped && isfinite(bytes->lower) && isfinite(bytes->upper))
      bursar_buffer_format(out, " (at least %.0f, at most %.0f)", fmax(bytes->lower, 0), bytes->upper);
    else if (!capped && isfinite(bytes->lower))
      bursar_buffer_format(out, " (at least %.0f)", fmax(bytes->lower, 0));
    and = " and ";
  }
  if (shown(verdict, BURSAR_LEAKS_DESCRIPTORS)) {
    bursar_buffer_format(out, "%s%.2g descriptors a call", and, verdict->descriptors.rate);
    and = " and ";
  }
  if (shown(verdict, BURSAR_LEAKS_THREADS))
    bursar_buffer_format(out, "%s%.2g threads a call", and, verdict->threads.rate);
}

static void line(const struct bursar_view_verdict *verdict, const struct bursar_reader *reader,
                 struct bursar_buffer *out) {
  static const char unnamed[] = "(unknown scope)";
  const struct bursar_leaks *leak = verdict->leak;
  char number[BURSAR_SIZE_TEXT];
  (void)bursar_escape_terminal(out, verdict->scope.bytes ? verdict->scope
                                                         : (struct bursar_text){unnamed, sizeof unnamed - 1});
  if (verdict->says == BURSAR_VIEW_VERDICT_LEAKS) {
    says_leaks(verdict, out);
    if (leak->sites) {
      bursar_buffer_text(out, ", first at ");
      place(&leak->site[0], reader, false, out);
    }
    if (leak->flags & BURSAR_LEAKS_UNCHECKED)
      bursar_buffer_text(out, ", unless it is garbage: no collection has said");
    return;
  }
  if (verdict->says == BURSAR_VIEW_VERDICT_CLEAN && leak->state == BURSAR_LEAKS_CYCLES) {
    bursar_buffer_text(out, " does not leak: what grew was uncollected cycles, which one collection freed");
    return;
  }
  if (verdict->says == BURSAR_VIEW_VERDICT_CLEAN) {
    bursar_buffer_text(out, " does not leak: ");
    if (isfinite(verdict->bytes.upper))
      bursar_buffer_format(out, "at most %.0f bytes a call", fmax(verdict->bytes.upper, 0));
    else
      bursar_buffer_format(out, "less than %u bytes a call", leak->threshold);
    return;
  }
  bursar_buffer_text(out, " is undecided: ");
  if (!leak && verdict->calls >= BURSAR_LEAKS_WARMUP)
    bursar_buffer_text(out, "the ledger has no room to judge so many scopes");
  else if (!leak || !verdict->bytes.known)
    bursar_buffer_format(out, "it has had %s calls, of %u at least", bursar_size_count(verdict->calls, number),
                         leak ? leak->warmup : BURSAR_LEAKS_WARMUP);
  else if (leak->state == BURSAR_LEAKS_SUSPECTED)
    bursar_buffer_format(out, "it grows by %.0f bytes a call, for %s calls so far", verdict->bytes.rate,
                         bursar_size_count(verdict->calls - leak->since_calls, number));
  else if (verdict->bytes.stands)
    bursar_buffer_text(out, "the process's open descriptors, or its threads, go up and down");
  else
    bursar_buffer_format(out, "what it holds moves by %.0f bytes a call, which may be no more than chance",
                         verdict->bytes.rate);
}

void bursar_view_verdict_print(const struct bursar_view_verdict *verdict, const struct bursar_reader *reader,
                               struct bursar_buffer *out) {
  const struct bursar_leaks *leak = verdict->leak;
  char number[BURSAR_SIZE_TEXT];
  line(verdict, reader, out);
  bursar_buffer_char(out, '\n');
  if (verdict->says != BURSAR_VIEW_VERDICT_LEAKS)
    return;
  bursar_buffer_format(out, "  alarm after %s calls", bursar_size_count(leak->since_calls, number));
  bursar_buffer_format(out, ", of %s by now\n", bursar_size_count(verdict->calls, number));
  if (!leak->sites) {
    bursar_buffer_text(out, leak->looked_ns ? "  nothing of Python's survives of the calls after it: listen to malloc "
                                              "too (--domains all)\n"
                                            : "  where: known once 300 more calls have gone by\n");
    return;
  }
  bursar_buffer_format(out, "  what survives of %s calls:\n", bursar_size_count(leak->looked_calls, number));
  bursar_buffer_text(out, "      bytes  blocks   calls  oldest s  where\n");
  for (uint32_t i = 0; i < leak->sites; i++) {
    const struct bursar_leaks_site *site = &leak->site[i];
    bursar_buffer_format(out, "  %9llu %7llu %7llu %9.1f  ", (unsigned long long)site->bytes,
                         (unsigned long long)site->blocks, (unsigned long long)site->calls,
                         leak->looked_ns > site->oldest_ns ? (double)(leak->looked_ns - site->oldest_ns) / 1e9 : 0.0);
    place(site, reader, true, out);
    struct bursar_text function = site->depth ? bursar_reader_string(reader, site->frame[0].function)
                                              : (struct bursar_text){NULL, 0};
    if (function.bytes) {
      bursar_buffer_text(out, " in ");
      (void)bursar_escape_terminal(out, function);
    }
    bursar_buffer_char(out, '\n');
  }
}

/* --- as JSON --------------------------------------------------------------------------------------------------------------- */

static void number(struct bursar_buffer *out, const char *key, double value, bool known) {
  if (known && isfinite(value))
    bursar_buffer_format(out, ",\"%s\":%.6g", key, value);
  else
    bursar_buffer_format(out, ",\"%s\":null", key);
}

static void site_json(const struct bursar_leaks *leak, const struct bursar_leaks_site *site,
                      const struct bursar_reader *reader, struct bursar_buffer *out) {
  bursar_buffer_format(out,
                       "{\"domain\":\"%s\",\"bytes\":%llu,\"blocks\":%llu,\"calls\":%llu,\"oldest_s\":%.6f,\"stack\":[",
                       bursar_domains_name(site->domain), (unsigned long long)site->bytes,
                       (unsigned long long)site->blocks, (unsigned long long)site->calls,
                       leak->looked_ns > site->oldest_ns ? (double)(leak->looked_ns - site->oldest_ns) / 1e9 : 0.0);
  for (uint32_t i = 0; i < site->depth; i++) {
    const struct bursar_leaks_frame *frame = &site->frame[i];
    bursar_buffer_text(out, i ? ",{\"function\":" : "{\"function\":");
    bursar_escape_json(out, bursar_reader_string(reader, frame->function));
    bursar_buffer_text(out, ",\"file\":");
    bursar_escape_json(out, bursar_reader_string(reader, frame->file));
    if (frame->line)
      bursar_buffer_format(out, ",\"line\":%u", frame->line);
    else
      bursar_buffer_text(out, ",\"line\":null");
    bursar_buffer_text(out, frame->flags & BURSAR_NODE_NATIVE ? ",\"native\":true}" : ",\"native\":false}");
  }
  bursar_buffer_text(out, "]}");
}

void bursar_view_verdict_json(const struct bursar_view_verdict *verdict, const struct bursar_reader *reader,
                              struct bursar_buffer *out) {
  static const char *const answers[] = {"null", "false", "true"};
  const struct bursar_leaks *leak = verdict->leak;
  struct bursar_buffer says;
  bursar_buffer_init(&says, 65536);
  line(verdict, reader, &says);
  bursar_buffer_text(out, "\"scope\":");
  bursar_escape_json(out, verdict->scope);
  bursar_buffer_format(out, ",\"calls\":%llu", (unsigned long long)verdict->calls);
  number(out, "bytes_per_call", verdict->bytes.rate, verdict->bytes.known);
  number(out, "lower", verdict->bytes.lower, verdict->bytes.known);
  number(out, "upper", verdict->bytes.upper, verdict->bytes.known);
  bursar_buffer_format(out, ",\"leaks\":%s", answers[verdict->says + 1]);
  bursar_buffer_format(out, ",\"cycles\":%s", leak && leak->state == BURSAR_LEAKS_CYCLES ? "true" : "false");
  number(out, "descriptors_per_call", verdict->descriptors.rate, verdict->descriptors.known);
  number(out, "threads_per_call", verdict->threads.rate, verdict->threads.known);
  bursar_buffer_format(out, ",\"threshold\":%u", leak ? leak->threshold : BURSAR_LEAKS_THRESHOLD);
  bursar_buffer_format(out, ",\"unchecked\":%s", leak && leak->flags & BURSAR_LEAKS_UNCHECKED ? "true" : "false");
  if (leak && leak->state == BURSAR_LEAKS_ALARM)
    bursar_buffer_format(out, ",\"alarm_calls\":%llu", (unsigned long long)leak->since_calls);
  else
    bursar_buffer_text(out, ",\"alarm_calls\":null");
  bursar_buffer_text(out, ",\"says\":");
  bursar_escape_json(out, (struct bursar_text){says.data ? says.data : "", (uint32_t)says.used});
  bursar_buffer_text(out, ",\"sites\":[");
  bool leaks = verdict->says == BURSAR_VIEW_VERDICT_LEAKS;
  for (uint32_t i = 0; leaks && i < leak->sites; i++) {
    if (i)
      bursar_buffer_char(out, ',');
    site_json(leak, &leak->site[i], reader, out);
  }
  bursar_buffer_char(out, ']');
  bursar_buffer_free(&says);
}
