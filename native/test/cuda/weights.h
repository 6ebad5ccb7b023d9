// Random packed weights of any format, for tests of products.
#pragma once
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/float8.h"
#include "formats/format_table.h"
#include "formats/half.h"
#include "runtime/weight.h"
#include "test/run_kernel.h"

namespace switchyard::test {

using WeightPtr = std::shared_ptr<Weight>;

inline std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for (int i = 0; i < kFormatCount; i++) formats.push_back(static_cast<Format>(i));
  return formats;
}

// The smallest numbers of columns that show a format's odd ends: `blocks` blocks, or that many values more than whole chunks.
inline int64_t odd_columns(Format f, int64_t blocks) {
  const int block = format_info(f).values_per_block;
  return block == 1 ? 32 * blocks + 2 * blocks - 1 : block * blocks;
}

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

// experts × [rows, columns]; columns are a multiple of the format's values_per_block.
inline WeightPtr random_weight(Format f, int64_t experts, int64_t rows, int64_t columns, uint32_t seed, float scale = 1) {
  static ThreadPool pool(1);
  WeightSource source;
  source.name = "w";
  source.stored = is_packed_only(f) ? Format::kF32 : f;
  source.as = f;
  source.experts = experts, source.rows = rows, source.columns = columns;
  const std::vector<std::byte> bytes = random_rows(source.stored, experts * rows, columns, seed, scale);
  WeightPart part;
  part.rows = experts * rows;
  part.memory = bytes.data();
  part.bytes = static_cast<int64_t>(bytes.size());
  std::vector<float> scales;
  if (f == Format::kF8E4M3) {  // a scale for 8 rows and 128 columns of each expert
    scales = normals(experts * ((rows + 7) / 8) * ((columns + 127) / 128), seed + 1, scale / 100);
    ScaleGrid& grid = part.grid.emplace();
    grid.memory = reinterpret_cast<const std::byte*>(scales.data());
    grid.bytes = static_cast<int64_t>(scales.size() * sizeof(float));
    grid.block_rows = 8, grid.block_columns = 128;
    grid.rows = rows, grid.columns = columns;
  }
  source.parts.push_back(part);
  return Weight::pack(source, pool, 1);
}

}  // namespace switchyard::test
