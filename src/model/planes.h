/* planes.h: floats taken apart: the top bytes of all elements together, then what is left of them.
 *
 * An element is rotated left by one bit, so that its exponent stands at the top and its sign at the bottom; then
 *   2 bytes  a plane of the top bytes, a plane of the low ones
 *   4 bytes  a plane of the top bytes, one of those below, one of the low halves
 *   8 bytes  a plane of the top bytes, one of those below, one of the bytes below those, a byte each, six more
 * Exponents of a model's weights are few, and pack well; the rest is noise.
 * Ownership: the caller's memory; planes of n elements of one byte are n apart.  Threads: any.  Class F. */
#ifndef BURSAR_MODEL_PLANES_H
#define BURSAR_MODEL_PLANES_H

#include <stddef.h>
#include <stdint.h>

/* How many planes elements of so many bytes have, and how many bytes of an element are in each; 0: none. */
unsigned bursar_planes_count(unsigned element);
unsigned bursar_planes_width(unsigned element, unsigned plane);
void bursar_planes_split(unsigned element, const void *in, size_t count, unsigned char *const planes[]);
void bursar_planes_join(unsigned element, const unsigned char *const planes[], size_t count, void *out);

#endif
