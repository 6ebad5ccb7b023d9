// Reductions and scans over a warp and over a block. The order of every sum is fixed by the shape of the block alone, so that
// results repeat; all lanes (threads) get the same bits.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/device/launch.h"

namespace switchyard::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN passes, as in the CPU's row_max and row_min.
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Smallest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

// The keys of cpu/order.h: unsigned order = order of values; -0 equals 0, NaN comes last either way.
__device__ inline uint32_t rising_key(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline uint32_t falling_key(float x) { return x != x ? 0xffffffffu : ~rising_key(x); }
// The smallest word is the largest value that is a number, ties to the lower place: the order of top-k.
__device__ inline uint64_t falling_word(float x, uint32_t place) { return uint64_t{falling_key(x)} << 32 | place; }
// The largest word is the first NaN, if there is one, else the first of the largest: the rule of argmax.
__device__ inline uint64_t argmax_word(float x, uint32_t place) {
  return uint64_t{rising_key(x)} << 32 | static_cast<uint32_t>(~place);
}
__device__ inline uint32_t argmax_place(uint64_t word) { return ~static_cast<uint32_t>(word); }

// Over each segment of `kWidth` neighbouring lanes (a power of two). T has 4 or 8 bytes; every lane of the warp takes part.
template <int kWidth = 32, class T, class Op>
__device__ inline T warp_reduce(T v, Op op) {
#pragma unroll
  for (int with = kWidth / 2; with > 0; with /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, with));
  return v;
}

// Inclusive sums over each segment of `kWidth` lanes.
template <int kWidth = 32, class T>
__device__ inline T warp_scan(T v) {
  const int lane = static_cast<int>(threadIdx.x) % kWidth;
#pragma unroll
  for (int by = 1; by < kWidth; by *= 2) {
    const T before = __shfl_up_sync(kAllLanes, v, by, kWidth);
    if (lane >= by) v = before + v;
  }
  return v;
}

// Over the threads of a block of `kThreads` (a power of two, 32 to 1024), all of which call. Ends with a barrier, so that it can
// be called again at once.
template <int kThreads, class T, class Op>
__device__ inline T block_reduce(T v, Op op) {
  constexpr int kWarps = kThreads / 32;
  v = warp_reduce(v, op);
  if constexpr (kWarps > 1) {
    __shared__ T parts[kWarps];
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    v = warp_reduce<kWarps>(parts[threadIdx.x % kWarps], op);
    __syncthreads();
  }
  return v;
}

// Sums over the threads of a block up to this one, inclusive or (kExclusive) without it; `total`: the sum of all. Under the rules
// of block_reduce.
template <int kThreads, bool kExclusive = false, class T>
__device__ inline T block_scan(T v, T* total) {
  constexpr int kWarps = kThreads / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const T inclusive = warp_scan(v);
  T own = inclusive;
  if constexpr (kExclusive) {  // not own - v, which an infinite v would make NaN
    const T before = __shfl_up_sync(kAllLanes, inclusive, 1);
    own = lane > 0 ? before : T{0};
  }
  if constexpr (kWarps > 1) {
    __shared__ T ends[kWarps];
    if (lane == 31) ends[warp] = inclusive;
    __syncthreads();
    const T sums = warp_scan<kWarps>(ends[lane % kWarps]);
    const T before = __shfl_sync(kAllLanes, sums, warp > 0 ? warp - 1 : 0);
    if (warp > 0) own = before + own;
    *total = __shfl_sync(kAllLanes, sums, kWarps - 1);
    __syncthreads();
  } else {
    *total = __shfl_sync(kAllLanes, inclusive, 31);
  }
  return own;
}

}  // namespace switchyard::cuda
