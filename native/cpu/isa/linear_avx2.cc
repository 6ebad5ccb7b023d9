// The linear kernels for AVX2 with FMA and F16C.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include "cpu/linear_table.h"

// The target holds to the end of the file, because templates are compiled there. No function of a library header is
// used below: a copy of it with wide instructions could be linked into code that runs on every machine.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,fma,f16c")
#endif

namespace switchyard {
namespace linear_avx2 {

#include "cpu/isa/unroll.inl"

// 6 × 1 panel of two registers: 12 accumulators, 2 registers of weights and one of activations of 16.
constexpr int kMicroRows = 6, kMicroPanels = 1;
constexpr int kDirectRows = 7, kDirectChains = 2;
constexpr int kMicroAhead = 16;
constexpr int kInt8Rows = 4, kInt8Panels = 1, kInt8MostRows = kInt8Rows, kInt8StreamPanels = 1;
constexpr int kWideRows = 4, kWidePanels = 1;
constexpr int kPrefetch = 2048, kNearPanels = 24 << 10, kStreamRows = 4;

#include "cpu/isa/simd_avx2.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/transpose.inl"
#include "cpu/isa/linear_f32.inl"
#include "cpu/isa/quantize.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/wide_chunks.inl"
#include "cpu/isa/wide_int8.inl"

}  // namespace linear_avx2

void fill_linear_avx2(LinearTable* table) {
  linear_avx2::fill_f32(table);
  linear_avx2::fill_outliers(table);
  linear_avx2::fill_int8(table);
  linear_avx2::fill_wide(table);
}

}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
