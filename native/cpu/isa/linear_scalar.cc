// The linear kernels without vector instructions: the oracle, and what runs on an unknown machine.
#include <cmath>
#include <cstring>

#include "cpu/linear_table.h"
#include "formats/float8.h"
#include "formats/half.h"

namespace switchyard {
namespace linear_scalar {

#define SY_UNROLL(n)

constexpr int kMicroRows = 4, kMicroPanels = 1;
constexpr int kDirectRows = 1, kDirectChains = 1;
constexpr int kMicroAhead = 16;
constexpr int kInt8Rows = 4, kInt8Panels = 1, kInt8MostRows = kInt8Rows, kInt8StreamPanels = 1;
constexpr int kWideRows = 4, kWidePanels = 1;
constexpr int kPrefetch = 0, kNearPanels = 24 << 10, kStreamRows = 0;

#include "cpu/isa/simd_scalar.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/transpose.inl"
#include "cpu/isa/linear_f32.inl"
#include "cpu/isa/quantize.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/wide_chunks.inl"
#include "cpu/isa/wide_int8.inl"

}  // namespace linear_scalar

void fill_linear_scalar(LinearTable* table) {
  linear_scalar::fill_f32(table);
  linear_scalar::fill_outliers(table);
  linear_scalar::fill_int8(table);
  linear_scalar::fill_wide(table);
}

}  // namespace switchyard
