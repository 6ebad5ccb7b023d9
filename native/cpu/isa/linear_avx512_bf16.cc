// The linear kernels for AVX-512 BF16: products of bf16 activations; the rest is that of the tiers below.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include "cpu/linear_table.h"

// The target holds to the end of the file, because templates are compiled there. No function of a library header is
// used below: a copy of it with wide instructions could be linked into code that runs on every machine.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for _mm512_undefined_ps: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,prefer-vector-width=512")
#endif

namespace switchyard {
namespace linear_avx512_bf16 {

#include "cpu/isa/unroll.inl"

// 12 × 2 accumulators leave room for the pairs of weights while they are made from f32 or f16.
constexpr int kBf16Rows = 12, kBf16Panels = 2;
constexpr int kPrefetch = 2048, kStreamRows = 4;

#include "cpu/isa/simd_avx512.inl"
#include "cpu/isa/bf16_pairs.inl"
#include "cpu/isa/linear_bf16.inl"

}  // namespace linear_avx512_bf16

void fill_linear_avx512_bf16(LinearTable* table) {
  using namespace linear_avx512_bf16;
  table->bf16_rows = kBf16Rows;
  table->pack_bf16 = pack_bf16;
  table->bf16[static_cast<int>(Format::kF32)] = bf16_panels<Format::kF32>;
  table->bf16[static_cast<int>(Format::kF16)] = bf16_panels<Format::kF16>;
  table->bf16[static_cast<int>(Format::kBF16)] = bf16_panels<Format::kBF16>;
  table->bf16[static_cast<int>(Format::kF8E4M3)] = bf16_panels<Format::kF8E4M3>;
}

}  // namespace switchyard

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
