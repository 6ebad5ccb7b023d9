// Quantisers: rows of f32 into the codes and scales of a panel.
#pragma once
#include <cstddef>
#include <cstdint>

#include "formats/format.h"
#include "formats/pack.h"

namespace switchyard {

// Formats that quantize_row() writes: q8_0, q4_0, q4_1 and those that exist packed only.
constexpr bool has_quantizer(Format f) {
  return f == Format::kQ8_0 || f == Format::kQ4_0 || f == Format::kQ4_1 || (f >= Format::kInt8 && f < Format::kCount);
}

// Quantises one row of K values into one lane of a panel that was zero before. Returns K, or the place of a value that
// the format cannot hold: one that is not finite, or whose scale would overflow f16.
//
// With s rounded as it is stored, and codes clamped to their range:
//   8 bits  s = max|x| / 127, code = zero + round(x / s). q8_0 multiplies by the reciprocal of the unrounded scale and
//           rounds halves away from zero, as GGUF's reference does.
//   4 bits  Of a few trial steps around max|x| / 8 each gives codes q - 8 = round(x / step) and, for these codes, the s
//           that is best in least squares, Σx(q - 8) / Σ(q - 8)². The one with the smallest Σ(x - s(q - 8))² wins; the
//           codes are then the nearest ones for s. The largest value may take -8, so s has either sign.
//   q4_1    The same with trial steps around (max - min) / 15 and the least-squares pair of s and m.
int64_t quantize_row(Format f, const PanelLayout& layout, const float* row, std::byte* panel, int lane);

}  // namespace switchyard
