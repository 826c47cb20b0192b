// hostile_driver.cpp: exceptions that are thrown through frames which hold memory, for test_native_hostile.py.
#include <cstdlib>
#include <stdexcept>
#include <string>

template <class T>
struct Holder {
  T *held;
  explicit Holder(std::size_t n) : held(new T[n]) {}
  ~Holder() { delete[] held; }
};

template <class T>
__attribute__((noinline)) int thrower(int frames) {
  Holder<T> holder(100 + static_cast<std::size_t>(frames));
  asm volatile("" : : "r"(holder.held) : "memory"); // or the compiler leaves it out
  if (frames == 0)
    throw std::runtime_error(std::string(1000, 'x'));
  int result = thrower<T>(frames - 1);
  asm volatile("" ::: "memory");
  return result;
}

extern "C" int exceptions(int rounds, int frames) {
  int caught = 0;
  for (int i = 0; i < rounds; i++) {
    try {
      thrower<int>(frames);
    } catch (const std::exception &error) {
      caught += std::string(error.what()).size() == 1000;
    }
  }
  return caught;
}

extern "C" int thrown_again() {
  try {
    try {
      thrower<char>(5);
    } catch (...) {
      try {
        thrower<long>(3);
      } catch (const std::runtime_error &) {
        throw;
      }
    }
  } catch (const std::exception &) {
    return 1;
  }
  return 0;
}
