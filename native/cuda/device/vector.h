// Several elements in one access, and index arithmetic without division.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "runtime/types.h"

namespace switchyard::cuda {

// N elements that are loaded and stored as one: at most 16 bytes, and aligned to its size.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

template <int N, class T>
__device__ inline Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <int N, class T>
__device__ inline void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

inline bool is_aligned(const void* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// n / size for 0 <= n < 2^31 and 1 <= size < 2^31 by a multiplication (Granlund and Montgomery 1994, figure 4.1: with n below 2^31
// their sum does not overflow); for int64_t by division.
template <class Index>
struct Divisor {
  Index size;
  uint32_t multiplier, shift;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : size(static_cast<Index>(divisor)), multiplier(0), shift(0) {
    if constexpr (sizeof(Index) == 4) {
      while ((int64_t{1} << shift) < divisor) shift++;
      multiplier = static_cast<uint32_t>((((uint64_t{1} << shift) - static_cast<uint64_t>(divisor)) << 32) / divisor + 1);
    }
  }
  __device__ Index quotient(Index n) const {
    if constexpr (sizeof(Index) == 4) {
      const auto u = static_cast<uint32_t>(n);
      return static_cast<Index>((__umulhi(u, multiplier) + u) >> shift);
    } else {
      return n / size;
    }
  }
};

// Places of a tensor that is walked in rows of another shape: dimensions and strides from the innermost outwards. Index is
// int32_t where everything counted fits, else int64_t.
template <class Index>
struct Walk {
  int rank = 0;
  Divisor<Index> dims[kMaxRank];
  Index strides[kMaxRank];
};

// kUnroll 1 makes short code where this stands in many places.
template <int kUnroll = kMaxRank, class Index>
__device__ inline Index walk_to(int rank, const Divisor<Index>* dims, const Index* strides, Index n) {
  Index at = 0;
#pragma unroll kUnroll
  for (int d = 0; d < kMaxRank; d++) {
    if (d >= rank) break;
    const Index rest = d + 1 < rank ? dims[d].quotient(n) : 0;
    at += (n - rest * dims[d].size) * strides[d];
    n = rest;
  }
  return at;
}

constexpr int64_t kSmall = int64_t{1} << 31;  // what is smaller is counted in 32 bits

}  // namespace switchyard::cuda
