/* stacks_driver.c: C code whose stacks are known: test_native_stacks.py calls it by ctypes and asks who allocated. */
#include <alloca.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Of whichever interpreter this is loaded into. */
extern void *PyMem_Malloc(size_t size);
extern void *PyObject_CallNoArgs(void *function);
extern void Py_DecRef(void *object);

#define APART __attribute__((noinline, noclone))
/* A call that is not the last thing: the caller stays on the stack. */
#define STAYS(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")

APART static void *innermost(size_t size) {
  void *p = PyMem_Malloc(size); /* @innermost */
  STAYS(p);
  return p;
}

APART static void *middle(size_t size) {
  void *p = innermost(size); /* @middle */
  STAYS(p);
  return p;
}

void *chain(size_t size) {
  void *p = middle(size); /* @chain */
  STAYS(p);
  return p;
}

void *recurse(size_t size, int depth) {
  volatile char room[64];
  room[depth & 63] = 1;
  void *p = depth ? recurse(size, depth - 1) : innermost(size);
  STAYS(p);
  return room[depth & 63] ? p : NULL;
}

/* rbp leads to the caller here, and its place is not known before. */
void *on_the_stack(size_t size, size_t room) {
  volatile char *bytes = alloca(room);
  bytes[0] = 1;
  void *p = innermost(size); /* @on_the_stack */
  STAYS(p);
  return bytes[0] ? p : NULL;
}

static inline __attribute__((always_inline)) void *inlined_inner(size_t size) {
  void *p = PyMem_Malloc(size); /* @inlined_inner */
  STAYS(p);
  return p;
}

static inline __attribute__((always_inline)) void *inlined_outer(size_t size) {
  void *p = inlined_inner(size); /* @inlined_outer */
  STAYS(p);
  return p;
}

void *around_inlined(size_t size) {
  void *p = inlined_outer(size); /* @around_inlined */
  STAYS(p);
  return p;
}

/* C that calls Python, which may call C again. */
APART static void call_python(void *function) {
  void *result = PyObject_CallNoArgs(function); /* @call_python */
  if (result)
    Py_DecRef(result);
}

int through(void *function) {
  call_python(function); /* @through */
  __asm__ volatile("" : : : "memory");
  return 0;
}

/* In a signal handler, on the stack that was interrupted. */
static void *handled;
APART static void handler(int number) { handled = innermost(4321 + (size_t)(number - SIGUSR1)); /* @handler */ }

APART static void interrupted(void) {
  (void)raise(SIGUSR1);
  __asm__ volatile("" : : : "memory");
}

void *in_a_handler(void) {
  struct sigaction action = {.sa_handler = handler}, before;
  sigaction(SIGUSR1, &action, &before);
  interrupted();
  sigaction(SIGUSR1, &before, NULL);
  return handled;
}

void *from_malloc(size_t size) {
  void *p = malloc(size); /* @from_malloc */
  STAYS(p);
  return p;
}
