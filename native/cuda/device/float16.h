// Floats of 16 bits: conversions round to nearest, ties to even, as those of formats/half.h do.
#pragma once
#include <cstdint>

#include "cuda/device/launch.h"

#if defined(SWITCHYARD_EMULATED)
#include "formats/half.h"
#endif

namespace switchyard::cuda {

struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Bf16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }
#if defined(SWITCHYARD_EMULATED)
__device__ inline float to_float(Half x) { return f16_to_f32(x.bits); }
__device__ inline Half to_half(float x) { return {f32_to_f16(x)}; }
__device__ inline Bf16 to_bf16(float x) { return {f32_to_bf16(x)}; }
// a·b + c of both halves, rounded once.
__device__ inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  const auto one = [&](int shift) {
    const auto part = [shift](uint32_t w) { return bf16_to_f32(static_cast<uint16_t>(w >> shift)); };
    return uint32_t{f32_to_bf16(std::fma(part(a), part(b), part(c)))} << shift;
  };
  return one(0) | one(16);
}
#else
__device__ inline float to_float(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ inline Half to_half(float x) {
  Half y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ inline Bf16 to_bf16(float x) {
  Bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t y;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
  return y;
}
#endif
// Two of them in a word, the first in the low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  return uint32_t{to_bf16(low).bits} | uint32_t{to_bf16(high).bits} << 16;
}
__device__ inline uint32_t pack_half(float low, float high) {
  return uint32_t{to_half(low).bits} | uint32_t{to_half(high).bits} << 16;
}

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline Half from_float<Half>(float x) {
  return to_half(x);
}
template <>
__device__ inline Bf16 from_float<Bf16>(float x) {
  return to_bf16(x);
}

}  // namespace switchyard::cuda
