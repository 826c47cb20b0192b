/* The bytes of a ledger: every size and place is a promise to readers of other versions. */
#include "ledger/layout.h"
#include "tap.h"

#include <stddef.h>

int main(void) {
  EQ(sizeof(struct bursar_header), 168);
  EQ(offsetof(struct bursar_header, process_start), 40);
  EQ(offsetof(struct bursar_header, boot_id), 56);
  EQ(offsetof(struct bursar_header, temporary_within), 88);
  EQ(offsetof(struct bursar_header, python_version), 96);
  EQ(offsetof(struct bursar_header, domains), 160);
  EQ(sizeof(struct bursar_tally), 32);
  EQ(sizeof(struct bursar_books), 784);
  EQ(offsetof(struct bursar_books, gil), 64);
  EQ(offsetof(struct bursar_books, free_lane), 256);
  EQ(offsetof(struct bursar_books, remote), 448);
  EQ(offsetof(struct bursar_books, peak_free_bytes), 640);
  EQ(sizeof(struct bursar_counts), 176);
  EQ(offsetof(struct bursar_counts, ticks), 32);
  EQ(offsetof(struct bursar_counts, tick_interval_ns), 48);
  EQ(offsetof(struct bursar_counts, main_file), 120);
  EQ(offsetof(struct bursar_counts, scope_names), 136);
  EQ(offsetof(struct bursar_counts, events), 144);
  EQ(sizeof(struct bursar_code), 16);
  EQ(sizeof(struct bursar_node), 16);
  EQ(sizeof(struct bursar_site), 64);
  EQ(offsetof(struct bursar_site, peak_bytes), 32);
  EQ(offsetof(struct bursar_site, epoch), 48);
  EQ(sizeof(struct bursar_site_facts), 48);
  EQ(offsetof(struct bursar_site_facts, remote_free_bytes), 16);
  EQ(offsetof(struct bursar_site_facts, remote_peak_bytes), 32);
  EQ(sizeof(struct bursar_tick), 144);
  EQ(offsetof(struct bursar_tick, first_undo), 136);
  EQ(sizeof(struct bursar_undo), 16);
  EQ(offsetof(struct bursar_header, interval), 164);
  EQ(offsetof(struct bursar_books, domain_peak), 736);
  EQ(offsetof(struct bursar_counts, lost_samples), 160);
  EQ(sizeof(struct bursar_thread_lane), 512);
  EQ(offsetof(struct bursar_thread_lane, free_bytes), 144);
  EQ(sizeof(struct bursar_estimate), 112);
  EQ(offsetof(struct bursar_estimate, peak_epoch), 96);
  OK(BURSAR_AT_LANES + BURSAR_LANES * sizeof(struct bursar_thread_lane) == BURSAR_EXTENT_MIN, "lanes end extent 0");
  EQ(offsetof(struct bursar_control, change), 8);
  EQ(offsetof(struct bursar_control, text), 24);
  EQ(sizeof(struct bursar_control), 2072);
  EQ(offsetof(struct bursar_changed, text), 32);
  EQ(sizeof(struct bursar_changed), 3104);
  OK(BURSAR_AT_CHANGED >= BURSAR_AT_ANSWER + BURSAR_PAGE && sizeof(struct bursar_changed) <= BURSAR_PAGE &&
         BURSAR_AT_CHANGED + BURSAR_PAGE <= BURSAR_AT_LANES,
     "what became of a change has a page of its own");
  EQ(sizeof(struct bursar_inside_heap), 24);
  EQ(sizeof(struct bursar_inside), 952);
  EQ(offsetof(struct bursar_inside, stack_resident), 8);
  EQ(offsetof(struct bursar_inside, in_arenas), 80);
  EQ(offsetof(struct bursar_inside, live), 88);
  EQ(offsetof(struct bursar_inside, resident), 136);
  EQ(offsetof(struct bursar_inside, heap), 184);
  EQ(sizeof(struct bursar_answer), 984);
  EQ(offsetof(struct bursar_answer, arenas_since), 24);
  EQ(offsetof(struct bursar_answer, inside), 32);
  OK(BURSAR_AT_ANSWER + BURSAR_PAGE <= BURSAR_EXTENT_MIN && sizeof(struct bursar_answer) <= BURSAR_PAGE,
     "the answer has a page of its own in extent 0");
  EQ(sizeof(struct bursar_scope_name), 1352);
  EQ(offsetof(struct bursar_scope_name, calls), 8);
  EQ(offsetof(struct bursar_scope_name, retained_last), 48);
  EQ(offsetof(struct bursar_scope_name, sketch), 72);
  EQ(sizeof(struct bursar_scope), 112);
  EQ(offsetof(struct bursar_scope, free_live_bytes), 32);
  EQ(offsetof(struct bursar_scope, serial), 72);
  EQ(offsetof(struct bursar_scope, name), 96);
  EQ(offsetof(struct bursar_scope, inner), 110);
  EQ(sizeof(struct bursar_leaks_point), 32);
  EQ(sizeof(struct bursar_leaks_site), 40 + 16 * BURSAR_LEAKS_DEPTH);
  EQ(sizeof(struct bursar_leaks), 7616);
  EQ(offsetof(struct bursar_leaks, since_calls), 48);
  EQ(offsetof(struct bursar_leaks, looked_ns), 88);
  EQ(offsetof(struct bursar_leaks, point), 128);
  EQ(offsetof(struct bursar_leaks, site), 4224);
  EQ(offsetof(struct bursar_counts, leaks), 168);
  EQ(sizeof(struct bursar_event), 32);
  EQ(offsetof(struct bursar_event, bytes), 16);
  OK(BURSAR_AT_DIRECTORY + BURSAR_PAGE <= BURSAR_EXTENT_MIN, "the head pages fit in extent 0");
  OK(sizeof(struct bursar_header) <= BURSAR_PAGE && sizeof(struct bursar_books) <= BURSAR_PAGE &&
         sizeof(struct bursar_counts) <= BURSAR_PAGE,
     "each head struct fits in its page");
  EQ(BURSAR_EXTENTS_MAX, BURSAR_PAGE);
  return tap_done();
}
