#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/format_table.h"
#include "formats/half.h"

namespace switchyard {
namespace {

constexpr int kMostGroup = 128;
// Sums over a group run in so many chains, which the compiler makes vectors of.
constexpr int kChains = 16;
constexpr float kLargestHalf = 65504.0f;

float sum_of(const float* chains) {
  float sum = 0;
  for (int i = 0; i < kChains; i++) sum += chains[i];
  return sum;
}

// To the nearest integer, halves to even; |x| < 2^22.
float nearest(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5·2^23
  return x + kRound - kRound;
}
float nearest_within(float x, float low, float high) { return std::min(std::max(nearest(x), low), high); }

// As C's round(): halves away from zero.
float nearest_away(float x) {
  const float even = nearest(x), rest = x - even;
  return even + (rest == 0.5f && x > 0 ? 1.0f : 0.0f) - (rest == -0.5f && x < 0 ? 1.0f : 0.0f);
}

float largest_magnitude(const float* x, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; i++) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

float as_half(float x) { return f16_to_f32(f32_to_f16(x)); }
// 0 where x is so small that dividing by it would overflow: the group then counts as zero.
float divisor(float x) { return std::fabs(x) < 0x1p-100f ? 0 : x; }

// Codes of n values for the step s, around `zero`.
void codes_of(const float* x, int64_t n, float s, float zero, float low, float high, uint8_t* codes) {
  if (divisor(s) == 0) {
    std::fill_n(codes, n, static_cast<uint8_t>(zero));
    return;
  }
  for (int64_t i = 0; i < n; i++) codes[i] = static_cast<uint8_t>(nearest_within(x[i] / s, low, high) + zero);
}

// The f32 scale of n values in 8 bits.
float scale_of_bytes(const float* x, int64_t n) { return largest_magnitude(x, n) / 127.0f; }

void quantize_q8_0(const float* x, float scale, uint8_t* codes) {
  const float inverse = divisor(scale) == 0 ? 0.0f : 1.0f / scale;
  for (int i = 0; i < 32; i++) codes[i] = static_cast<uint8_t>(nearest_away(x[i] * inverse) + 128.0f);
}

// What a step means to n values in 4 bits: Σ x·q and Σ q², in f32.
struct Fit {
  float xq, qq;
};
Fit fit(const float* x, int64_t n, float inverse) {
  float xq[kChains] = {}, qq[kChains] = {};
  for (int64_t i = 0; i < n; i += kChains) {
    for (int j = 0; j < kChains; j++) {
      const float q = nearest_within(x[i + j] * inverse, -8, 7);
      xq[j] += x[i + j] * q;
      qq[j] += q * q;
    }
  }
  return {sum_of(xq), sum_of(qq)};
}

// The scale of n values in 4 bits, which may have either sign.
float scale_of_nibbles(const float* x, int64_t n) {
  float most = 0;  // the value of largest magnitude, with its sign
  for (int64_t i = 0; i < n; i++) most = std::fabs(x[i]) > std::fabs(most) ? x[i] : most;
  if (divisor(most) == 0) return 0;
  // The largest value becomes 7 to 8.75 steps of the sign that has eight: below 8 the others lie finer, above it the
  // largest is cut.
  constexpr int kTrials = 8;
  float best = 0, best_gain = -1;
  for (int t = 0; t < kTrials; t++) {
    const Fit f = fit(x, n, -(7.0f + 0.25f * static_cast<float>(t)) / most);
    // Σ(x - sq)² = Σx² - (Σxq)² / Σq² at its smallest; q of the largest value is never 0. Scaled by `most`, so that
    // squares of small or large values stay in range.
    const float gain = f.xq / most * (f.xq / most) / f.qq;
    if (gain <= best_gain) continue;
    best_gain = gain;
    best = f.xq / f.qq;
  }
  return best;
}

struct Line {
  float s, m;
};

// q4_1: x ≈ s·q + m with q from 0 to 15.
Line line_of_nibbles(const float* x, int64_t n) {
  const auto [low, high] = std::minmax_element(x, x + n);
  const float min = *low, range = *high - *low;
  if (divisor(range) == 0) return {0, min};
  constexpr int kTrials = 9;
  const float count = static_cast<float>(n);
  Line best{range / 15.0f, min};
  float best_error = -1;
  for (int t = 0; t < kTrials; t++) {
    // Steps from range / 14 to range / 16, the plain one in the middle.
    const float steps = 14.0f + 0.25f * static_cast<float>(t);
    float u1[kChains] = {}, q1[kChains] = {}, q2[kChains] = {}, uq[kChains] = {}, u2[kChains] = {};
    for (int64_t i = 0; i < n; i += kChains) {
      for (int j = 0; j < kChains; j++) {
        const float u = (x[i + j] - min) / range;  // 0 to 1
        const float q = nearest_within(u * steps, 0, 15);
        u1[j] += u, q1[j] += q, q2[j] += q * q, uq[j] += u * q, u2[j] += u * u;
      }
    }
    const float su = sum_of(u1), sq = sum_of(q1), sqq = sum_of(q2), suq = sum_of(uq);
    const float spread = count * sqq - sq * sq;  // > 0: the smallest and the largest value have different codes
    const float slope = (count * suq - su * sq) / spread, at_zero = (su - slope * sq) / count;
    // Σ(u - slope·q - at_zero)² for the best line: Σu² - slope·Σuq - at_zero·Σu.
    const float error = sum_of(u2) - slope * suq - at_zero * su;
    if (best_error >= 0 && error >= best_error) continue;
    best_error = std::max(error, 0.0f);
    best = {slope * range, min + at_zero * range};
  }
  return best;
}

}  // namespace

int64_t quantize_row(Format f, const PanelLayout& layout, const float* row, std::byte* panel, int lane) {
  const FormatInfo& info = format_info(f);
  const int64_t columns = layout.columns;
  for (int64_t k = 0; k < columns; k++) {
    if (!std::isfinite(row[k])) return k;
  }
  const auto put_half = [lane](std::byte* at, float value) {
    const uint16_t bits = f32_to_f16(value);
    std::memcpy(at + 2 * lane, &bits, 2);
  };
  const float zero = static_cast<float>(info.zero);
  uint8_t codes[kMostGroup];
  const auto pack_codes = [&](int64_t k, int64_t n) {
    for (int64_t i = 0; i < n; i += kChunk) pack_chunk(info, codes + i, (k + i) / kChunk, panel, lane);
  };
  if (info.scales == ScaleKind::kRow) {
    const float scale = scale_of_bytes(row, columns);
    std::memcpy(panel + layout.scales_at + 4 * lane, &scale, 4);
    for (int64_t k = 0; k < columns; k += kChunk) {
      codes_of(row + k, kChunk, scale, zero, -127, 127, codes);
      pack_codes(k, kChunk);
    }
    return columns;
  }
  for (int64_t k = 0; k < columns; k += info.group) {
    const int64_t n = std::min<int64_t>(info.group, columns - k);
    const float* x = row + k;
    std::byte* scales = panel + layout.scales_at + k / info.group * scale_bytes(info.scales);
    Line line{0, 0};
    if (info.code_bits == 8) line.s = scale_of_bytes(x, n);
    else if (info.scales == ScaleKind::kScale) line.s = scale_of_nibbles(x, n);
    else line = line_of_nibbles(x, n);
    const float s = as_half(line.s), m = as_half(line.m);
    if (!(std::fabs(s) <= kLargestHalf && std::fabs(m) <= kLargestHalf)) {  // NaN: sums beyond f32
      const auto larger = [](float a, float b) { return std::fabs(a) < std::fabs(b); };
      return k + (std::max_element(x, x + n, larger) - x);
    }
    put_half(scales, s);
    if (info.scales == ScaleKind::kScaleMin) {
      put_half(scales + 32, m);
      float above[kMostGroup];
      for (int64_t i = 0; i < n; i++) above[i] = x[i] - m;
      codes_of(above, n, s, 0, 0, 15, codes);
    } else if (f == Format::kQ8_0) {
      quantize_q8_0(x, line.s, codes);
    } else {
      codes_of(x, n, s, zero, info.code_bits == 8 ? -127.0f : -8.0f, info.code_bits == 8 ? 127.0f : 7.0f, codes);
    }
    pack_codes(k, n);
  }
  return columns;
}

}  // namespace switchyard
