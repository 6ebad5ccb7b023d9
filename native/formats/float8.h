// FP8 E4M3 (Micikevicius et al. 2022, arXiv 2209.05433, table 1): a sign, four bits of exponent with bias 7, three of
// fraction; no infinity, S.1111.111 is NaN.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace switchyard {

// What a code stands for, times 2^-120: its exponent and fraction moved to where f32 has them, whose bias is 127. Codes
// below 2^-6 become subnormal numbers of f32, as they are in E4M3, so that one rule holds for all. NaN has no place here
// (it would become 480·2^-120): who packs refuses it.
inline float float8_times_2_120th(uint8_t code) {
  return std::bit_cast<float>(static_cast<uint32_t>(code & 0x80) << 24 | static_cast<uint32_t>(code & 0x7f) << 20);
}

constexpr bool is_float8_nan(uint8_t code) { return (code & 0x7f) == 0x7f; }

// The scale that belongs to such a value. s·value and packed_scale(s)·(value·2^-120) are the same real number, so they
// round to the same f32; |s| must stay below 2^8, which leaves out matrices with values above 100,000 only.
constexpr float kFloat8ScaleLimit = 0x1p8f;
inline float packed_scale(float s) { return s * 0x1p120f; }
inline bool fits_packed_scale(float s) { return std::fabs(s) < kFloat8ScaleLimit; }  // false for NaN

}  // namespace switchyard
