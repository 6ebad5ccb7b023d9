// The scales of f8_e4m3, read, and looked up for the values of a part.
#pragma once
#include <string>
#include <vector>

#include "runtime/weight.h"

namespace switchyard {

class File;

class ScaleValues {
 public:
  ScaleValues() = default;  // one scale of 1 for all
  // Reads the scales of a part and checks that every value of it has one. Throws kShape, kFormat (a scale that packed
  // weights cannot have), kIo.
  ScaleValues(const std::string& name, const ScaleGrid& grid, const File* file, int64_t last);

  // The scale of a value, counted from the part's begin.
  float at(int64_t value) const { return scales_.empty() ? 1.0f : scales_[index(value)]; }
  bool same(int64_t a, int64_t b) const { return scales_.empty() || index(a) == index(b); }

 private:
  int64_t index(int64_t value) const;

  int64_t first_ = 0, rows_ = 0, columns_ = 0, block_rows_ = 0, block_columns_ = 0;
  int64_t grid_rows_ = 0, grid_columns_ = 0;
  std::vector<float> scales_;
};

// One row of f8_e4m3 of a part, at `codes` and `stride` bytes apart; its first value is `value` and the next ones are
// `step` further each. Throw kFormat for NaN, naming its place, which no file of sound weights has.
void decode_float8_row(const WeightSource& source, const ScaleValues& scales, const std::byte* codes, int64_t stride,
                       int64_t value, int64_t step, float* out);
// The same into a lane of a panel of f8_e4m3. Throws kFormat where a scale changes within a group.
void pack_scaled_row(const WeightSource& source, const ScaleValues& scales, const std::byte* codes, int64_t stride,
                     int64_t value, int64_t step, const PanelLayout& layout, std::vector<float>* groups,
                     std::byte* panel, int lane);

}  // namespace switchyard
