// Blocks of threads as coroutines of one system thread: a thread runs until it waits for others. One block runs at a time.
#pragma once
#include <functional>

#include "cuda/emulation/cuda_runtime.h"

namespace switchyard::cuda::emulation {

// Runs a grid, or records it where the stream is captured. `thread` is what every thread does.
void launch(Stream* stream, dim3 grid, dim3 block, int64_t shared, std::function<void()> thread);
// Any other work of a stream.
void enqueue(Stream* stream, std::function<void()> work);

std::byte* dynamic_shared();
int lane();
int thread_index();  // in the block
// Tells the scheduler that something happened that others may have waited for.
void moved();
// Lets the other threads of the block run; for loops that wait for what those do.
void yield();
// Waits until `count` threads of the block stand at barrier `id` (0: __syncthreads, all that have not returned).
void barrier(int id, int count);
// Waits for the lanes of `mask` that have not returned.
void warp_barrier(unsigned mask);
// What each lane of the warp gives, [32]; valid until the lane calls again. Lanes outside the mask hold old values.
const uint64_t* warp_exchange(unsigned mask, uint64_t value);

}  // namespace switchyard::cuda::emulation

// --- The words of the language for threads of a block
inline void __syncthreads() { switchyard::cuda::emulation::barrier(0, 0); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { switchyard::cuda::emulation::warp_barrier(mask); }

namespace switchyard::cuda::emulation {

template <class T>
uint64_t to_bits(T v) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof(T));
  return bits;
}
template <class T>
T of_bits(uint64_t bits) {
  T v;
  std::memcpy(&v, &bits, sizeof(T));
  return v;
}
template <class T>
T shuffle(unsigned mask, T v, int source_in_segment, bool inside, int width) {
  const uint64_t* all = warp_exchange(mask, to_bits(v));
  const int base = lane() / width * width;
  const T got = inside ? of_bits<T>(all[base + source_in_segment]) : v;
  warp_barrier(mask);
  return got;
}

}  // namespace switchyard::cuda::emulation

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  return switchyard::cuda::emulation::shuffle(mask, v, source & (width - 1), true, width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) {
  const int source = (switchyard::cuda::emulation::lane() % width) ^ with;
  return switchyard::cuda::emulation::shuffle(mask, v, source & (width - 1), source < width, width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
  const int source = switchyard::cuda::emulation::lane() % width + static_cast<int>(by);
  return switchyard::cuda::emulation::shuffle(mask, v, source, source < width, width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
  const int source = switchyard::cuda::emulation::lane() % width - static_cast<int>(by);
  return switchyard::cuda::emulation::shuffle(mask, v, source, source >= 0, width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* all = switchyard::cuda::emulation::warp_exchange(mask, predicate != 0);
  unsigned bits = 0;
  for (int i = 0; i < 32; i++) bits |= (mask >> i & 1) && all[i] ? 1u << i : 0;
  switchyard::cuda::emulation::warp_barrier(mask);
  return bits;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  const uint64_t* all = switchyard::cuda::emulation::warp_exchange(mask, switchyard::cuda::emulation::to_bits(value));
  const uint64_t own = switchyard::cuda::emulation::to_bits(value);
  unsigned bits = 0;
  for (int i = 0; i < 32; i++) bits |= (mask >> i & 1) != 0 && all[i] == own ? 1u << i : 0;
  switchyard::cuda::emulation::warp_barrier(mask);
  return bits;
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  const uint64_t* all = switchyard::cuda::emulation::warp_exchange(mask, value);
  unsigned least = value;
  for (int i = 0; i < 32; i++) least = (mask >> i & 1) != 0 ? std::min(least, static_cast<unsigned>(all[i])) : least;
  switchyard::cuda::emulation::warp_barrier(mask);
  return least;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

inline void __threadfence() {}
inline void __threadfence_block() {}

// One system thread: what is read and written between two waits is atomic as it is.
template <class T, class U>
T atomicAdd(T* at, U by) {
  const T old = *at;
  *at = static_cast<T>(old + by);
  return old;
}
template <class T, class U>
T atomicMax(T* at, U with) {
  const T old = *at;
  *at = std::max(old, static_cast<T>(with));
  return old;
}
template <class T, class U>
T atomicMin(T* at, U with) {
  const T old = *at;
  *at = std::min(old, static_cast<T>(with));
  return old;
}
template <class T, class U>
T atomicExch(T* at, U with) {
  const T old = *at;
  *at = static_cast<T>(with);
  return old;
}
template <class T, class U, class V>
T atomicCAS(T* at, U expected, V with) {
  const T old = *at;
  if (old == static_cast<T>(expected)) *at = static_cast<T>(with);
  return old;
}
template <class T, class U>
T atomicOr(T* at, U with) {
  const T old = *at;
  *at = static_cast<T>(old | with);
  return old;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __popcll(unsigned long long v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1; }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline long long __double_as_longlong(double v) { return std::bit_cast<long long>(v); }
inline double __longlong_as_double(long long v) { return std::bit_cast<double>(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t both = uint64_t{b} << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) r |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return r;
}
using std::max;
using std::min;
