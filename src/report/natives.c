#include "report/natives.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/index.h"
#include "report/symbols.h"

#define NONE BURSAR_READER_NONE
#define PATH_MAX_BYTES 4096u
#define NOTES_MAX 6u /* of modules; how many more there are is said */
#define FRAMES_MAX (1u << 24)

struct module {
  struct bursar_symbols *symbols; /* NULL: it has none */
  enum bursar_symbols_status status;
  bool tried;
};

/* What the model keeps: the texts of its native frames. */
struct bursar_natives {
  struct module *modules; /* by code */
  uint32_t module_count;
  char **names; /* of places that have none of their own */
  uint32_t name_count;
};

/* What one place came to: frames in a row, innermost first. */
struct place {
  uint32_t first, count;
  bool named;
};

struct resolving {
  struct bursar_model *model;
  struct bursar_natives *natives;
  struct bursar_index places_index; /* by code and address */
  struct place *places;
  struct bursar_symbols_frame *frames;
  uint32_t *codes; /* by frame: its code in the model */
  uint32_t frame_count, frame_room;
  uint32_t notes, notes_left_out;
};

static void natives_free(struct bursar_natives *natives) {
  if (!natives)
    return;
  for (uint32_t i = 0; i < natives->module_count; i++)
    bursar_symbols_close(natives->modules[i].symbols);
  for (uint32_t i = 0; i < natives->name_count; i++)
    free(natives->names[i]);
  free(natives->modules);
  free(natives->names);
  free(natives);
}

static void note(struct bursar_model *model, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct bursar_model *model, const char *format, ...) {
  struct bursar_reader *reader = model->reader;
  va_list args;
  if (reader->note_count == BURSAR_READER_NOTES)
    return;
  va_start(args, format);
  vsnprintf(reader->note[reader->note_count++], BURSAR_READER_NOTE, format, args);
  va_end(args);
}

/* --- modules ------------------------------------------------------------------------------------------------------------ */

static struct bursar_text base_name(struct bursar_text path) {
  uint32_t at = path.length;
  while (at > 0 && path.bytes[at - 1] != '/')
    at--;
  return (struct bursar_text){path.bytes + at, path.length - at};
}

/* A module's name for a note: printable, and short. */
static const char *shown(struct bursar_text path, char out[80]) {
  struct bursar_text name = path.bytes ? base_name(path) : (struct bursar_text){"(unknown module)", 16};
  uint32_t length = name.length < 79 ? name.length : 79;
  for (uint32_t i = 0; i < length; i++)
    out[i] = name.bytes[i] >= ' ' && name.bytes[i] <= '~' ? name.bytes[i] : '?';
  out[length] = 0;
  return out;
}

static void tell_status(struct resolving *r, struct bursar_text path, enum bursar_symbols_status status) {
  char name[80];
  if (r->notes == NOTES_MAX) {
    r->notes_left_out++;
    return;
  }
  r->notes++;
  if (status == BURSAR_SYMBOLS_REPLACED)
    note(r->model, "%s is another build than the one that ran: its functions have no names", shown(path, name));
  else
    note(r->model, "%s cannot be read here any more: its functions have no names", shown(path, name));
}

/* The module of a code, opened; NULL where it has no symbols to offer.  The kernel's own (vdso) has no file. */
static struct bursar_symbols *module_of(struct resolving *r, uint32_t code) {
  const struct bursar_reader *reader = r->model->reader;
  if (code >= reader->codes || !(reader->code[code].flags & BURSAR_CODE_MODULE))
    return NULL;
  struct module *module = &r->natives->modules[code];
  if (module->tried)
    return module->symbols;
  module->tried = true;
  struct bursar_text path = bursar_reader_string(reader, reader->code[code].file);
  char file[PATH_MAX_BYTES];
  if (!path.bytes || path.length >= sizeof file || !path.length || path.bytes[0] != '/' ||
      memchr(path.bytes, 0, path.length))
    return NULL;
  memcpy(file, path.bytes, path.length);
  file[path.length] = 0;
  module->status = bursar_symbols_open(file, bursar_reader_string(reader, reader->code[code].name), &module->symbols);
  if (module->status != BURSAR_SYMBOLS_FOUND)
    tell_status(r, path, module->status);
  return module->symbols;
}

/* --- places ------------------------------------------------------------------------------------------------------------- */

/* `libz.so.1+0x1234`. */
static struct bursar_text name_by_address(struct resolving *r, const struct bursar_model_node *node) {
  struct bursar_text file = node->code == NONE ? (struct bursar_text){NULL, 0} : r->model->codes[node->code].file;
  if (!file.bytes)
    return (struct bursar_text){"(code made at run time)", 23};
  struct bursar_text name = base_name(file);
  char *text = malloc((size_t)name.length + 20);
  if (!text)
    return (struct bursar_text){NULL, 0};
  memcpy(text, name.bytes, name.length);
  int digits = snprintf(text + name.length, 20, "+0x%x", node->address);
  r->natives->names[r->natives->name_count++] = text;
  return (struct bursar_text){text, name.length + (uint32_t)digits};
}

static bool frame_room(struct resolving *r) {
  if (r->frame_count + BURSAR_SYMBOLS_FRAMES <= r->frame_room)
    return true;
  uint32_t room = r->frame_room ? r->frame_room * 2 : 1024;
  struct bursar_symbols_frame *frames = room > FRAMES_MAX ? NULL : realloc(r->frames, room * sizeof *frames);
  if (!frames)
    return false;
  r->frames = frames;
  r->frame_room = room;
  return true;
}

static bool resolve_place(struct resolving *r, const struct bursar_model_node *node, struct place *place) {
  if (!frame_room(r))
    return false;
  struct bursar_symbols_frame *frames = &r->frames[r->frame_count];
  struct bursar_symbols *symbols = module_of(r, node->code);
  unsigned count = symbols && node->address ? bursar_symbols_find(symbols, node->address, frames) : 0;
  bool named = count != 0;
  for (unsigned i = 0; i < count; i++)
    named = named && frames[i].function.bytes;
  if (!count)
    frames[count++] = (struct bursar_symbols_frame){.function = {NULL, 0}};
  for (unsigned i = 0; i < count; i++) {
    if (!frames[i].function.bytes)
      frames[i].function = name_by_address(r, node);
    if (!frames[i].file.bytes && node->code != NONE)
      frames[i].file = r->model->codes[node->code].file; /* the module, where the source is not known */
  }
  *place = (struct place){r->frame_count, count, named};
  r->frame_count += count;
  return true;
}

static bool resolve_places(struct resolving *r) {
  struct bursar_model *model = r->model;
  model->unresolved_frames -= model->native_frames; /* each was taken for one */
  for (uint32_t i = BURSAR_NODE_FIRST; i < model->node_count; i++) {
    const struct bursar_model_node *node = &model->nodes[i];
    if (!node->native)
      continue;
    uint32_t before = r->places_index.count, at = bursar_index_of(&r->places_index, node->code, node->address);
    if (r->places_index.count != before && !resolve_place(r, node, &r->places[at]))
      return false;
    model->unresolved_frames += !r->places[at].named;
  }
  return true;
}

/* --- into the model ------------------------------------------------------------------------------------------------------- */

/* A code for each function and file among the frames; all texts are numbered again. */
static bool make_codes(struct resolving *r) {
  struct bursar_model *model = r->model;
  uint32_t all = model->code_count + r->frame_count;
  struct bursar_index names = {0}, seen = {0};
  struct bursar_model_code *codes = realloc(model->codes, ((size_t)all + 1) * sizeof *codes);
  r->codes = calloc((size_t)r->frame_count + 1, sizeof *r->codes);
  if (codes)
    model->codes = codes;
  bool good = codes && r->codes && all < UINT32_MAX / 4 && bursar_index_init_texts(&names, all * 2) == 0 &&
              bursar_index_init(&seen, r->frame_count) == 0;
  for (uint32_t i = 0; good && i < model->code_count; i++) {
    codes[i].function_id = bursar_index_of_text(&names, codes[i].function);
    codes[i].file_id = bursar_index_of_text(&names, codes[i].file);
  }
  uint32_t first = model->code_count;
  for (uint32_t i = 0; good && i < r->frame_count; i++) {
    struct bursar_model_code code = {.function = r->frames[i].function, .file = r->frames[i].file, .native = true};
    code.function_id = bursar_index_of_text(&names, code.function);
    code.file_id = bursar_index_of_text(&names, code.file);
    r->codes[i] = first + bursar_index_of(&seen, code.function_id, code.file_id);
    if (r->codes[i] == model->code_count)
      codes[model->code_count++] = code;
  }
  if (good)
    model->name_count = names.count;
  bursar_index_free(&names);
  bursar_index_free(&seen);
  return good;
}

static const struct place *place_of(struct resolving *r, const struct bursar_model_node *node) {
  return &r->places[bursar_index_of(&r->places_index, node->code, node->address)];
}

/* Puts a node for each frame in the place of each native one; callers keep smaller indices. */
static bool make_nodes(struct resolving *r) {
  struct bursar_model *model = r->model;
  uint64_t total = 0;
  for (uint32_t i = 0; i < model->node_count; i++)
    total += model->nodes[i].native ? place_of(r, &model->nodes[i])->count : 1;
  struct bursar_model_node *nodes = total < UINT32_MAX / 4 ? calloc(total + 1, sizeof *nodes) : NULL;
  uint32_t *moved = calloc(model->node_count + 1, sizeof *moved), next = 0;
  if (!nodes || !moved) {
    free(nodes);
    free(moved);
    return false;
  }
  for (uint32_t i = 0; i < model->node_count; i++) {
    struct bursar_model_node node = model->nodes[i];
    uint32_t parent = node.parent == i ? next : moved[node.parent];
    const struct place *place = node.native ? place_of(r, &node) : NULL;
    for (uint32_t k = place ? place->count : 1; k-- > 0;) {
      if (place) {
        node.code = r->codes[place->first + k];
        node.line = r->frames[place->first + k].line;
      }
      node.parent = parent;
      nodes[next] = node;
      parent = next++;
    }
    moved[i] = next - 1;
  }
  for (uint32_t i = 0; i < model->site_count; i++)
    model->sites[i].node = moved[model->sites[i].node];
  free(moved);
  free(model->nodes);
  model->nodes = nodes;
  model->node_count = next;
  return true;
}

static void tell_gaps(struct resolving *r, uint64_t unresolved) {
  if (r->notes_left_out)
    note(r->model, "%u more modules have no names either", r->notes_left_out);
  if (unresolved)
    note(r->model, "%llu of %llu native frames have no name: they are shown as module+address",
         (unsigned long long)unresolved, (unsigned long long)r->model->native_frames);
  if (bursar_symbols_missing())
    note(r->model, "%s", bursar_symbols_missing());
}

int bursar_natives_resolve(struct bursar_model *model, struct bursar_error *error) {
  struct resolving r = {.model = model};
  int status = 0;
  if (!model->native_frames)
    return 0;
  uint32_t most = (uint32_t)model->native_frames;
  uint64_t others = model->unresolved_frames - model->native_frames;
  r.natives = calloc(1, sizeof *r.natives);
  r.places = calloc(most, sizeof *r.places);
  if (r.natives) {
    r.natives->module_count = model->reader->codes;
    r.natives->modules = calloc((size_t)r.natives->module_count + 1, sizeof *r.natives->modules);
    r.natives->names = calloc((size_t)most * 2, sizeof *r.natives->names);
    if (!r.natives->modules)
      r.natives->module_count = 0;
  }
  if (!r.natives || !r.places || !r.natives->modules || !r.natives->names ||
      bursar_index_init(&r.places_index, most) != 0 || !resolve_places(&r) || !make_codes(&r) || !make_nodes(&r))
    status = bursar_error_set(error, BURSAR_FAILED, "not enough memory for the names of native frames");
  else
    tell_gaps(&r, model->unresolved_frames - others);
  model->natives = r.natives; /* codes may name its texts already */
  model->natives_free = natives_free;
  bursar_index_free(&r.places_index);
  free(r.places);
  free(r.frames);
  free(r.codes);
  return status;
}
