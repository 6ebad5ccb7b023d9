// Single values of a packed weight, by the plain rule of formats/pack.cc: for the reading of rows, and as the slow oracle of
// decode.h.
#pragma once
#include "cuda/linear/decode.h"

namespace switchyard::cuda {

// The code of value k (0 to 31) of a chunk.
template <Format f>
__device__ inline uint32_t code_at(const std::byte* chunk, int lane, int k) {
  using C = Codec<f>;
  const int v = k / 4;
  const auto plane = [&](const std::byte* base, int bits) {
    const int vector = bits == 4 ? v % 4 : v * bits / 8;
    const int shift = bits == 4 ? v / 4 * 4 : bits == 2 ? v % 4 * 2 : bits == 1 ? v : 0;
    return (static_cast<uint32_t>(base[64 * vector + 4 * lane + k % 4]) >> shift) & ((1u << bits) - 1);
  };
  uint32_t code = plane(chunk, C::kLowBits);
  if constexpr (C::kHighBits > 0) code |= plane(chunk + 64 * C::kLowBits, C::kHighBits) << C::kLowBits;
  return code;
}

// Value k of a lane (0 to 15) of a panel: fma(s, q, m).
template <Format f>
__device__ inline float decode_value(const std::byte* panel, const Places& at, int lane, int64_t k) {
  using C = Codec<f>;
  if constexpr (f == Format::kF32) {
    return *reinterpret_cast<const float*>(panel + k * 64 + 4 * lane);
  } else if constexpr (C::kFloats) {
    using T = std::conditional_t<f == Format::kF16, Half, Bf16>;
    return to_float(*reinterpret_cast<const T*>(panel + k / 2 * 64 + 4 * lane + k % 2 * 2));
  } else {
    const int64_t chunk = k / kChunk;
    const Scale scale = lane_scale<f>(panel + at.scales_at + (chunk >> at.scale_shift) * C::kScaleBytes,
                                      panel + at.supers_at + chunk / kSuperChunks * C::kSuperBytes, static_cast<int>(k / 16 % 2), lane);
    const uint32_t code = code_at<f>(panel + chunk * C::kChunkBytes, lane, static_cast<int>(k % kChunk));
    float q;
    if constexpr (C::kFloat8) {  // float8.h
      q = __uint_as_float((code & 0x80u) << 24 | (code & 0x7fu) << 20);
    } else if constexpr (C::kTable) {
      constexpr uint32_t kWords[4] = {kTableWord<f, 0>, kTableWord<f, 1>, kTableWord<f, 2>, kTableWord<f, 3>};
      const uint32_t four = code < 8 ? (code < 4 ? kWords[0] : kWords[1]) : (code < 12 ? kWords[2] : kWords[3]);
      q = static_cast<float>(static_cast<int>(four >> 8 * (code % 4) & 0xffu) - C::kZero);
    } else {
      q = static_cast<float>(code);
    }
    return __fmaf_rn(scale.s, q, scale.m);
  }
}

}  // namespace switchyard::cuda
