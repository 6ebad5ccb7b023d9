#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace switchyard::cuda {

// fn(i, x[i]) for a thread's share of a row that a block of kThreads walks together. Eight elements are loaded before fn sees the
// first, so that what fn writes, perhaps over x[i], keeps no load waiting.
template <int kThreads, class Fn>
__device__ inline void walk_row(const float* x, int64_t n, const Fn& fn) {
  constexpr int kAhead = 8;
  for (int64_t begin = threadIdx.x; begin < n; begin += kAhead * kThreads) {
    float v[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) v[a] = begin + a * kThreads < n ? x[begin + a * kThreads] : 0;
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      if (begin + a * kThreads < n) fn(begin + a * kThreads, v[a]);
    }
  }
}

}  // namespace switchyard::cuda
