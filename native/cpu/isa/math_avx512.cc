// The vector code of the avx512 tier. All standard headers come before the target pragma: an inline function
// of theirs must not be compiled with wide instructions and then chosen by the linker for every caller.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa/math_table.h"
#include "formats/half.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
// GCC warns of its own immintrin.h.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#elif defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#endif

#define SY_AVX512 1
namespace switchyard::isa_avx512 {
#include "cpu/isa/vec.inl"
#include "cpu/isa/math.inl"
#include "cpu/isa/elementwise.inl"
#include "cpu/isa/rows.inl"
#include "cpu/isa/scores.inl"
#include "cpu/isa/gemm.inl"
#include "cpu/isa/table.inl"
}  // namespace switchyard::isa_avx512

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#elif defined(__clang__)
#pragma clang attribute pop
#endif

namespace switchyard {
const MathTable* math_table_avx512() {
  static const MathTable table = isa_avx512::make_table();
  return &table;
}
}  // namespace switchyard
#else
namespace switchyard {
const MathTable* math_table_avx512() { return nullptr; }
}  // namespace switchyard
#endif
