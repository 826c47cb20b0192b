/* plain_calls.c: as many stacks as there are ways down a binary tree, in a module of its own: frames of the module that the
 * hooks are in are left out of stacks. */
typedef void what(void *context);
void plain_calls(unsigned depth, unsigned way, what *then, void *context);

__attribute__((noinline)) static void left(unsigned depth, unsigned way, what *then, void *context) {
  plain_calls(depth, way, then, context);
  __asm__ volatile("");
}

__attribute__((noinline)) static void right(unsigned depth, unsigned way, what *then, void *context) {
  plain_calls(depth, way, then, context);
  __asm__ volatile("");
}

__attribute__((visibility("default"))) void plain_calls(unsigned depth, unsigned way, what *then, void *context) {
  if (!depth)
    then(context);
  else if (way >> (depth - 1) & 1)
    left(depth - 1, way, then, context);
  else
    right(depth - 1, way, then, context);
  __asm__ volatile("");
}
