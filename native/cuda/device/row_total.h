#pragma once
#include "cuda/device/reduce.h"

namespace switchyard::cuda {

// Σ exp(x - max) of a row, and the max. Where x holds NaN or +inf, or nothing above -inf, the sum is NaN, infinite or 0, and max
// is the largest of the numbers.
struct RowTotal {
  float max;
  double sum;
};

// In one pass: what was added so far is scaled down when a larger value comes (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018). All threads of the block call, and all get it.
template <int kThreads>
__device__ inline RowTotal row_total(const float* x, int64_t n) {
  constexpr int kAhead = 8;  // loads in flight
  RowTotal t{-INFINITY, 0};
  for (int64_t begin = threadIdx.x; begin < n; begin += kAhead * kThreads) {
    float v[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) v[a] = begin + a * kThreads < n ? x[begin + a * kThreads] : -INFINITY;
    float top = t.max, sum = 0;
#pragma unroll
    for (int a = 0; a < kAhead; a++) top = v[a] > top ? v[a] : top;
    if (top > t.max) t = {top, t.sum * expf(t.max - top)};
#pragma unroll
    for (int a = 0; a < kAhead; a++) sum += v[a] == -INFINITY ? 0.0f : expf(v[a] - top);
    t.sum += sum;
  }
  const float max = block_reduce<kThreads>(t.max, Largest{});
  const double sum = block_reduce<kThreads>(t.max == max ? t.sum : t.sum * expf(t.max - max), Add{});
  return {max, sum};
}

}  // namespace switchyard::cuda
