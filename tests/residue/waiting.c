/* waiting.c: the end of a scenario.  Puts the canaries, which came masked, into each kind of memory, says where they are, and
 * waits to be looked at.  It allocates nothing, enters the interpreter no more and hardly uses the stack: what the scenario
 * left stays as it was. */
#include <alloca.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROOM = 2048, MASK = 0x5a };

static char data[ROOM], line[160], fifo[4096];
static const char *masked;
static char *places[4];
static size_t canaries;

/* `masked` and the two places stay the caller's, and stay.  0, or -1 where there is no room. */
int waiting_prepare(const char *path, const char *text, size_t bytes, char *heap, char *anonymous);
int waiting_prepare(const char *path, const char *text, size_t bytes, char *heap, char *anonymous) {
  char *stack = getenv("RESIDUE_ROOM"); /* the environment block is part of the main thread's stack */
  if (!stack || strlen(stack) < bytes || bytes > ROOM || strlen(path) >= sizeof fifo)
    return -1;
  strcpy(fifo, path);
  masked = text;
  canaries = bytes;
  places[0] = stack;
  places[1] = data;
  places[2] = heap;
  places[3] = anonymous;
  snprintf(line, sizeof line, "stack=%lx file=%lx heap=%lx anonymous=%lx\n", (unsigned long)(uintptr_t)stack,
           (unsigned long)(uintptr_t)data, (unsigned long)(uintptr_t)heap, (unsigned long)(uintptr_t)anonymous);
  return 0;
}

/* Unmasks it onto the stack, so many bytes below, and returns: what any C code does with a buffer. */
void waiting_on_stack(const char *text, size_t bytes, size_t below);
__attribute__((noinline)) void waiting_on_stack(const char *text, size_t bytes, size_t below) {
  volatile char *room = alloca(below);
  for (size_t i = 0; i < bytes; i++)
    room[i] = (char)(text[i] ^ MASK);
}

void waiting_ready(void);
void waiting_ready(void) {
  for (int place = 0; place < 4; place++)
    for (size_t i = 0; i < canaries; i++)
      places[place][i] = (char)(masked[i] ^ MASK);
  int out = open(fifo, O_WRONLY);
  if (out < 0 || write(out, line, strlen(line)) < 0)
    _exit(3);
  close(out);
  for (;;)
    pause();
}
