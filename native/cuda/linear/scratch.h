// What lies in the scratch of a launch, one part after another.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::cuda {

struct ScratchParts {
  std::byte* at = nullptr;  // nullptr: only `bytes` is wanted
  int64_t bytes = 0;

  template <class T>
  T* take(int64_t size) {
    T* p = at == nullptr ? nullptr : reinterpret_cast<T*>(at + bytes);
    bytes += (size + 255) / 256 * 256;
    return p;
  }
};

}  // namespace switchyard::cuda
