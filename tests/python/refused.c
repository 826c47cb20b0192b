/* refused.c: built as libhdf5-refused.so, for a C library of the kind that bears a NULL from malloc. */
#include <stdatomic.h>
#include <stdlib.h>

atomic_int collecting; /* set by whoever collects, who then waits */
atomic_int done;

/* A block of so many bytes, asked for while another thread collects: 1 where it was refused. */
int refused_meanwhile(size_t bytes) {
  while (!atomic_load(&collecting))
    ;
  void *p = malloc(bytes);
  free(p);
  atomic_store(&done, 1);
  return p == NULL;
}
