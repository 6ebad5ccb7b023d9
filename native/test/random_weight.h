// Packed weights of random values, of every format.
#pragma once
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "formats/float8.h"
#include "formats/format_table.h"
#include "formats/half.h"
#include "runtime/weight.h"
#include "test/values.h"

namespace switchyard::test {

using WeightPtr = std::shared_ptr<Weight>;

// Random stored rows: any codes, of either sign, with values of about `scale`.
inline std::vector<std::byte> random_rows(Format f, int64_t rows, int64_t columns, uint32_t seed, float scale) {
  std::mt19937 engine(seed);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * stored_row_bytes(f, columns)));
  const auto put = [](std::byte* p, uint16_t h) { std::memcpy(p, &h, 2); };
  if (is_float_format(f)) {
    const std::vector<float> values = normals(rows * columns, seed, scale);
    for (size_t i = 0; i < values.size(); i++) {
      if (f == Format::kF32) std::memcpy(&bytes[4 * i], &values[i], 4);
      else put(&bytes[2 * i], f == Format::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]));
    }
    return bytes;
  }
  for (std::byte& b : bytes) b = static_cast<std::byte>(engine());
  if (f == Format::kF8E4M3) {
    for (std::byte& b : bytes) {
      if (is_float8_nan(std::to_integer<uint8_t>(b))) b = std::byte{0x3f};
    }
    return bytes;
  }
  const FormatInfo& info = format_info(f);
  const size_t size = static_cast<size_t>(info.bytes_per_block);
  const bool at_end = f == Format::kQ2_K || f == Format::kQ3_K || f == Format::kQ6_K || f == Format::kTQ1_0 ||
                      f == Format::kTQ2_0;  // where the scales stand
  const size_t halves = info.scales == ScaleKind::kScaleMin || info.scales == ScaleKind::kSuperMin ? 2 : 1;
  // The largest that a code, with the scale beside it, stands for.
  const bool super = info.scales == ScaleKind::kSuper || info.scales == ScaleKind::kSuperMin;
  const float largest = static_cast<float>((1 << (info.values != nullptr ? 7 : info.code_bits)) * (super ? 32 : 1));
  std::normal_distribution<float> normal(0, 4 * scale / largest);
  for (size_t at = 0; at < bytes.size(); at += size) {
    if (info.scales == ScaleKind::kExponent) {
      bytes[at] = static_cast<std::byte>(122 + static_cast<int>(std::log2(scale)) + engine() % 4);
      continue;
    }
    for (size_t h = 0; h < halves; h++) put(&bytes[at + (at_end ? size - 2 * halves : 0) + 2 * h], f32_to_f16(normal(engine)));
  }
  return bytes;
}

// Stored rows as a weight of experts × [rows, columns]. `scales`: of f8_e4m3, one for 8 rows and 128 columns of each expert.
inline WeightPtr pack_rows(Format stored, int64_t experts, int64_t rows, int64_t columns, const std::vector<std::byte>& bytes,
                           Format as, const std::vector<float>& scales = {}) {
  static ThreadPool pool(2);
  WeightSource source;
  source.name = "w";
  source.stored = stored;
  source.as = as;
  source.experts = experts, source.rows = rows, source.columns = columns;
  WeightPart part;
  part.rows = experts * rows;
  part.memory = bytes.data();
  part.bytes = static_cast<int64_t>(bytes.size());
  if (!scales.empty()) {
    ScaleGrid& grid = part.grid.emplace();
    grid.memory = reinterpret_cast<const std::byte*>(scales.data());
    grid.bytes = static_cast<int64_t>(scales.size() * sizeof(float));
    grid.block_rows = 8, grid.block_columns = 128;
    grid.rows = rows, grid.columns = columns;
  }
  source.parts.push_back(part);
  return Weight::pack(source, pool, 2);
}

// experts × [rows, columns]; columns are a multiple of the format's values_per_block.
inline WeightPtr random_weight(Format f, int64_t experts, int64_t rows, int64_t columns, uint32_t seed, float scale = 1) {
  const Format stored = is_packed_only(f) ? Format::kF32 : f;
  std::vector<float> scales;
  if (f == Format::kF8E4M3) scales = normals(experts * ((rows + 7) / 8) * ((columns + 127) / 128), seed + 1, scale / 100);
  return pack_rows(stored, experts, rows, columns, random_rows(stored, experts * rows, columns, seed, scale), f, scales);
}

}  // namespace switchyard::test
