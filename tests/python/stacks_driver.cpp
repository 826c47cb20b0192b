// stacks_driver.cpp: C++ code whose stacks are known: templates, namespaces, methods, and operator new.
#include <cstddef>
#include <string>
#include <vector>

namespace shop {

template <typename T>
class Shelf {
 public:
  [[gnu::noinline]] void put(std::size_t count);
  std::vector<T> items;
};

template <typename T>
[[gnu::noinline]] void Shelf<T>::put(std::size_t count) {
  items.reserve(count);
  asm volatile("" : : : "memory");
}

[[gnu::noinline]] static void fill(Shelf<double> &shelf, std::size_t count) {
  shelf.put(count);
  asm volatile("" : : : "memory");
}

}  // namespace shop

static shop::Shelf<double> kept;

extern "C" void stock(std::size_t count) {
  shop::fill(kept, count);
  asm volatile("" : : : "memory");
}
