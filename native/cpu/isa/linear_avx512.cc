// The linear kernels for AVX-512 F, BW, DQ, VL without VNNI.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include "cpu/linear_table.h"

// The target holds to the end of the file, because templates are compiled there. No function of a library header is
// used below: a copy of it with wide instructions could be linked into code that runs on every machine.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for _mm512_undefined_ps: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

namespace switchyard {
namespace linear_avx512 {

#include "cpu/isa/unroll.inl"

// 14 × 2 accumulators, 2 vectors of weights and one of activations fill 32 registers.
constexpr int kMicroRows = 14, kMicroPanels = 2;
constexpr int kDirectRows = 7, kDirectChains = 8;
constexpr int kMicroAhead = 16;
constexpr int kInt8Rows = 12, kInt8Panels = 1, kInt8MostRows = kInt8Rows, kInt8StreamPanels = 1;
constexpr int kWideRows = 12, kWidePanels = 1;
constexpr int kPrefetch = 2048, kNearPanels = 24 << 10, kStreamRows = 4;

#include "cpu/isa/simd_avx512.inl"
#include "cpu/isa/dot_avx512.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/linear_f32.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/wide_chunks.inl"
#include "cpu/isa/wide_int8.inl"

}  // namespace linear_avx512

void fill_linear_avx512(LinearTable* table) {
  linear_avx512::fill_f32(table);
  linear_avx512::fill_outliers(table);
  linear_avx512::fill_int8(table);
  linear_avx512::fill_wide(table);
}

}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
