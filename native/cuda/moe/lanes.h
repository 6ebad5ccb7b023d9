// A row of values that a warp owns: lane l holds values l, l + 32, l + 64, … What routing does with such rows has the CPU's bits.
#pragma once
#include "cuda/device/cpu_math.h"
#include "cuda/device/reduce.h"

namespace switchyard::cuda {

__device__ inline int lane_of() { return static_cast<int>(threadIdx.x) % 32; }

// In registers: up to 32·kPer values, places known when unrolled.
template <class T, int kPer>
struct Lanes {
  T v[kPer];
  // Of the loop that meets all places of a range.
  __device__ constexpr int begin(int) const { return 0; }
  __device__ constexpr int end(int) const { return kPer; }
  __device__ constexpr int count() const { return kPer; }
  __device__ T& operator[](int j) { return v[j]; }
  __device__ T get(int at) const {
    T value = v[0];
#pragma unroll
    for (int j = 1; j < kPer; j++) value = j == at ? v[j] : value;
    return value;
  }
  __device__ void set(int at, T value) {
#pragma unroll
    for (int j = 0; j < kPer; j++) v[j] = j == at ? value : v[j];
  }
};
// In memory that holds a multiple of 32 values, for any number of them.
template <class T>
struct Lanes<T, 0> {
  T* memory;
  int per;
  __device__ int begin(int place) const { return place / 32; }
  __device__ int end(int place) const { return (place + 31) / 32; }
  __device__ int count() const { return per; }
  __device__ T& operator[](int j) { return memory[32 * j + lane_of()]; }
  __device__ T get(int at) const { return memory[32 * at + lane_of()]; }
  __device__ void set(int at, T value) { memory[32 * at + lane_of()] = value; }
};

#define SWITCHYARD_LANES(j, row) \
  _Pragma("unroll") for (int j = 0; j < (row).count(); j++)

// Sums in the order of 16 running sums that are folded by halves. Values at the row's end must be 0.
template <class Row>
__device__ inline float cpu_sum(Row& x) {
  float sum = 0;
  SWITCHYARD_LANES(j, x) {
    const float other = __shfl_xor_sync(kAllLanes, x[j], 16);
    sum = __fadd_rn(sum, lane_of() < 16 ? x[j] : other);
    sum = __fadd_rn(sum, lane_of() < 16 ? other : x[j]);
  }
#pragma unroll
  for (int with = 8; with > 0; with /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, with));
  return sum;
}

// e^(x - max x) in place, divided by the sum, of the first n values; those after become 0. A row of -inf only gives zeros.
template <class Row>
__device__ inline void cpu_softmax(Row& x, int n) {
  float top = -INFINITY;
  SWITCHYARD_LANES(j, x) top = 32 * j + lane_of() < n && x[j] > top ? x[j] : top;
  top = warp_reduce(top, Largest());
  SWITCHYARD_LANES(j, x) x[j] = top > -INFINITY && 32 * j + lane_of() < n ? cpu_exp(__fadd_rn(x[j], -top)) : 0.0f;
  const float sum = cpu_sum(x), by = sum > 0 ? sum : 1.0f;
  SWITCHYARD_LANES(j, x) x[j] = x[j] / by;
}

// Keys: the smaller, the better. -0 equals 0; NaN, which nothing valid holds, is behind all numbers and before what was taken.
constexpr uint32_t kTaken = 0xffffffffu;
__device__ inline uint32_t key_of(float x) { return x != x ? kTaken - 1 : ~rising_key(x); }
__device__ inline float value_of(uint32_t key) {
  const uint32_t rising = ~key;
  return __uint_as_float(rising >> 31 ? rising & 0x7fffffffu : ~rising);
}

struct Best {
  uint32_t key, place;
};
// The smallest key at places begin to end - 1 other than `except`, and its lowest place; all lanes get it.
template <class Row>
__device__ inline Best best_of(Row& keys, int begin, int end, uint32_t except = kTaken) {
  uint32_t key = kTaken, place = kTaken;
#pragma unroll
  for (int j = keys.begin(begin); j < keys.end(end); j++) {
    const int here = 32 * j + lane_of();
    if (here < begin || here >= end || static_cast<uint32_t>(here) == except || keys[j] >= key) continue;
    key = keys[j], place = here;
  }
  const uint32_t low = __reduce_min_sync(kAllLanes, key);
  return {low, __reduce_min_sync(kAllLanes, key == low ? place : kTaken)};
}
// The best that is left of all, which becomes kTaken. One must be left.
template <class Row>
__device__ inline uint32_t take_best(Row& keys) {
  const uint32_t best = best_of(keys, 0, 32 * keys.count()).place;
  if (best % 32 == static_cast<uint32_t>(lane_of())) keys.set(static_cast<int>(best / 32), kTaken);
  return best;
}

}  // namespace switchyard::cuda
