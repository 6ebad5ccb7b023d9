// Elementary functions with the bits of the CPU's vector tiers (cpu/isa/math.inl): for what chooses, where a last bit that differs
// would choose otherwise.
#pragma once
#include <cstdint>

#include "cuda/device/launch.h"

namespace switchyard::cuda {

// e^x = 2^n e^r, |r| <= ln 2 / 2. 1.0 ulp.
__device__ inline float cpu_exp(float x) {
  const float above = x > -104.0f ? x : -104.0f, clamped = above < 89.0f ? above : 89.0f;
  const float n = rintf(__fmul_rn(clamped, 1.442695041f));
  float r = __fmaf_rn(-n, 0.693359375f, clamped);
  r = __fmaf_rn(-n, -2.12194440e-4f, r);
  float p = __fmaf_rn(1.382046845e-03f, r, 8.369250223e-03f);
  p = __fmaf_rn(p, r, 4.166828468e-02f);
  p = __fmaf_rn(p, r, 1.666651666e-01f);
  p = __fmaf_rn(p, r, 4.999999404e-01f);
  p = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
  const int whole = static_cast<int>(n), half = whole >> 1, rest = whole - half;  // 2^n itself may be no normal number
  const float y = __fmul_rn(__fmul_rn(p, __int_as_float((half + 127) << 23)), __int_as_float((rest + 127) << 23));
  return x != x ? x : y;
}

__device__ inline float cpu_sigmoid(float x) {
  const float z = cpu_exp(-fabsf(x));
  return (x < 0.0f ? z : 1.0f) / __fadd_rn(1.0f, z);
}

}  // namespace switchyard::cuda
