#include "runtime/scale_grid.h"

#include <algorithm>
#include <cstdio>

#include "formats/float8.h"
#include "formats/format_table.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/weight_plan.h"

namespace switchyard {

namespace {

constexpr int64_t kGroup = kFormatTable[static_cast<int>(Format::kF8E4M3)].group;

int64_t blocks_of(int64_t values, int64_t block) { return values / block + (values % block != 0); }

void check_codes(const WeightSource& source, const std::byte* codes, int64_t stride) {
  for (int64_t k = 0; k < source.columns; k++) {
    if (!is_float8_nan(std::to_integer<uint8_t>(codes[k * stride]))) continue;
    refuse_weight(source.name, ErrorCode::kFormat, "got NaN in column " + std::to_string(k) + " of a row, expected numbers");
  }
}

}  // namespace

ScaleValues::ScaleValues(const std::string& name, const ScaleGrid& grid, const File* file, int64_t last)
    : first_(grid.first), rows_(grid.rows), columns_(grid.columns), block_rows_(grid.block_rows), block_columns_(grid.block_columns) {
  if (grid.first < 0 || grid.rows < 1 || grid.columns < 1 || grid.block_rows < 1 || grid.block_columns < 1 ||
      grid.offset < 0 || grid.bytes < 0 || (grid.path.empty() && grid.memory == nullptr)) {
    refuse_weight(name, ErrorCode::kShape, "got a grid of scales without sizes or place, expected both");
  }
  if (!is_float_format(grid.format)) {
    refuse_weight(name, ErrorCode::kFormat, std::string("got scales of format ") + format_info(grid.format).name + ", expected f32, f16 or bf16");
  }
  grid_rows_ = blocks_of(rows_, block_rows_);
  grid_columns_ = blocks_of(columns_, block_columns_);
  checked_mul(grid_rows_, grid_columns_, "weight");
  checked_add(grid.first, last, "weight");
  const int64_t size = format_info(grid.format).bytes_per_block;
  const int64_t needed = index(last) + 1, there = grid.bytes / size;
  if (grid.bytes % size != 0 || needed > there) {
    refuse_weight(name, ErrorCode::kShape,
                  "got " + std::to_string(there) + " scales, expected at least " + std::to_string(needed));
  }
  // Those before the part's own are not kept.
  const int64_t matrix = grid_rows_ * grid_columns_, matrices = index(0) / matrix, skipped = matrices * matrix;
  first_ -= matrices * rows_ * columns_;
  std::vector<std::byte> bytes((needed - skipped) * size);
  if (file != nullptr) {
    try {
      file->read(grid.offset + skipped * size, static_cast<int64_t>(bytes.size()), bytes.data());
    } catch (const Error& e) {
      refuse_weight(name, e.code(), e.what());
    }
  } else {
    std::copy_n(grid.memory + skipped * size, bytes.size(), bytes.data());
  }
  scales_.resize(needed - skipped);
  decode_float_row(grid.format, bytes.data(), size, needed - skipped, scales_.data());
  for (const float s : scales_) {
    if (fits_packed_scale(s)) continue;
    char text[96];
    std::snprintf(text, sizeof text, "got a scale of %g, expected a number below %g", static_cast<double>(s),
                  static_cast<double>(kFloat8ScaleLimit));
    refuse_weight(name, ErrorCode::kFormat, text);
  }
}

int64_t ScaleValues::index(int64_t value) const {
  const int64_t at = first_ + value, row = at / columns_, column = at % columns_;
  const int64_t matrix = row / rows_, row_block = row % rows_ / block_rows_;
  return (matrix * grid_rows_ + row_block) * grid_columns_ + column / block_columns_;
}

void decode_float8_row(const WeightSource& source, const ScaleValues& scales, const std::byte* codes, int64_t stride,
                       int64_t value, int64_t step, float* out) {
  check_codes(source, codes, stride);
  for (int64_t k = 0; k < source.columns; k++) {
    const float s = packed_scale(scales.at(value + k * step));
    out[k] = s * float8_times_2_120th(std::to_integer<uint8_t>(codes[k * stride]));
  }
}

void pack_scaled_row(const WeightSource& source, const ScaleValues& scales, const std::byte* codes, int64_t stride,
                     int64_t value, int64_t step, const PanelLayout& layout, std::vector<float>* groups,
                     std::byte* panel, int lane) {
  check_codes(source, codes, stride);
  groups->clear();
  for (int64_t k = 0; k < source.columns; k += kGroup) {
    // Blocks follow each other along a row and along a column, so the ends tell of what lies between.
    const int64_t from = value + k * step, to = value + (std::min(k + kGroup, source.columns) - 1) * step;
    if (!scales.same(from, to)) {
      refuse_weight(source.name, ErrorCode::kFormat,
                    "got scales that change within " + std::to_string(kGroup) + " values of a row, expected a float format to pack these as");
    }
    groups->push_back(packed_scale(scales.at(from)));
  }
  pack_float8_row(layout, codes, stride, groups->data(), panel, lane);
}

}  // namespace switchyard
