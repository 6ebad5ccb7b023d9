// The linear kernels for arm64.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "cpu/linear_table.h"

namespace switchyard {
namespace linear_neon {

#include "cpu/isa/unroll.inl"

// 6 rows of four registers: 24 accumulators of 32.
constexpr int kMicroRows = 6, kMicroPanels = 1;
constexpr int kDirectRows = 4, kDirectChains = 2;
constexpr int kMicroAhead = 16;
constexpr int kInt8Rows = 4, kInt8Panels = 1, kInt8MostRows = kInt8Rows, kInt8StreamPanels = 1;
constexpr int kWideRows = 4, kWidePanels = 1;
constexpr int kPrefetch = 2048, kNearPanels = 24 << 10, kStreamRows = 4;

#include "cpu/isa/simd_neon.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/transpose.inl"
#include "cpu/isa/linear_f32.inl"
#include "cpu/isa/quantize.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/wide_chunks.inl"
#include "cpu/isa/wide_int8.inl"

}  // namespace linear_neon

void fill_linear_neon(LinearTable* table) {
  linear_neon::fill_f32(table);
  linear_neon::fill_outliers(table);
  linear_neon::fill_int8(table);
  linear_neon::fill_wide(table);
}

}  // namespace switchyard
#endif
