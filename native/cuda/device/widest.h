// Bytes that are moved as they are, in the widest pieces that lie on their own boundaries everywhere.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace switchyard::cuda {

// fn.template operator()<T>() with the widest T whose size divides `pattern`: addresses and sizes or-ed together.
template <class Fn>
void with_widest(uint64_t pattern, const Fn& fn) {
  if (pattern % 16 == 0) return fn.template operator()<uint4>();
  if (pattern % 8 == 0) return fn.template operator()<uint2>();
  if (pattern % 4 == 0) return fn.template operator()<uint32_t>();
  if (pattern % 2 == 0) return fn.template operator()<uint16_t>();
  return fn.template operator()<uint8_t>();
}
inline uint64_t address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace switchyard::cuda
