#include "ledger/inside.h"

#include <string.h>

void bursar_inside_fill(const struct bursar_look *look, struct bursar_inside *out) {
  memset(out, 0, sizeof *out);
  if (!look->inside)
    return;
  out->known = BURSAR_INSIDE_MEMORY | (look->heaps_walked ? BURSAR_INSIDE_HEAPS : 0) |
               (look->cut || look->pieces.cut ? 0 : BURSAR_INSIDE_WHOLE);
  out->stack_resident = look->resident[BURSAR_PIECES_STACK];
  out->bss_resident = look->resident[BURSAR_PIECES_BSS];
  out->arena_bytes = look->arena_bytes;
  out->arena_resident = look->resident[BURSAR_PIECES_ARENA];
  out->arena_used = look->arena_used;
  out->chunk_bytes = look->chunk_bytes;
  out->chunk_resident = look->resident[BURSAR_PIECES_CHUNK];
  out->map_resident = look->resident[BURSAR_PIECES_MAP];
  for (size_t i = 0; i < look->heap_count; i++) {
    size_t at = i < BURSAR_INSIDE_HEAPS_MAX ? i : BURSAR_INSIDE_HEAPS_MAX - 1;
    out->heap[at].resident += look->heaps[i].resident;
    out->heap[at].free_resident += look->heaps[i].free_resident;
    out->heap[at].returnable += look->heaps[i].returnable;
    out->heaps = (uint32_t)at + 1;
  }
}
