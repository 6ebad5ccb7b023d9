// The linear kernels for AVX-512 with VNNI: int8 products; the rest is that of AVX-512.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include "cpu/linear_table.h"

// The target holds to the end of the file, because templates are compiled there. No function of a library header is
// used below: a copy of it with wide instructions could be linked into code that runs on every machine.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for _mm512_undefined_ps: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")
#endif

namespace switchyard {
namespace linear_avx512_vnni {

#include "cpu/isa/unroll.inl"

constexpr int kInt8Rows = 6, kInt8Panels = 2, kInt8MostRows = kInt8Rows, kInt8StreamPanels = 4;
constexpr int kWideRows = 6, kWidePanels = 4;  // 24 sums, 4 code vectors and a broadcast
constexpr int kPrefetch = 2048, kNearPanels = 24 << 10, kStreamRows = 4;

#include "cpu/isa/simd_avx512.inl"
#include "cpu/isa/dot_vnni.inl"
#include "cpu/isa/codes.inl"
#include "cpu/isa/outliers.inl"
#include "cpu/isa/linear_int8.inl"
#include "cpu/isa/wide_vnni.inl"
#include "cpu/isa/wide_int8.inl"

}  // namespace linear_avx512_vnni

void fill_linear_avx512_vnni(LinearTable* table) {
  linear_avx512_vnni::fill_int8(table);
  linear_avx512_vnni::fill_wide(table);
}

}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
