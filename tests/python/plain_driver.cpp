// plain_driver.cpp: what C++ allocates by new, for test_plain.py.
#include <cstring>
#include <new>
#include <vector>

namespace shop {
struct Order {
  char text[1000];
};

__attribute__((noinline)) Order *take() {
  Order *order = new Order;
  std::memset(order->text, 1, sizeof order->text);
  return order;
}
} // namespace shop

static shop::Order *volatile kept[8];

int main() {
  for (auto &order : kept)
    order = shop::take();
  delete kept[7];
  std::vector<int> *volatile numbers = new std::vector<int>(2500);
  volatile std::size_t huge = std::size_t{1} << 60;
  try {
    char *volatile p = new char[huge];
    (void)p;
    return 1;
  } catch (const std::bad_alloc &) {}
  delete numbers;
  return 42;
}
